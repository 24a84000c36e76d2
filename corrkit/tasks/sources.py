"""Where a task's data comes from: --data, else $CORRKIT_DATA/<task>, else the embedded clips."""

import os
from dataclasses import replace
from pathlib import Path

from corrkit.documentation import see
from corrkit.errors import DataError
from corrkit.files.archive import ARCHIVE_SUFFIXES, open_root
from corrkit.files.reading import entries
from corrkit.task_table import task_facts
from corrkit.tasks.contract import AnyClip, AnyTask, DataSet
from corrkit.text import first_names

ENVIRONMENT = "CORRKIT_DATA"
EMBEDDED = "embedded"


def open_data(
    task: AnyTask, data: str | Path | None, split: str | None, dataset_name: str | None = None
) -> DataSet[AnyClip]:
    """Opens the data that an evaluation was asked for.

    Args:
        task: decides layout and default split.
        data: a root: a folder, .zip or .tar; None looks in $CORRKIT_DATA/<task>, then takes the embedded clips.
        split: None for the task's default.
        dataset_name: rows of a data set of one's own in the task's layout.

    Raises:
        DataError: naming what is missing, with the expected tree.
    """
    split = split or task_facts(task.name).default_split
    root = environment_root(task.name) if data is None else Path(data)
    if root is not None and data != EMBEDDED:
        opened = task.open(open_data_root(root), split=split, dataset_name=dataset_name)
        return replace(opened, notes=(*opened.notes, *_lacking(opened, dataset_name)))
    from corrkit.clips import embedded_root

    opened = task.open(embedded_root(task.name), split=split, dataset_name=f"embedded-{task.name}")
    return replace(opened, embedded=True)


def open_data_root(root: str | Path) -> Path:
    """A data root as `files.archive.open_root` gives it. Raises DataError as it does, and for a video file."""
    path = Path(root)
    if path.is_file():
        from corrkit.frames.video import SUFFIXES

        if path.suffix.lower() in SUFFIXES:
            raise DataError(
                f"{path} is a video: a score needs labels of its frames too, in a folder of the task's layout.",
                f"To follow what is given of its first frame: corrkit track {path} ...; {see('track')}.",
            )
    return open_root(path)


def _lacking(data: DataSet[AnyClip], dataset_name: str | None) -> list[str]:
    """A note on the benchmark's clips that its own data would have, where some of them are there."""
    from corrkit.manifests.clips import official_clips

    known = [clip.clip for clip in official_clips(data.task, data.split)]
    here = {clip.name for clip in data.clips}
    missing = [name for name in known if name not in here]
    if dataset_name is not None or not missing or len(missing) == len(known):
        return []
    return [
        f"{data.name} counts as data of your own: {len(missing)} of the {len(known)} clips of {data.split} are missing "
        f"({first_names(missing)})."
    ]


def takes_embedded(task: str, data: str | Path | None) -> bool:
    """Whether `open_data` would take the embedded clips."""
    return data == EMBEDDED or (data is None and environment_root(task) is None)


def environment_root(task: str) -> Path | None:
    """$CORRKIT_DATA/<task>, or <task>.zip or .tar, in any case, where it exists.

    Raises:
        DataError: where the variable is wrong.
    """
    value = os.environ.get(ENVIRONMENT)
    if not value:
        return None
    folder = Path(value)
    if not folder.is_dir():
        raise DataError(f"${ENVIRONMENT} is {value}, which is not a folder.", f"Correct or unset ${ENVIRONMENT}.")
    names = [task, *(f"{task}{suffix}" for suffix in ARCHIVE_SUFFIXES)]
    found = {path.name.lower(): path for path in sorted(entries(folder), reverse=True)}
    return next((found[name] for name in names if name in found), None)
