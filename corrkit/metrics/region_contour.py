"""Region similarity J and contour accuracy F of one frame, for every object of its id map.

Equal to the official tool to the last bit (davisvideochallenge/davis2017-evaluation ac7c43f davis2017/metrics.py), but
on rows of bits, 64 pixels to a word, cut to the object's surroundings: neighbours are shifts, a disk is a union of
widened rows, and counting pixels is a population count. Both sides of a comparison are prepared by the same function,
so the ground-truth side can be kept and compared with many predictions.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from corrkit.errors import DataError
from corrkit.palette import VOID

BOUNDARY_TOLERANCE = 0.008
"""Reach of a contour as a fraction of the picture's diagonal (metrics.py:42)."""

_WORD = 64
_BITS = np.dtype("<u8")
_SHIFTS = [np.array(bits, _BITS) for bits in range(_WORD + 1)]  # 0-d arrays: NumPy takes them faster than scalars

Bits = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Outline:
    """One object in one frame, cut to its surroundings.

    area: pixels of the mask. length: pixels of the contour.
    top, left: first row and first word of the cut; negative where the surroundings begin outside the picture.
    planes: [3, rows, words]: contour, mask, and reach (the pixels within the boundary radius of the contour). Bit i
        of word j is the pixel in column 64 * (left + j) + i. No rows where the object is absent.
    """

    area: int
    length: int
    top: int
    left: int
    planes: Bits


