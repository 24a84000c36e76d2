"""Writes down what a copy of a data set holds, clip by clip: the rows of a manifest."""

from collections.abc import Iterator
from pathlib import Path

from corrkit.datasets.copies import COPIES, Copy, numbered
from corrkit.datasets.manifest import ManifestClip, digest_of_files
from corrkit.errors import DataError
from corrkit.frames.pictures import SUFFIXES
from corrkit.frames.sequence import ImageFolder
from corrkit.tasks.roots import shown_name

_DETECTION_ORDER = ("jhmdb", "vip", "davis")
"""DAVIS last: its reader asks for nothing but Annotations, which VIP has, too."""


def describe(task: str, root: Path, *, split: str) -> Iterator[ManifestClip]:
    """The clips of a split as the copy's own lists name them, each with counts, size and digests.

    Args:
        task: davis, vip or jhmdb.
        root: data root, see `archive.open_root`.
        split: of the task.

    Raises:
        DataError: for a layout or clip that can't be read: a manifest describes a sound copy.
    """
    copy: Copy = COPIES[task](root)
    for files in copy.listed(split).values():
        paths = numbered(files.frames, SUFFIXES)
        annotations = copy.annotations(files)
        if not paths or not annotations.paths:
            raise DataError(
                f"{files.name} has {len(paths)} frames and {len(annotations.paths)} annotation files.",
                f"Run corrkit data check {task} --data {root} first: a manifest describes a sound copy.",
            )
        height, width = ImageFolder(paths).size
        yield ManifestClip(
            split=split,
            clip=files.name,
            folder=copy.folder(files),
            num_frames=len(paths),
            first_frame=shown_name(paths[0].stem),
            last_frame=shown_name(paths[-1].stem),
            num_annotations=annotations.num_annotations,
            num_objects=annotations.num_objects,
            width=width,
            height=height,
            frames_sha256=digest_of_files(paths),
            annotations_sha256=digest_of_files(annotations.paths),
        )


def detect_task(root: Path) -> str:
    """The task in whose layout a root is. Raises DataError where it is in none."""
    for task in _DETECTION_ORDER:
        try:
            COPIES[task](root)
        except DataError:
            continue
        return task
    raise DataError(f"{root} is in none of the layouts of davis, vip and jhmdb.", "Name the layout with --task.")
