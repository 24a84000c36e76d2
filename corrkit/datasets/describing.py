"""Writes down what a copy of a data set holds, clip by clip: the rows of a manifest."""

from collections.abc import Iterator
from pathlib import Path

from corrkit.errors import DataError
from corrkit.manifests.clips import ManifestClip, digest_of_files
from corrkit.task_table import task_names
from corrkit.tasks import load_task
from corrkit.tasks.roots import shown_name


def describe(task: str, root: Path, *, split: str) -> Iterator[ManifestClip]:
    """The clips of a split as the copy's own lists name them, each with counts, size and digests.

    Args:
        task: davis, vip or jhmdb.
        root: data root, see `archive.open_root`.
        split: of the task.

    Raises:
        DataError: for a layout or clip that can't be read: a manifest describes a sound copy.
    """
    opened = load_task(task)
    layout = opened.layout(root)
    for files in layout.clips(split)[0]:
        clip = opened.clip(files, layout.root)
        try:
            clip.check()
            paths = clip.frames.paths
        except DataError as error:
            raise DataError(
                error.problem,
                f"Run corrkit data check {task} --data {root} first: a manifest describes a sound copy.",
            ) from None
        height, width = clip.frames.size
        yield ManifestClip(
            split=split,
            clip=files.name,
            folder=layout.folder(files),
            num_frames=len(paths),
            first_frame=shown_name(paths[0].stem),
            last_frame=shown_name(paths[-1].stem),
            num_annotations=clip.num_annotated,
            num_objects=clip.num_objects,
            width=width,
            height=height,
            frames_sha256=digest_of_files(paths),
            annotations_sha256=digest_of_files(clip.annotation_files),
        )


def detect_task(root: Path) -> str:
    """The task in whose layout a root is. Raises DataError where it is in none.

    Later tasks are asked first, DAVIS last: its reader asks for nothing but Annotations, which VIP has, too.
    """
    for task in reversed(task_names()):
        try:
            load_task(task).layout(root)
        except DataError:
            continue
        return task
    raise DataError(f"{root} is in none of the layouts of {', '.join(task_names())}.", "Name the layout with --task.")
