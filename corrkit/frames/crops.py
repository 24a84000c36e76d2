"""Random resized crops: which part of a frame."""

import math
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Box:
    """A crop in pixels of its frame of `width` pixels; `flipped`: the frame is mirrored BEFORE it is cropped."""

    top: int
    left: int
    height: int
    width: int
    frame_width: int
    flipped: bool = False


def choose_box(size: tuple[int, int], area: tuple[float, ...], aspect: tuple[float, ...], dice: Random) -> Box:
    """A random resized crop, as torchvision's: ten tries, then the central crop.

    Args:
        size: (height, width) of the frame in pixels.
        area: smallest and largest share of the frame.
        aspect: smallest and largest ratio width / height.
        dice: drawn in torchvision's order.
    """
    height, width = size
    logs = math.log(aspect[0]), math.log(aspect[1])
    for _ in range(10):
        target = height * width * dice.uniform(area[0], area[1])
        ratio = math.exp(dice.uniform(*logs))
        w, h = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if 0 < w <= width and 0 < h <= height:
            top = dice.randint(0, height - h)
            return Box(top, dice.randint(0, width - w), h, w, width)
    ratio = min(max(width / height, aspect[0]), aspect[1])
    w, h = (width, round(width / ratio)) if width / height <= ratio else (round(height * ratio), height)
    w, h = min(w, width), min(h, height)
    return Box((height - h) // 2, (width - w) // 2, h, w, width)
