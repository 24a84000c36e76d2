"""The spatial window of a query cell, and how the grid is cut into tiles that share key cells."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from corrkit.protocols.schema import Affinity

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Context cells a query cell may be matched with, by distance on the grid in cells."""

    radius: float
    shape: str
    inclusive: bool

    @classmethod
    def of(cls, affinity: Affinity) -> "Window":
        """The window of a protocol."""
        return cls(radius=affinity.radius, shape=affinity.shape, inclusive=affinity.inclusive)

    @property
    def is_empty(self) -> bool:
        """Whether no cell is admitted, not even the query's own (strict, radius 0)."""
        return self.shape != "none" and self.radius == 0 and not self.inclusive

    def reach(self, height: int, width: int) -> int:
        """The largest distance along one axis inside the window, at most what the grid allows; -1 if empty."""
        longest = max(height, width) - 1
        if self.shape == "none":
            return longest
        radius = min(self.radius, longest + 1.0)
        whole = math.floor(radius)
        return min(longest, whole if self.inclusive or whole < radius else whole - 1)

    def covers(self, height: int, width: int) -> bool:
        """Whether every pair of cells of the grid is inside."""
        return bool(self.admits(torch.tensor(height - 1), torch.tensor(width - 1)))

    def admits(self, dy: "Tensor", dx: "Tensor") -> "Tensor":
        """Bool of the broadcast shape: whether an offset of (dy, dx) cells lies inside."""
        if self.shape == "none":
            return torch.ones_like(dy + dx, dtype=torch.bool)
        if self.shape == "square":
            distance, limit = torch.maximum(dy.abs(), dx.abs()), self.radius
        else:  # squared integers are exact, unlike a root
            distance, limit = dy * dy + dx * dx, self.radius * self.radius
        return distance <= limit if self.inclusive else distance < limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle of cells: rows top..bottom, columns left..right, ends excluded."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def size(self) -> int:
        """Number of cells."""
        return (self.bottom - self.top) * (self.right - self.left)

    def grown(self, reach: int, height: int, width: int) -> "Box":
        """The box of all cells within `reach` of this one, clipped to the grid."""
        return Box(
            top=max(0, self.top - reach),
            bottom=min(height, self.bottom + reach),
            left=max(0, self.left - reach),
            right=min(width, self.right + reach),
        )

    def coordinates(self, device: torch.device) -> tuple["Tensor", "Tensor"]:
        """(y, x) of the cells, row-major, [size] int64 each."""
        y = torch.arange(self.top, self.bottom, device=device)
        x = torch.arange(self.left, self.right, device=device)
        return y.repeat_interleave(len(x)), x.repeat(len(y))


def strips(height: int, width: int, tile: tuple[int, int]) -> Iterator[list[Box]]:
    """Cuts the grid into tiles of at most `tile` cells of nearly equal size; one list per column strip, top to bottom."""
    for left, right in _parts(width, tile[1]):
        yield [Box(top=top, bottom=bottom, left=left, right=right) for top, bottom in _parts(height, tile[0])]


def tile_shape(height: int, width: int, reach: int, bytes_per_pair: int, overhead: int) -> tuple[int, int]:
    """Rows and columns of the tile that makes matching cheapest.

    A tile of M queries meets the K cells of its grown box. A matrix product of M rows runs at about M / (M + 35) of
    the machine's rate, because the keys are packed anew for each product: so the cost is K * (M + 35), plus a
    constant per tile.

    Args:
        height: rows of the grid.
        width: columns of the grid.
        reach: largest distance along one axis inside the window.
        bytes_per_pair: memory a (query, key cell) pair takes while its tile is worked on; a tile takes at most 24 MB.
        overhead: constant cost of a tile, in (query, key) pairs.
    """
    sizes = (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 24, 32, 48, 64, 96, 128, 256)
    options = [(rows, columns) for rows in (1, *sizes) for columns in (1, *sizes)]

    def cost(option: tuple[int, int]) -> tuple[bool, float]:
        total, largest = 0.0, 0
        rows, columns = _parts(height, option[0]), _parts(width, option[1])
        key_rows = [min(height, bottom + reach) - max(0, top - reach) for top, bottom in rows]
        key_columns = [min(width, right + reach) - max(0, left - reach) for left, right in columns]
        queries = max(b - a for a, b in rows) * max(b - a for a, b in columns)
        total = sum(key_rows) * sum(key_columns) * (queries + 35.0) + overhead * len(rows) * len(columns)
        largest = max(key_rows) * max(key_columns) * queries * bytes_per_pair
        too_large = largest > _TILE_BYTES
        return too_large, largest if too_large else total

    return min(options, key=cost)


_TILE_BYTES = 24_000_000


def _parts(length: int, size: int) -> list[tuple[int, int]]:
    count = -(-length // size)
    edges = [length * i // count for i in range(count + 1)]
    return list(zip(edges[:-1], edges[1:], strict=True))
