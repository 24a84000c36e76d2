"""Small data sets in VIP layout for tests."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
from PIL import Image

from corrkit.tasks.masks import write_mask

CATEGORY_IDS = "Annotations/Category_ids"


def make_clip(
    root: Path,
    name: str = "videos1",
    *,
    frames: int = 4,
    size: tuple[int, int] = (48, 64),
    labels: str = CATEGORY_IDS,
    labelled: Collection[int] | None = None,
    mode: str = "P",
    listed: bool = True,
) -> list[np.ndarray]:
    """A clip in VIP layout: face (13) over a dress (5) over legs (16) that move right; returns the id masks.

    labelled: indices of the frames that get a label, all if None. mode: "P" or "L" of the label PNGs.
    """
    height, width = size
    ground = np.random.default_rng(len(name)).integers(0, 60, (height, width, 3), np.uint8)
    masks = []
    for index in range(frames):
        ids = np.zeros(size, np.uint8)
        columns = slice(8 + 2 * index % (width // 2), 8 + 2 * index % (width // 2) + width // 4)
        for part, top in ((13, 4), (5, height // 4), (16, height * 5 // 8)):
            ids[top : top + height // 4, columns] = part
        masks.append(ids)
        picture = ground.copy()
        for part, colour in ((13, (230, 180, 150)), (5, (30, 40, 220)), (16, (40, 200, 60))):
            picture[ids == part] = colour
        stem = f"{index * 25 + 1:012d}"
        path = root / "Images" / name / f"{stem}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path, quality=95)
        if labelled is None or index in labelled:
            save_label(root / labels / name / f"{stem}.png", ids, mode)
    if listed:
        (root / "lists").mkdir(exist_ok=True)
        with (root / "lists/val_videos.txt").open("a") as file:
            file.write(f"{name}\n")
    return masks


def save_label(path: Path, ids: np.ndarray, mode: str) -> None:
    """Ids as a palette ("P"), grey ("L"), or three-channel ("RGB") PNG."""
    if mode == "P":
        write_mask(path, ids)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids if mode == "L" else np.repeat(ids[..., None], 3, axis=2)).save(path)
