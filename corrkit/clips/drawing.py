"""Scenes to frames and exact labels: layers under affine poses, painted back to front.

A frame is the mean of several pictures of the scene at moments within the shutter, each shifted by a part of a pixel:
that gives soft edges and motion blur. Labels are those of the pixel centres in the middle of the shutter.
Coordinates are (x, y); the centre of the top left pixel is (0, 0).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from corrkit.clips.surfaces import Floats, Image, random_bytes

Labels = NDArray[np.uint8]
Points = NDArray[np.float64]

# Sub-pixel shifts of the pictures that make one frame: a rotated square grid, no two in one row or column.
_SHIFTS = ((-0.125, -0.375), (0.375, -0.125), (-0.375, 0.125), (0.125, 0.375))


_Number = TypeVar("_Number", float, NDArray[np.floating])
_Indices: TypeAlias = NDArray[np.intp]
_Hits: TypeAlias = tuple[tuple[slice, slice], _Indices, _Indices, NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class Affine:
    """(x, y) to (a x + b y + c, d x + e y + f)."""

    a: float
    b: float
    c: float
    d: float
    e: float
    f: float

    def __call__(self, x: _Number, y: _Number) -> tuple[_Number, _Number]:
        """Maps coordinates, single numbers or arrays that broadcast."""
        return self.a * x + self.b * y + self.c, self.d * x + self.e * y + self.f

    def after(self, first: "Affine") -> "Affine":
        """The map that applies `first`, then this one."""
        c, f = self(first.c, first.f)
        return Affine(
            self.a * first.a + self.b * first.d,
            self.a * first.b + self.b * first.e,
            c,
            self.d * first.a + self.e * first.d,
            self.d * first.b + self.e * first.e,
            f,
        )

    def inverse(self) -> "Affine":
        """The map back."""
        determinant = self.a * self.e - self.b * self.d
        a, b, d, e = self.e / determinant, -self.b / determinant, -self.d / determinant, self.a / determinant
        return Affine(a, b, -(a * self.c + b * self.f), d, e, -(d * self.c + e * self.f))


def placed(x: float, y: float, *, angle: float = 0.0, scale: float = 1.0, centre: tuple[float, float]) -> Affine:
    """Turns by `angle` (radians, clockwise on screen) and scales about `centre`, which comes to lie on (x, y)."""
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    u, v = centre
    return Affine(cosine, -sine, x - cosine * u + sine * v, sine, cosine, y - sine * u - cosine * v)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bend:
    """A deformation in surface pixels: waves of `amplitude` and `wavelength`, at `phase` (radians)."""

    amplitude: float
    wavelength: float
    phase: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One thing in a scene.

    surface [h, w, 3] uint8; mask [h, w] bool, where it is solid; label: its id, 0 for unlabelled things.
    pose: moment (in frames) to the map from surface pixels to world pixels; bend: moment to its deformation.
    """

    surface: Image
    mask: NDArray[np.bool_]
    label: int
    pose: Callable[[float], Affine]
    bend: Callable[[float], Bend] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """Brightness over time and place: a factor for the whole frame, and soft shadows that pass over it.

    gain: moment to the factor. depth: how much darker and lighter the shadows make it, 0..1. rate: of the shadows,
    radians per pixel in x, in y, and per frame. phase: radians.
    """

    gain: Callable[[float], float]
    depth: float
    rate: tuple[float, float, float]
    phase: float

    def __call__(self, moment: float, size: tuple[int, int]) -> Floats:
        """Factor on the colours of each pixel [H, W, 1]."""
        x, y = np.arange(size[1])[None, :], np.arange(size[0])[:, None]
        wave = np.sin(self.rate[0] * x + self.rate[1] * y + self.rate[2] * moment + self.phase)
        return np.asarray(self.gain(moment) * (1 + self.depth * wave))[..., None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a clip shows.

    size: (height, width). layers: back to front; the first one is the background and continues beyond its edges.
    camera: moment to the map from world to frame pixels. light: brightness, by moment and place.
    shutter: how long each frame is exposed, in frames. grain: largest error of a pixel, in grey levels.
    joints: moment to points [15, 2] in world pixels, where the scene has a figure.
    """

    size: tuple[int, int]
    num_frames: int
    layers: tuple[Layer, ...]
    camera: Callable[[float], Affine]
    light: Light
    shutter: float = 0.5
    grain: int = 3
    joints: Callable[[float], Points] | None = None


def draw(scene: Scene, dice: Random) -> tuple[Image, Labels]:
    """Frames [T, H, W, 3] uint8 RGB and labels [T, H, W] uint8 of a scene; `dice` makes the grain."""
    height, width = scene.size
    frames = np.empty((scene.num_frames, height, width, 3), np.uint8)
    labels = np.empty((scene.num_frames, height, width), np.uint8)
    for t in range(scene.num_frames):
        labels[t] = label_map(scene, t)
        frames[t] = _exposed(scene, t, dice)
    return frames, labels


def label_map(scene: Scene, moment: float) -> Labels:
    """Label of the front layer at each pixel centre [H, W] uint8."""
    labels = np.zeros(scene.size, np.uint8)
    camera = scene.camera(moment)
    for layer in scene.layers[1:]:
        found = _hits(layer, camera, moment, scene.size, (0.0, 0.0))
        if found is not None:
            window, _, _, solid = found
            labels[window][solid] = layer.label
    return labels


def joint_positions(scene: Scene) -> Points | None:
    """Joints [T, J, 2] in frame pixels, hidden ones too; None where the scene has no figure."""
    if scene.joints is None:
        return None
    frames = []
    for t in range(scene.num_frames):
        x, y = scene.camera(t)(*scene.joints(t).T)
        frames.append(np.stack([x, y], 1))
    return np.stack(frames)


def _exposed(scene: Scene, t: int, dice: Random) -> Image:
    total = np.zeros((*scene.size, 3), np.uint16)
    for index, shift in enumerate(_SHIFTS):
        moment = t + scene.shutter * ((index + 0.5) / len(_SHIFTS) - 0.5)
        total += _picture(scene, moment, shift)
    errors = random_bytes(dice, total.size).reshape(total.shape) / 255.0 * (2 * scene.grain) - scene.grain
    values = total / len(_SHIFTS) * scene.light(t, scene.size) + errors
    return np.floor(np.clip(values, 0, 255) + 0.5).astype(np.uint8)


def _picture(scene: Scene, moment: float, shift: tuple[float, float]) -> Image:
    picture = np.zeros((*scene.size, 3), np.uint8)
    camera = scene.camera(moment)
    background = scene.layers[0]
    u, v = _surface_coordinates(
        background, camera, moment, _pixels(slice(0, scene.size[0]), slice(0, scene.size[1])), shift
    )
    h, w = background.mask.shape
    np.take(background.surface.reshape(-1, 3), np.clip(v, 0, h - 1) * w + np.clip(u, 0, w - 1), 0, out=picture)
    for layer in scene.layers[1:]:
        found = _hits(layer, camera, moment, scene.size, shift)
        if found is not None:
            window, u, v, solid = found
            picture[window][solid] = layer.surface[v[solid], u[solid]]
    return picture


def _hits(
    layer: Layer, camera: Affine, moment: float, size: tuple[int, int], shift: tuple[float, float]
) -> _Hits | None:
    """(window of the frame, u, v, solid) of a layer, or None where it is out of sight.

    u, v: surface pixel of each pixel of the window; solid: whether the layer covers it.
    """
    h, w = layer.mask.shape
    margin = layer.bend(moment).amplitude + 1 if layer.bend else 1.0
    corners_u = np.array([-margin, w + margin, -margin, w + margin])
    corners_v = np.array([-margin, -margin, h + margin, h + margin])
    x, y = camera.after(layer.pose(moment))(corners_u, corners_v)
    columns = slice(max(0, math.floor(x.min())), min(size[1], math.ceil(x.max()) + 1))
    rows = slice(max(0, math.floor(y.min())), min(size[0], math.ceil(y.max()) + 1))
    if columns.start >= columns.stop or rows.start >= rows.stop:
        return None
    u, v = _surface_coordinates(layer, camera, moment, _pixels(rows, columns), shift)
    inside = (u >= 0) & (u < w) & (v >= 0) & (v < h)
    u, v = np.where(inside, u, 0), np.where(inside, v, 0)
    return (rows, columns), u, v, inside & layer.mask[v, u]


def _pixels(rows: slice, columns: slice) -> tuple[_Indices, _Indices]:
    return np.arange(columns.start, columns.stop)[None, :], np.arange(rows.start, rows.stop)[:, None]


def _surface_coordinates(
    layer: Layer, camera: Affine, moment: float, pixels: tuple[_Indices, _Indices], shift: tuple[float, float]
) -> tuple[_Indices, _Indices]:
    """Integer surface coordinates (u, v) under each pixel."""
    u, v = camera.after(layer.pose(moment)).inverse()(pixels[0] + shift[0], pixels[1] + shift[1])
    if layer.bend:
        bend = layer.bend(moment)
        rate = 2 * math.pi / bend.wavelength
        u = u + bend.amplitude * np.sin(rate * v + bend.phase)
        v = v + bend.amplitude * np.sin(rate * u + 1.7 * bend.phase)
    return np.floor(u + 0.5).astype(np.intp), np.floor(v + 0.5).astype(np.intp)
