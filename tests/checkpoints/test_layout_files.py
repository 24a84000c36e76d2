"""Layout files: networks in names of one's own, as plain data; proposals of them; packages that offer them."""

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest
import torch

from corrkit import load_backbone
from corrkit.backbones.conversion import convert
from corrkit.backbones.inspection import inspect
from corrkit.backbones.loading import Loading
from corrkit.backbones.networks.positions import RULES as RULES_OF_POSITIONS
from corrkit.checkpoints.layout_files import LayoutFile, read_layout
from corrkit.checkpoints.opening import open_checkpoint
from corrkit.checkpoints.registry.plain import ENTRIES as PLAIN
from corrkit.checkpoints.suggestion import propose
from corrkit.errors import CheckpointError

WIDTH, DEPTH, PATCH = 64, 3, 8
RULES = """
mean = [0.5, 0.4, 0.3]
std = [0.2, 0.2, 0.1]
final_norm = "affine"
norm = "layer"
eps = 1e-5
activation = "gelu"
position = "size"
"""
NAMES = """
[anchors]
"stem.conv.weight" = 4
"layers.*.mix.in_proj_weight" = 2

[renames]
"stem.conv" = "patch_embed.proj"
"stem.class" = "cls_token"
"stem.pos" = "pos_embed"
"layers.*.mix.in_proj_weight" = "blocks.*.attn.qkv.weight"
"layers.*.mix.in_proj_bias" = "blocks.*.attn.qkv.bias"
"layers.*.mix.out" = "blocks.*.attn.proj"
"layers.*.norm_a" = "blocks.*.norm1"
"layers.*.norm_b" = "blocks.*.norm2"
"layers.*.lin.0" = "blocks.*.mlp.fc1"
"layers.*.lin.2" = "blocks.*.mlp.fc2"
"last" = "norm"

[drop]
"pretext" = "head of pre-training"
"""
OWN = {
    "patch_embed.proj": "stem.conv",
    "cls_token": "stem.class",
    "pos_embed": "stem.pos",
    "attn.qkv.weight": "mix.in_proj_weight",
    "attn.qkv.bias": "mix.in_proj_bias",
    "attn.proj": "mix.out",
    "norm1": "norm_a",
    "norm2": "norm_b",
    "mlp.fc1": "lin.0",
    "mlp.fc2": "lin.2",
    "blocks": "layers",
}
TELLING = {**OWN, "norm1": "attn_norm", "norm2": "ffn_norm"}


def vit() -> dict[str, torch.Tensor]:
    """A ViT in timm's names."""
    generator = torch.Generator().manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, WIDTH),
        "pos_embed": (1, 17, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH),
        "patch_embed.proj.bias": (WIDTH,),
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
    }
    layers = {"attn.qkv": (3 * WIDTH, WIDTH), "attn.proj": (WIDTH, WIDTH), "mlp.fc1": (4 * WIDTH, WIDTH)}
    for index in range(DEPTH):
        for name, shape in {**layers, "mlp.fc2": (WIDTH, 4 * WIDTH)}.items():
            shapes |= {f"blocks.{index}.{name}.weight": shape, f"blocks.{index}.{name}.bias": shape[:1]}
        for name in ("norm1", "norm2"):
            shapes |= {f"blocks.{index}.{name}.{kind}": (WIDTH,) for kind in ("weight", "bias")}
    return {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in shapes.items()}


def renamed(words: dict[str, str], prefix: str = "net.enc.", head: str = "pretext") -> dict[str, torch.Tensor]:
    """The same ViT in names of one's own, with a head of pre-training beside it."""
    state = {}
    for name, tensor in vit().items():
        own = "last" + name.removeprefix("norm") if name.startswith("norm.") else name
        for canonical, word in words.items():
            own = re.sub(rf"(^|(?<=\.)){re.escape(canonical)}(?=\.|$)", word, own)
        state[prefix + own] = tensor
    return {**state, f"{prefix}{head}.weight": torch.ones(5, WIDTH)}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    torch.save({"model": renamed(OWN), "epoch": 3}, tmp_path / "ours.pth")
    torch.save(vit(), tmp_path / "timm.pth")
    (tmp_path / "ours.toml").write_text(RULES + NAMES)
    return tmp_path


def features(file: Path, **options) -> torch.Tensor:
    backbone = load_backbone(file, **options)
    frames = torch.linspace(-2, 2, 3 * 48 * 32).reshape(1, 3, 48, 32)
    with torch.no_grad():
        return backbone(frames)


