"""The weight-free backbones: what they see and what they don't."""

import math

import pytest
import torch

from corrkit.backbones.cells import HogCells, RgbCells
from corrkit.backbones.contract import Backbone


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("backbone", [RgbCells(), HogCells(), RgbCells(stride=16, parts=4), HogCells(context=0)])
def test_members_and_shapes_are_those_of_the_contract(backbone):
    assert isinstance(backbone, Backbone)
    frames = noise(2, 3, 32, 48)
    features = backbone(frames)
    assert features.shape[:3] == (2, 32 // backbone.stride, 48 // backbone.stride)
    assert features.dtype == torch.float32
    streamed = list(backbone.encode(iter(frames)))
    assert all(torch.equal(one, both) for one, both in zip(streamed, features, strict=True))


def test_rgb_is_the_mean_colour_of_the_cell_and_a_constant():
    frames = torch.zeros(1, 3, 8, 16)
    frames[0, :, :, 8:] = torch.tensor([1.0, -2.0, 0.5])[:, None, None]
    features = RgbCells(context=0)(frames)
    assert torch.equal(features[0, 0], torch.tensor([[0.0, 0.0, 0.0, 1.0], [1.0, -2.0, 0.5, 1.0]]))


def test_rgb_parts_are_means_of_sub_cells():
    frames = torch.arange(8.0).expand(1, 3, 8, 8)  # columns 0..7: the halves have means 1.5 and 5.5
    features = RgbCells(context=0, parts=2, constant=0)(frames)
    assert features.flatten().tolist() == [1.5, 5.5, 1.5, 5.5] * 3


def test_rgb_context_holds_the_neighbours_colours_with_edges_repeated():
    frames = torch.zeros(1, 3, 8, 24)
    for cell in range(3):
        frames[..., 8 * cell : 8 * cell + 8] = cell + 1.0
    features = RgbCells(context=1, constant=0)(frames)[0, 0].reshape(3, 3, 3, 3)  # [cell, dy, dx, colour]
    assert features[:, 1, :, 0].tolist() == [[1, 1, 2], [1, 2, 3], [2, 3, 3]]


@pytest.mark.parametrize(("angle", "bin_index"), [(0.0, 0), (math.pi / 4, 1), (math.pi / 2, 2), (3 * math.pi / 4, 3)])
def test_hog_puts_a_slope_into_the_bin_of_its_orientation(angle, bin_index):
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    ramp = (x * math.cos(angle) + y * math.sin(angle)).expand(1, 3, 24, 24)
    for signed in (ramp, -ramp):  # orientations are unsigned
        histogram = HogCells(bins=4, context=0, colour=0)(signed)[0, 1, 1]
        assert histogram.argmax() == bin_index
        # Gradient length 1: its share of the squared length is 1 / (1 + floor), the other bins are empty.
        assert histogram[bin_index].item() == pytest.approx((1 / 1.02) ** 0.5, abs=1e-3)
        assert histogram.sum() - histogram[bin_index] < 0.02


def test_hog_shares_a_gradient_between_the_two_nearest_bins():
    angle = math.pi / 8  # half-way between bins 0 and 1 of 4
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    ramp = (x * math.cos(angle) + y * math.sin(angle)).expand(1, 3, 24, 24)
    histogram = HogCells(bins=4, context=0, colour=0)(ramp)[0, 1, 1]
    assert histogram[0].item() == pytest.approx(histogram[1].item(), abs=1e-3)
    assert histogram[0] > 0.6


def test_hog_does_not_see_how_bright_the_light_is():
    scene = noise(1, 3, 64, 64).clamp(-2, 2)
    backbone = HogCells(floor=1e-6)
    plain, offset = backbone(scene), backbone(scene + 0.7)
    assert torch.allclose(plain, offset, atol=1e-4)
    gradients = HogCells(floor=1e-6, colour=0)
    assert torch.allclose(gradients(scene), gradients(scene * 1.5), atol=1e-4)
    rgb = RgbCells()
    assert not torch.allclose(rgb(scene), rgb(scene + 0.7), atol=0.1)


def test_hog_of_a_flat_frame_is_zero_and_finite():
    features = HogCells(colour=0)(torch.full((1, 3, 16, 16), 0.3))
    assert torch.count_nonzero(features) == 0
    assert torch.isfinite(HogCells()(torch.zeros(1, 3, 16, 16))).all()


def test_parts_of_hog_have_the_lengths_asked_for():
    features = HogCells(colour=2.0, floor=1e-9)(noise(1, 3, 32, 32))
    gradients, colours = features[..., : 9 * 9], features[..., 9 * 9 :]
    assert torch.allclose(gradients.norm(dim=-1), torch.tensor(1.0), atol=1e-4)
    assert torch.allclose(colours.norm(dim=-1), torch.tensor(2.0), atol=1e-4)


def test_moving_the_picture_by_a_cell_moves_the_features_by_a_cell():
    frames = noise(1, 3, 64, 64)
    for backbone in (RgbCells(), HogCells()):
        here, moved = backbone(frames), backbone(frames.roll(8, dims=3))
        inner = slice(2, -2)
        assert torch.allclose(here[:, inner, 2:-3], moved[:, inner, 3:-2], atol=1e-6)


def test_digest_tells_parameters_apart():
    variants = [RgbCells(), RgbCells(parts=2), RgbCells(context=2), RgbCells(constant=0), HogCells(), HogCells(bins=8)]
    assert len({variant.digest for variant in variants}) == len(variants)
    assert RgbCells().digest == RgbCells().digest


@pytest.mark.parametrize(
    "make",
    [
        lambda: RgbCells(stride=8, parts=3),
        lambda: RgbCells(context=-1),
        lambda: HogCells(bins=1),
        lambda: HogCells(stride=1),
        lambda: HogCells(floor=0),
        lambda: HogCells(colour=-1),
    ],
)
def test_parameters_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match="out of range"):
        make()


@pytest.mark.parametrize("make", [RgbCells, HogCells])
def test_what_no_whole_cell_covers_is_dropped(make):
    frames = torch.rand(1, 3, 20, 31)
    assert torch.equal(make()(frames), make()(frames[..., :16, :24]))


@pytest.mark.parametrize("shape", [(1, 3, 7, 16), (1, 1, 16, 16), (3, 16, 16)])
def test_frames_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="frames are"):
        HogCells()(torch.zeros(shape))
