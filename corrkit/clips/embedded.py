"""The embedded clips on disk: rendered into the user's cache on first use, or exported to a folder."""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from corrkit.errors import RunError, UsageError, closest
from corrkit.files.atomic import TEMPORARY, staging
from corrkit.task_table import task_facts, task_names

TASKS = tuple(name for name in task_names() if task_facts(name).embedded)


def embedded_root(task: str) -> Path:
    """Folder of a task's embedded clips in the task's own layout, rendered on first use (a few seconds).

    The folder is in the user's cache ($XDG_CACHE_HOME/corrkit, else ~/.cache/corrkit), under a name that changes with
    the renderer. It appears whole or not at all, also where several processes ask for it at once.

    Raises:
        UsageError: a task without embedded clips.
        RunError: the cache can't be written.
    """
    _check_tasks((task,))
    root = cache_folder() / f"clips-{_renderer_digest()}" / task
    if root.is_dir():
        return root
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root.parent, prefix=f"{task}-") as unfinished:
            rendered = Path(unfinished) / task
            rendered.mkdir()
            _render_into(rendered, task)
            try:
                rendered.rename(root)
            except OSError:
                if not root.is_dir():  # another process was first: its folder holds the same bytes
                    raise
    except OSError as error:
        raise RunError(
            f"The embedded clips can't be written to {root} ({error.strerror}).",
            "Free space there, or set XDG_CACHE_HOME to a folder that can be written.",
        ) from error
    return root


def export(folder: Path, tasks: Sequence[str] = TASKS) -> list[Path]:
    """Writes the embedded clips of `tasks` to `folder`/<task>, each in the task's own layout; returns those folders.

    Raises:
        UsageError: a task without embedded clips, or a folder that holds something already.
        RunError: the folder can't be written.
    """
    _check_tasks(tasks)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file.", "Name a new or an empty folder.")
    try:
        held = sorted(folder.iterdir()) if folder.exists() else []
        found = next((path for path in held if not _is_ours(path, tasks)), None)
        if found is not None:
            raise UsageError(f"{folder} is not empty (it holds {found.name}).", "Name a new or an empty folder.")
        with staging(folder) as stage:
            for task in tasks:
                if not (folder / task).exists():
                    shutil.copytree(embedded_root(task), stage / task)
                    (stage / task).replace(folder / task)
    except OSError as error:
        raise RunError(
            f"The embedded clips can't be written to {folder} ({_reason(error)}).", "Name another folder."
        ) from error
    return [folder / task for task in tasks]


def _is_ours(path: Path, tasks: Sequence[str]) -> bool:
    """Whether it is what an export makes: a temporary, or, of one that was interrupted, what this one would write."""
    if path.name.startswith(TEMPORARY):
        return True
    return path.is_dir() and path.name in tasks and _files(path) == _files(embedded_root(path.name))


def _files(root: Path) -> dict[Path, bytes]:
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def _reason(error: OSError) -> str:
    """In few words; shutil's own error lists every file that couldn't be copied."""
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        (_, target, reason), *more = error.args[0]
        return f"{target}: {re.sub(r'^.Errno [0-9]+. ', '', reason)}{f', and {len(more)} more' if more else ''}"
    return error.strerror or str(error)


def _check_tasks(tasks: Sequence[str]) -> None:
    for task in tasks:
        if task not in TASKS:
            raise UsageError(f"There are no embedded clips for the task {task!r}.", closest(task, TASKS))


def _render_into(folder: Path, task: str) -> None:
    from corrkit.clips.layouts import write_clips
    from corrkit.clips.rendering import EVALUATION_SEEDS, render

    write_clips(folder, task, [render(task, seed) for seed in EVALUATION_SEEDS[task]])


def cache_folder() -> Path:
    """Where corrkit keeps what it can make again: $XDG_CACHE_HOME/corrkit, else ~/.cache/corrkit."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "corrkit"


def _renderer_digest() -> str:
    """First digits of the sha256 of this package's code and photographs: another renderer has another folder."""
    package = resources.files("corrkit.clips")
    files = [*package.iterdir(), *package.joinpath("textures").iterdir()]
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.name):
        if file.name.endswith((".py", ".jpg")):
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:12]
