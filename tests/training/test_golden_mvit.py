"""MaskFeat on MViTv2: its masks and sizes against the published code, and what its masks keep apart."""

import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from training_goldens import assert_close, tensor

from corrkit.backbones import load_backbone
from corrkit.training import checkpoint
from corrkit.training.data.views import View
from corrkit.training.networks import masks
from corrkit.training.objectives.hog import hog_tokens
from corrkit.training.objectives.masked import MaskedPrediction
from corrkit.training.recipe import load_recipe
from tests.conftest import GoldenFinder

IMAGES = {"encoder.network": "mvit", "encoder.widens": [1, 2, 3], "encoder.position": "none"}


def tiny(name: str = "maskfeat-video", **changes: Any) -> MaskedPrediction:
    torch.manual_seed(0)
    return MaskedPrediction(load_recipe(name, scale="tiny", changes=changes))


@pytest.mark.golden
def test_cubes_are_bit_equal(golden: GoldenFinder) -> None:
    stored = np.load(golden("pretraining/masking/maskfeat_cube_examples.npz"))
    rule = load_recipe("maskfeat-video", changes={"masks.0.cell": 1}).masks[0]
    assert (rule.smallest, rule.largest) == (int(stored["min"]), int(stored["max"]))
    grid = tuple(stored["window"].tolist())
    assert masks.wanted(rule, int(np.prod(grid))) == int(stored["num"])
    dice = Random(int(stored["python_random_seed"]))
    drawn = torch.stack([masks.blocks(rule, grid, dice) for _ in range(8)])
    assert torch.equal(drawn.reshape(8, *grid).long(), tensor(stored, "masks").long())


@pytest.mark.golden
def test_cubes_follow_the_published_statistics(golden: GoldenFinder) -> None:
    expected = json.loads(golden("pretraining/masking/maskfeat_cube_stats.json").read_text())
    rule = load_recipe("maskfeat-video", changes={"masks.0.cell": 1}).masks[0]
    dice = Random(0)
    counts = np.array([int(masks.blocks(rule, (8, 7, 7), dice).sum()) for _ in range(expected["n"])])
    assert counts.max() == expected["max"] == expected["target"]
    assert counts.mean() == pytest.approx(expected["mean"], abs=0.3)
    assert (counts == expected["target"]).mean() == pytest.approx(expected["frac_exact"], abs=0.05)


def test_cubes_are_of_cells_of_two_tokens_on_a_side() -> None:
    rule = load_recipe("maskfeat-video").masks[0]
    mask = masks.draw(rule, (8, 14, 14), 2, seed=0)
    hidden = mask.hidden.reshape(2, 8, 7, 2, 7, 2)
    assert torch.equal(hidden, hidden[:, :, :, :1, :, :1].expand_as(hidden))
    assert 4 * 147 <= int(mask.hidden[0].sum()) <= 4 * 157
    assert not torch.equal(hidden[:, 0], hidden[:, -1])  # lengths in time differ


@pytest.mark.golden
@pytest.mark.parametrize(("size", "widens", "depth"), [("tiny", [1, 3, 8], 10), ("small", [1, 3, 14], 16),
                                                       ("base", [2, 5, 21], 24)])  # fmt: skip
def test_image_networks_have_the_published_sizes(
    golden: GoldenFinder, size: str, widens: list[int], depth: int
) -> None:
    counts = json.loads(golden("pretraining/params.json").read_text())[f"timm mvitv2_{size} num_classes=0"]
    changes = {**IMAGES, "encoder.widens": widens, "encoder.depth": depth, "encoder.dim": 96, "encoder.heads": 1,
               "encoder.patch": 32, "encoder.cls": False, "encoder.final_norm": True}  # fmt: skip
    encoder = MaskedPrediction(load_recipe("maskfeat", changes=changes)).encoder
    assert sum(parameter.numel() for parameter in encoder.network.parameters()) == counts["total"]


def test_the_video_network_is_the_published_one() -> None:
    """Strides, heads and widths of the published configuration: 14 x 14 tokens come out, width 768, 8 heads."""
    objective: Any = MaskedPrediction(load_recipe("maskfeat-video"))
    designs = objective.encoder.designs
    assert [design.query_stride[1] for design in designs] == [2 if index in (1, 3) else 1 for index in range(16)]
    assert [design.key_stride[1] for design in designs] == [8] + [4] * 2 + [2] * 13
    assert [design.heads for design in designs] == [1] + [2] * 2 + [4] * 11 + [8] * 2
    assert [design.out_dim for design in designs] == [192] * 2 + [384] * 11 + [768] * 3
    assert objective.encoder.grid == (8, 14, 14)
    assert set(dict(objective.decoders.named_parameters())) == {"0.head.weight", "0.head.bias"}
    assert objective.decoders[0].head.weight.shape == (108, 768)


