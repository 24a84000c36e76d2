"""From decoded frames to a sample's views: crops, flips, colour, normalisation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from corrkit.backbones.contract import IMAGENET_MEAN, IMAGENET_STD
from corrkit.frames.colours import Colours, coloured, coloured_together, draw_colours
from corrkit.frames.crops import Box, choose_box
from corrkit.training.data.sampling import Dice
from corrkit.training.schema import Views

Pixels = NDArray[np.uint8]

_RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}

COLOURS = {"siameseim": ((1.0, 0.0), (0.1, 0.2)), "dino": ((1.0, 0.0), (0.1, 0.2), (0.5, 0.0))}
"""Probability of blur and of solarisation for the first, the second, ... augmented view."""


@dataclass(slots=True)
class View:
    """One view of a batch: pixels [B, 3, (T,) H, W], uint8 as decoded or normalised float32.

    boxes: [B, 6] of (top, left, height, width, width of the frame, flipped) in pixels, where an objective needs them.
    colours: [B, 8], rows of `Colours` that the pixels still lack.
    """

    pixels: Tensor
    boxes: Tensor | None = None
    colours: Tensor | None = None

    def to(self, device: torch.device) -> "View":
        """On another device, coloured and normalised there: a quarter of the bytes travels."""
        pixels, boxes, colours = self._each(lambda tensor: tensor.to(device, non_blocking=True))
        assert pixels is not None
        if colours is not None:
            pixels = coloured_together(pixels, colours)
        return View(normalised(pixels) if pixels.dtype == torch.uint8 else pixels, boxes)

    def pin_memory(self) -> "View":
        """In memory that a GPU copies from while it computes."""
        pixels, boxes, colours = self._each(Tensor.pin_memory)
        assert pixels is not None
        return View(pixels, boxes, colours)

    def _each(self, change: Callable[[Tensor], Tensor]) -> list[Tensor | None]:
        return [None if tensor is None else change(tensor) for tensor in (self.pixels, self.boxes, self.colours)]


def normalised(pixels: Tensor) -> Tensor:
    """Pixels [B, 3, ...] of 0 to 255, as float32 with ImageNet's mean 0 and deviation 1."""
    mean, std = _statistics(pixels, torch.float32)
    white = torch.tensor(255.0, device=pixels.device)  # dividing by a number is multiplying by its inverse on a GPU
    return (pixels.float() / white - mean) / std


class Made(NamedTuple):
    """A view of a sample: pixels, box, and the colours that they still lack, if any."""

    pixels: Pixels
    box: Box
    colours: Sequence[Colours] = ()


def make_views(
    frames: Sequence[Pixels], views: Views, dice: Dice
) -> tuple[list[Pixels], list[tuple[int, ...]], list[Colours]]:
    """The views of one sample.

    Args:
        frames: uint8 RGB [H, W, 3], those that `sampling.choose_frames` named.
        views: the recipe's.
        dice: source of all draws.

    Returns:
        Per view the pixels, [3, S, S] or [3, T, S, S] uint8, the box (top, left, height, width, width of the frame,
        flipped), and of those that are coloured on the device the colours.
    """
    made = _KINDS[views.kind]([Image.fromarray(frame) for frame in frames], views, dice)
    colours = [colours for one in made for colours in one.colours]
    return [one.pixels for one in made], [_numbers(one.box) for one in made], colours


def unit_range(pixels: Tensor) -> Tensor:
    """Normalised pixels [B, 3, ...] back in [0, 1]."""
    mean, std = _statistics(pixels, pixels.dtype)
    return pixels * std + mean


def _statistics(pixels: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    shape = (3,) + (1,) * (pixels.ndim - 2)
    mean, std = (torch.tensor(v, dtype=dtype, device=pixels.device) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return mean.reshape(shape), std.reshape(shape)


def _frames(frames: list[Image.Image], views: Views, dice: Dice) -> list[Made]:
    """One view per frame, under one box and flip or each under its own box with a common flip (CatMAE)."""
    flipped = dice.random() < views.flip
    box = _box(frames[0], views.area, views, dice)
    boxes = [box] + [box if views.shared_box else _box(frame, views.area, views, dice) for frame in frames[1:]]
    return [Made(_cut(frame, one, flipped, views), one) for frame, one in zip(frames, boxes, strict=True)]


def _clip(frames: list[Image.Image], views: Views, dice: Dice) -> list[Made]:
    """One view of all frames."""
    cut = _frames(frames, views, dice)
    return [Made(np.stack([one.pixels for one in cut], 1), cut[0].box)]


def _crops(frames: list[Image.Image], views: Views, dice: Dice) -> list[Made]:
    """A global and a local crop: alexandre-eymael/CropMAE 5d0dab2 CropMAEStrategies.py:51-60.

    The local crop is taken from the global view as resized; flips are independent.
    """
    outer = _box(frames[0], views.area, views, dice)
    whole = _resize(_flip(frames[0], flipped := dice.random() < views.flip), outer, views.size, views)
    source = whole if views.crop_of_crop else frames[0]
    inner = _box(source, views.local_area, views, dice)
    return [
        Made(_pixels(whole), outer if not flipped else _as_flipped(outer)),
        Made(_cut(source, inner, dice.random() < views.flip, views), inner),
    ]


def _augmented(frames: list[Image.Image], views: Views, dice: Dice) -> list[Made]:
    """Two global crops under colour augmentation, then `locals` small ones."""
    made = []
    rule, _, later = views.colour.partition("-")
    chances = COLOURS.get(rule, ())
    for index in range(2 + views.locals):
        area, size = (views.area, views.size) if index < 2 else (views.local_area, views.local_size)
        flipped = dice.random() < views.flip
        box = _box(frames[0], area, views, dice)
        picture = _resize(_flip(frames[0], flipped), box, size, views)
        drawn = [draw_colours(*chances[min(index, len(chances) - 1)], dice)] if chances else []
        if drawn and not later:
            picture = coloured(picture, drawn.pop())
        made.append(Made(_pixels(picture), _as_flipped(box) if flipped else box, drawn))
    return made


_KINDS = {
    **dict.fromkeys(("single", "pair", "triple"), _frames), "clip": _clip, "crops": _crops,
    **dict.fromkeys(("augmented", "multicrop"), _augmented),
}  # fmt: skip


def _box(picture: Image.Image, area: tuple[float, ...], views: Views, dice: Dice) -> Box:
    return choose_box((picture.height, picture.width), area, views.aspect, dice)


def _cut(picture: Image.Image, box: Box, flipped: bool, views: Views) -> Pixels:
    return _pixels(_resize(_flip(picture, flipped), box, views.size, views))


def _flip(picture: Image.Image, flipped: bool) -> Image.Image:
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flipped else picture


def _resize(picture: Image.Image, box: Box, size: int, views: Views) -> Image.Image:
    edges = (box.left, box.top, box.left + box.width, box.top + box.height)
    return picture.resize((size, size), _RESAMPLING[views.interpolation], box=edges)


def _pixels(picture: Image.Image) -> Pixels:
    return np.ascontiguousarray(np.asarray(picture, np.uint8).transpose(2, 0, 1))


def _as_flipped(box: Box) -> Box:
    return Box(box.top, box.left, box.height, box.width, box.frame_width, flipped=True)


def _numbers(box: Box) -> tuple[int, ...]:
    return (box.top, box.left, box.height, box.width, box.frame_width, int(box.flipped))
