"""Resampling rules of position embeddings."""

import pytest
import torch
from torch.nn.functional import interpolate

from corrkit.backbones import load_backbone
from corrkit.backbones.networks.positions import RULES, resample, sincos
from corrkit.errors import UsageError


@pytest.fixture
def table():
    return torch.randn(6, 6, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("rule", sorted(RULES))
@pytest.mark.parametrize("grid", [(4, 7), (12, 9), (6, 6)])
def test_every_rule_gives_the_asked_grid(table, rule, grid):
    assert resample(table, grid, rule).shape == (*grid, 8)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_the_native_square_grid_is_left_alone(table, rule):
    torch.testing.assert_close(resample(table, (6, 6), rule), table)


def test_the_dino_rule_is_not_a_resize_to_the_size(table):
    difference = (resample(table, (4, 7), "dino") - resample(table, (4, 7), "size")).abs().max()
    assert difference > 0.01


def test_the_dino_rule_resamples_a_grid_of_equal_count_that_is_not_square(table):
    assert not torch.allclose(resample(table, (4, 9), "dino").flatten(0, 1), table.flatten(0, 1))


def test_crop_keeps_the_scale_of_the_longer_side(table):
    whole = interpolate(table.permute(2, 0, 1)[None], size=(9, 9), mode="bilinear")[0].permute(1, 2, 0)
    torch.testing.assert_close(resample(table, (4, 9), "crop"), whole[:4])


def test_an_unknown_rule_is_named(table):
    with pytest.raises(UsageError, match="Did you mean 'dino'"):
        resample(table, (4, 7), "dyno")


def test_sincos_codes_the_named_axis_first():
    # 2 x 2 cells, 4 channels: sin and cos of the coordinate with frequency 1, one axis per half
    column = sincos((2, 2), 4, "column")
    sine, cosine = torch.tensor(1.0).sin(), torch.tensor(1.0).cos()
    torch.testing.assert_close(column[0, 1], torch.stack([sine, cosine, torch.tensor(0.0), torch.tensor(1.0)]))
    torch.testing.assert_close(column.transpose(0, 1), sincos((2, 2), 4, "row"))


@torch.no_grad()
def test_another_rule_leaves_the_backbone_itself_alone():
    backbone = load_backbone("random:vit_tiny_patch16_224")
    frames = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    before = backbone(frames)
    sized = backbone.with_position("size")(frames)
    assert torch.equal(backbone(frames), before)
    assert not torch.allclose(sized, before, atol=1e-4)
    assert torch.equal(backbone.with_position("antialias")(frames), before)  # timm's own rule
