"""Pictures that objects and backgrounds are cut from: shipped photographs, and woven, spotted or noisy patterns.

All arithmetic is of integers or of single float64 operations, so that every machine renders the same bytes.
"""

import functools
from collections.abc import Callable
from importlib import resources
from random import Random

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Floats = NDArray[np.float64]
Colour = tuple[float, float, float]
"""Red, green, blue in 0..255."""

GREY_PHOTOGRAPHS = ("brick", "grass", "gravel")
PATTERNS = ("plain", "stripes", "checks", "spots", "weave", "patches")


@functools.cache
def photograph(name: str) -> Image:
    """A shipped photograph as RGB [h, w, 3] uint8, read-only; see textures/LICENCE.md for origins and terms."""
    import cv2

    data = resources.files("corrkit.clips").joinpath("textures", f"{name}.jpg").read_bytes()
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if decoded is None:
        raise RuntimeError(f"the shipped texture {name}.jpg can't be decoded")
    image = np.ascontiguousarray(decoded[..., ::-1], np.uint8)
    image.flags.writeable = False
    return image


def halved(image: Image, factor: int = 2) -> Image:
    """Means of factor x factor blocks of [h, w, 3], rounded half up; the remainder at the right and bottom is cut."""
    h, w = image.shape[0] // factor, image.shape[1] // factor
    blocks = image[: h * factor, : w * factor].reshape(h, factor, w, factor, -1).astype(np.uint32)
    area = factor * factor
    return np.asarray((blocks.sum((1, 3)) + area // 2) // area, np.uint8)


def tinted(grey: Image, dark: Colour, light: Colour) -> Image:
    """A grey photograph [h, w, 3] coloured from dark to light."""
    share = grey[..., :1] / 255.0
    return _bytes(np.asarray(dark) * (1 - share) + np.asarray(light) * share)


def random_bytes(dice: Random, count: int) -> NDArray[np.uint8]:
    """`count` uniform bytes; PCG64's raw stream is the one that numpy promises to keep."""
    words = np.random.PCG64(dice.getrandbits(64)).random_raw((count + 7) // 8)
    return np.asarray(words, "<u8").view(np.uint8)[:count]


def noise(dice: Random, h: int, w: int, *, coarsest: int = 64, octaves: int = 5, fall: float = 0.6) -> Floats:
    """Value noise [h, w] in 0..1: `octaves` lattices, each twice as fine and `fall` times as strong as the last.

    Args:
        dice: source of the lattice values.
        h: rows.
        w: columns.
        coarsest: pixels between lattice points of the first octave.
        octaves: number of lattices.
        fall: strength of an octave relative to the one before.
    """
    total = np.zeros((h, w))
    strength, sum_of_strengths = 1.0, 0.0
    for octave in range(octaves):
        step = max(1, coarsest >> octave)
        rows, columns = h // step + 2, w // step + 2
        lattice = random_bytes(dice, rows * columns).reshape(rows, columns) / 255.0
        total += strength * _stretched(lattice, h, w, step)
        sum_of_strengths += strength
        strength *= fall
    return total / sum_of_strengths


def pattern(dice: Random, kind: str, h: int, w: int, first: Colour, second: Colour) -> Image:
    """A piece of cloth [h, w, 3] of two colours with folds and fibres; kind is one of PATTERNS.

    Raises KeyError for another kind.
    """
    v, u = np.mgrid[0:h, 0:w].astype(np.float64)
    folds = noise(dice, h, w, coarsest=32, octaves=3)
    fibres = noise(dice, h, w, coarsest=4, octaves=2)
    u = u + 6 * folds  # cloth is never quite straight
    size = dice.uniform(7, 13)
    patterns: dict[str, Callable[[], Floats]] = {
        "plain": lambda: np.clip(noise(dice, h, w, coarsest=16, octaves=4) * 2.2 - 0.6, 0, 1),
        "stripes": lambda: (u // size) % 2,
        "checks": lambda: ((u // size) % 2 + (v // size) % 2) / 2,
        "spots": lambda: _spots(u, v, size * 1.3),
        "weave": lambda: np.abs((u % size) / size - 0.5) + np.abs((v % size) / size - 0.5),
        "patches": lambda: np.clip((noise(dice, h, w, coarsest=24, octaves=2) - 0.45) * 8, 0, 1),
    }
    share = patterns[kind]()
    colours = np.asarray(first) * (1 - share[..., None]) + np.asarray(second) * share[..., None]
    light = 0.62 + 0.46 * folds + 0.22 * fibres
    return _bytes(colours * light[..., None])


def mirrored(image: Image, h: int, w: int) -> Image:
    """`image` reflected at its edges until it covers [h, w, 3]."""
    rows = -(-h // image.shape[0]) * image.shape[0] - image.shape[0]
    columns = -(-w // image.shape[1]) * image.shape[1] - image.shape[1]
    tiled = np.pad(image, ((0, rows), (0, columns), (0, 0)), mode="symmetric")
    return np.ascontiguousarray(tiled[:h, :w])


def _stretched(lattice: Floats, h: int, w: int, step: int) -> Floats:
    """Bilinear interpolation of lattice points `step` pixels apart to [h, w]."""
    y, x = np.arange(h), np.arange(w)
    fy, fx = (y % step / step)[:, None], (x % step / step)[None]
    top = lattice[y // step]
    bottom = lattice[y // step + 1]
    rows = top * (1 - fy) + bottom * fy
    return rows[:, x // step] * (1 - fx) + rows[:, x // step + 1] * fx


def _spots(u: Floats, v: Floats, size: float) -> Floats:
    row = v // size
    du = (u + (row % 2) * size / 2) % size - size / 2
    dv = v % size - size / 2
    return (du * du + dv * dv < (0.33 * size) ** 2).astype(np.float64)


def _bytes(values: Floats) -> Image:
    return np.floor(np.clip(values, 0, 255) + 0.5).astype(np.uint8)
