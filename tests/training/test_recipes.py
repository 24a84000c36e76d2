"""Every recipe: it trains, its checkpoint is read, it stays thin; and what readers and counts say."""

import ast
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from corrkit.backbones import load_backbone
from corrkit.cli import main
from corrkit.errors import UsageError
from corrkit.files.jsontext import as_plain
from corrkit.training import checkpoint, objectives
from corrkit.training.data import Sample, collate
from corrkit.training.data.sampling import choose_frames
from corrkit.training.data.views import View, make_views
from corrkit.training.networks import masks
from corrkit.training.objectives import make_objective
from corrkit.training.objectives.masked import Objective
from corrkit.training.objectives.splitmask import info_nce
from corrkit.training.optimise import optimiser_of
from corrkit.training.recipe import load_recipe, recipe_names

PACKAGE = Path(checkpoint.__file__).parent
LIMITS = {"package": 2700, "loop": 300, "toml": 40, "code": 60}


def batch(objective: Objective, size: int = 2) -> list[View]:
    """Views as the loop gets them, of moving noise."""
    import random

    views, dice = objective.recipe.views, random.Random(0)
    generator = np.random.default_rng(0)
    picture = generator.integers(0, 255, (20, 26, 3), dtype=np.uint8).repeat(7, 0).repeat(7, 1)
    frames = [np.roll(picture, 5 * step, axis=1) for step in range(20)]
    items = [
        [Sample(*make_views([frames[index] for index in choose_frames(views, 20, dice)], views, dice))]
        for _ in range(size)
    ]
    return [view.to(torch.device("cpu")) for view in collate(items)]


def tiny(name: str, **changes: Any) -> Objective:
    torch.manual_seed(0)
    return make_objective(load_recipe(name, scale="tiny", changes=changes))


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_takes_two_steps_and_its_checkpoint_is_read(name: str, tmp_path: Path) -> None:
    objective: Any = tiny(name)
    views = batch(objective)
    optimiser = optimiser_of(objective, objective.recipe.optimiser)
    for step in range(2):
        optimiser.zero_grad()
        result = objective(views, step, 0.5)
        assert result.loss.isfinite()
        assert result.loss.requires_grad
        result.loss.backward()
        objective.before_step(0.5)
        optimiser.step()
        objective.after_step(0.5)
    checkpoint.save(tmp_path / "checkpoint.pth", checkpoint.checkpoint_tree(objective))
    backbone = load_backbone(tmp_path / "checkpoint.pth")
    features = list(backbone.encode(torch.zeros(16, 3, 96, 96)))
    assert len(features) == 16
    assert features[0].isfinite().all()


@pytest.mark.parametrize("name", recipe_names())
def test_gradients_flow_into_the_encoder_and_not_into_teachers(name: str) -> None:
    objective: Any = tiny(name, **({"encoder.drop_path": 0.0}))
    objective(batch(objective), 3, 0.5).loss.backward()
    without = [n for n, p in objective.encoder.named_parameters() if p.requires_grad and p.grad is None]
    assert not without
    teachers = [n for n, p in objective.named_parameters() if n.startswith("teacher.") and p.grad is not None]
    assert not teachers


# MViTv2, whose grid is coarser than the mask's, has its own test in test_training_golden_mvit.py.
CLIP_VITS = [
    name
    for name in recipe_names()
    if load_recipe(name).views.kind == "clip" and load_recipe(name).encoder.network == "vit"
]


@pytest.mark.parametrize("name", CLIP_VITS)
def test_a_clip_recipe_s_checkpoint_gives_the_encoder_s_features_of_a_still_frame(name: str, tmp_path: Path) -> None:
    objective: Any = tiny(name).eval()
    checkpoint.save(tmp_path / "checkpoint.pth", checkpoint.checkpoint_tree(objective))
    backbone = load_backbone(tmp_path / "checkpoint.pth")
    frames = torch.randn(2, 3, 96, 96)
    still = frames[:, :, None].expand(-1, -1, objective.recipe.encoder.tubelet, -1, -1)
    with torch.no_grad():
        expected = objective.encoder(still).patches.reshape(2, 12, 12, -1)
    torch.testing.assert_close(backbone(frames), expected, rtol=1e-4, atol=1e-4)
    assert backbone.mean == pytest.approx((0.485, 0.456, 0.406))


@pytest.mark.slow
@pytest.mark.parametrize("name", recipe_names())
def test_one_batch_is_learnt_by_heart(name: str) -> None:
    objective: Any = tiny(name, **{"encoder.drop_path": 0.0, "optimiser.clip": 0.0})
    views = batch(objective)
    optimiser = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], 2e-3)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        result = objective(views, 1, 0.5)
        result.loss.backward()
        optimiser.step()
        losses.append(float(result.loss.detach()))
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:3])


