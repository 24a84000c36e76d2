"""How the grid is cut into tiles of query cells that share one box of key cells."""

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


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

    def down_to(self, other: "Box") -> "Box":
        """The box from this one down to another of the same columns."""
        return Box(top=self.top, bottom=other.bottom, left=self.left, right=self.right)

    def rows(self, device: torch.device) -> "Tensor":
        """Row numbers, int64."""
        return torch.arange(self.top, self.bottom, device=device)

    def columns(self, device: torch.device) -> "Tensor":
        """Column numbers, int64."""
        return torch.arange(self.left, self.right, device=device)

    def cells(self, width: int, device: torch.device) -> "Tensor":
        """Row-major numbers of the cells in a grid of `width` columns, [size] int64."""
        return (self.rows(device).unsqueeze(1) * width + self.columns(device)).flatten()


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What a device's matrix products cost, in (query, key) pairs.

    A product of M query rows by K keys takes about K * (M + packing): the keys are read anew for each product.

    Attributes:
        packing: query rows whose products take as long as reading the keys.
        copying: of one key cell into the strip that makes its columns contiguous.
        per_tile: constant cost of a tile (launches, selection).
        memory: bytes that scores, queries and keys worked on at a time may take.
        groups_per_question: groups of tiles after which the host asks which have ties. Asking an accelerator stops it;
            but of several groups asked about together those with ties are worked on twice.
    """

    packing: float
    copying: float
    per_tile: float
    memory: int
    groups_per_question: int


# Fitted on 17 tile shapes, C 384, MKL 2024.2.
CPU = Costs(packing=24, copying=40, per_tile=5_000, memory=24_000_000, groups_per_question=1)
# Launches weigh more; not fitted. A block of query frames is asked about at once.
ACCELERATOR = Costs(packing=24, copying=40, per_tile=2_000_000, memory=400_000_000, groups_per_question=1_000_000)


def costs_of(device: torch.device) -> Costs:
    """The cost model for a device."""
    return CPU if device.type == "cpu" else ACCELERATOR


def strips(height: int, width: int, tile: tuple[int, int]) -> list[list[Box]]:
    """Cuts the grid into nearly equal tiles of at most `tile` cells; one list per column strip, top to bottom."""
    return [
        [Box(top=top, bottom=bottom, left=left, right=right) for top, bottom in _parts(height, tile[0])]
        for left, right in _parts(width, tile[1])
    ]


def tile_shape(
    grid: tuple[int, int], reach: int, num_queries: float, bytes_per_pair: int, costs: Costs
) -> tuple[int, int]:
    """Rows and columns of the tile that makes matching cheapest.

    Args:
        grid: (height, width).
        reach: largest distance along one axis inside the window.
        num_queries: query frames whose cells meet a context frame's keys in one product, on average.
        bytes_per_pair: of scores for a (query cell, key cell) pair of a tile.
        costs: of the device.
    """
    height, width = grid

    def cost(tile: tuple[int, int]) -> tuple[bool, float]:
        rows, columns = _parts(height, tile[0]), _parts(width, tile[1])
        key_rows = [min(height, bottom + reach) - max(0, top - reach) for top, bottom in rows]
        key_columns = [min(width, right + reach) - max(0, left - reach) for left, right in columns]
        queries = max(b - a for a, b in rows) * max(b - a for a, b in columns)
        memory = bytes_per_pair * queries * max(key_rows) * max(key_columns)
        if memory > costs.memory:
            return True, memory
        products = sum(key_rows) * sum(key_columns) * (num_queries * queries + costs.packing)
        copies = costs.copying * height * sum(key_columns)
        return False, products + copies + costs.per_tile * len(rows) * len(columns)

    return min(itertools.product(_sizes(height), _sizes(width)), key=cost)


def _sizes(length: int) -> list[int]:
    """The distinct sizes of nearly equal parts, the whole first."""
    return sorted({-(-length // parts) for parts in range(1, length + 1)}, reverse=True)


def _parts(length: int, size: int) -> list[tuple[int, int]]:
    count = -(-length // size)
    return list(itertools.pairwise(length * i // count for i in range(count + 1)))
