"""VIOLET's targets and masks: the HOG image, boxes, and where the loss is counted."""

import dataclasses
from random import Random
from typing import Any

import numpy as np
import pytest
import torch

from corrkit.backbones.contract import IMAGENET_MEAN, IMAGENET_STD
from corrkit.training.data.views import View
from corrkit.training.networks import masks
from corrkit.training.objectives import make_objective
from corrkit.training.objectives.hog import hog_image
from corrkit.training.objectives.masked import MaskedPrediction
from corrkit.training.objectives.targets import hog_image_tokens, per_frame
from corrkit.training.recipe import load_recipe
from corrkit.training.schema import MaskRule
from tests.conftest import GoldenFinder

BOXES = MaskRule(kind="boxes", ratio=0.15)


def normalised(frames: np.ndarray[Any, Any]) -> torch.Tensor:
    """uint8 [T, H, W, 3] as a clip [1, 3, T, H, W]."""
    pixels = (torch.from_numpy(frames).float() / 255 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    return pixels.permute(3, 0, 1, 2)[None]


@pytest.mark.golden
def test_the_hog_image_is_scikit_image_s(golden: GoldenFinder) -> None:
    stored = np.load(golden("pretraining/hog/violet_skimage_hog.npz"))
    found = hog_image(torch.from_numpy(stored["img_hwc"]).permute(2, 0, 1)[None])
    expected = torch.from_numpy(stored["hog_image"])
    assert float(((found[0] - expected).abs() <= 1e-4).double().mean()) >= 0.995  # bins may flip at their borders


def test_the_hog_image_of_a_slope_to_the_right_has_upright_strokes() -> None:
    """Bin 0 is drawn 10 degrees from upright, from row 4 - 2.95, column 4 + 0.52 to row 4 + 2.95, column 4 - 0.52."""
    stroke = torch.zeros(8, 8)
    stroke[1:4, 4] = stroke[4:7, 3] = 2 * 48 / 64  # 48 of 64 pixels have a gradient of 2, edge columns none
    ramp = torch.arange(8.0).expand(1, 3, 8, 8)
    assert torch.equal(hog_image(ramp)[0], stroke)


def test_targets_of_images_are_those_of_each_frame() -> None:
    clip = torch.randn(2, 3, 3, 16, 16)

    def target(pixels: torch.Tensor) -> torch.Tensor:
        return hog_image_tokens(pixels, 8)

    tokens = per_frame(clip, target=target, tubelet=1)
    assert tokens.shape == (2, 3 * 4, 64)
    assert torch.equal(tokens[:, 4:8], target(clip[:, :, 1]))
    assert torch.equal(per_frame(clip, target=target, tubelet=2)[:, 4:], target(clip[:, :, 2]))
    assert torch.equal(tokens[0, 1].reshape(8, 8), hog_image(clip[:1, :, 0])[0, :8, 8:])  # the upper right token


def small(**changes: Any) -> MaskedPrediction[Any]:
    sizes = {"views.size": 32, "encoder.patch": 16, "views.frames": 3, "encoder.depth": 1}
    objective: Any = make_objective(load_recipe("violet", scale="tiny", changes={**sizes, **changes}))
    assert isinstance(objective, MaskedPrediction)
    return objective


def test_pixel_losses_are_means_and_the_published_third_is_a_weight() -> None:
    """Published code divides by the mask of all three channels, and by 3 again (main_pretrain.py:430)."""
    objective: Any = small(**{"branches.0.weight": 1 / 3, "branches.1.weight": 0.0, "branches.2.weight": 0.0,
                         "branches.3.weight": 0.0})  # fmt: skip
    with torch.no_grad():
        objective.decoders[0].head.weight.zero_()
        objective.decoders[0].head.bias.zero_()
    clip = torch.randn(1, 3, 3, 32, 32)
    mask = masks.from_hidden(torch.tensor([[True, False, False, True] + [False] * 7 + [True]]))
    step = objective.step([View(clip)], [mask])
    covered = objective.encoder.in_pixels(mask.hidden, clip).expand_as(clip).float()
    published = (clip.abs() * covered).sum() / (covered.sum() + 1e-5) / 3
    assert float(step.parts["loss_0"].detach()) == pytest.approx(3 * float(published), rel=1e-5)
    assert float(step.loss.detach()) == pytest.approx(float(published), rel=1e-5)


def test_hidden_tokens_of_a_clip_are_set_to_zero_and_the_others_kept() -> None:
    encoder = small().encoder
    clip = torch.randn(2, 3, 3, 32, 32)
    hidden = torch.zeros(2, 12, dtype=torch.bool)
    hidden[0, 5] = True  # second frame, upper right
    expected = clip.clone()
    expected[0, :, 1, :16, 16:] = 0
    assert torch.equal(encoder.embed(clip, masks.from_hidden(hidden)), encoder.embed(expected, None))


class Scripted:
    """Dice whose first draw is given: it chooses between boxes (0.5 and more) and scattered tokens."""

    def __init__(self, first: float, seed: int) -> None:
        dice = Random(seed)
        self.draws, self.randint, self.later = [first], dice.randint, dice.random

    def random(self) -> float:
        return self.draws.pop() if self.draws else self.later()


def scripted(first: float, seed: int) -> Any:
    """Such dice; what is tested asks for Python's own."""
    return Scripted(first, seed)


def test_scattered_tokens_are_hidden_one_by_one() -> None:
    drawn = torch.stack([masks.boxes(BOXES, (4, 7, 7), scripted(0.49, seed)) for seed in range(500)])
    assert float(drawn.double().mean()) == pytest.approx(0.15, abs=0.005)
    together = (drawn[:, 1:] & drawn[:, :-1]).double().mean()
    assert float(together) == pytest.approx(0.15**2, abs=0.005)  # neighbours don't know of each other


def test_there_are_as_many_boxes_as_frames_none_of_which_lasts_for_all() -> None:
    """Of 1 to 3 of 4 frames and 1 to 3 of 7 cells each."""
    drawn = torch.stack([masks.boxes(BOXES, (4, 7, 7), scripted(0.5, seed)) for seed in range(500)])
    by_frame = drawn.reshape(-1, 4, 49).sum(2)
    assert int(drawn.sum(1).min()) >= 1
    assert int(by_frame.max()) <= 4 * 9
    assert int(by_frame.max()) > 9  # boxes overlap in time
    two_frames = torch.stack([masks.boxes(BOXES, (2, 7, 7), scripted(0.5, seed)) for seed in range(200)])
    assert int((two_frames.reshape(-1, 2, 49).sum(2) > 0).sum(1).min()) == 1  # each box has one frame


def test_a_box_is_a_rectangle_of_less_than_two_thirds() -> None:
    sides = set()
    for seed in range(200):
        hidden = masks.boxes(BOXES, (1, 7, 7), scripted(0.5, seed)).reshape(7, 7)
        rows, columns = hidden.any(1).nonzero().flatten(), hidden.any(0).nonzero().flatten()
        assert int(hidden.sum()) == len(rows) * len(columns)
        assert torch.equal(rows, torch.arange(int(rows[0]), int(rows[-1]) + 1))
        sides |= {len(rows), len(columns)}
    assert sides == {1, 2, 3}


def test_half_of_the_views_have_boxes() -> None:
    """Scattered tokens at ratio 0 are none at all."""
    rule = dataclasses.replace(BOXES, ratio=0.0)
    mask = masks.draw(rule, (4, 7, 7), 1000, seed=0)
    assert mask is not None
    assert mask.keep is None  # unequal counts: tokens are replaced, not dropped
    assert 0.45 < float(mask.hidden.any(1).double().mean()) < 0.55
    again = masks.draw(rule, (4, 7, 7), 1000, seed=0)
    assert again is not None
    assert torch.equal(mask.hidden, again.hidden)
