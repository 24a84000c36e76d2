"""Masks, positions, patches, sampling, schedules, optimiser and HOG against the published code."""

import dataclasses
import json
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from training_goldens import assert_close, tensor

from corrkit.backbones.networks.positions import sinusoid
from corrkit.frames.crops import choose_box
from corrkit.training import optimise
from corrkit.training.data import sampling
from corrkit.training.networks import masks, positions
from corrkit.training.objectives import make_objective, targets
from corrkit.training.objectives.hog import hog, hog_tokens
from corrkit.training.objectives.teacher import follow, momentum_at
from corrkit.training.recipe import load_recipe
from corrkit.training.schema import MaskRule, TeacherSpec
from tests.conftest import GoldenFinder

pytestmark = pytest.mark.golden
BLOCKS = {
    "beit_75": MaskRule(kind="block", count=75, smallest=16),
    "beit_75_max37": MaskRule(kind="block", count=75, smallest=16, largest=37),
    "bootmae_120_60_16": MaskRule(kind="block", count=120, smallest=16, largest=60, fill="endless"),
}


def test_counts_of_visible_tokens(golden: GoldenFinder) -> None:
    for case, visible in json.loads(golden("pretraining/masking/mae_len_keep.json").read_text()).items():
        count, ratio = case.split("@")
        rule = MaskRule(kind="random", ratio=float(ratio))
        assert int(count) - masks.num_hidden(rule, int(count)) == visible, case


def test_random_masks(golden: GoldenFinder) -> None:
    stored = np.load(golden("pretraining/masking/mae_random_masking.npz"))
    for case in sorted({name.split(".")[0] for name in stored.files}):
        ratio = int(case.split("_r")[1]) / 1000
        noise = tensor(stored, f"{case}.noise")
        mask = masks.from_noise(MaskRule(kind="random", ratio=ratio), (1, 1, noise.shape[1]), noise)
        assert torch.equal(mask.keep, tensor(stored, f"{case}.ids_keep"))
        assert torch.equal(mask.restore, tensor(stored, f"{case}.ids_restore"))
        assert torch.equal(mask.hidden.double(), tensor(stored, f"{case}.mask"))
        assert torch.equal(masks.gather(tensor(stored, f"{case}.x"), mask.keep), tensor(stored, f"{case}.x_masked"))


def test_tubes(golden: GoldenFinder) -> None:
    for case, counts in json.loads(golden("pretraining/masking/videomae_tube_counts.json").read_text()).items():
        size, ratio = case.split("@")
        grid: Any = tuple(map(int, size.split("x")))
        mask = masks.draw(MaskRule(kind="tube", ratio=float(ratio), rounding="hide-floor"), grid, 2, seed=0)
        assert int(mask.hidden[0].sum()) == counts["total_masked"]
        assert mask.keep.shape[1] == counts["visible"]
        frames = mask.hidden.reshape(2, grid[0], -1)
        assert torch.equal(frames, frames[:, :1].expand_as(frames))


def test_counts_of_omnimae(golden: GoldenFinder) -> None:
    counts = json.loads(golden("pretraining/masking/omnimae_counts.json").read_text())
    video = MaskRule(kind="random", ratio=0.9, rounding="hide-floor")
    assert masks.num_hidden(video, 1568) == counts["video_8x14x14_0p9"]
    assert masks.num_hidden(dataclasses.replace(video, ratio=0.95), 1568) == counts["video_0p95"]
    image = MaskRule(kind="tube", ratio=0.75, rounding="hide-floor")
    assert masks.num_hidden(image, 196) == counts["image_1x14x14_0p75"]


def test_cells(golden: GoldenFinder) -> None:
    for case, counts in json.loads(golden("pretraining/masking/simmim_counts.json").read_text()).items():
        size, coarse, patch, ratio = case.split("_")
        side, cell = int(size) // int(patch), int(coarse) // int(patch)
        rule = MaskRule(kind="cells", ratio=float(ratio), rounding="hide-ceil", cell=cell)
        mask = masks.draw(rule, (1, side, side), 1, seed=0)
        assert int(mask.hidden.sum()) == counts["masked_model_tokens"], case
    kept = json.loads(golden("pretraining/masking/fcmae_masked_counts_of_49.json").read_text())
    for case, hidden in kept.items():
        assert masks.num_hidden(MaskRule(kind="cells", ratio=float(case.split("@")[1])), 49) == hidden


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_are_bit_equal(golden: GoldenFinder, name: str) -> None:
    stored = np.load(golden("pretraining/masking/block_masks_examples.npz"))
    dice = Random(int(stored["python_random_seed"]))
    drawn = torch.stack([masks.blocks(BLOCKS[name], (1, 14, 14), dice) for _ in range(8)])
    assert torch.equal(drawn.reshape(8, 14, 14).long(), tensor(stored, name).long())


