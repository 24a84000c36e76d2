"""An articulated figure: 15 joints in JHMDB's order, 19 parts with VIP's ids.

The figure faces the camera, so its right side is on the left of the picture. Lengths are fractions of its height.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

import numpy as np

from corrkit.clips.cutouts import Cutout
from corrkit.clips.drawing import Affine, Layer, Points, placed
from corrkit.clips.motion import Wave, swinging
from corrkit.clips.surfaces import PATTERNS, Colour, Floats, Image, noise, pattern, tinted

JOINTS = (
    "neck", "belly", "head", "right_shoulder", "left_shoulder", "right_hip", "left_hip", "right_elbow", "left_elbow",
    "right_knee", "left_knee", "right_wrist", "left_wrist", "right_ankle", "left_ankle",
)  # fmt: skip

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Part:
    """A tapered piece along the line from one point to another.

    label: VIP's id. first, last: where it begins and ends, as fractions of that line (may lie outside 0..1).
    first_width, last_width: half widths there. material: which of the figure's surfaces. is_round: round ends.
    """

    label: int
    start: str
    end: str
    first: float
    last: float
    first_width: float
    last_width: float
    material: str
    is_round: bool = True


# Back to front. Arms come last: they swing in front of the body.
PARTS = (
    Part(2, "neck", "head", 0.75, 1.55, 0.063, 0.060, "hair"),
    Part(16, "right_knee", "right_ankle", -0.05, 0.75, 0.036, 0.028, "skin"),
    Part(17, "left_knee", "left_ankle", -0.05, 0.75, 0.036, 0.028, "skin"),
    Part(7, "right_knee", "right_ankle", 0.5, 1.0, 0.031, 0.027, "socks"),
    Part(7, "left_knee", "left_ankle", 0.5, 1.0, 0.031, 0.027, "socks"),
    Part(18, "right_ankle", "right_toe", 0.0, 1.0, 0.031, 0.026, "shoes"),
    Part(19, "left_ankle", "left_toe", 0.0, 1.0, 0.031, 0.026, "shoes"),
    Part(8, "right_hip", "right_knee", 0.0, 0.88, 0.055, 0.042, "pants"),
    Part(8, "left_hip", "left_knee", 0.0, 0.88, 0.055, 0.042, "pants"),
    Part(11, "pelvis", "hem", -0.15, 1.0, 0.085, 0.125, "skirt", is_round=False),
    Part(5, "belly", "pelvis", 0.1, 1.35, 0.078, 0.098, "dress", is_round=False),
    Part(4, "neck", "belly", 0.12, 1.15, 0.095, 0.078, "shirt", is_round=False),
    Part(12, "neck", "belly", -0.12, 0.42, 0.034, 0.016, "skin"),
    Part(6, "right_shoulder", "right_hip", 0.02, 1.12, 0.046, 0.052, "coat"),
    Part(6, "left_shoulder", "left_hip", 0.02, 1.12, 0.046, 0.052, "coat"),
    Part(10, "right_collar", "left_collar", 0.0, 1.0, 0.024, 0.024, "scarf"),
    Part(10, "left_collar", "scarf_tip", 0.0, 1.0, 0.018, 0.026, "scarf", is_round=False),
    Part(13, "neck", "head", 0.55, 1.30, 0.046, 0.050, "face"),
    Part(1, "neck", "head", 1.52, 1.98, 0.066, 0.050, "hat", is_round=False),
    Part(3, "right_temple", "left_temple", 0.0, 1.0, 0.014, 0.014, "glasses"),
    Part(14, "right_elbow", "right_wrist", -0.1, 1.0, 0.032, 0.026, "skin"),
    Part(15, "left_elbow", "left_wrist", -0.1, 1.0, 0.032, 0.026, "skin"),
    Part(6, "right_shoulder", "right_elbow", 0.0, 1.0, 0.043, 0.037, "coat"),
    Part(6, "left_shoulder", "left_elbow", 0.0, 1.0, 0.043, 0.037, "coat"),
    Part(9, "right_wrist", "right_hand", 0.0, 1.0, 0.029, 0.027, "gloves"),
    Part(9, "left_wrist", "left_hand", 0.0, 1.0, 0.029, 0.027, "gloves"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """How a figure moves: place of its belly and its height in pixels, and the angles of its bones in radians.

    Angles are from straight down, positive towards the left of the figure (right in the picture); that of the
    trunk and head from straight up.
    """

    x: Wave
    y: Wave
    height: Wave
    angles: Mapping[str, Wave]


def moving(dice: Random, *, x: Wave, y: Wave, height: Wave, vigour: float = 1.0) -> Motion:
    """A seeded motion of all bones; `vigour` scales the swings."""
    base = {
        "trunk": (0.0, 0.16), "head": (0.0, 0.25), "scarf": (0.1, 0.4), "skirt": (0.0, 0.12),
        "right_upper_arm": (-0.75, 0.65), "left_upper_arm": (0.75, 0.65),
        "right_forearm": (-0.9, 0.9), "left_forearm": (0.9, 0.9),
        "right_thigh": (-0.2, 0.35), "left_thigh": (0.2, 0.35),
        "right_shin": (-0.05, 0.3), "left_shin": (0.05, 0.3),
    }  # fmt: skip
    angles = {name: swinging(dice, rest, swing * vigour, period=9) for name, (rest, swing) in base.items()}
    return Motion(x=x, y=y, height=height, angles=angles)


def skeleton(motion: Motion, moment: float) -> dict[str, Point]:
    """All named points of the figure at a moment, (x, y) in world pixels; JOINTS are among them."""
    height = motion.height(moment)
    angle = {name: wave(moment) for name, wave in motion.angles.items()}

    def beyond(origin: Point, direction: float, length: float) -> Point:
        return origin[0] + height * length * math.sin(direction), origin[1] + height * length * math.cos(direction)

    def beside(origin: Point, direction: float, across: float, along: float = 0.0) -> Point:
        """`across` to the right of the picture and `along` downwards, both turned with the trunk."""
        x, y = beyond(origin, direction, along)
        return x + height * across * math.cos(direction), y - height * across * math.sin(direction)

    trunk = -angle["trunk"]
    points: dict[str, Point] = {"belly": (motion.x(moment), motion.y(moment))}
    points["neck"] = beyond(points["belly"], trunk + math.pi, 0.20)
    points["head"] = beyond(points["neck"], trunk - angle["head"] + math.pi, 0.10)
    points["pelvis"] = beyond(points["belly"], trunk / 2, 0.12)
    points["hem"] = beyond(points["pelvis"], angle["skirt"], 0.13)
    for side, sign in (("right", -1), ("left", 1)):
        points[f"{side}_shoulder"] = beside(points["neck"], trunk, sign * 0.095, 0.025)
        points[f"{side}_collar"] = beside(points["neck"], trunk, sign * 0.045, 0.0)
        points[f"{side}_temple"] = beside(points["head"], trunk - angle["head"], sign * 0.04, -0.012)
        points[f"{side}_hip"] = beside(points["pelvis"], trunk / 2, sign * 0.05)
        points[f"{side}_elbow"] = beyond(points[f"{side}_shoulder"], angle[f"{side}_upper_arm"], 0.165)
        bent = angle[f"{side}_upper_arm"] + angle[f"{side}_forearm"]
        points[f"{side}_wrist"] = beyond(points[f"{side}_elbow"], bent, 0.135)
        points[f"{side}_hand"] = beyond(points[f"{side}_wrist"], bent, 0.055)
        points[f"{side}_knee"] = beyond(points[f"{side}_hip"], angle[f"{side}_thigh"], 0.225)
        points[f"{side}_ankle"] = beyond(points[f"{side}_knee"], angle[f"{side}_thigh"] + angle[f"{side}_shin"], 0.205)
        points[f"{side}_toe"] = beyond(points[f"{side}_ankle"], sign * 1.1, 0.065)
    points["scarf_tip"] = beyond(points["left_collar"], angle["scarf"], 0.16)
    return points


def joints(motion: Motion) -> Callable[[float], Points]:
    """Moment to points [15, 2] in world pixels, in the order of JOINTS."""

    def at(moment: float) -> Points:
        points = skeleton(motion, moment)
        return np.array([points[name] for name in JOINTS])

    return at


def layers(dice: Random, motion: Motion, *, labelled: bool = True) -> tuple[Layer, ...]:
    """The figure's parts, back to front, in seeded clothes. Unlabelled figures have id 0 everywhere."""
    clothes = wardrobe(dice)
    rest = skeleton(motion, 0.0)
    height = motion.height(0.0)
    built = []
    for part in PARTS:
        bone = math.dist(rest[part.start], rest[part.end])
        cutout = _piece(dice, part, bone, height, clothes[part.material])
        middle = (cutout.mask.shape[0] - 1) / 2
        reach = max(part.first_width, part.last_width) * height
        pose = _along(motion, part, bone, (reach - part.first * bone, middle))
        label = part.label if labelled else 0
        built.append(Layer(surface=cutout.surface, mask=cutout.mask, label=label, pose=pose))
    return tuple(built)


