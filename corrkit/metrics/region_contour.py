"""Region similarity J and contour accuracy F of one frame, for every object of its id map.

Equal to the official tool to the last bit (davisvideochallenge/davis2017-evaluation ac7c43f davis2017/metrics.py), yet
no mask ever exists as an array of bytes. A mask is rows of bits, 64 pixels to a word, cut to the object's surroundings:
neighbours are shifts, a disk is a union of widened rows, and counting pixels is a population count. Both sides of a
comparison are prepared by the same function, so the ground-truth side can be kept and compared with many predictions.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corrkit.errors import DataError

VOID = 255
"""Void pixels of an annotation. The semi-supervised task counts them as background (evaluation.py:90-91)."""

BOUNDARY_TOLERANCE = 0.008
"""Reach of a contour as a fraction of the picture's diagonal (metrics.py:42)."""

_WORD = 64
_BITS = np.dtype("<u8")

Bits = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Outline:
    """One object in one frame, cut to its surroundings.

    area: pixels of the mask. length: pixels of the contour.
    top, left: first row and first word of the cut in the picture; `left` is negative where the surroundings begin
        beyond the picture's left edge.
    planes: [3, rows, words]: contour, mask, and reach (the pixels within the boundary radius of the contour). Bit i
        of word j is the pixel in column 64 * (left + j) + i. No rows where the object is absent.
    """

    area: int
    length: int
    top: int
    left: int
    planes: Bits


_ABSENT = Outline(0, 0, 0, 0, np.zeros((3, 0, 0), _BITS))


@dataclass(frozen=True, slots=True)
class FrameOutlines:
    """The objects 1..K of one id map, in order. shape: (height, width) in pixels. largest_id: in it, void included."""

    shape: tuple[int, int]
    largest_id: int
    objects: tuple[Outline, ...]


def count_objects(first_annotation: NDArray[np.integer]) -> int:
    """Number of objects of a clip: the largest id of its first annotation [H, W], void left out.

    An id below it that is missing still counts as an object, with an empty mask, and ids that only later frames bring
    are background. 0 for an annotation without objects.
    Source: davisvideochallenge/davis2017-evaluation ac7c43f davis2017/davis.py get_all_masks.
    """
    return int(np.max(first_annotation, where=first_annotation != VOID, initial=0))


def boundary_radius(height: int, width: int) -> int:
    """Pixels that a contour may be off and still match: 8 for 480x854. Source: metrics.py:72-73."""
    return math.ceil(BOUNDARY_TOLERANCE * math.sqrt(height * height + width * width))


def disk_half_widths(radius: int) -> list[int]:
    """Half widths of the rows of a disk, from its centre row to its last: [3, 2, 2, 0] for radius 3."""
    return [math.isqrt(radius * radius - dy * dy) for dy in range(radius + 1)]


