"""JHMDB: PCK, the share of joints that lie within a fraction of the figure's size of where they should be.

Points are [..., 2] = (x, y) in 0-based pixels of the original frame (JHMDB's `pos_img` minus 1).
Sources: ajabri/videowalk 047f3f4 code/eval/eval_pck.py (CropMAE and UVC have the same statements);
xvjiarui/VFS 8e055cc mmaction/datasets/jhmdb_dataset.py:138-218.
"""

import warnings
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)

BOX_FRACTION = 0.6
"""The normaliser is this fraction of the diagonal of the box around the true joints (eval_pck.py:91)."""

_NO_MAXIMUM, _NO_MINIMUM = -1.0, 1e6
"""What the published code starts its maximum and minimum from (eval_pck.py:78-79)."""

Visibility = Literal["non-negative", "positive"]
Floor = Literal["always", "invisible"]
Array = NDArray[np.float64]


def visible_joints(prediction: NDArray[np.floating], *, visibility: Visibility) -> NDArray[np.bool_]:
    """Which joints [...] of the prediction [..., 2] count as visible; only their predicted x decides. NaN never does.

    visibility: "non-negative" is x >= 0 (eval_pck.py:55), "positive" x > 0 (jhmdb_dataset.py:182).
    """
    x = prediction[..., 0]
    return x >= 0 if visibility == "non-negative" else x > 0


def figure_size(truth: Array, visible: NDArray[np.bool_], *, floor: Floor) -> Array:
    """The normaliser [T]: 0.6 times the diagonal of the box around the true joints [T, J, 2] that are visible [T, J].

    floor: coordinates below -1 are raised to -1 in the box's maximum "always", or only in frames with an "invisible"
        joint (jhmdb_dataset.py:184-192). 0 for a single joint; huge where none is visible (no joint is scored there).
    """
    shown = visible[..., None]
    maximum = np.where(shown, truth, _NO_MAXIMUM).max(axis=-2)
    minimum = np.where(shown, truth, _NO_MINIMUM).min(axis=-2)
    if floor == "always":
        maximum = np.maximum(maximum, _NO_MAXIMUM)
    minimum = np.minimum(minimum, _NO_MINIMUM)
    return np.asarray(BOX_FRACTION * lengths(maximum - minimum))


def pck_counts(
    prediction: ArrayLike, truth: ArrayLike, *, visibility: Visibility, floor: Floor, score_first: bool
) -> NDArray[np.int64]:
    """The sufficient statistic of one clip.

    A joint is scored where it is visible, wherever the truth lies. It is a hit if its distance from the truth is at
    most the threshold times the figure's size; a figure of size 0 has no hits, not even exact ones (0 / 0).

    Args:
        prediction: [T, J, 2] pixels; NaN or a negative x for a joint that was not found. float32 is widened only to
            take the difference from the truth.
        truth: [T, J, 2] pixels.
        visibility: see `visible_joints`.
        floor: see `figure_size`.
        score_first: whether frame 0 is scored.

    Returns:
        [6, J]: hits at each of THRESHOLDS, then the number of scored instances.

    Raises:
        ValueError: the shapes are not [T, J, 2] both.
    """
    predicted, true = np.asarray(prediction), np.asarray(truth, np.float64)
    if predicted.shape != true.shape or true.ndim != 3 or true.shape[-1] != 2:
        raise ValueError(f"points must be [frames, joints, 2] both: {predicted.shape} predicted, {true.shape} true")
    if not score_first:
        predicted, true = predicted[1:], true[1:]
    visible = visible_joints(predicted, visibility=visibility)
    size = figure_size(true, visible, floor=floor)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = lengths(predicted - true) / size[:, None]
        hits = [(visible & (distance <= threshold)).sum(axis=0) for threshold in THRESHOLDS]
    return np.stack([*hits, visible.sum(axis=0)])


def pck_of_counts(counts: NDArray[np.integer] | Array) -> Array:
    """PCK of each joint [..., 5, J] in [0, 1] from summed `pck_counts` [..., 6, J].

    NaN for a joint that is never visible; the published code stops with a ZeroDivisionError there.
    """
    with np.errstate(invalid="ignore"):
        return np.asarray(counts[..., :-1, :] / counts[..., -1:, :], np.float64)


def mean_pck(pck: Array) -> Array:
    """Mean over the joints [..., 5] of `pck_of_counts` [..., 5, J], joints that are never visible left out.

    Every joint weighs the same, whatever the number of its instances (eval_pck.py:142).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no joint visible at all: NaN is the answer
        return np.asarray(np.nanmean(pck, axis=-1))


def lengths(vectors: Array) -> Array:
    """Euclidean length [...] of [..., 2], rounded like np.linalg.norm of a single vector (a dot product).

    Infinite where its square is more than floats hold: such a joint is no hit.
    """
    with np.errstate(over="ignore"):
        return np.asarray(np.sqrt(np.vecdot(vectors, vectors)))