def test_a_network_in_own_names_equals_the_same_in_known_ones(place):
    rules = RULES.replace("1e-5", "1e-6").replace('"size"', '"dino"')  # those of the fallback for timm's names
    (place / "same.toml").write_text(rules + NAMES)
    ours = load_backbone(place / "ours.pth", layout=place / "same.toml")
    assert torch.equal(features(place / "ours.pth", layout=place / "same.toml"), features(place / "timm.pth"))
    assert (ours.mean, ours.std) == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.1))
    assert ours.report.system == "same"
    assert ours.report.tensors_used == ours.report.tensors_total - 1
    assert ("model.net.enc.pretext", "head of pre-training (1 tensor)") in ours.report.dropped
    assert any("same.toml" in note for note in ours.report.notes)
    assert "same.toml" in dict(ours.report.evidence)["system"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("eps = 1e-5", "eps = 1e-2"),
        ('position = "size"', 'position = "dino"'),
        ('activation = "gelu"', 'activation = "quick-gelu"'),
        ("mean = [0.5", "heads = 4\nmean = [0.5"),
    ],
)
def test_every_rule_is_obeyed_and_part_of_the_digest(place, old, new):
    (place / "other.toml").write_text((RULES + NAMES).replace(old, new))
    ours, other = (load_backbone(place / "ours.pth", layout=place / f"{name}.toml") for name in ("ours", "other"))
    assert ours.digest != other.digest
    assert not torch.equal(*(features(place / "ours.pth", layout=place / f"{name}.toml") for name in ("ours", "other")))


def test_the_digest_is_of_the_content_not_of_the_place(place):
    (place / "elsewhere").mkdir()
    (place / "elsewhere" / "ours.toml").write_text("# a comment\n" + RULES + NAMES)
    first = load_backbone(place / "ours.pth", layout=place / "ours.toml")
    assert first.digest == load_backbone(place / "ours.pth", layout=place / "elsewhere" / "ours.toml").digest
    assert first.digest == inspect(str(place / "ours.pth"), Loading(layout=str(place / "ours.toml")))["digest"]


def test_a_converted_file_needs_no_layout(place):
    (place / "heads.toml").write_text("heads = 4" + RULES + NAMES)
    convert(place / "ours.pth", place / "clean.safetensors", Loading(layout=place / "heads.toml"))
    expected = features(place / "ours.pth", layout=place / "heads.toml")
    assert torch.equal(features(place / "clean.safetensors"), expected)
    assert load_backbone(place / "clean.safetensors").mean == (0.5, 0.4, 0.3)
    with pytest.raises(CheckpointError, match="needs no layout"):
        load_backbone(place / "clean.safetensors", layout=place / "heads.toml")


def test_branches_by_preference_and_prefix(place):
    teacher, student = renamed(OWN, "teacher."), renamed(OWN, "student.")
    student = {name: tensor + 1 for name, tensor in student.items()}
    torch.save({**student, **teacher}, place / "two.pth")
    expected = features(place / "ours.pth", layout=place / "ours.toml")
    for line in ('prefer = [["teacher", "student"]]\n', 'prefix = "teacher"\n'):
        (place / "chosen.toml").write_text(line + RULES + NAMES)
        assert torch.equal(features(place / "two.pth", layout=place / "chosen.toml"), expected)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mean = [", "can't be read as TOML"),
        ("a = " + "[" * 100_000, "can't be read as TOML"),
        ("heads = 1" + "0" * 5000, "can't be read as TOML"),
        (NAMES, "lacks activation, eps, final_norm, mean, norm, position, std"),
        (f"epsilon = 1\n{RULES}{NAMES}", "has unknown epsilon"),
        (f"heads = 0\n{RULES}{NAMES}", "heads is 0"),
        (f"heads = 7\n{RULES}{NAMES}", "7 heads"),
        (f"{RULES}{NAMES}".replace('"size"', '"cubic"'), "position is 'cubic'"),
        (f"{RULES}{NAMES}".replace("0.3]", "0.3, 1]"), "mean is"),
        (f"{RULES}{NAMES}".replace("= 4", '= "four"'), "anchors.stem.conv.weight"),
        (f"{RULES}[anchors]\n", "anchors is empty"),
        (f"{RULES}{NAMES}".replace('"layers.*.mix.out"', '"layers.*.mix.out*"'), "has * within a word"),
        (f"{RULES}{NAMES}".replace('"blocks.*.attn.proj"', '"blocks.0.attn.proj"'), "numbers of *"),
        (f"{RULES}{NAMES}".replace('"last"', '"a..b"'), "is no name of a tensor"),
        (f"{RULES}{NAMES}".replace('"last"', '"*.*.*.*.*"'), "is no name of a tensor"),
        (f"{RULES}{NAMES}".replace('"last" = "norm"', '"last" = "norn"'), "norm.weight"),
        (f"{RULES}{NAMES}".replace("[drop]", "[drop]\n").replace('"pretext"', '"pretexts"'), "pretext.weight"),
        (f"{RULES}{NAMES}".replace('"stem.conv.weight" =', '"stem.embed.weight" ='), "stem.embed.weight"),
        (f'prefix = "elsewhere"\n{RULES}{NAMES}', "its prefix 'elsewhere'"),
        (f"{RULES}{NAMES}" + "".join(f'"a{i}" = "b"\n' for i in range(300)), "drop has 301 entries"),
    ],
)
def test_errors_name_the_file_and_what_is_wrong(place, text, words):
    (place / "wrong.toml").write_text(text)
    with pytest.raises(CheckpointError) as raised:
        load_backbone(place / "ours.pth", layout=place / "wrong.toml")
    assert words in str(raised.value)
    assert "wrong.toml" in str(raised.value) or "ours.pth" in str(raised.value)
    assert raised.value.remedy