def test_blocks_filled_up_follow_the_published_statistics(golden: GoldenFinder) -> None:
    expected = json.loads(golden("pretraining/masking/block_masks_stats.json").read_text())["siameseim_118_fixed"]
    rule = load_recipe("siameseim").masks[0]
    dice = Random(0)
    drawn = torch.stack([masks.blocks(rule, (1, 14, 14), dice) for _ in range(2000)]).reshape(-1, 14, 14).double()
    assert set(drawn.sum((1, 2)).tolist()) == {118.0}
    corners = drawn[:, [0, 0, -1, -1], [0, -1, 0, -1]].mean()
    centre = drawn[:, 6:8, 6:8].mean()
    assert abs(float(corners) - expected["corner_prob"]) < 0.03
    assert abs(float(centre) - expected["center_prob"]) < 0.03


def test_ibot_blocks_are_bit_equal(golden: GoldenFinder) -> None:
    stored = np.load(golden("pretraining/masking/ibot_block_examples.npz"))
    dice = Random(int(stored["python_random_seed"]))
    rule = load_recipe("ibot").masks[0]
    drawn = torch.stack([masks.ibot_blocks(rule, (1, 14, 14), dice) for _ in range(16)])
    assert torch.equal(drawn.reshape(16, 14, 14).long(), tensor(stored, "masks").long())


def test_position_tables(golden: GoldenFinder) -> None:
    stored = np.load(golden("pretraining/posembed/mae_sincos2d.npz"))
    for name in stored.files:
        dim, side, cls = (int(part.lstrip("dgcls")) for part in name.split("_"))
        assert_close(positions.table("sincos-column", (1, side, side), dim, cls), tensor(stored, name))
    stored = np.load(golden("pretraining/posembed/bootmae_mocov3_sincos.npz"))
    grid = (1, int(stored["grid"]), int(stored["grid"]))
    for name in ("enc", "dec"):
        expected = tensor(stored, name)
        assert_close(positions.table("sincos-row", grid, expected.shape[1], 1), expected)
    stored = np.load(golden("pretraining/posembed/videomae_sinusoid1d.npz"))
    for name in stored.files:
        assert_close(sinusoid(*tensor(stored, name).shape), tensor(stored, name))


def test_patches(golden: GoldenFinder) -> None:
    stored = np.load(golden("pretraining/patchify/mae_patchify_p4.npz"))
    tokens = targets.patchify(tensor(stored, "img"), 4).flatten(2)
    assert torch.equal(tokens, tensor(stored, "patches"))
    assert torch.equal(targets.unpatchify(tokens, 4), tensor(stored, "unpatchified"))


class TorchDice:
    """torchvision's own draws."""

    def uniform(self, a: float, b: float) -> float:
        return torch.empty(1).uniform_(a, b).item()

    def randint(self, a: int, b: int) -> int:
        return int(torch.randint(a, b + 1, (1,)).item())


def test_crop_boxes(golden: GoldenFinder) -> None:
    stored = np.load(golden("pretraining/sampling/rrc_examples.npz"))
    for row in stored["rows"]:
        case = dict(zip(stored["columns"].tolist(), row.tolist(), strict=True))
        torch.manual_seed(int(case["torch_seed"]))
        size = int(case["H"]), int(case["W"])
        dice: Any = TorchDice()
        box = choose_box(size, (case["scale_lo"], case["scale_hi"]), (3 / 4, 4 / 3), dice)
        for kind in ("tv", "crop"):  # torchvision's, and CropMAE's, which draws the same
            expected = tuple(int(case[f"{kind}_{part}"]) for part in "ijhw")
            assert (box.top, box.left, box.height, box.width) == expected


@pytest.mark.parametrize(("name", "recipe", "gap"), [("cropmae", "siammae", (4, 47)), ("rsp", "rsp", (4, 48)),
                                                     ("tobo_max96", "tobo", (1, 96))])  # fmt: skip
def test_frame_pairs(golden: GoldenFinder, name: str, recipe: str, gap: tuple[int, int]) -> None:
    views = dataclasses.replace(load_recipe(recipe).views, gap=gap)
    cases = json.loads(golden("pretraining/sampling/pair_gap_stats.json").read_text())["by_clip_length"]
    for length, by_system in cases.items():
        expected, dice = by_system[name], Random(int(length))
        pairs = np.array([sampling.choose_frames(views, int(length), dice) for _ in range(20_000)])
        gaps = pairs[:, 1] - pairs[:, 0]
        assert (gaps.min(), gaps.max()) == (expected["gap_min"], expected["gap_max"])
        assert pairs[:, 0].min() == expected["start_min"]
        # The latest start and end are rare where all frames can be drawn: 20 000 draws may just miss them.
        assert abs(pairs[:, 0].max() - expected["start_max"]) <= 1
        assert abs(pairs[:, 1].max() - expected["end_max"]) <= 1
        assert gaps.mean() == pytest.approx(expected["gap_mean"], rel=0.015)
        assert pairs[:, 0].mean() == pytest.approx(expected["start_mean"], rel=0.03, abs=0.02)


