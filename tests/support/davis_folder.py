"""Small data sets in DAVIS layout for tests."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from corrkit.tasks.masks import write_mask


def make_clip(root: Path, name: str = "walk", frames: int = 4, size: tuple[int, int] = (24, 32)) -> Path:
    """A clip in DAVIS-2017 layout: a square with id 1 and one with id 2 that move right over a textured ground."""
    height, width = size
    ground = np.random.default_rng(0).integers(60, 120, (height, width, 3), np.uint8)
    for index in range(frames):
        ids = np.zeros(size, np.uint8)
        ids[height // 6 : height // 2, 2 + index : 2 + index + width // 4] = 1
        ids[height * 7 // 12 : height * 5 // 6, 8 + index : 8 + index + width // 4] = 2
        write_mask(root / "Annotations/480p" / name / f"{index:05d}.png", ids)
        picture = ground.copy()
        picture[ids == 1] = (200, 30, 30)
        picture[ids == 2] = (30, 200, 30)
        path = root / "JPEGImages/480p" / name / f"{index:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path, quality=95)
    (root / "ImageSets/2017").mkdir(parents=True, exist_ok=True)
    with (root / "ImageSets/2017/val.txt").open("a") as file:
        file.write(f"{name}\n")
    return root


def make_clips(root: Path, frames: int = 4, size: tuple[int, int] = (48, 64)) -> Path:
    """Three of them: a, b and c."""
    for name in ("a", "b", "c"):
        make_clip(root, name, frames, size)
    return root


def make_split(root: Path, split: str, name: str, step: int = 1, frames: int = 9) -> Path:
    """A clip in the layout of YouTube-VOS and MOSE: the split's folder holds JPEGImages and Annotations."""
    made = make_clip(root / "made", frames=frames)
    for folder in ("JPEGImages", "Annotations"):
        for number, path in enumerate(sorted((made / folder / "480p/walk").iterdir())):
            if number % step == 0:
                place = root / split / folder / name / path.name
                place.parent.mkdir(parents=True, exist_ok=True)
                path.rename(place)
    shutil.rmtree(made)
    return root