def test_the_layout_file_of_the_documentation_is_valid(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text(encoding="utf-8")
    text = re.search(r"^```toml\n(prefix.*?)^```$", page, re.MULTILINE | re.DOTALL)[1]
    (tmp_path / "page.toml").write_text(text)
    system = read_layout(tmp_path / "page.toml")
    assert (system.heads, system.prefix, system.prefers) == (6, "net.enc", (("teacher", "student"),))


def test_a_layout_takes_no_systems_name(place):
    (place / "dino.toml").write_text(RULES + NAMES)
    for path, words in ((place / "dino.toml", "the name of a system"), (place / "none.toml", "can't be read")):
        with pytest.raises(CheckpointError, match=words):
            read_layout(path)
    with pytest.raises(CheckpointError, match="exclude each other"):
        load_backbone(place / "ours.pth", layout=place / "ours.toml", system="dino")


def test_long_names_of_digits_take_no_time(tmp_path):
    """Patterns are literal text and whole numbers: nothing to go back over."""
    names = ".".join("*" for _ in range(4))
    renames = "".join(f'"{names}.x{index}" = "{names}.y"\n' for index in range(200))
    (tmp_path / "slow.toml").write_text(f'{RULES}[anchors]\n"{names}.z" = 2\n[renames]\n{renames}')
    torch.save({f"{'1' * 150}.{index}" + ".1" * 4: torch.zeros(2, 2) for index in range(50)}, tmp_path / "a.pth")
    start = time.monotonic()
    with pytest.raises(CheckpointError, match=r"as .*slow\.toml describes it"):
        load_backbone(tmp_path / "a.pth", layout=tmp_path / "slow.toml")
    assert time.monotonic() - start < 20


def test_a_proposal_for_telling_names_loads_to_the_same_features(place):
    torch.save({"model": renamed(TELLING, head="pred_head")}, place / "telling.pth")
    proposal = propose(open_checkpoint(place / "telling.pth"))
    assert proposal.sentence == "3 blocks of width 64 under model.net.enc, patches of 8 pixels"
    (place / "proposed.toml").write_text(proposal.text)
    proposed = features(place / "telling.pth", layout=place / "proposed.toml")
    (place / "same.toml").write_text(RULES.replace("1e-5", "1e-6") + NAMES)
    assert torch.equal(proposed, features(place / "ours.pth", layout=place / "same.toml"))


ODD = {
    "keras": {
        "patch_embed.proj": "embedding.conv2d",
        "cls_token": "embedding.class",
        "pos_embed": "embedding.position",
        "attn.qkv": "multi_head_attention.to_qkv",
        "attn.proj": "multi_head_attention.to_out",
        "norm1": "attention_norm",
        "norm2": "mlp_norm",
        "mlp.fc1": "feed_forward.dense_1",
        "mlp.fc2": "feed_forward.dense_2",
        "blocks": "transformer.block",
    },
    "lucidrains": {
        "patch_embed.proj": "to_patch_embedding.conv",
        "pos_embed": "pos_embedding",
        "attn.qkv": "attn.to_qkv",
        "attn.proj": "attn.to_out.0",
        "norm1": "attn.norm",
        "norm2": "ff.net.0",
        "mlp.fc1": "ff.net.1",
        "mlp.fc2": "ff.net.4",
        "blocks": "transformer.layers",
    },
    "torch": {
        "patch_embed.proj": "tokenizer",
        "cls_token": "class_embedding",
        "pos_embed": "positional_encoding",
        "attn.qkv.weight": "self_attn.in_proj_weight",
        "attn.qkv.bias": "self_attn.in_proj_bias",
        "attn.proj": "self_attn.out_proj",
        "mlp.fc1": "linear1",
        "mlp.fc2": "linear2",
        "blocks": "layers",
    },
    "short": {
        "patch_embed.proj": "pe",
        "attn.qkv": "a.qkv",
        "attn.proj": "a.o",
        "norm1": "ln_1",
        "norm2": "ln_2",
        "mlp.fc1": "m.up",
        "mlp.fc2": "m.down",
        "blocks": "h",
    },
    "numbered": {
        "patch_embed.proj": "stem.0",
        "attn.qkv": "0.fn.qkv",
        "attn.proj": "0.fn.out",
        "norm1": "0.norm",
        "norm2": "1.norm",
        "mlp.fc1": "1.fn.0",
        "mlp.fc2": "1.fn.3",
        "blocks": "body",
    },
}


@pytest.mark.parametrize("words", ODD.values(), ids=ODD)
def test_a_proposal_for_odd_names_loads_to_the_same_features(place, words):
    """Of five ways of writing a ViT; names of modules of torch, of PreNorm wrappers, of a few letters."""
    torch.save({"model": renamed(words, head="pred_head")}, place / "odd.pth")
    proposal = propose(open_checkpoint(place / "odd.pth"))
    assert re.fullmatch(r"3 blocks of width 64 under model\.net\.enc(\.\w+)*, patches of 8 pixels", proposal.sentence)
    assert "Not understood" not in proposal.text
    (place / "proposed.toml").write_text(proposal.text)
    (place / "same.toml").write_text(RULES.replace("1e-5", "1e-6") + NAMES)
    expected = features(place / "ours.pth", layout=place / "same.toml")
    assert torch.equal(features(place / "odd.pth", layout=place / "proposed.toml"), expected)


def test_a_proposal_leaves_open_what_names_do_not_tell(place):
    """norm_a and norm_b have one shape: which comes first would be a guess."""
    proposal = propose(open_checkpoint(place / "ours.pth"))
    assert "layers.*.norm_a.weight" in proposal.text
    assert "norm1" not in proposal.text
    (place / "proposed.toml").write_text(proposal.text)
    with pytest.raises(CheckpointError, match=r"norm1|norm_a"):
        load_backbone(place / "ours.pth", layout=place / "proposed.toml")


def test_several_networks_are_a_question_and_none_a_refusal(place):
    torch.save({**renamed(TELLING, "left.", "pred_head"), **renamed(TELLING, "right.", "pred_head")}, place / "two.pth")
    with pytest.raises(CheckpointError, match=r"left\.layers, right\.layers[\s\S]*--ckpt-key"):
        propose(open_checkpoint(place / "two.pth"))
    decoder = {name.replace("layers", "decoder_layers"): t for name, t in renamed(TELLING).items() if "layers" in name}
    torch.save({**renamed(TELLING, head="pred_head"), **decoder}, place / "decoder.pth")
    assert "decoder_layers" not in propose(open_checkpoint(place / "decoder.pth")).text.split("[drop]")[0]
    assert "under left" in propose(open_checkpoint(place / "two.pth"), "left").sentence
    torch.save({"fc.weight": torch.zeros(4, 4)}, place / "none.pth")
    with pytest.raises(CheckpointError, match="nothing that looks like a vision transformer"):
        propose(open_checkpoint(place / "none.pth"))


def corrkit(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "corrkit", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=folder)


@pytest.fixture
def package(place: Path) -> Path:
    """An installed package that offers the layout `ours`."""
    (place / "lab_systems").mkdir()
    (place / "lab_systems" / "__init__.py").write_text("")
    (place / "ours.toml").rename(place / "lab_systems" / "ours.toml")
    info = place / "lab_systems-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-systems\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[corrkit.systems]\nlab = lab_systems\n")
    return place


