"""Driver of tests/training/test_precision.py: `corrkit pretrain` killed and repeated.

Usage: killed_training.py DATA FOLDER POINT...

Prints a JSON object: point to the two exit statuses. Every run is a forked process, so that torch is imported once.
Beside the points of `kill_points`, "step-N" kills inside the N-th step of the optimiser.
"""

import itertools
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import kill_points
import torch

from corrkit.cli import main as corrkit
from corrkit.training import loop  # noqa: F401 - imported before the forks

OPTIONS = ("--scale tiny --batch 2 --steps 12 --log-every 1 --save-every 3 --picture-every 0 --device cpu --ema 0.9 "
           "--set views.size=32 --set masks.1.ratio=0.75 --set encoder.depth=1 --set views.gap=[1,3]")  # fmt: skip


def main(data: str, folder: Path, points: list[str]) -> None:
    torch.set_num_threads(1)
    statuses = {
        point: [_forked(data, folder / point, point), _forked(data, folder / point, "never")] for point in points
    }
    print(json.dumps(statuses))


def _forked(data: str, out: Path, point: str) -> int:
    def run() -> int:
        _kill_in_step(point)
        return corrkit(["pretrain", "siammae", "--data", data, "--out", str(out), *OPTIONS.split()])

    return kill_points.forked(point, run)


def _kill_in_step(point: str) -> None:
    step_of, numbers = torch.optim.AdamW.step, itertools.count(1)

    def step(self: torch.optim.AdamW, *args: Any, **options: Any) -> Any:
        found = step_of(self, *args, **options)
        if point == f"step-{next(numbers)}":
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(torch.optim.AdamW, "step", step)  # noqa: B010  # mypy takes no assignment to a method


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
