"""Small sound copies of data sets in VIP and JHMDB layout, and archives of folders, for tests."""

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from corrkit.tasks.masks import write_mask


def make_vip(root: Path, name: str = "videos1", frames: int = 3, size: tuple[int, int] = (24, 32)) -> Path:
    """A clip whose last frame has no label; ids 0, 2 and 13, and void."""
    for index in range(1, frames + 1):
        write_picture(root / "Images" / name / f"{index:012d}.jpg", size, seed=index)
        if index < frames:
            ids = np.zeros(size, np.uint8)
            ids[4:10, index : index + 8] = 2
            ids[12:20, index : index + 8] = 13
            ids[0, 0] = 255
            write_mask(root / "Annotations/Category_ids" / name / f"{index:012d}.png", ids)
    _append_line(root / "lists/val_videos.txt", name)
    return root


def make_jhmdb(root: Path, name: str = "a_golf_b_0", action: str = "golf", frames: int = 3) -> Path:
    """A clip of frames and 15 joints each."""
    for index in range(1, frames + 1):
        write_picture(root / "Rename_Images" / action / name / f"{index:05d}.png", (24, 32), seed=index)
    path = root / "joint_positions" / action / name / "joint_positions.mat"
    path.parent.mkdir(parents=True)
    content = io.BytesIO()
    savemat(content, {"pos_img": np.random.default_rng(0).uniform(1, 24, (2, 15, frames))})
    path.write_bytes(content.getvalue())
    _append_line(root / "splits" / f"{action}_test_split1.txt", f"{name}.avi 2")
    return root


def write_picture(path: Path, size: tuple[int, int], seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)).save(path)


def pack(folder: Path, archive: Path, top: str = "") -> Path:
    """Packs what lies in a folder as .zip, .tar or .tar.gz, below the folder `top` of the archive."""
    files = sorted(folder.rglob("*"))
    names = [f"{top}/{path.relative_to(folder)}".strip("/") for path in files]
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            for path, name in zip(files, names, strict=True):
                packed.write(path, name)
    else:
        with tarfile.open(archive, "w:gz" if archive.suffix == ".gz" else "w") as packed:
            for path, name in zip(files, names, strict=True):
                packed.add(path, name, recursive=False)
    return archive


def _append_line(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(f"{line}\n")
