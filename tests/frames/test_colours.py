"""Colour augmentation: drawn once, done by Pillow or on tensors with the same look."""

from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from corrkit.frames.colours import Colours, coloured, coloured_together, draw_colours

PLAIN = Colours(False, 1.0, 1.0, 1.0, 0.0, False, 0.0, False)
CHANGES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "brightness": {"jittered": True, "brightness": 1.4},
    "contrast": {"jittered": True, "contrast": 0.6},
    "saturation": {"jittered": True, "saturation": 1.2},
    "hue": {"jittered": True, "hue": 0.1},
    "hue, the other way": {"jittered": True, "hue": -0.1},
    "grey": {"grey": True},
    "blur": {"blur": 2.0},
    "a little blur": {"blur": 0.6},
    "solarised": {"solarised": True},
    "all": {"jittered": True, "brightness": 0.8, "contrast": 1.3, "hue": 0.05, "blur": 1.0, "solarised": True},
}


def picture(seed: int) -> Image.Image:
    """All colours, two pixels wide."""
    coarse = np.random.default_rng(seed).integers(0, 255, (20, 24, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((48, 40), Image.Resampling.BILINEAR)


def together(pictures: list[Image.Image], colours: list[Colours]) -> np.ndarray:
    pixels = torch.from_numpy(np.stack([np.asarray(one) for one in pictures]).transpose(0, 3, 1, 2))
    return coloured_together(pixels, torch.tensor(colours)).numpy().transpose(0, 2, 3, 1)


def test_pictures_of_a_batch_look_as_pillow_makes_them() -> None:
    """Values are rounded at other places, and Pillow's blur is three boxes: a few levels."""
    pictures = [picture(seed) for seed in range(len(CHANGES))]
    colours = [PLAIN._replace(**change) for change in CHANGES.values()]
    found = together(pictures, colours).astype(int)
    for name, one, drawn, result in zip(CHANGES, pictures, colours, found, strict=True):
        expected = np.asarray(coloured(one, drawn)).astype(int)
        difference = np.abs(result - expected)
        assert difference.mean() < 1.5, name
        assert np.percentile(difference, 99) <= 8, name
        assert name == "nothing" or np.abs(expected - np.asarray(one)).mean() > 5 * difference.mean(), name


def test_no_colours_change_nothing_and_each_picture_has_its_own() -> None:
    pictures = [picture(0), picture(1)]
    found = together(pictures, [PLAIN, PLAIN._replace(grey=True)])
    np.testing.assert_array_equal(found[0], np.asarray(pictures[0]))
    assert (found[1][..., 0] == found[1][..., 1]).all()


def test_colours_come_as_often_as_published() -> None:
    dice = Random(0)
    drawn = [draw_colours(0.1, 0.2, dice) for _ in range(4000)]
    for share, published in (
        (np.mean([one.jittered for one in drawn]), 0.8),
        (np.mean([one.grey for one in drawn]), 0.2),
        (np.mean([one.blur > 0 for one in drawn]), 0.1),
        (np.mean([one.solarised for one in drawn]), 0.2),
    ):
        assert share == pytest.approx(published, abs=0.02)
