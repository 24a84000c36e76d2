"""From J and F of every frame to the DAVIS table: mean, recall and decay per object, means over objects.

Source: davisvideochallenge/davis2017-evaluation ac7c43f davis2017/utils.py db_statistics, evaluation.py:85-112,
evaluation_method.py:45-57.
"""

import warnings
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

STATISTICS = ("J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")
"""Columns of `object_statistics`."""

METRICS = ("J&F-Mean", *STATISTICS)
"""What `table_metrics` returns, in the order of the official global CSV."""

RECALL_THRESHOLD = 0.5
NUM_BINS = 4

Decay = Literal["exact", "uint8"]
LeftOut = Literal["first-last", "first"]
Array = NDArray[np.float64]
Rows = Sequence[ArrayLike] | Array


def scored_frames(num_annotated: int, left_out: LeftOut) -> range:
    """Positions, among a clip's annotated frames, of those that are scored.

    Empty for clips that have no other frames than those left out: they can't be scored (the official tool stops with an
    IndexError). Their statistics are NaN, and they take no part in the table.

    Args:
        num_annotated: frames that have a mask.
        left_out: "first-last" leaves out the first and the last of them, as the official tool does
            (evaluation.py:85-86); "first" the first alone.
    """
    return range(1, num_annotated - (left_out == "first-last"))


def frame_statistics(values: ArrayLike, *, decay: Decay) -> tuple[float, float, float]:
    """Mean, recall and decay of one object's J or F over its scored frames.

    Recall is the share of frames above 0.5 (strictly). Decay is the mean of the first of four bins less that of the
    last; neighbouring bins share the frame where they meet.

    Args:
        values: [n] in [0, 1], one for each scored frame in order; NaN is left out of the means.
        decay: "exact" for bins that are right for any n; "uint8" keeps the bins' ends in eight bits as the official
            tool does, so they wrap from 256 frames on, and the decay is NaN where a bin comes out empty.

    Returns:
        (mean, recall, decay); NaN all three without frames.
    """
    frames = np.asarray(values, np.float64)
    if not frames.size:
        return (np.nan, np.nan, np.nan)
    # The official tool adds 1e-10 so that halves are rounded up.
    cuts = np.round(np.linspace(1, len(frames), NUM_BINS + 1) + 1e-10).astype(np.int64) - 1
    starts, ends = cuts[:-1], cuts[1:] + 1
    if decay == "uint8":  # NumPy 2 wraps `ids[i + 1] + 1` too: 256 frames end at 0
        starts, ends = starts % 256, ends % 256
    first, last = frames[starts[0] : ends[0]], frames[starts[-1] : ends[-1]]
    return _mean(frames), float(np.mean(frames > RECALL_THRESHOLD)), _mean(first) - _mean(last)


def object_statistics(J: Rows, F: Rows, *, decay: Decay) -> Array:
    """A clip's contribution to the table.

    Args:
        J: region similarity of K objects, a row [n] each of the frames in which that object is scored.
        F: contour accuracy, likewise.
        decay: see `frame_statistics`.

    Returns:
        [K, 6] with the columns of STATISTICS; NaN throughout for an object without scored frames.

    Raises:
        ValueError: J and F are not rows of the same lengths.
    """
    shapes = [[np.shape(row) for row in rows] for rows in (J, F)]
    if shapes[0] != shapes[1] or any(len(shape) != 1 for shape in shapes[0]):
        raise ValueError(
            f"J and F are [objects, frames] both, each row of its own length, not {shapes[0]} and {shapes[1]}"
        )
    rows = [(*frame_statistics(j, decay=decay), *frame_statistics(f, decay=decay)) for j, f in zip(J, F, strict=True)]
    return np.array(rows, np.float64).reshape(-1, len(STATISTICS))


def clip_sums(objects: ArrayLike) -> Array:
    """The sufficient statistic of one clip: [7], the sums of `object_statistics` [K, 6] and the number of objects.

    Objects without a scored frame count for nothing: a clip of zeros only is best left out of a bootstrap.
    """
    rows = np.asarray(objects, np.float64).reshape(-1, len(STATISTICS))
    rows = rows[~np.isnan(rows[:, 0])]
    return np.append(rows.sum(axis=0), len(rows))


def metrics_of_sums(sums: Array) -> Array:
    """Means over objects [..., 7] in the order of METRICS, from summed `clip_sums` [..., 7]; NaN without objects.

    Every object weighs the same, whatever the length of its clip. A decay that is NaN for one object (possible with
    "uint8") makes the mean decay NaN, as in the official table.
    """
    with np.errstate(invalid="ignore"):
        means = sums[..., :-1] / sums[..., -1:]
    overall = (means[..., 0] + means[..., 3]) / 2
    return np.concatenate([overall[..., None], means], axis=-1)


def table_metrics(clips: Iterable[ArrayLike]) -> dict[str, float]:
    """The global row of the DAVIS table from the `object_statistics` of every clip: fractions under METRICS."""
    sums = np.sum([np.zeros(len(STATISTICS) + 1), *map(clip_sums, clips)], axis=0)
    return dict(zip(METRICS, map(float, metrics_of_sums(sums)), strict=True))


def _mean(values: Array) -> float:
    """np.nanmean without its warning for nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(np.nanmean(values))
