"""Which data sets are found here, and how much of each."""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from corrkit.datasets.sources import read_source
from corrkit.diagnosis.facts import Fact
from corrkit.errors import CorrkitError, DataError
from corrkit.files.archive import open_root
from corrkit.manifests.clips import official_clips
from corrkit.task_table import task_facts, task_names
from corrkit.tasks import load_task
from corrkit.tasks.clips import some
from corrkit.tasks.sources import ENVIRONMENT, environment_root


def facts() -> Iterator[Fact]:
    """One for the variable, and one for every task: what the folder holds for it. Files are counted, not read."""
    try:
        roots = {task: environment_root(task) for task in task_names()}
    except DataError as error:
        yield Fact(name=f"${ENVIRONMENT}", text=error.problem, mend=error.remedy)
        return
    folder = os.environ.get(ENVIRONMENT) or None
    yield Fact(name=f"${ENVIRONMENT}", text=folder or "not set", value=folder)
    for task, root in roots.items():
        yield _missing(task, folder or "FOLDER") if root is None else _found(task, root)


def _missing(task: str, folder: str) -> Fact:
    """How a data set is had, where its makers offer it."""
    text = "not found; the embedded clips are used" if task_facts(task).embedded else "not found"
    place = shlex.quote(f"{folder}/{task}")
    export = "" if os.environ.get(ENVIRONMENT) else f"; export {ENVIRONMENT}={folder}"
    try:
        is_offered = bool(read_source(task).files)
    except DataError:  # a task of another package
        return Fact(name=task, text=text, value={"complete": False}, mend=f"put it in {place}{export}")
    if not is_offered:
        text = f"{text}; it is had by hand, for {place}"
        return Fact(name=task, text=text, value={"complete": False}, mend=f"corrkit data get {task}")
    command = f"corrkit data get {task} --to {place}{export}"
    return Fact(name=task, text=text, value={"complete": False}, mend=command)


def _found(task: str, root: Path) -> Fact:
    split = task_facts(task).default_split
    try:
        layout = load_task(task).layout(open_root(root))
        clips = {one.name: load_task(task).clip(one, layout.root) for one in layout.clips(split)[0]}
        frames = {name: clip.num_files for name, clip in clips.items()}
    except CorrkitError as error:
        text = f"{root}: {error.problem}"
        return Fact(name=task, text=text, value={"root": str(root), "complete": False}, mend=error.remedy)
    official = official_clips(task, split)
    known = {clip.clip: clip.num_frames for clip in official}
    lacking = [name for name, count in known.items() if frames.get(name, 0) < (count or 1)]
    is_own = bool(known) and not set(known) & set(clips)
    value = {
        "root": str(root),
        "split": split,
        "clips": len(clips),
        "frames": sum(frames.values()),
        "complete": not lacking and bool(known),
        "lacking": [*lacking],
    }
    counted = f"{root}: {len(clips)} clip(s), {sum(frames.values()):,} frames of {split}"
    if is_own or not known:
        return Fact(name=task, text=f"{counted}; data of your own", value=value)
    if not lacking:
        text = f"{counted}; complete by their number (corrkit data check {task} reads them)"
        return Fact(name=task, text=text, value=value)
    text = f"{counted}; INCOMPLETE: {len(lacking)} of {len(known)} clips lack frames: {some(lacking)}"
    return Fact(name=task, text=text, value=value, mend=f"corrkit data check {task}")
