"""The largest channel of enlarged soft maps: pixel by pixel, which defines it, or by blocks, with the same outcome."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Channels = NDArray[np.uint8]
_Floats = NDArray[np.float32] | NDArray[np.float64]

_ROUNDING = 2.0**-24  # relative, of one float32 operation
_TRUST = 22 * _ROUNDING
"""By how much a stretched value may be off, relative to itself and, once more, to the smallest value over the span.

Whoever works it out in float32, in any order, fused or not, rounds the enlarged value at most 5 times, the smallest and
the largest as often, their difference, the shifted value and the quotient once; a side's two weights add up to 1 within
half a rounding. `_Blocks.by_pixels` rounds 5 times more. That makes 20, and 21 of the smallest value over the span."""
_LEAST_SPAN = 1e-3  # of a map that is stretched, also relative to its largest value: 1e-12 added to it don't count
_NOTHING = 1e-30  # far above what is lost where floats become subnormal
_AT_A_TIME = 64  # blocks, whose pixels stay in the cache
_LEAST_ENLARGEMENT = 3  # for fewer pixels to a cell's side, blocks are hardly fewer than pixels


def largest_channel(maps: "Tensor") -> "Tensor":
    """The channel [H, W] uint8 of the largest value of maps [L, H, W]; equal values: the first, NaN: the largest."""
    import torch

    if maps.device.type == "cpu":  # channel by channel: a half of the time of `max` of four maps, a sixth of two
        first, *others = maps.numpy()
        largest, channels = first, np.zeros(first.shape, np.uint8)
        for channel, values in enumerate(others, 1):
            np.maximum(channels, np.greater(values, largest).view(np.uint8) * np.uint8(channel), out=channels)
            largest = np.maximum(largest, values)
        if not np.isnan(largest).any():
            return torch.from_numpy(channels)
    return maps.max(dim=0).indices.to(torch.uint8)  # 7 times faster than argmax


def stretch_of(maps: "Tensor", minmax: str) -> "Callable[[Tensor], Tensor]":
    """What rescales values [L, ...] of maps [L, H, W] to [0, 1] over the picture; in place where it can be.

    "positive" does where a map's largest value is positive: without a guard a constant positive map becomes NaN, as
    published (facebookresearch/dino 7c446df eval_video_segmentation.py:102-110); "positive-guarded" adds 1e-12 to the
    divisor, and it becomes 0 (xvjiarui/VFS 8e055cc vanilla_tracker.py:162-180). "nan-to-zero" rescales every map, and a
    constant one becomes 0 (facebookresearch/dinov3 6876159 notebooks/segmentation_tracking.ipynb:750). "none" does not.
    """
    if minmax == "none":
        return lambda values: values
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    if minmax == "nan-to-zero":
        return lambda values: ((values - low) / (high - low)).nan_to_num(0.0)
    is_positive, guard = high > 0, 1e-12 if minmax == "positive-guarded" else 0.0
    # The largest of differences is the difference of the largest: rounding keeps order. (x - 0) / 1 is x.
    lower, span = low.where(is_positive, 0.0), (high - low + guard).where(is_positive, 1.0)
    return lambda values: values.sub_(lower).div_(span)


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """How one side is enlarged: which two cells each pixel lies between, in runs of pixels between the same two.

    Attributes:
        low, high: [R], the cells of each run.
        weights: [R, S, 2], of both cells for each of a run's pixels; a short run repeats its last.
        pixels: [R, S], their places.
        sizes: [R] pixels of each run.
    """

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    weights: NDArray[np.float32]
    pixels: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @classmethod
    def of(cls, cells: int, pixels: int, enlarged: "Callable[[Tensor, tuple[int, int]], Tensor]") -> Self | None:
        """What `enlarged`, which takes maps [L, h, w] to a size, does to a side; None where blocks don't pay."""
        import torch

        if pixels < _LEAST_ENLARGEMENT * cells:
            return None
        of_cells = enlarged(torch.eye(cells)[None], (pixels, cells))[0].numpy()  # [pixels, cells]
        low = (of_cells != 0).argmax(1)
        high = np.minimum(low + 1, cells - 1)
        each = np.arange(pixels)
        longest = -(-pixels // cells)
        starts = [0]
        for pixel, cell in enumerate(low.tolist()):
            if cell != low[starts[-1]] or pixel - starts[-1] == longest:
                starts.append(pixel)
        sizes = np.diff([*starts, pixels])
        places = np.array(starts)[:, None] + np.minimum(np.arange(longest), sizes[:, None] - 1)
        of_high = np.where(high > low, of_cells[each, high], np.float32(0))
        weights = np.stack([of_cells[each, low], of_high], axis=1)
        return cls(low[starts], high[starts], weights[places], places, sizes)


def largest_channel_by_blocks(
    soft: "Tensor",
    rows: Axis,
    columns: Axis,
    exactly: Callable[[NDArray[np.int64], NDArray[np.int64]], Channels],
    *,
    stretches: bool,
) -> Channels | None:
    """What `largest_channel` gives of the enlarged maps, without most of their pixels.

    Between four cells an enlarged value lies between those at the block's corners, so that most blocks are decided by
    these; the pixels of the others are worked out; and those that rounding may decide are asked for.

    Args:
        soft: maps [L, h, w] float32 on the CPU.
        rows: from h to H.
        columns: from w to W.
        exactly: the channels of pixels, given their rows and columns [P].
        stretches: whether each map is stretched to [0, 1] over the picture first, a map of zeros left as it is.

    Returns:
        [H, W] uint8. None for negative values, NaN, and maps of hardly any contrast.
    """
    blocks = _Blocks.of(np.array(soft.numpy(), np.float64, order="C"), rows, columns, stretches=stretches)
    if blocks is None:
        return None
    winner, sure = blocks.least.argmax(0), blocks.least.max(0)
    others = blocks.most.copy()
    np.put_along_axis(others, winner[None], -np.inf, 0)
    channels = np.repeat(np.repeat(winner.astype(np.uint8), columns.sizes, 1), rows.sizes, 0)
    row, column = np.nonzero(~blocks.are_certain(sure, others.max(0)))
    among, others = winner[None, row, column], others[:, row, column]  # [K, n] and [L, n]
    doubtful = []
    while row.size:
        among = np.concatenate([among, others.argmax(0)[None]])
        others[among[-1], np.arange(row.size)] = -np.inf
        is_last = blocks.are_certain(sure[row, column], others.max(0))
        last = np.flatnonzero(is_last)
        for first in range(0, last.size, _AT_A_TIME):
            some = last[first : first + _AT_A_TIME]
            y, x = rows.pixels[row[some]], columns.pixels[column[some]]  # [n, S] each
            channels[y[:, :, None], x[:, None]], is_certain = blocks.by_pixels(row[some], column[some], among[:, some])
            if not is_certain.all():
                block, down, right = np.nonzero(~is_certain)
                doubtful.append((y[block, down], x[block, right]))
        row, column, among, others = row[~is_last], column[~is_last], among[:, ~is_last], others[:, ~is_last]
    if doubtful:
        y, x = map(np.concatenate, zip(*doubtful, strict=True))
        channels[y, x] = exactly(y, x)
    return channels


@dataclass(frozen=True, slots=True, eq=False)
class _Blocks:
    """Stretched maps in blocks of pixels between the same four cells, one for each pair of runs.

    Attributes:
        maps: [L, h, w] float32, before they are enlarged.
        rows, columns: the runs.
        least, most: [L, R, C], of a block's pixels.
        doubt: by how much two values together may be off, besides `_TRUST` of each.
    """

    maps: NDArray[np.float32]
    rows: Axis
    columns: Axis
    least: NDArray[np.float64]
    most: NDArray[np.float64]
    doubt: float

    @classmethod
    def of(cls, maps: NDArray[np.float64], rows: Axis, columns: Axis, *, stretches: bool) -> Self | None:
        """None for maps that `largest_channel_by_blocks` leaves alone."""
        if not (maps.min() >= 0 and maps.max() < np.inf):
            return None
        # What is linear in either direction is least and largest at a block's corners.
        sides = (side.swapaxes(1, 2) for side in _ends(maps.swapaxes(1, 2), columns))
        corners = [corner for side in sides for corner in _ends(side, rows)]  # [L, R, C] each
        least, most = functools.reduce(np.minimum, corners), functools.reduce(np.maximum, corners)
        low, high = least.min(axis=(1, 2), keepdims=True), most.max(axis=(1, 2), keepdims=True)
        if not stretches:
            low, high = np.zeros_like(low), np.ones_like(high)
        span = np.where(high > 0, high - low, 1)
        if (span < _LEAST_SPAN * np.maximum(high, 1)).any():
            return None
        maps = (maps - low) / span
        doubt = 2 * _TRUST * float((low / span).max() - maps.min().clip(max=0)) + _NOTHING
        return cls(maps.astype(np.float32), rows, columns, (least - low) / span, (most - low) / span, doubt)

    def are_certain(self, largest: _Floats, second: _Floats) -> NDArray[np.bool_]:
        """Whether these values keep their order, as far off as they may be."""
        return largest * (1 - _TRUST) - second * (1 + _TRUST) > self.doubt

    def by_pixels(
        self, row: NDArray[np.int64], column: NDArray[np.int64], among: NDArray[np.int64]
    ) -> tuple[Channels, NDArray[np.bool_]]:
        """The largest channel in the pixels [n, S, S] of n blocks, and where that is certain.

        Args:
            row: [n], which run of rows each of them has.
            column: [n], which run of columns.
            among: [K, n] channels; the others are smaller there.
        """
        rows, columns = self.rows, self.columns
        cells = np.stack(
            [[self.maps[among, y[row], x[column]] for x in (columns.low, columns.high)] for y in (rows.low, rows.high)]
        )  # [2, 2, K, n]
        above_and_below = cells.transpose(2, 3, 0, 1) @ columns.weights[column].swapaxes(1, 2)  # [K, n, 2, S]
        values = (rows.weights[row] @ above_and_below).reshape(*among.shape, -1)  # [K, n, S * S]
        channels, found = among.astype(np.uint8)[..., None], np.zeros(values.shape[1:], np.uint8)
        found += channels[0]
        largest, second = values[0], np.full_like(values[0], -np.inf)
        for channel, own in zip(channels[1:], values[1:], strict=True):
            found += np.greater(own, largest).view(np.uint8) * (channel - found)  # modulo 256: `channel` where greater
            second = np.maximum(second, np.minimum(largest, own))
            largest = np.maximum(largest, own)
        shape = len(row), rows.weights.shape[1], columns.weights.shape[1]
        return found.reshape(shape), self.are_certain(largest, second).reshape(shape)


def _ends(values: NDArray[np.float64], axis: Axis) -> list[NDArray[np.float64]]:
    """Values [L, cells, N] at the first and at the last pixel of each run: [L, R, N]."""
    low, high = values[:, axis.low], values[:, axis.high]
    return [low * axis.weights[:, end, :1] + high * axis.weights[:, end, 1:] for end in (0, -1)]
