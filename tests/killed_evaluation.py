"""Driver of test_runs_killed: `evaluate` killed and repeated. Usage: killed_evaluation.py DATA FOLDER POINT...

Prints a JSON object: point to the two exit statuses. Every evaluation is a forked process, so that torch is imported
once. Beside the points of `kill_points`, "frame-N" kills after the N-th frame.
"""

import json
import os
import signal
import sys
from collections import Counter
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
        statuses[point] = [_forked(data, out, point), _forked(data, out, "never")]
    print(json.dumps(statuses))


def _forked(data: Path, out: Path, point: str) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            kill_points.arm(point)
            _evaluate(data, out, point)
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _evaluate(data: Path, out: Path, point: str) -> None:
    frames: Counter[str] = Counter()

    def progress(clip: str, done: int, total: int) -> None:
        frames["done"] += 1
        if point == f"frame-{frames['done']}":
            os.kill(os.getpid(), signal.SIGKILL)

    backbone = colour_backbone.ColourBackbone()
    corrkit.evaluate("davis", backbone, data=data, out=out, save_predictions=True, progress=progress, size=[96])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