def test_a_package_offers_systems(package: Path):
    found = json.loads(corrkit(package, "inspect", "ours.pth", "--json").stdout)
    assert found["system"] == "ours"
    named = json.loads(corrkit(package, "inspect", "ours.pth", "--system", "ours", "--json").stdout)
    assert "lab_systems/ours.toml" in named["evidence"]["system"]
    assert json.loads(corrkit(package, "inspect", "timm.pth", "--json").stdout)["system"] == "vit"
    listed = json.loads(corrkit(package, "systems", "--json").stdout)
    assert {"dino", "vit", "ours"} <= {row["name"] for row in listed}


@pytest.mark.slow
def test_a_package_that_pip_installs_offers_systems(place: Path):
    """Built from its pyproject.toml and installed into a folder of its own, as any user's."""
    source = place / "source"
    (source / "mylab_systems").mkdir(parents=True)
    (source / "mylab_systems" / "__init__.py").write_text("")
    (source / "mylab_systems" / "ours.toml").write_text(RULES + NAMES)
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "mylab-systems"\nversion = "1.0"\n'
        '[project.entry-points."corrkit.systems"]\nmylab = "mylab_systems"\n'
    )
    site = place / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*install, "--target", str(site), str(source)], check=True)
    done = corrkit(site, "inspect", str(place / "ours.pth"), "--json")
    assert json.loads(done.stdout)["system"] == "ours"
    assert "ours" in {row["name"] for row in json.loads(corrkit(site, "systems", "--json").stdout)}


