"""Surfaces with outlines: objects cut from photographs, and seeded bodies of cloth, fur or stone."""

import math
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from corrkit.clips.surfaces import (
    GREY_PHOTOGRAPHS,
    PATTERNS,
    Colour,
    Floats,
    Image,
    halved,
    noise,
    pattern,
    photograph,
    tinted,
)

Mask = NDArray[np.bool_]

PHOTOGRAPHED = ("cat", "cup", "helmet", "shuttle")

# Outlines in pixels of the photographs.
_CAT = (
    (62, 0),
    (350, 0),
    (352, 70),
    (358, 115),
    (345, 165),
    (322, 222),
    (296, 270),
    (255, 286),
    (205, 272),
    (125, 243),
)
_CAT_LEFT = ((72, 205), (40, 150), (38, 70))
_SHUTTLE = (
    (58, 0), (92, 0), (102, 12), (112, 45), (112, 180), (124, 222), (110, 240), (104, 270), (62, 278), (24, 280),
    (30, 245), (12, 218), (36, 190), (36, 80), (46, 55), (54, 12),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cutout:
    """A surface [h, w, 3] uint8 and where it is solid, [h, w] bool."""

    surface: Image
    mask: Mask

    @property
    def centre(self) -> tuple[float, float]:
        """Centre of mass of the mask, (x, y) in surface pixels."""
        v, u = np.nonzero(self.mask)
        return float(u.mean()), float(v.mean())

    @property
    def extent(self) -> float:
        """Square root of the solid area, in surface pixels."""
        return math.sqrt(float(self.mask.sum()))


def photographed(name: str) -> Cutout:
    """One of PHOTOGRAPHED, about 120 pixels wide. Raises KeyError for another name."""
    image, mask, factor = {"cat": _cat, "cup": _cup, "helmet": _helmet, "shuttle": _shuttle}[name]()
    return Cutout(halved(image, factor), _halved_mask(mask, factor))


def body(dice: Random, palette: tuple[Colour, Colour], *, silhouette: str, size: int = 120) -> Cutout:
    """A seeded body: silhouette is "blob" or "beast"; the material is seeded too.

    Args:
        dice: source of material and outline.
        palette: its two colours.
        silhouette: "blob" (a lobed outline) or "beast" (an animal's, seen from the side).
        size: width in surface pixels.
    """
    height = size if silhouette == "blob" else size * 3 // 4
    surface = _material(dice, palette, height, size)
    mask = _blob(dice, height, size) if silhouette == "blob" else _beast(dice, height, size)
    return Cutout(_rounded(surface, mask), mask)


def polygon(points: tuple[tuple[float, float], ...], h: int, w: int) -> Mask:
    """Pixels [h, w] whose centres are inside a closed outline of (x, y) points (even-odd rule)."""
    y, x = np.mgrid[0:h, 0:w].astype(np.float64)
    inside = np.zeros((h, w), bool)
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        if y0 == y1:
            continue
        crosses = (y0 > y) != (y1 > y)
        inside ^= crosses & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return inside


def ellipse(h: int, w: int, x: float, y: float, rx: float, ry: float) -> Mask:
    """Pixels [h, w] whose centres are inside an upright ellipse."""
    v, u = np.mgrid[0:h, 0:w].astype(np.float64)
    return np.asarray(((u - x) / rx) ** 2 + ((v - y) / ry) ** 2 <= 1)


def _material(dice: Random, palette: tuple[Colour, Colour], h: int, w: int) -> Image:
    kind = dice.choice((*PATTERNS, *GREY_PHOTOGRAPHS, "fur"))
    if kind == "fur":
        return tinted((noise(dice, h, w, coarsest=16, octaves=5, fall=0.9) * 255).astype(np.uint8)[..., None], *palette)
    if kind in GREY_PHOTOGRAPHS:
        whole = halved(photograph(kind)) if kind != "grass" else photograph(kind)
        top, left = dice.randrange(whole.shape[0] - h), dice.randrange(whole.shape[1] - w)
        return tinted(whole[top : top + h, left : left + w], *palette)
    return pattern(dice, kind, h, w, *palette)


def _rounded(surface: Image, mask: Mask) -> Image:
    """Darker towards the edge and lighter at the upper left, as a solid body is."""
    v, u = np.nonzero(mask)
    h, w = mask.shape
    y, x = np.mgrid[0:h, 0:w].astype(np.float64)
    dx = (x - (u.min() + u.max()) / 2) / max(1, u.max() - u.min()) * 2
    dy = (y - (v.min() + v.max()) / 2) / max(1, v.max() - v.min()) * 2
    light: Floats = 1.12 - 0.28 * ((dx + 0.3) ** 2 + (dy + 0.35) ** 2)
    return np.floor(np.clip(surface * np.clip(light, 0.5, 1.2)[..., None], 0, 255) + 0.5).astype(np.uint8)


def _blob(dice: Random, h: int, w: int) -> Mask:
    y, x = np.mgrid[0:h, 0:w].astype(np.float64)
    dx, dy = (x - w / 2) / (w / 2), (y - h / 2) / (h / 2)
    angle = np.arctan2(dy, dx)
    radius = np.full((h, w), 0.72)
    for lobes in (2, 3, 4, 5):
        radius += dice.uniform(0.02, 0.32 / lobes) * np.cos(lobes * angle + dice.uniform(0, 2 * math.pi))
    return np.asarray(np.sqrt(dx * dx + dy * dy) <= np.minimum(radius, 0.98))


def _beast(dice: Random, h: int, w: int) -> Mask:
    mask = ellipse(h, w, 0.47 * w, 0.42 * h, 0.32 * w, dice.uniform(0.22, 0.28) * h)
    head = (0.85 * w, dice.uniform(0.22, 0.34) * h)
    mask |= ellipse(h, w, *head, 0.12 * w, 0.15 * h)
    mask |= polygon(
        ((0.62 * w, 0.25 * h), (head[0], head[1] - 4), (head[0], head[1] + 0.12 * h), (0.66 * w, 0.6 * h)), h, w
    )
    mask |= polygon(((head[0] - 5, head[1]), (head[0] + 1, head[1] - 0.22 * h), (head[0] + 7, head[1])), h, w)
    for hip in (0.22, 0.32, 0.6, 0.7):
        foot = hip + dice.uniform(-0.06, 0.06)
        legs = ((hip - 0.04, 0.5), (hip + 0.05, 0.5), (foot + 0.03, 0.97), (foot - 0.03, 0.97))
        mask |= polygon(tuple((u * w, v * h) for u, v in legs), h, w)
    tail = ((0.2, 0.3), (0.02, dice.uniform(0.05, 0.5)), (0.06, 0.55), (0.2, 0.42))
    return mask | polygon(tuple((u * w, v * h) for u, v in tail), h, w)


def _cat() -> tuple[Image, Mask, int]:
    image = photograph("cat")
    return image[:, :380], polygon(_CAT + _CAT_LEFT, image.shape[0], 380), 3


def _cup() -> tuple[Image, Mask, int]:
    image = photograph("coffee")
    h, w = image.shape[:2]
    mask = ellipse(h, w, 278, 224, 198, 158) | ellipse(h, w, 287, 112, 113, 94)
    return image[10:390, 70:490], mask[10:390, 70:490], 4


def _helmet() -> tuple[Image, Mask, int]:
    image = photograph("suit")
    h, w = image.shape[:2]
    return image[112:, 275:505], ellipse(h, w, 392, 232, 108, 116)[112:, 275:505], 2


def _shuttle() -> tuple[Image, Mask, int]:
    image = photograph("shuttle")
    return image, polygon(_SHUTTLE, *image.shape[:2]), 2


def _halved_mask(mask: Mask, factor: int) -> Mask:
    h, w = mask.shape[0] // factor, mask.shape[1] // factor
    blocks = mask[: h * factor, : w * factor].reshape(h, factor, w, factor)
    return np.asarray(2 * blocks.sum((1, 3)) > factor * factor)
