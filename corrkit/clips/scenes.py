"""Seeded scenes of the three tasks.

davis: two to four bodies that cross, turn, bend and change size. vip, jhmdb: a figure that moves all its limbs.
Every scene has camera motion, a change of brightness, motion blur, and unlabelled things in the colours of labelled
ones.
"""

import math
from collections.abc import Callable
from random import Random

import numpy as np

from corrkit.clips import figure
from corrkit.clips.cutouts import PHOTOGRAPHED, Cutout, body, photographed
from corrkit.clips.drawing import Affine, Bend, Layer, Light, Points, Scene, label_map, placed
from corrkit.clips.motion import Wave, either, swinging
from corrkit.clips.surfaces import Colour, Image, mirrored, pattern, photograph, tinted

SIZES = {"davis": (240, 426), "vip": (240, 426), "jhmdb": (240, 320)}
"""(height, width) of each task's frames."""

FRAMES = {"davis": 8, "vip": 8, "jhmdb": 10}
"""Usual number of frames of each task's clips."""

_MARGIN = 60  # pixels of background beyond the frame on each side
_BARE = (2, 3, 12, 13, 14, 15, 16, 17)  # parts that aren't cloth: hair, glasses, skin, face
_SOFT_SHADOWS = (0.12, 0.24)
_SMALLEST = {"davis": 500, "vip": 1, "jhmdb": 1}  # pixels that each id shows in the first frame


def scene(task: str, seed: int, *, num_frames: int | None = None) -> Scene:
    """The scene of a task and seed; equal seeds give equal scenes.

    Args:
        task: "davis", "vip" or "jhmdb".
        seed: any number.
        num_frames: the task's usual number by default; longer clips continue the motion.

    Raises KeyError for an unknown task.
    """
    build = {"davis": _bodies, "vip": _dressed, "jhmdb": _posed}[task]
    for attempt in range(100):
        dice = Random(f"{task} {seed} {attempt}")
        found = build(dice, num_frames or FRAMES[task])
        if _shows_every_id(found, _SMALLEST[task]):
            return found
    raise RuntimeError(f"{task} scene {seed}: no attempt shows every id in the first frame")


def _shows_every_id(found: Scene, smallest: int) -> bool:
    counts = np.bincount(label_map(found, 0).ravel(), minlength=256)
    return all(counts[layer.label] >= smallest for layer in found.layers if layer.label)


def _bodies(dice: Random, num_frames: int) -> Scene:
    size = SIZES["davis"]
    height, width = size
    num_objects = dice.randint(2, 4)
    palette = (figure.vivid(dice), figure.vivid(dice), figure.vivid(dice))
    photographs = dice.sample(PHOTOGRAPHED, num_objects)
    cutouts = []
    for label in range(num_objects):
        from_photograph = dice.random() < 0.35
        cutouts.append(photographed(photographs[label]) if from_photograph else _body(dice, palette))
    # Objects start in slots from left to right and move to another object's slot: their paths cross half-way.
    slots = [(index + 0.5) / num_objects * width for index in range(num_objects)]
    goals = slots[1:] + slots[:1] if num_objects > 2 else slots[::-1]
    objects = []
    for label, cutout in enumerate(cutouts, start=1):
        start, goal = slots[label - 1] + either(dice, 0, 12), goals[label - 1]
        drift = (goal - start) / FRAMES["davis"] * dice.uniform(0.45, 0.7)
        y = swinging(dice, dice.uniform(0.38, 0.66) * height, 20)
        objects.append(_thing(dice, cutout, label, Wave(start, drift), y, dice.uniform(66, 92)))
    distractors = []
    for _ in range(dice.randint(2, 3)):
        cutout = _body(dice, palette)
        x = Wave(dice.uniform(0.05, 0.95) * width, either(dice, 2, 8))
        y = Wave(dice.uniform(0.15, 0.85) * height, either(dice, 0, 3))
        distractors.append(_thing(dice, cutout, 0, x, y, dice.uniform(40, 60)))
    dice.shuffle(objects)
    return _filmed(dice, size, num_frames, (*distractors[1:], *objects, distractors[0]), shadows=(0.2, 0.35))


def _dressed(dice: Random, num_frames: int) -> Scene:
    size = SIZES["vip"]
    motion = _walk(dice, size, dice.uniform(205, 235))
    persons = figure.layers(dice, motion)
    things = _clutter(dice, size, persons, dice.randint(2, 3))
    return _filmed(dice, size, num_frames, (*things[1:], *persons, things[0]), shadows=_SOFT_SHADOWS)


def _posed(dice: Random, num_frames: int) -> Scene:
    size = SIZES["jhmdb"]
    motion = _walk(dice, size, dice.uniform(195, 225))
    persons = figure.layers(dice, motion)
    things = _clutter(dice, size, persons, dice.randint(2, 3))
    return _filmed(dice, size, num_frames, (*things, *persons), shadows=_SOFT_SHADOWS, joints=figure.joints(motion))


