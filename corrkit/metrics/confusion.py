"""VIP: joint counts of true and predicted ids as the sufficient statistic of a clip, and IoU per class from them.

The published scripts differ only in what they do with ids that are no class. The counts keep such ids apart, so one
pass over the frames serves every rule, and the rule is applied where the table is made.
"""

import warnings
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from corrkit.palette import VOID

NUM_CLASSES = 20
"""VIP's classes 0..19; 0 is the background."""

Rule = Literal["confusion", "histogram"]
Counts = NDArray[np.int64]

_NUM_IDS = 256
_EXACT_IN_FLOAT32 = 1 << 24


def joint_counts(truth: NDArray[np.uint8], prediction: NDArray[np.uint8], *, num_classes: int = NUM_CLASSES) -> Counts:
    """How often each true id meets each predicted id in one frame.

    Counts of frames and clips add up. Ids from num_classes + 1 on share a row and a column, since no rule tells them
    apart; num_classes itself has its own, because two published scripts count it as a class.

    Args:
        truth: annotation [H, W] uint8; void (255) pixels are left out.
        prediction: id map [H, W] uint8.
        num_classes: C.

    Returns:
        [C + 2, C + 2] int64, row = true id, column = predicted id; the last of each is "C + 1 and above".

    Raises:
        ValueError: sizes or types differ from the above.
    """
    if truth.shape != prediction.shape or truth.ndim != 2:
        raise ValueError(f"id maps must be [H, W] both: annotation {truth.shape}, prediction {prediction.shape}")
    if truth.dtype != np.uint8 or prediction.dtype != np.uint8:
        raise ValueError(f"id maps must be uint8: annotation {truth.dtype}, prediction {prediction.dtype}")
    counts = np.zeros((_NUM_IDS, _NUM_IDS), np.int64)
    # OpenCV counts in float32; a band of rows keeps each count exact.
    band = max(_EXACT_IN_FLOAT32 // max(truth.shape[1], 1), 1)
    for top in range(0, truth.shape[0], band):
        pair = [np.ascontiguousarray(ids[top : top + band]) for ids in (truth, prediction)]
        counts += cv2.calcHist(pair, [0, 1], None, [_NUM_IDS] * 2, [0, _NUM_IDS] * 2).astype(np.int64)
    beyond = num_classes + 1
    counts = np.concatenate([counts[:beyond], counts[beyond:VOID].sum(axis=0, keepdims=True)])
    return np.concatenate([counts[:, :beyond], counts[:, beyond:].sum(axis=1, keepdims=True)], axis=1)


def class_areas(counts: Counts, *, rule: Rule) -> Counts:
    """Pixels of each class on either side and on both.

    Args:
        counts: sum of `joint_counts` [C + 2, C + 2] over frames, clips or both.
        rule: "confusion" leaves out pixels whose true id is no class; a predicted C spills into the next row of the
            confusion matrix, that is, counts as a predicted 0 of true class + 1 (ajabri/videowalk 047f3f4
            code/eval/eval_vip.py:63-65; CropMAE and UVC the same). Predictions above C, where those scripts stop, are
            left out. "histogram" counts each side by itself: pixels whose true id is no class stay in the area of the
            predicted class, and C counts as class C - 1 (xvjiarui/VFS 8e055cc, np.histogram's closed last bin).

    Returns:
        [3, C] int64: intersection, prediction, truth.
    """
    num_classes = len(counts) - 2
    if rule == "confusion":
        confusion = confusion_matrix(counts)
        return np.stack([np.diagonal(confusion), confusion.sum(axis=0), confusion.sum(axis=1)])
    areas = np.stack([np.diagonal(counts), counts.sum(axis=0), counts.sum(axis=1)])
    areas[:, num_classes - 1] += areas[:, num_classes]
    return areas[:, :num_classes]


def confusion_matrix(counts: Counts) -> Counts:
    """The confusion matrix [C, C] (row = truth) of the rule "confusion", its spilling predictions included.

    A predicted C of true class C - 1 has no next row; the published code raises there, and it is left out here.
    """
    num_classes = len(counts) - 2
    confusion = counts[:num_classes, :num_classes].copy()
    confusion[1:, 0] += counts[: num_classes - 1, num_classes]
    return confusion


def class_iou(areas: NDArray[np.integer] | NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of each class [..., C] from areas [..., 3, C]; NaN for a class that is on neither side."""
    intersection, prediction, truth = (areas[..., side, :].astype(np.float64) for side in range(3))
    with np.errstate(invalid="ignore"):
        return intersection / (prediction + truth - intersection)


def mean_iou(iou: NDArray[np.float64], *, background: bool) -> NDArray[np.float64]:
    """Mean IoU [...] over the classes [..., C] that occur on either side; NaN if none does.

    background: whether class 0 takes part, as in all published VIP scores.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all classes absent: NaN is the answer
        return np.asarray(np.nanmean(iou if background else iou[..., 1:], axis=-1))