def test_every_field_of_a_plain_entry_can_be_said_in_a_layout_file():
    """But for what recognises a file among others, which --layout replaces, and rules that read the file itself."""
    recognising = {"name", "layouts", "signs", "beside", "without", "config", "shapes", "model_types", "certain"}
    recognising |= {"distinction", "source", "proven", "notes", "assumptions", "build", "refuse", "title"}
    files = {field.name for field in fields(LayoutFile)}
    said = {"drop", "mean", "std", "heads", "prefix"} & files | {"rules", "prefers"}  # rules: field by field; prefer
    by_file = {"cls", "row_first_heads"}  # as the file has them; MoCo v3's table in it tells heads
    unsaid: list[tuple[str, str]] = []
    for system in PLAIN:
        if system.refuse is None:
            used = {f.name for f in fields(system) if getattr(system, f.name) != f.default and getattr(system, f.name)}
            rules = {f.name for f in fields(system.rules) if getattr(system.rules, f.name) != f.default}
            names = {*used - recognising - said, *rules - files - by_file - {"absent"}}  # absent: no_bias
            convert = [layout.name for layout in system.layouts if layout.convert]
            unsaid += [(system.name, name) for name in (*names, *convert)]
    # Kernels of flax are transposed; a SwiGLU that timm packs into fc1 is `conversions.packed_swiglu`'s.
    packed = ("deit_distilled", "deit3", "timm_vit", "timm_vit_registers", "timm_vit_scaled", "vit_mean_pooled", "vit")
    assert {*unsaid} == {("jax_vit", "JAX ViT"), *((name, "timm ViT") for name in packed)}


def test_a_layout_file_takes_every_rule_of_positions():
    assert {*get_args(LayoutFile.__annotations__["position"])} == {*RULES_OF_POSITIONS, "sincos", "none"}


def test_systems_are_listed_without_torch(tmp_path):
    done = corrkit(tmp_path, "systems", "jepa")
    assert done.returncode == 0
    assert re.search(r"^ijepa +yes +I-JEPA$", done.stdout, re.MULTILINE)
    assert "resnet" not in done.stdout
    assert corrkit(tmp_path, "systems", "nosuch").returncode == 2


def test_a_table_of_positions_is_known_by_its_rows_where_its_name_says_nothing(place):
    torch.save(renamed({**TELLING, "pos_embed": "pe"}, head="pred_head"), place / "short.pth")
    assert '"pe" = "pos_embed"' in propose(open_checkpoint(place / "short.pth")).text


def test_suggest_writes_a_file_once(place):
    torch.save({"model": renamed(TELLING, head="pred_head")}, place / "telling.pth")
    done = corrkit(place, "inspect", "telling.pth", "--suggest", "new.toml")
    assert done.returncode == 0, done.stderr
    assert "3 blocks of width 64 under model.net.enc" in done.stdout
    assert corrkit(place, "inspect", "telling.pth", "--layout", "new.toml").returncode == 0
    again = corrkit(place, "inspect", "telling.pth", "--suggest", "new.toml")
    assert again.returncode == 2
    assert "exists already" in again.stderr
