"""Faults of one clip's joint_positions.mat."""

from collections.abc import Iterator
from pathlib import Path

from corrkit.datasets.faults import Fault, FaultGroup
from corrkit.errors import DataError
from corrkit.tasks.jhmdb_layout import ClipFiles
from corrkit.tasks.joint_positions import read_joint_positions


def joint_faults(files: ClipFiles, num_frames: int, root: Path) -> Iterator[Fault]:
    """A .mat that is missing, can't be read, or holds joints of another number of frames than there are."""
    remedy = "Restore it from joint_positions.zip."
    missing = FaultGroup("missing", files.name, "joints missing", remedy, root)
    damaged = FaultGroup("damaged", files.name, "joints that can't be read", remedy, root)
    differing = FaultGroup("damaged", files.name, "joints that don't fit the frames", remedy, root)
    if not files.annotation.is_file():
        missing.add(files.annotation)
    else:
        try:
            num_annotated = len(read_joint_positions(files.annotation))
        except DataError as error:
            damaged.add(files.annotation, error.problem.rstrip("."))
        else:
            if num_frames and num_annotated != num_frames:
                differing.add(files.annotation, f"joints of {num_annotated} frames, but {num_frames} frames are there")
    for group in (missing, damaged, differing):
        yield from group.faults()
