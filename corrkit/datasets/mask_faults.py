"""Faults of one clip's masks (DAVIS) or labels (VIP)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from corrkit.datasets.faults import RESTORE, Fault, FaultGroup
from corrkit.datasets.manifest import ManifestClip
from corrkit.errors import DataError
from corrkit.metrics.confusion import NUM_CLASSES
from corrkit.metrics.region_contour import VOID
from corrkit.tasks.jhmdb_layout import ClipFiles
from corrkit.tasks.masks import Mask, read_mask


class IdRule(Protocol):
    """Which ids the masks of a clip may hold; asked mask by mask, in order."""

    def problem(self, mask: Mask, index: int) -> str:
        """What is wrong with the ids of mask `index`, or an empty string."""
        ...


class DavisIds:
    """The first mask holds the ids 1 to n without a gap, later ones no others; or all are DAVIS-2016's 0 and 255.

    Args:
        expected: with the number of objects, where it is known.
    """

    def __init__(self, expected: ManifestClip | None) -> None:
        self._expected = expected.num_objects if expected else None
        self._first: set[int] = set()

    def problem(self, mask: Mask, index: int) -> str:
        """See `IdRule.problem`."""
        present = set(np.unique(mask).tolist())
        ids = present - {0, VOID}
        if index == 0:
            self._first = ids
            return self._first_problem(present, ids)
        beyond = sorted(ids - self._first)
        return f"holds id {_listing(beyond)}, which the first mask lacks" if beyond else ""

    def _first_problem(self, present: set[int], ids: set[int]) -> str:
        num_objects = 1 if not ids and VOID in present else max(ids, default=0)
        if num_objects == 0:
            return "is empty: no object to propagate"
        gap = sorted(set(range(1, max(ids, default=0))) - ids)
        if gap:
            return f"holds id {_listing(sorted(ids))}, but not {_listing(gap)}"
        if self._expected not in {None, num_objects}:
            binary = " (0 and 255 are DAVIS-2016's masks)" if not ids else ""
            return f"holds {num_objects} objects, expected {self._expected}{binary}"
        return ""


class VipIds:
    """Ids of the classes, and void."""

    def problem(self, mask: Mask, index: int) -> str:
        """See `IdRule.problem`."""
        beyond = [value for value in np.unique(mask).tolist() if NUM_CLASSES <= value != VOID]
        return f"holds id {_listing(beyond)}; the classes are 0 to {NUM_CLASSES - 1}" if beyond else ""


def missing_masks(
    masks: Sequence[Path], needed: Sequence[str], frame_stems: Sequence[str], files: ClipFiles, root: Path
) -> Iterator[Fault]:
    """Frames without a mask, and masks without a frame.

    Args:
        masks: files that are there.
        needed: stems of the frames that need a mask.
        frame_stems: stems of all frames; where none is there, masks aren't said to lack theirs.
        files: of the clip.
        root: of the data.
    """
    stems = {path.stem for path in masks}
    missing = FaultGroup("missing", files.name, "mask missing", RESTORE, root)
    yield from missing.extend([files.annotation / f"{stem}.png" for stem in needed if stem not in stems]).faults()
    known = set(frame_stems)
    orphans = FaultGroup("missing", files.name, "mask without a frame", f"Restore the frames in {files.frames}.", root)
    yield from orphans.extend([path for path in masks if known and path.stem not in known]).faults()


def mask_faults(
    masks: Sequence[Path], size: tuple[int, int] | None, rule: IdRule, clip: str, root: Path
) -> Iterator[Fault]:
    """Masks that can't be decoded, differ from the frames in size, or hold wrong ids.

    Args:
        masks: files, in frame order.
        size: (height, width) of the frames; None where it is not known.
        rule: which ids are right.
        clip: name.
        root: of the data.
    """
    unreadable = FaultGroup("damaged", clip, "mask that can't be used", RESTORE, root)
    misfits = FaultGroup(
        "damaged", clip, "mask of another size than the frames", "Use masks of the frames' size.", root
    )
    strange = FaultGroup("damaged", clip, "mask with wrong ids", RESTORE, root)
    for index, path in enumerate(masks):
        try:
            mask = read_mask(path)
        except DataError as error:
            unreadable.add(path, error.problem.rstrip("."))
            continue
        if size is not None and mask.shape != size:
            misfits.add(path, f"{mask.shape[1]}x{mask.shape[0]}, the frames are {size[1]}x{size[0]}")
        problem = rule.problem(mask, index)
        if problem:
            strange.add(path, problem)
    for group in (unreadable, misfits, strange):
        yield from group.faults()


def _listing(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")