@pytest.mark.parametrize("name", ["simmim", "maskfeat"])
def test_a_head_without_blocks_predicts_the_patches_and_not_the_class_token(name: str) -> None:
    changes = {"views.size": 64, "encoder.depth": 1, "encoder.dim": 48, "encoder.heads": 2}
    objective: Any = make_objective(load_recipe(name, changes=changes))
    view = View(torch.zeros(1, 3, 64, 64))
    prediction = objective.predict(objective.recipe.branches[0], objective.encode([view], [None]))
    assert prediction.shape[:2] == (1, 16)
    assert set(dict(objective.decoders[0].named_parameters())) == {"head.weight", "head.bias"}


def test_siammae_has_the_published_size_and_sees_nine_tokens() -> None:
    with torch.device("meta"):
        objective: Any = make_objective(load_recipe("siammae"))
    assert sum(tensor.numel() for tensor in objective.encoder.state_dict().values()) == 21_665_664
    assert sum(tensor.numel() for tensor in objective.decoders.state_dict().values()) == 34_333_952
    mask = masks.draw(objective.recipe.masks[1], objective.encoder.grid, 2, seed=0)
    assert mask.keep.shape == (2, 9)
    assert mask.hidden.shape == (2, 196)


@pytest.mark.parametrize(("patch", "visible"), [(16, 9), (8, 39)])
def test_the_encoder_processes_visible_tokens_only(patch: int, visible: int) -> None:
    objective: Any = make_objective(
        load_recipe("siammae", scale="tiny", changes={"views.size": 224, "encoder.patch": patch})
    )
    seen: list[int] = []
    objective.encoder.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    pixels = torch.zeros(1, 3, 224, 224)
    objective([View(pixels), View(pixels)], 0)
    assert seen == [1 + (224 // patch) ** 2, 1 + visible]


VARIANTS: dict[str, dict[str, Any]] = {
    "joint encoder": {"encoder.joint": True, "encoder.view_vectors": 2},
    "joint decoder": {"decoders.0.blocks": "sm", "decoders.0.concatenates": True, "decoders.0.frame_vectors": 1},
    "cross decoder": {"decoders.0.blocks": "cm"},
    "cross-self decoder after CropMAE": {"decoders.0.blocks": "cms", "decoders.0.norm": "post"},
    "symmetric masks": {"masks.0.kind": "random", "masks.0.ratio": 0.75, "masks.1.ratio": 0.75},
    "other ratio": {"masks.1.ratio": 0.5},
    "other gap": {"views.gap": "[1, 2]"},
    "patch 16": {"encoder.patch": 16, "masks.1.ratio": 0.9},
    "colour dropout": {"encoder.hidden_tokens": "grey", "masks.1.ratio": 0.95},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_ablations_of_siammae_are_options(variant: str) -> None:
    objective: Any = tiny("siammae", **VARIANTS[variant])
    result = objective(batch(objective), 0)
    result.loss.backward()
    assert result.loss.isfinite()
    assert objective.encoder.patch_embed.proj.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("scale", ["small", "base", "large"])
def test_scales_are_the_published_widths(scale: str) -> None:
    recipe = load_recipe("siammae", scale=scale)
    expected = {"small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}[scale]
    assert (recipe.encoder.dim, recipe.encoder.depth, recipe.encoder.heads) == expected


def test_training_is_thin() -> None:
    """Lines of code: blank lines, comments and docstrings don't count. Recipes are data with a limit of their own."""
    assert sum(len(code_lines(path.read_text())) for path in PACKAGE.rglob("*.py")) <= LIMITS["package"]
    assert len((PACKAGE / "loop.py").read_text().splitlines()) <= LIMITS["loop"]
    for path in (PACKAGE / "recipes").glob("*.toml"):
        lines = [line for line in path.read_text().splitlines() if line.strip()]
        assert len(lines) <= LIMITS["toml"], path.name
    for module in {target.split(":")[0].rsplit(".", 1)[1] for target in objectives.OBJECTIVES.values()} - {"masked"}:
        text = (PACKAGE / "objectives" / f"{module}.py").read_text()
        own = [line for line in code_lines(text) if not line.startswith(("import ", "from "))]
        assert len(own) <= LIMITS["code"] * sum(f"{module}:" in target for target in objectives.OBJECTIVES.values()), (
            module
        )


def code_lines(text: str) -> list[str]:
    """Lines that aren't blank, comments or docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {
        number
        for node in ast.walk(ast.parse(text))
        if isinstance(node, documented) and ast.get_docstring(node)
        for number in range(node.body[0].lineno, node.body[0].end_lineno + 1)
    }
    numbered = enumerate(text.splitlines(), 1)
    return [
        line
        for number, line in numbered
        if line.strip() and not line.lstrip().startswith("#") and number not in docstrings
    ]


def test_recipe_files_say_where_their_facts_come_from() -> None:
    for name in recipe_names():
        recipe = load_recipe(name)
        assert all((recipe.source, recipe.proven, recipe.title))
        for dotted in recipe.unverified:
            value: Any = as_plain(recipe)
            for part in dotted.split("."):
                value = value[int(part)] if isinstance(value, list) else value[part]  # names something real


@pytest.mark.parametrize(("changes", "words"), [
    ({"encoder.dmi": 3}, "'dim'"), ({"encoder.dim": "wide"}, "not of type int"), ({"masks.7.ratio": 0.5}, "2 masks"),
    ({"views.size": 100}, "no multiple"), ({"encoder.heads": 5}, "don't divide"), ({"branches.0.query": 4}, "beyond"),
    ({"branches.0.loss": "hinge"}, "mse"), ({"views.sizes": [32]}, "views.until"),
    ({"views.sizes": [32], "views.until": [0.5]}, "single images"),
    ({"encoder.cls": False}, "class token"),
    ({"encoder.network": "mvit"}, "doesn't go with"), ({"encoder.widens": [1]}, "doesn't go with"),
    ({"views.area": [0.5]}, "2 values"), ({"views.area": "[0.9,0.1]"}, "smallest"), ({"views.gap": "[]"}, "gap"),
    ({"views.gap": "[3]"}, "gap"), ({"views.repeat": 0}, "at least 1"), ({"optimiser.betas": [0.9]}, "2 values"),
    ({"encoder.patch": 0}, "at least 1"), ({"masks.1.ratio": 1.5}, "at most 1"), ({"optimiser.rate": -1}, "greater"),
    ({"decoders.0.heads": 5}, "don't divide"), ({"decoders.0.blocks": "xyz"}, "letters"), ({"views": "3"}, "table"),
    ({"views.size.x": "3"}, "no constant"), ({"masks.0": "none"}, "masks.0.NAME"), ({"masks": "none"}, "table"),
    ({"branches.0.target": "features-0"}, "teachers"), ({"branches.0.target": "ids"}, "tokenizer"),
    ({"title": "x"}, "no constant"), ({"unverified.views": "x"}, "no constant"), ({"objective": "dyno"}, "dino"),
    ({"options.prototypes": "64"}, "unknown prototypes"), ({"heads": "2"}, "several"),
    ({"optimiser.clip": "nan"}, "finite"), ({"haeds": "2"}, "Did you mean"),
])  # fmt: skip
def test_wrong_overrides_are_explained(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_objective(load_recipe("siammae", scale=None, changes=changes))
    assert words in f"{caught.value.problem} {caught.value.remedy}"


WRONG_OPTIONS = {
    "dino": [("prototypes", "many"), ("prototypes", "0"), ("prototipes", "64"), ("temperature", "[0.04]"),
             ("temperature", "hot"), ("centre_momentum", "1.5"), ("student_temperature", "0")],
    "ibot": [("patch_temperature", "0.04"), ("bottleneck", "1.5")],
    "sdae": [("groups", "0"), ("axis", "rows"), ("group", "3")],
    "rsp": [("groups", "[]"), ("noise", "loud"), ("balance", "2")],
    "bootmae": [("ramp", "0"), ("rampe", "0.5")],
    "siameseim": [("negative", "-1"), ("global_weight", "1")],
    "splitmask": [("temperature", "0"), ("prototypes", "3")],
    "violet": [("flow_weight", "0.1"), ("teacher", "hog")],
    "mvd": [("teacher", "hog"), ("prototypes", "3")],
    "mae": [("prototypes", "64")],
}  # fmt: skip


@pytest.mark.parametrize(("name", "option", "value"), [(n, o, v) for n, ps in WRONG_OPTIONS.items() for o, v in ps])
def test_wrong_options_of_objectives_are_refused_with_file_and_field(
    name: str, option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pretrain", name, "--show", "--set", f"options.{option}={value}"]) == 2
    said = capsys.readouterr().err
    assert f"Recipe {name}" in said
    assert option in said


def test_options_given_as_text_have_the_type_of_their_field() -> None:
    changes = {"options.prototypes": "64", "temperature": "[0.05, 0.06, 3]", "options.centre_momentum": "1"}
    recipe = load_recipe("dino", scale="tiny", changes=changes)
    assert recipe.options.prototypes == 64
    assert recipe.options.temperature == (0.05, 0.06, 3)
    assert recipe.options.centre_momentum == 1.0
    assert make_objective(recipe).centre.shape == (1, 64)
    assert load_recipe("mvd", changes={"teachers": '["hog", "rgb"]'}).options.teachers == ("hog", "rgb")


def test_the_last_part_of_a_name_is_enough_where_one_constant_has_it() -> None:
    assert load_recipe("siammae", changes={"gap": "[1, 2]"}).views.gap == (1, 2)
    with pytest.raises(UsageError, match="several constants named 'ratio'"):
        load_recipe("siammae", changes={"ratio": "0.5"})


def test_a_recipe_of_one_s_own_extends_a_published_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('extends = "siammae"\ntitle = "mine"\n[views]\ngap = [1, 2]\n')
    recipe = load_recipe(str(path), scale="tiny")
    assert (recipe.name, recipe.title, recipe.views.gap, recipe.views.size) == ("mine", "mine", (1, 2), 96)
    for text, words in (
        ('extends = "siammea"', "siammae"), ("extends = 3", "extends no recipe"), ("views = [", "can't be read"),
        ("[views]\nsize = 9", "encoder is None"),
        ('extends = "mae"\n[encoder]\nmlp_ratio = "4"', "encoder.mlp_ratio is '4'"),
        ('extends = "mae"\n[optons]\ndim = 3', "optons"), ('extends = "mae"\nobjective = "x"', "objective"),
        ('extends = "mae"\nencoder = 3', "encoder is 3"), ('extends = "mae"\nmasks = 3', "masks is 3"),
        ('extends = "mae"\nunverified = 3', "unverified"), ('extends = "mine.toml"', "no recipe"),
        ('extends = "mae"\nobjective = "dino"', "lacks"),
        (f'extends = "{path}"', "no recipe"), ('title = "x"\nencoder = {}\n', "objective is None"),
    ):  # fmt: skip
        path.write_text(text)
        assert main(["pretrain", str(path), "--show", "--scale", "tiny"]) == 2, text
        said = capsys.readouterr().err
        assert words in said
        assert "mine.toml" in said
    assert main(["pretrain", str(tmp_path / "absent.toml"), "--show"]) == 2


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'siammae'"):
        load_recipe("siamae")


def test_recipes_are_plain_toml() -> None:
    for path in (PACKAGE / "recipes").glob("*.toml"):
        tomllib.loads(path.read_text())


@pytest.mark.parametrize("name", ["fastmim-p", "mae", "simmim", "bootmae"])
def test_images_of_another_size_are_masked_and_predicted_on_their_own_grid(name: str) -> None:
    """Of 48 pixels in patches of 8: 36 tokens, and the loss is that of a network made for this size."""
    large = tiny(name)
    small = tiny(name, **{"views.size": 48, "views.sizes": [], "views.until": []})
    tables = {key: value for key, value in small.state_dict().items() if key.endswith("pos_embed")}
    small.load_state_dict({**large.state_dict(), **tables})
    seen: list[int] = []
    large.encoder.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    view = View(torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0)))
    parts = large([view], 0, 0.5).parts
    kept = large.recipe.encoder.hidden_tokens == "drop"
    visible = 36 - int(large.draw_masks(view.pixels, 0)[0].hidden[0].sum()) if kept else 36
    assert seen == [1 + visible]
    with torch.no_grad():
        for objective in (large, small):  # without positions both are the same network
            for module in objective.modules():
                table = getattr(module, "pos_embed", None)
                if isinstance(table, torch.Tensor):
                    table.zero_()
    for key, value in large([view], 0, 0.5).parts.items():
        torch.testing.assert_close(value, small([view], 0, 0.5).parts[key])
        assert parts[key].isfinite()


def test_omnimae_hides_three_quarters_of_an_image_and_learns_from_it() -> None:
    """144 tokens of one tubelet, of which 36 are seen; of the 288 of a clip, 29."""
    objective: Any = tiny("omnimae")
    seen: list[int] = []
    objective.encoder.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    image = torch.randn(2, 3, 1, 96, 96).expand(-1, -1, 2, -1, -1)
    objective([View(image)], 0).loss.backward()
    objective([View(torch.randn(2, 3, 4, 96, 96))], 0).loss.backward()
    assert seen == [36, 288 - 259]
    assert all(p.grad is not None for p in objective.parameters() if p.requires_grad)


def test_splitmask_sees_each_half_on_its_own() -> None:
    objective: Any = tiny("splitmask")
    seen: list[int] = []
    objective.encoder.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    result = objective(batch(objective), 0)
    assert seen == [1 + 72, 1 + 72]  # 144 tokens in two halves
    assert set(result.parts) == {"filled", "matched"}


def test_info_nce_of_equal_halves_is_that_of_orthogonal_rows() -> None:
    """Two rows, cosine 1 with their own and 0 with the other: -log(e / (e + 1)) at temperature 1."""
    rows = torch.eye(2)
    assert float(info_nce(rows, rows, 1.0)) == pytest.approx(0.31326, abs=1e-5)