def wardrobe(dice: Random) -> dict[str, tuple[str, Colour, Colour]]:
    """Seeded materials: name to (kind, first colour, second colour)."""
    skin = dice.choice(((236, 188, 160), (198, 140, 104), (141, 92, 62), (224, 172, 140)))
    hair = dice.choice(((60, 40, 26), (34, 30, 30), (150, 108, 56), (96, 60, 34)))
    clothes: dict[str, tuple[str, Colour, Colour]] = {
        "skin": ("skin", skin, _scaled(skin, 0.8)),
        "face": ("face", skin, _scaled(skin, 0.82)),
        "hair": ("hair", _scaled(hair, 0.7), _scaled(hair, 1.5)),
        "glasses": ("plain", (22, 22, 26), (70, 74, 90)),
    }
    for name in ("hat", "socks", "shoes", "pants", "skirt", "dress", "shirt", "coat", "scarf", "gloves"):
        first = vivid(dice)
        second = _scaled(first, dice.uniform(0.35, 0.65)) if dice.random() < 0.5 else vivid(dice)
        clothes[name] = (dice.choice(PATTERNS), first, second)
    return clothes


def vivid(dice: Random) -> Colour:
    """A seeded cloth colour: muted to strong, never black."""
    low, middle, high = dice.uniform(40, 110), dice.uniform(60, 170), dice.uniform(110, 215)
    colour = [low, middle, high]
    dice.shuffle(colour)
    return colour[0], colour[1], colour[2]