@dataclass(frozen=True, slots=True)
class FrameOutlines:
    """The objects 1..K of one id map, in order. shape: (height, width) in pixels."""

    shape: tuple[int, int]
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
    radius = boundary_radius(height, width)
    mask = np.empty((height, -(-width // _WORD) * _WORD), bool)
    mask[:, width:] = False
    cuts = []
    for k in range(1, num_objects + 1):
        np.equal(ids, k, out=mask[:, :width])
        cuts.append(_cut(np.packbits(mask, bitorder="little").view(_BITS).reshape(height, -1), radius))
    return FrameOutlines((height, width), tuple(_outlines(cuts, (height, width), radius)))


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
    num_objects, largest_id = len(truth.objects), int(prediction.max())
    if largest_id > num_objects:
        raise DataError(
            f"{name} holds id {largest_id}, but the clip's first annotation has ids up to {num_objects}.",
            "Write 0 for background and the ids of the first annotation for its objects; the official tool stops here.",
        )
    predicted = outline_objects(prediction, num_objects)
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


@dataclass(frozen=True, slots=True)
class _Cut:
    """A mask and where to lay it: the surroundings are `rows` x `words` at (top, left), the mask's box lies inside.

    The surroundings hold the whole reach, even where it leaves the picture, so that nothing is ever shifted out of a
    row into the next, or out of an object into its neighbour.
    """

    top: int
    left: int
    rows: int
    words: int
    box_top: int
    box_left: int
    box: Bits
    last_column: int


def _cut(mask: Bits, radius: int) -> _Cut | None:
    """The cut around a picture's mask [H, words]; None without a pixel."""
    occupied = (mask != 0).tobytes()
    if 1 not in occupied:
        return None
    first_row, last_row = occupied.find(1) // mask.shape[1], occupied.rfind(1) // mask.shape[1]
    columns = int.from_bytes(np.bitwise_or.reduce(mask[first_row : last_row + 1], axis=0).tobytes(), "little")
    first_column, last_column = (columns & -columns).bit_length() - 1, columns.bit_length() - 1
    # The contour takes one more row above and column to the left than the mask.
    top, bottom = first_row - 1 - radius, last_row + radius
    left, right = (first_column - 1 - radius) // _WORD, (last_column + radius) // _WORD
    box_left, box_right = first_column // _WORD, last_column // _WORD
    box = mask[first_row : last_row + 1, box_left : box_right + 1]
    return _Cut(top, left, bottom + 1 - top, right + 1 - left, first_row - top, box_left - left, box, last_column)


def _outlines(cuts: Sequence[_Cut | None], shape: tuple[int, int], radius: int) -> Iterator[Outline]:
    """The outlines of the objects of one frame, laid below each other so that all are worked on at once."""
    present = [cut for cut in cuts if cut is not None]
    words = max((cut.words for cut in present), default=0)
    planes = np.zeros((3, sum(cut.rows for cut in present), words), _BITS)
    contour, mask, reach = planes
    ends = np.cumsum([0, *(cut.rows for cut in present)]).tolist()
    parts = [slice(*pair) for pair in pairwise(ends)]
    for cut, part in zip(present, parts, strict=True):
        height, width = cut.box.shape
        mask[part][cut.box_top : cut.box_top + height, cut.box_left : cut.box_left + width] = cut.box
    _mark_contour(planes, list(zip(present, parts, strict=True)), shape)
    _mark_reach(contour, radius, out=reach)
    remaining = iter(zip(present, parts, strict=True))
    for known in cuts:
        if known is None:
            yield Outline(0, 0, 0, 0, planes[:, :0])
        else:
            cut, part = next(remaining)
            own = planes[:, part, : cut.words]
            length, area = np.bitwise_count(own[:2]).sum(axis=(1, 2)).tolist()
            yield Outline(area, length, cut.top, cut.left, own)


def _mark_contour(planes: Bits, cuts: Sequence[tuple[_Cut, slice]], shape: tuple[int, int]) -> None:
    """Pixels that differ from their right, lower or lower right neighbour (`_seg2bmap`, metrics.py:118-180).

    The official rule for the picture's last row and column, and its corner that is never set, are those of a picture
    that goes on with a copy of its last row and column. So the picture is continued, and cut back afterwards.

    Args:
        planes: [3, rows, words]; the first is written, the second read.
        cuts: with the rows that each occupies.
        shape: (height, width) of the picture.
    """
    contour, mask, _ = planes
    for cut, part in cuts:
        _continue_picture(mask[part], cut, shape)
    right = mask >> _SHIFTS[1]
    right.ravel()[:-1] |= mask.ravel()[1:] << _SHIFTS[_WORD - 1]
    np.bitwise_xor(mask, right, out=contour)
    contour[:-1] |= mask[:-1] ^ mask[1:]
    contour[:-1] |= mask[:-1] ^ right[1:]
    for cut, part in cuts:
        _keep_inside(contour[part], cut, shape)
        _keep_inside(mask[part], cut, shape)


def _continue_picture(mask: Bits, cut: _Cut, shape: tuple[int, int]) -> None:
    """Copies the picture's last row and column of the mask [rows, words] to just beyond them."""
    last_row, last_column = shape[0] - 1 - cut.top, shape[1] - 1 - cut.left * _WORD
    if last_row + 1 < cut.rows:
        mask[last_row + 1] = mask[last_row]
    if last_column + 1 < cut.words * _WORD:
        (word, bit), (next_word, next_bit) = divmod(last_column, _WORD), divmod(last_column + 1, _WORD)
        mask[:, next_word] |= (mask[:, word] >> _SHIFTS[bit] & _SHIFTS[1]) << _SHIFTS[next_bit]


def _keep_inside(bits: Bits, cut: _Cut, shape: tuple[int, int]) -> None:
    """Clears what lies outside the picture in [rows, words]."""
    bits[: max(-cut.top, 0)] = 0
    bits[max(shape[0] - cut.top, 0) :] = 0
    bits[:, : max(-cut.left, 0)] = 0
    word, bit = divmod(shape[1] - cut.left * _WORD, _WORD)
    if word < cut.words:
        bits[:, word] &= np.uint64((1 << bit) - 1)
        bits[:, word + 1 :] = 0


def _mark_reach(contour: Bits, radius: int, *, out: Bits) -> None:
    """Pixels [rows, words] within `radius` of a contour pixel: cv2.dilate with skimage's disk (metrics.py:84-86).

    Each row of the disk is a horizontal run, so its share is the contour widened by the run's half width and moved up
    and down by whole rows. Going from the disk's ends to its centre, each run widens the one before.
    """
    num_rows, stride = contour.shape
    reach, run, half_width = out.ravel(), contour.flatten(), 0
    wide, spare = np.empty_like(run), np.empty_like(run)
    for dy, target in reversed(list(enumerate(disk_half_widths(radius)[:num_rows]))):
        while half_width < target:
            step = min(2 * half_width + 1, target - half_width, _WORD - 1)
            _widen(run, step, spare, out=wide)
            run, wide = wide, run
            half_width += step
        shift = dy * stride
        reach[shift:] |= run[: run.size - shift]
        if dy:
            reach[:-shift] |= run[shift:]


def _widen(run: Bits, step: int, spare: Bits, *, out: Bits) -> None:
    """The flat bits joined with copies of themselves moved by `step` pixels to both sides, 0 < step < 64."""
    near, far = _SHIFTS[step], _SHIFTS[_WORD - step]
    np.left_shift(run, near, out=out)
    np.bitwise_or(out, np.right_shift(run, near, out=spare), out=out)
    np.bitwise_or(out, run, out=out)
    carried, rest = spare[1:], out[1:]
    np.bitwise_or(rest, np.right_shift(run[:-1], far, out=carried), out=rest)
    rest = out[:-1]
    np.bitwise_or(rest, np.left_shift(run[1:], far, out=carried), out=rest)