def test_learning_rates(golden: GoldenFinder) -> None:
    mae = json.loads(golden("pretraining/schedules/mae_cosine_lr.json").read_text())
    for args, at, values in (("args", "epoch", "lr"), ("args2", "epoch2", "lr2")):
        spec = mae[args]
        for epoch, value in zip(mae[at], mae[values], strict=True):
            warm = epoch < spec["warmup_epochs"]
            found = spec["lr"] * epoch / spec["warmup_epochs"] if warm else optimise.fractional_cosine(
                spec["lr"], spec["min_lr"], spec["warmup_epochs"], spec["epochs"], epoch)  # fmt: skip
            assert found == pytest.approx(value, rel=1e-12, abs=1e-24)
    dino = json.loads(golden("pretraining/schedules/dino_cosine.json").read_text())
    spec = dino["lr"]
    steps, warmup = spec["epochs"] * spec["niter"], spec["warmup_epochs"] * spec["niter"]
    for step in range(steps):
        found = optimise.table_cosine(spec["base"], spec["final"], steps, warmup, step)
        assert found == pytest.approx(spec["values"][step], rel=1e-12)
        found = optimise.table_cosine(dino["wd"]["base"], dino["wd"]["final"], steps, 0, step)
        assert found == pytest.approx(dino["wd"]["values"][step], rel=1e-12)
        teacher = TeacherSpec(momentum=dino["momentum"]["base"], last=1.0)
        assert momentum_at(teacher, step / steps) == pytest.approx(dino["momentum"]["values"][step], rel=1e-12)
    video = json.loads(golden("pretraining/schedules/videomae_cosine.json").read_text())
    for step, value in enumerate(video["values"]):
        found = optimise.table_cosine(video["base"], video["final"], 20, 8, step, start=video["start"])
        assert found == pytest.approx(value, rel=1e-12)
    for step, value in enumerate(video["warmup_steps3_start0"]):
        found = optimise.table_cosine(video["base"], video["final"], 20, 3, step)
        assert found == pytest.approx(value, rel=1e-12)
    momentum = json.loads(golden("pretraining/schedules/siameseim_momentum.json").read_text())
    for epoch, value in zip(momentum["at"], momentum["mm"], strict=True):
        teacher = TeacherSpec(momentum=momentum["base"], last=1.0)
        assert momentum_at(teacher, epoch / momentum["epochs"]) == pytest.approx(value, rel=1e-12)


def test_weight_decay_groups(golden: GoldenFinder) -> None:
    stored = json.loads(golden("pretraining/optim/param_groups.json").read_text())["mae"]
    small = {"encoder.dim": 24, "encoder.depth": 1, "encoder.heads": 2, "views.size": 32}
    small |= {"decoders.0.dim": 16, "decoders.0.depth": 1, "decoders.0.heads": 2}
    recipe = load_recipe("mae", changes=small)
    objective: Any = make_objective(recipe)
    optimiser = optimise.optimiser_of(objective, recipe.optimiser)
    for group, kind in zip(optimiser.param_groups, ("decay", "no_decay"), strict=True):
        assert len(group["params"]) == len(stored[kind])
        assert (group["weight_decay"] > 0) == (kind == "decay")
    ids = {id(parameter) for parameter in optimiser.param_groups[0]["params"]}
    assert id(objective.encoder.cls_token) in ids
    assert id(objective.decoders[0].mask_token) in ids


def test_moving_average(golden: GoldenFinder) -> None:
    stored = np.load(golden("pretraining/optim/ema_update.npz"))
    teacher, student = torch.nn.Linear(3, 2, bias=False).double(), torch.nn.Linear(3, 2, bias=False).double()
    teacher.weight.data.copy_(tensor(stored, "target")[0])
    for online, expected in zip(tensor(stored, "online"), tensor(stored, "target")[1:], strict=True):
        student.weight.data.copy_(online)
        follow(teacher, student, float(stored["m"]))
        assert_close(teacher.weight, expected, 1e-10)


def test_hog(golden: GoldenFinder) -> None:
    stored = np.load(golden("pretraining/hog/maskfeat_hog.npz"))
    pixels = torch.from_numpy(stored["img"])  # float32, as published: bins may flip at their borders
    for found, name in ((hog(pixels), "hog"), (hog_tokens(pixels, 16), "label_p16"),
                        (hog(pixels, normalised=False).flatten(1, 2), "hog_unnormalised")):  # fmt: skip
        expected = torch.from_numpy(stored[name])
        assert ((found - expected).abs() <= 1e-4 * expected.abs().clamp(min=1)).double().mean() >= 0.995, name
    stored = np.load(golden("pretraining/hog/edge_convention.npz"))
    for edge, strongest in (("vertical", 4), ("horizontal", 0)):
        found = hog(torch.from_numpy(stored[f"img_{edge}_edge"]))
        assert_close(found, tensor(stored, f"hog_{edge}_edge"))
        assert int(found[0, 0, :, 0, 0].argmax()) == strongest
