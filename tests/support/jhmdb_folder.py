"""Small data sets in JHMDB layout for tests."""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from corrkit.tasks.jhmdb_points import JOINTS


def make_clip(
    root: Path,
    name: str = "Ball_jump_f_nm_np1_fr_med_0",
    *,
    action: str = "jump",
    frames: int = 4,
    annotated: int | None = None,
    size: tuple[int, int] = (48, 64),
    joints: np.ndarray | None = None,
    part: int = 2,
) -> np.ndarray:
    """A clip in JHMDB layout: a bright square that moves right, with all joints on it.

    Returns the true joints [T, J, 2] (x, y) in 0-based pixels.
    """
    height, width = size
    ground = np.random.default_rng(len(name)).integers(0, 90, (height, width, 3), np.uint8)
    folder = root / "Rename_Images" / action / name
    folder.mkdir(parents=True)
    for index in range(frames):
        picture = ground.copy()
        picture[16:32, 16 + 2 * index : 32 + 2 * index] = np.arange(16, dtype=np.uint8)[None, :, None] * 8 + 120
        Image.fromarray(picture).save(folder / f"{index + 1:05d}.png")
    if joints is None:
        offsets = np.stack([np.arange(len(JOINTS)) % 4 * 4 + 18, np.arange(len(JOINTS)) // 4 * 4 + 17], axis=1)
        joints = np.stack([offsets + np.array([2.0 * index, 0.0]) for index in range(annotated or frames)])
    save_joints(root / "joint_positions" / action / name / "joint_positions.mat", joints)
    splits = root / "splits"
    splits.mkdir(exist_ok=True)
    with (splits / f"{action}_test_split1.txt").open("a") as file:
        file.write(f"{name}.avi {part}\n")
    return joints


def save_joints(path: Path, joints: np.ndarray) -> None:
    """Joints [T, J, 2] in 0-based pixels as JHMDB stores them: [2, J, T], counted from 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"pos_img": joints.transpose(2, 1, 0) + 1, "scale": np.ones((1, len(joints)))})