def test_the_target_is_the_histogram_of_a_tokens_first_frame() -> None:
    clip = torch.randn(1, 3, 4, 96, 96)
    (target, channels) = tiny().targets[0]
    found = target(clip)
    assert channels == 108
    assert torch.equal(found, torch.cat([hog_tokens(clip[:, :, frame], 16) for frame in (0, 2)], 1))


@pytest.mark.parametrize(("name", "changes"), [("maskfeat-video", {}), ("maskfeat", IMAGES)])
def test_hidden_pixels_dont_reach_the_prediction(name: str, changes: dict[str, Any]) -> None:
    """Patches overlap by 3 pixels and a frame, as published: only what no visible patch covers is hidden."""
    objective: Any = tiny(name, **changes)
    time, rows, columns = objective.encoder.grid
    hidden = torch.zeros(time, rows, columns, dtype=torch.bool)
    hidden[:, 2:5, 1:4] = True
    mask = masks.from_hidden(hidden.flatten()[None])
    shape = (1, 3, 4, 96, 96) if name == "maskfeat-video" else (1, 3, 96, 96)
    pixels, other = torch.randn(shape), torch.randn(shape)
    changed = pixels.clone()
    changed[..., 2 * 16 + 3 : 5 * 16 - 3, 16 + 3 : 4 * 16 - 3] = other[..., 35:77, 19:61]
    branch = objective.recipe.branches[0]
    before, after, unmasked = (
        objective.predict(branch, objective.encode([View(one)], [rule]))
        for one, rule in ((pixels, mask), (changed, mask), (changed, None))
    )
    assert torch.equal(before, after)
    assert not torch.equal(before, unmasked)


@pytest.mark.parametrize(("name", "changes"), [("maskfeat-video", {}), ("maskfeat", IMAGES)])
def test_the_evaluated_network_is_the_trained_one(name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    objective: Any = tiny(name, **changes)
    checkpoint.save(tmp_path / "checkpoint.pth", checkpoint.checkpoint_tree(objective))
    backbone = load_backbone(tmp_path / "checkpoint.pth")
    assert backbone.stride == 16
    frame = torch.randn(1, 3, 96, 96)
    view = View(frame[:, :, None].expand(-1, -1, 2, -1, -1) if name == "maskfeat-video" else frame)
    with torch.no_grad():
        tokens = objective.encode([view], [None])[0].z
    assert_close(backbone(frame).flatten(1, 2), tokens, 1e-5)


def test_images_are_trained_too() -> None:
    objective: Any = tiny("maskfeat", **IMAGES)
    step = objective([View(torch.randn(2, 3, 96, 96))], seed=0)
    step.loss.backward()
    assert step.loss.isfinite()
    assert objective.encoder.network.patch_embed.proj.weight.grad.abs().sum() > 0
    assert objective.encoder.mask_token.grad.abs().sum() > 0


def test_training_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    first = tiny()
    checkpoint.save(tmp_path / "checkpoint.pth", checkpoint.checkpoint_tree(first))
    second = tiny()
    torch.nn.init.zeros_(second.encoder.network.blocks[0].attn.qkv.weight)
    taken = checkpoint.start_from(second, str(tmp_path / "checkpoint.pth"))
    assert taken == len(first.encoder.network.state_dict())
    assert torch.equal(
        second.encoder.network.blocks[0].attn.qkv.weight, first.encoder.network.blocks[0].attn.qkv.weight
    )


def test_an_image_network_gives_what_timms_gives() -> None:
    from timm.models.mvitv2 import MultiScaleVit, MultiScaleVitCfg, checkpoint_filter_fn

    changes = {**IMAGES, "encoder.patch": 32, "encoder.depth": 5, "encoder.widens": [1, 2, 4], "encoder.cls": False,
               "encoder.final_norm": True, "encoder.heads": 1, "views.size": 64}  # fmt: skip
    encoder = tiny("maskfeat", **changes).encoder
    with torch.no_grad():
        for parameter in encoder.parameters():  # larger than at the start, so that every part matters
            parameter.add_(0.1 * torch.randn_like(parameter))
    design = MultiScaleVitCfg(depths=(1, 1, 2, 1), embed_dim=16, num_heads=1)
    reference = MultiScaleVit(design, img_size=(64, 64), num_classes=0).eval()
    state = checkpoint_filter_fn(encoder.network.state_dict(), reference)
    reference.load_state_dict(state)
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert_close(encoder(pixels).z, reference.forward_features(pixels), 1e-5)