def _scaled(colour: Colour, factor: float) -> Colour:
    return min(255.0, colour[0] * factor), min(255.0, colour[1] * factor), min(255.0, colour[2] * factor)


def _along(motion: Motion, part: Part, bone: float, origin: Point) -> Callable[[float], Affine]:
    """Pose that keeps surface pixel `origin` on the start point and the surface's x axis along the bone."""

    def pose(moment: float) -> Affine:
        points = skeleton(motion, moment)
        (x0, y0), (x1, y1) = points[part.start], points[part.end]
        scale = math.hypot(x1 - x0, y1 - y0) / bone
        return placed(x0, y0, angle=math.atan2(y1 - y0, x1 - x0), scale=scale, centre=origin)

    return pose


def _piece(dice: Random, part: Part, bone: float, height: float, material: tuple[str, Colour, Colour]) -> Cutout:
    """Surface and mask of a part; its line starts max(width) pixels from the left edge."""
    length = (part.last - part.first) * bone
    reach = max(part.first_width, part.last_width) * height
    h, w = 2 * math.ceil(reach) + 3, math.ceil(length + 2 * reach) + 2
    v, u = np.mgrid[0:h, 0:w].astype(np.float64)
    along, across = u - reach, np.abs(v - (h - 1) / 2)
    share = np.clip(along / max(length, 1e-9), 0, 1)
    half_width = (part.first_width * (1 - share) + part.last_width * share) * height
    beyond = np.maximum(np.maximum(-along, along - length), 0)
    mask = np.sqrt(across**2 + beyond**2) <= half_width if part.is_round else (across <= half_width) & (beyond <= 0)
    light = 1.12 - 0.5 * (across / np.maximum(half_width, 1)) ** 2
    surface = _cloth(dice, material, h, w) * np.clip(light, 0.5, 1.2)[..., None]
    return Cutout(np.floor(np.clip(surface, 0, 255) + 0.5).astype(np.uint8), np.asarray(mask, bool))


def _cloth(dice: Random, material: tuple[str, Colour, Colour], h: int, w: int) -> Image:
    kind, first, second = material
    if kind in PATTERNS:
        return pattern(dice, kind, h, w, first, second)
    if kind == "hair":
        strands: Floats = noise(dice, h, w, coarsest=4, octaves=2)
        return tinted((strands * 255).astype(np.uint8)[..., None], first, second)
    mottled = tinted((noise(dice, h, w, coarsest=16, octaves=4) * 255).astype(np.uint8)[..., None], second, first)
    return _with_features(mottled, second) if kind == "face" else mottled


def _with_features(face: Image, shade: Colour) -> Image:
    """Mouth and nose on a face whose chin is to the left (the surface's x axis runs from the neck to the crown)."""
    h, w = face.shape[:2]
    v, u = np.mgrid[0:h, 0:w].astype(np.float64)
    marked = face.copy()
    middle = (h - 1) / 2
    marked[((u - 0.36 * w) / (0.03 * w)) ** 2 + ((v - middle) / (0.2 * h)) ** 2 <= 1] = (150, 60, 60)
    marked[(np.abs(v - middle) <= 0.05 * h) & (np.abs(u - 0.53 * w) <= 0.09 * w)] = [
        int(value * 0.85) for value in shade
    ]
    return marked