def _walk(dice: Random, size: tuple[int, int], height: float) -> figure.Motion:
    drift = either(dice, 5.0, 8.0)
    x = swinging(dice, size[1] / 2 - 4 * drift + either(dice, 0, 15), 5, drift=drift)
    y = swinging(dice, 0.455 * size[0], 6)
    return figure.moving(dice, x=x, y=y, height=swinging(dice, height, 0.06 * height, drift=either(dice, 0, 1.2)))


def _clutter(dice: Random, size: tuple[int, int], persons: tuple[Layer, ...], count: int) -> list[Layer]:
    """Things made of the figure's own cloth, at both sides of it."""
    things = []
    for index in range(count):
        cloth = dice.choice([person for person in persons if person.label not in _BARE]).surface
        surface = mirrored(cloth, 90, 90)
        cutout = Cutout(surface, body(dice, ((0, 0, 0), (0, 0, 0)), silhouette="blob", size=90).mask)
        x = Wave(size[1] * (0.12 if index % 2 else 0.88) + either(dice, 0, 30), either(dice, 1, 4))
        y = Wave(dice.uniform(0.25, 0.8) * size[0], either(dice, 0, 2))
        things.append(_thing(dice, cutout, 0, x, y, dice.uniform(45, 65)))
    return things


def _body(dice: Random, colours: tuple[Colour, ...]) -> Cutout:
    """A body in two of a scene's few colours."""
    first, second = dice.sample(colours, 2)
    return body(dice, (first, second), silhouette=dice.choice(("blob", "beast", "beast")))


def _thing(dice: Random, cutout: Cutout, label: int, x: Wave, y: Wave, extent: float) -> Layer:
    """A cut-out on its way: it turns, grows or shrinks, and bends. extent: square root of its area in pixels."""
    angle = swinging(dice, 0.0, 0.35, drift=either(dice, 0.0, 0.07))
    scale = extent / cutout.extent
    growth = swinging(dice, scale, 0.16 * scale, drift=either(dice, 0.0, 0.02) * scale)
    centre = cutout.centre
    amplitude, wavelength = dice.uniform(0.02, 0.05) * cutout.extent, dice.uniform(1.2, 2.0) * cutout.extent
    wobble = Wave(dice.uniform(0, 2 * math.pi), either(dice, 0.25, 0.6))

    def pose(moment: float) -> Affine:
        return placed(x(moment), y(moment), angle=angle(moment), scale=growth(moment), centre=centre)

    def bend(moment: float) -> Bend:
        return Bend(amplitude=amplitude, wavelength=wavelength, phase=wobble(moment))

    return Layer(surface=cutout.surface, mask=cutout.mask, label=label, pose=pose, bend=bend)


def _filmed(
    dice: Random,
    size: tuple[int, int],
    num_frames: int,
    things: tuple[Layer, ...],
    *,
    shadows: tuple[float, float],
    joints: Callable[[float], Points] | None = None,
) -> Scene:
    """The scene before a background, through a moving camera, under changing light with `shadows` of some depth."""
    middle = (size[1] / 2, size[0] / 2)
    pan_x, pan_y = swinging(dice, middle[0], 10, drift=either(dice, 0.5, 2.0)), swinging(dice, middle[1], 6)
    roll, zoom = swinging(dice, 0.0, 0.035), swinging(dice, 1.0, 0.05)

    def camera(moment: float) -> Affine:
        return placed(pan_x(moment), pan_y(moment), angle=roll(moment), scale=zoom(moment), centre=middle)

    surface = _background(dice, size[0] + 2 * _MARGIN, size[1] + 2 * _MARGIN)
    at_origin = Affine(1, 0, -_MARGIN, 0, 1, -_MARGIN)
    solid = np.ones(surface.shape[:2], bool)
    background = Layer(surface=surface, mask=solid, label=0, pose=lambda moment: at_origin)
    light = Light(
        gain=swinging(dice, 0.95, 0.16, drift=either(dice, 0.0, 0.012)),
        depth=dice.uniform(*shadows),
        rate=(either(dice, 0.008, 0.03), either(dice, 0.008, 0.03), either(dice, 0.4, 0.9)),
        phase=dice.uniform(0, 2 * math.pi),
    )
    return Scene(
        size=size,
        num_frames=num_frames,
        layers=(background, *things),
        camera=camera,
        light=light,
        shutter=dice.uniform(0.25, 0.6),
        joints=joints,
    )


def _background(dice: Random, h: int, w: int) -> Image:
    kind = dice.choice(("grass", "gravel", "brick", "table", "launch", "weave"))
    if kind == "table":
        return mirrored(photograph("coffee")[:, 495:], h, w)
    if kind == "launch":
        return mirrored(photograph("launch"), h, w)
    if kind == "weave":
        return pattern(dice, "patches", h, w, figure.vivid(dice), figure.vivid(dice))
    dark = (dice.uniform(10, 60), dice.uniform(20, 60), dice.uniform(10, 50))
    light = (dice.uniform(150, 235), dice.uniform(160, 245), dice.uniform(120, 220))
    return tinted(mirrored(photograph(kind), h, w), dark, light)
