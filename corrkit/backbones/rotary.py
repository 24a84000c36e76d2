"""Rotary position embeddings of the published vision transformers: tables of cosines and sines per cell.

Each variant differs in coordinates, frequencies, the order of axes and the channels that turn together; each is proven
by a golden. A table holds cos and sin [N, hd] for the N = h·w patch tokens; class and register tokens stay as they are
unless the variant says otherwise.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Grid = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Rotation:
    """cos, sin: [N, hd]. interleaved: channels 2i and 2i + 1 turn together, else i and i + hd/2 (of each `halves`-th).

    blocks: into how many equal parts the channels are cut before they are halved (CroCo: 2, one per axis).
    """

    cos: Tensor
    sin: Tensor
    interleaved: bool
    blocks: int = 1

    def __call__(self, x: Tensor) -> Tensor:
        """Turns queries or keys [B, heads, N, hd] of the patch tokens."""
        return x * self.cos + self._turned(x) * self.sin

    def _turned(self, x: Tensor) -> Tensor:
        if self.interleaved:
            return torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)
        parts = x.reshape(*x.shape[:-1], self.blocks, 2, -1)
        return torch.stack([-parts[..., 1, :], parts[..., 0, :]], -2).flatten(-3)

    def to(self, device: torch.device) -> "Rotation":
        """The same on another device."""
        return Rotation(self.cos.to(device), self.sin.to(device), self.interleaved, self.blocks)


def rotation(variant: str, grid: Grid, width: int, stored: Grid | None, frequencies: Tensor | None = None) -> Rotation:
    """The rotation of a variant ("dinov3", "eva", "croco", "pe", "pe-cls", "capi") for a grid.

    Args:
        variant: a key of `VARIANTS`.
        grid: cells (h, w).
        width: channels of one head.
        stored: the grid the network was trained on, where the variant scales by it.
        frequencies: as the file stores them, where it does.
    """
    return VARIANTS[variant](grid, width, stored, frequencies)


def _axes(grid: Grid, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates of every cell, row-major: [N, 1] each."""
    return rows.repeat_interleave(grid[1])[:, None], columns.repeat(grid[0])[:, None]


def _counted(grid: Grid) -> tuple[Tensor, Tensor]:
    return torch.arange(grid[0], dtype=torch.float32), torch.arange(grid[1], dtype=torch.float32)


def _dinov3(grid: Grid, width: int, stored: Grid | None, periods: Tensor | None) -> Rotation:
    """Centres in [-1, 1] per axis, angle 2·pi·coordinate/period, row then column, tiled twice.

    facebookresearch/dinov3 6876159 dinov3/layers/rope_position_encoding.py.
    """
    if periods is None:
        periods = 100 ** (2 * torch.arange(width // 4, dtype=torch.float32) / (width // 2))
    rows, columns = (2 * (axis + 0.5) / len(axis) - 1 for axis in _counted(grid))
    row, column = _axes(grid, rows, columns)
    angles = 2 * torch.pi * torch.cat([row / periods, column / periods], 1).repeat(1, 2)
    return Rotation(angles.cos(), angles.sin(), interleaved=False)


def _eva(grid: Grid, width: int, stored: Grid | None, _: Tensor | None) -> Rotation:
    """Positions scaled to the grid of pre-training: baaivision/EVA 5623d08 EVA-02/asuka/rope.py."""
    frequencies = 10000 ** -(torch.arange(0, width // 2, 2, dtype=torch.float32) / (width // 2))
    rows, columns = _counted(grid)
    if stored is not None:
        rows, columns = rows / grid[0] * stored[0], columns / grid[1] * stored[1]
    row, column = _axes(grid, rows, columns)
    angles = torch.cat([row * frequencies, column * frequencies], 1).repeat_interleave(2, 1)
    return Rotation(angles.cos(), angles.sin(), interleaved=True)


def _croco(grid: Grid, width: int, stored: Grid | None, _: Tensor | None) -> Rotation:
    """Base 100, first half of the channels by the row: naver/croco d7de070 models/pos_embed.py (RoPE2D)."""
    frequencies = 100 ** -(torch.arange(0, width // 2, 2, dtype=torch.float32) / (width // 2))
    row, column = _axes(grid, *_counted(grid))
    angles = torch.cat([(row * frequencies).repeat(1, 2), (column * frequencies).repeat(1, 2)], 1)
    return Rotation(angles.cos(), angles.sin(), interleaved=False, blocks=2)


def _pe(offset: int, grid: Grid, width: int) -> Rotation:
    """Column first, integer positions, neighbours turn: perception_models 3e352cc core/vision_encoder/rope.py."""
    frequencies = 10000 ** -(torch.arange(0, width // 2, 2, dtype=torch.float32) / (width // 2))
    row, column = _axes(grid, *(axis + offset for axis in _counted(grid)))
    angles = torch.cat([column * frequencies, row * frequencies], 1).repeat_interleave(2, 1)
    return Rotation(angles.cos(), angles.sin(), interleaved=True)


VARIANTS: dict[str, Callable[[Grid, int, Grid | None, Tensor | None], Rotation]] = {
    "dinov3": _dinov3,
    "eva": _eva,
    "croco": _croco,
    "pe": lambda grid, width, stored, _: _pe(0, grid, width),
    "pe-cls": lambda grid, width, stored, _: _pe(1, grid, width),
}
