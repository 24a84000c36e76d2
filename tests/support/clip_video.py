"""Clips as video files, for tests of what reads them."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

FOURCC = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "VP80", ".webm": "VP80"}


def write_video(path: Path, frames: Sequence[np.ndarray], rate: float = 12.0) -> Path:
    """Frames uint8 RGB [H, W, 3] of even sides as a video file, or as an animation (.gif, .webp)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in FOURCC:
        fourcc = cv2.VideoWriter.fourcc(*FOURCC[path.suffix])
        writer = cv2.VideoWriter(str(path), fourcc, rate, frames[0].shape[1::-1])
        assert writer.isOpened()
        for frame in frames:
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        writer.release()
        return path
    first, *others = (Image.fromarray(frame) for frame in frames)
    first.save(path, save_all=True, append_images=others, duration=round(1000 / rate), loop=0, quality=90)
    return path


def moving_square(count: int = 6, size: tuple[int, int] = (48, 64)) -> list[np.ndarray]:
    """A bright square that moves right by two pixels a frame over a smooth ground; no two frames are alike."""
    ground = np.zeros((*size, 3), np.uint8)
    ground[..., 1] = np.linspace(30, 120, size[1]).astype(np.uint8)
    frames = []
    for index in range(count):
        frame = ground.copy()
        frame[16:32, 4 + 2 * index : 20 + 2 * index] = (220, 60, 40)
        frames.append(frame)
    return frames


def square_mask(index: int = 0, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """Id 1 where the square of `moving_square` is."""
    ids = np.zeros(size, np.uint8)
    ids[16:32, 4 + 2 * index : 20 + 2 * index] = 1
    return ids
