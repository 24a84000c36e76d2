"""The spatial window of a query cell: which context cells it may be matched with."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from corrkit.protocols.schema import Affinity

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Offsets on the grid that are admitted, in cells."""

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

    @property
    def size(self) -> int:
        """Number of offsets inside, wherever the picture ends. Not for a window without bounds."""
        reach = torch.arange(-math.ceil(self.radius), math.ceil(self.radius) + 1)
        return int(self.admits(reach.unsqueeze(1), reach).sum())

    def covers(self, height: int, width: int) -> bool:
        """Whether every pair of cells of the grid is inside."""
        return bool(self.admits(torch.tensor(height - 1), torch.tensor(width - 1)))

    def admits(self, dy: "Tensor", dx: "Tensor") -> "Tensor":
        """Bool of the broadcast shape: whether an offset of (dy, dx) cells lies inside."""
        if self.shape == "none":
            return torch.ones_like(dy + dx, dtype=torch.bool)
        if self.shape == "square":
            return self._is_within(dy.abs(), self.radius) & self._is_within(dx.abs(), self.radius)
        return self._is_within(dy * dy + dx * dx, self.radius * self.radius)  # squares are exact, unlike a root

    def _is_within(self, distance: "Tensor", limit: float) -> "Tensor":
        return distance <= limit if self.inclusive else distance < limit