def outline_objects(ids: NDArray[np.integer], num_objects: int) -> FrameOutlines:
    """Prepares an id map for `region_contour`.

    Args:
        ids: id map [H, W]; 0, void (255) and every id above `num_objects` are background.
        num_objects: K; the objects are the ids 1..K.

    Returns:
        K outlines; about 3 bits for every pixel of the boxes around the objects.

    Raises:
        ValueError: `ids` is not a two-dimensional array with pixels.
    """
    if ids.ndim != 2 or ids.size == 0:
        raise ValueError(f"an id map is [H, W] with pixels, not {ids.shape}")
    height, width = ids.shape
    row_maxima = ids.max(axis=1)
    rows = np.flatnonzero(row_maxima)
    if not rows.size or not num_objects:
        return FrameOutlines((height, width), int(row_maxima.max()), (_ABSENT,) * num_objects)
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(ids[top:bottom].max(axis=0))
    left, right = int(columns[0]) // _WORD * _WORD, int(columns[-1]) + 1
    labelled = ids[top:bottom, left:right]
    mask = np.zeros((bottom - top, -(-(right - left) // _WORD) * _WORD), bool)
    radius = boundary_radius(height, width)
    objects = []
    for k in range(1, num_objects + 1):
        np.equal(labelled, k, out=mask[:, : right - left])
        objects.append(_outline(mask, top, left // _WORD, (height, width), radius))
    return FrameOutlines((height, width), int(row_maxima.max()), tuple(objects))


def region_contour(
    prediction: NDArray[np.integer], truth: FrameOutlines, *, name: str = "the prediction"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Region similarity and contour accuracy of one frame.

    Args:
        prediction: id map [H, W]; objects are the ids 1..K.
        truth: the annotation of the same frame, prepared by `outline_objects`.
        name: what to call the prediction in an error, such as its file.

    Returns:
        J [K] and F [K] in [0, 1]. An object that is absent on both sides gets 1; F compares contours only, so it is 1
        for an empty prediction of an object that fills the frame (such a mask has no contour).

    Raises:
        DataError: another size than the annotation, or an id above K (the official tool stops there, 255 included).
    """
    if prediction.shape != truth.shape:
        found = " x ".join(map(str, prediction.shape))
        raise DataError(
            f"{name} is {found}, the annotation {truth.shape[0]} x {truth.shape[1]} (height x width).",
            "Resize the predicted id map to the annotation's size with nearest neighbour.",
        )
    num_objects = len(truth.objects)
    predicted = outline_objects(prediction, num_objects)
    if predicted.largest_id > num_objects:
        raise DataError(
            f"{name} holds id {predicted.largest_id}, but the clip's first annotation has ids up to {num_objects}.",
            "Write 0 for background and the ids of the first annotation for its objects; the official tool stops here.",
        )
    scores = [_compare(*pair) for pair in zip(predicted.objects, truth.objects, strict=True)]
    J, F = np.array(scores, np.float64).reshape(-1, 2).T
    return J, F


def _compare(predicted: Outline, true: Outline) -> tuple[float, float]:
    """J and F of one object, in the official order of operations (metrics.py:27-34 and 88-113)."""
    found, intersection, covered = _common_pixels(predicted, true)
    union = predicted.area + true.area - intersection
    J = intersection / union if union else 1.0
    if not predicted.length or not true.length:
        return J, float(predicted.length == true.length)
    precision, recall = found / predicted.length, covered / true.length
    F = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return J, F


def _common_pixels(predicted: Outline, true: Outline) -> list[int]:
    """Pixels of the predicted contour in the true reach, of both masks, and of the true contour in the predicted reach.

    Outside its cut an outline has no pixels, so only where the cuts overlap can there be any.
    """
    top, left = max(predicted.top, true.top), max(predicted.left, true.left)
    bottom = min(predicted.top + predicted.planes.shape[1], true.top + true.planes.shape[1])
    right = min(predicted.left + predicted.planes.shape[2], true.left + true.planes.shape[2])
    if top >= bottom or left >= right:
        return [0, 0, 0]
    one, other = (
        outline.planes[:, top - outline.top : bottom - outline.top, left - outline.left : right - outline.left]
        for outline in (predicted, true)
    )
    # Backwards, the planes are reach, mask, contour.
    counts: list[int] = np.bitwise_count(one & other[::-1]).sum(axis=(1, 2)).tolist()
    return counts


def _outline(mask: NDArray[np.bool_], top: int, left: int, shape: tuple[int, int], radius: int) -> Outline:
    """The outline of a mask [rows, 64 * words] whose corner is at row `top` and word `left` of a picture."""
    packed = np.packbits(mask, bitorder="little").view(_BITS).reshape(len(mask), -1)
    columns = int.from_bytes(np.bitwise_or.reduce(packed, axis=0).tobytes(), "little")
    if not columns:
        return _ABSENT
    rows = np.flatnonzero(packed.any(axis=1))
    first_row, end_row = int(rows[0]), int(rows[-1]) + 1
    first_column, end_column = (columns & -columns).bit_length() - 1, columns.bit_length()
    first_word, end_word = first_column // _WORD, (end_column - 1) // _WORD + 1
    # Contour pixels lie at most one pixel above and to the left of the mask; their reach is `radius` around them.
    # To the sides the cut may leave the picture: what shifts move out of one row must not enter the next.
    cut_top, cut_bottom = max(top + first_row - 1 - radius, 0), min(top + end_row + radius, shape[0])
    cut_left, cut_right = left + (first_column - 1 - radius) // _WORD, left + (end_column - 1 + radius) // _WORD + 1
    planes = np.zeros((3, cut_bottom - cut_top, cut_right - cut_left), _BITS)
    contour, object_mask, reach = planes
    object_mask[
        top + first_row - cut_top : top + end_row - cut_top, left + first_word - cut_left : left + end_word - cut_left
    ] = packed[first_row:end_row, first_word:end_word]
    touches_right = left * _WORD + end_column == shape[1]
    _mark_contour(object_mask, shape[1] - 1 - cut_left * _WORD if touches_right else None, out=contour)
    contour[:, : max(-cut_left, 0)] = 0  # no contour beyond the picture's left edge
    _mark_reach(contour, radius, out=reach)
    area, length = (int(np.bitwise_count(plane).sum()) for plane in (object_mask, contour))
    return Outline(area, length, cut_top, cut_left, planes)


def _mark_contour(mask: Bits, last_column: int | None, *, out: Bits) -> None:
    """Pixels that differ from their right, lower or lower right neighbour (`_seg2bmap`, metrics.py:118-180).

    The official rule for the picture's last row and column, and its corner that is never set, are those of a picture
    that goes on with copies of its last row and column.

    Args:
        mask: [rows, words]; its last row is empty, or the picture's last.
        last_column: where the picture's last column is, if the mask touches it.
        out: [rows, words].
    """
    right = mask >> np.uint64(1)
    right.ravel()[:-1] |= mask.ravel()[1:] << np.uint64(_WORD - 1)
    if last_column is not None:
        word, bit = divmod(last_column, _WORD)
        right[:, word] |= mask[:, word] & np.uint64(1 << bit)
    np.bitwise_xor(mask, right, out=out)
    out |= mask ^ _row_below(mask)
    out |= mask ^ _row_below(right)


def _row_below(bits: Bits) -> Bits:
    return np.concatenate([bits[1:], bits[-1:]])


def _mark_reach(contour: Bits, radius: int, *, out: Bits) -> None:
    """Pixels [rows, words] within `radius` of a contour pixel: cv2.dilate with skimage's disk (metrics.py:84-86).

    Each row of the disk is a horizontal run, so its share is the contour widened by the run's half width and moved up
    and down by whole rows. Going from the disk's ends to its centre, each run widens the one before.
    """
    num_rows, stride = contour.shape
    reach, run, half_width = out.ravel(), contour.ravel(), 0
    for dy, target in reversed(list(enumerate(disk_half_widths(radius)[:num_rows]))):
        while half_width < target:
            step = min(2 * half_width + 1, target - half_width, _WORD - 1)
            run = _widen(run, step)
            half_width += step
        shift = dy * stride
        reach[shift:] |= run[: run.size - shift]
        if dy:
            reach[:-shift] |= run[shift:]


def _widen(run: Bits, step: int) -> Bits:
    """The flat bits joined with copies of themselves moved by `step` pixels to both sides, 0 < step < 64."""
    near, far = np.uint64(step), np.uint64(_WORD - step)
    wide = run << near
    moved = run >> near
    wide |= moved
    wide |= run
    wide[1:] |= np.right_shift(run[:-1], far, out=moved[1:])
    wide[:-1] |= np.left_shift(run[1:], far, out=moved[1:])
    return wide
