"""The picture of docs/embedded-clips.md: frames of four embedded clips beside their ground truth.

python benchmarks/embedded_picture.py docs/images/embedded.jpg
"""

import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from corrkit.clips import RenderedClip, render
from corrkit.palette import voc_palette

SHOWN = (("davis", 1), ("davis", 3), ("vip", 1), ("jhmdb", 4))
WIDTH = 1500


def main() -> None:
    rows = []
    for task, seed in SHOWN:
        clip = render(task, seed)
        last = len(clip.frames) - 1
        row = np.hstack([picture for t in (0, last // 2, last) for picture in (clip.frames[t], marked(clip, t))])
        height = row.shape[0] * WIDTH // row.shape[1]
        rows.append(cv2.resize(row, (WIDTH, height), interpolation=cv2.INTER_AREA))
    _, data = cv2.imencode(".jpg", np.vstack(rows)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
    Path(sys.argv[1]).write_bytes(bytes(data))


def marked(clip: RenderedClip, t: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The frame with coloured and outlined labels, or with its joints."""
    frame = clip.frames[t].copy()
    if clip.joints is not None:
        for x, y in clip.joints[t]:
            centre = (round(8 * x), round(8 * y))  # in eighths of a pixel
            cv2.circle(frame, centre, 20, (40, 255, 40), -1, cv2.LINE_AA, 3)
        return frame
    labels = clip.labels[t]
    colours = voc_palette().astype(np.float64)[labels]
    mixed = np.where(labels[..., None] > 0, 0.45 * frame + 0.55 * colours, frame)
    edge = np.zeros(labels.shape, bool)
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edge[1:] |= labels[1:] != labels[:-1]
    return np.where(edge[..., None], 255, mixed).astype(np.uint8)


if __name__ == "__main__":
    main()
