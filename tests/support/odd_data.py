"""A clip in DAVIS layout that is made odd, and what evaluating and checking it tell."""

from pathlib import Path
from typing import Any

import numpy as np

import corrkit
from corrkit.datasets.checking import DataCheck
from corrkit.evaluation import Result
from corrkit.files.archive import open_root
from corrkit.tasks.masks import read_mask, write_mask

MASKS = "Annotations/480p/walk"
FRAMES = "JPEGImages/480p/walk"


def masks_of(root: Path) -> list[Path]:
    return sorted((root / MASKS).iterdir())


def checked(root: Path, task: str = "davis") -> tuple[list[str], list[str]]:
    """Problems with their first file, and notes, of `corrkit data check`."""
    check = DataCheck(task, open_root(root), split="split1" if task == "jhmdb" else "val", expected=())
    problems = [f"{fault.problem} {fault.files[0] if fault.files else ''}" for fault in check.faults()]
    return problems, check.notes


def evaluated(root: Path, **options: Any) -> Result:
    result: Result = corrkit.evaluate("davis", "identity", data=root, **options)
    return result


def relabel(path: Path, ids: dict[int, int]) -> None:
    write_mask(path, np.vectorize(lambda value: ids.get(value, value), otypes=[np.uint8])(read_mask(path)))
