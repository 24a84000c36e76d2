"""Driver of tests/runs/test_killed.py: `evaluate` killed and repeated. Usage: killed_evaluation.py DATA FOLDER POINT...

Prints a JSON object: point to the two exit statuses. Every evaluation is a forked process, so that torch is imported
once. Beside the points of `kill_points`, "frame-N" kills after the N-th frame.
"""

import json
import os
import signal
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import colour_backbone
import cv2
import kill_points
import torch

import corrkit


def main(data: Path, folder: Path, points: list[str]) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    statuses = {}
    for point in points:
        out = folder / point
        statuses[point] = [kill_points.forked(then, partial(_evaluate, data, out, then)) for then in (point, "never")]
    print(json.dumps(statuses))


def _evaluate(data: Path, out: Path, point: str) -> int:
    frames: Counter[str] = Counter()

    def progress(clip: str, done: int, total: int) -> None:
        frames["done"] += 1
        if point == f"frame-{frames['done']}":
            os.kill(os.getpid(), signal.SIGKILL)

    backbone = colour_backbone.ColourBackbone()
    corrkit.evaluate("davis", backbone, data=data, out=out, save_predictions=True, progress=progress, size=[96])
    return 0


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
