"""Rotary position embeddings of the published vision transformers: tables of cosines and sines per cell.

Each variant differs in coordinates, frequencies, the order of axes and the channels that turn together; each is proven
by a golden.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

Grid = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Rotation:
    """Turns queries and keys by their positions.

    cos, sin: [tokens, hd] of the last tokens; those in front of them stay as they are. interleaved: channels 2i and
    2i + 1 turn together, else i and i + hd/2 of each of `blocks` equal parts of the channels (CroCo: 2, one per axis).
    """

    cos: Tensor
    sin: Tensor
    interleaved: bool
    blocks: int = 1

    def __call__(self, x: Tensor) -> Tensor:
        """Queries or keys [B, heads, P + N, hd] to the same."""
        front = x.shape[2] - self.cos.shape[0]
        moving = x[:, :, front:]
        turned = moving * self.cos + self._partners(moving) * self.sin
        return turned if front == 0 else torch.cat([x[:, :, :front], turned], 2)

    def _partners(self, x: Tensor) -> Tensor:
        if self.interleaved:
            return torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)
        parts = x.reshape(*x.shape[:-1], self.blocks, 2, -1)
        return torch.stack([-parts[..., 1, :], parts[..., 0, :]], -2).flatten(-3)

    def to(self, device: torch.device) -> "Rotation":
        """The same on another device."""
        return replace(self, cos=self.cos.to(device), sin=self.sin.to(device))


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a rotation depends on: the cells (h, w), the channels of one head, and the network's own facts.

    stored: the grid of pre-training, where the network has one. frequencies: what of them the file stores (MLCD: the
    angles of its class token).
    base: of the frequencies, where a configuration gives it; None: the variant's own.
    """

    grid: Grid
    width: int
    stored: Grid | None = None
    frequencies: Tensor | None = None
    base: float | None = None
    has_cls_token: bool = False
    num_registers: int = 0


def rotation(variant: str, setting: Setting) -> Rotation:
    """The rotation of a key of `VARIANTS`."""
    return VARIANTS[variant](setting)


def stored_shape(variant: str, width: int) -> tuple[int, ...]:
    """Of the frequencies that a file stores, for heads of `width` channels."""
    return {"capi": (2, width), "mlcd": (1, width // 2)}.get(variant, (width // 4,))


def _axes(grid: Grid, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates of every cell, row-major: [N, 1] each."""
    return rows.repeat_interleave(grid[1])[:, None], columns.repeat(grid[0])[:, None]


def _counted(grid: Grid) -> tuple[Tensor, Tensor]:
    return torch.arange(grid[0], dtype=torch.float32), torch.arange(grid[1], dtype=torch.float32)


def _powers(base: float, width: int) -> Tensor:
    """base^(-2k / (width / 2)) for the width / 4 frequencies of one axis."""
    return base ** -(torch.arange(0, width // 2, 2, dtype=torch.float32) / (width // 2))


def _dinov3(setting: Setting) -> Rotation:
    """Centres in [-1, 1] per axis, angle 2·pi·coordinate/period, row then column, tiled twice.

    facebookresearch/dinov3 6876159 dinov3/layers/rope_position_encoding.py.
    """
    periods = setting.frequencies
    if periods is None:
        periods = 1 / _powers(setting.base or 100, setting.width)
    rows, columns = (2 * (axis + 0.5) / len(axis) - 1 for axis in _counted(setting.grid))
    row, column = _axes(setting.grid, rows, columns)
    angles = 2 * torch.pi * torch.cat([row / periods, column / periods], 1).repeat(1, 2)
    return Rotation(angles.cos(), angles.sin(), interleaved=False)


def _eva(setting: Setting) -> Rotation:
    """Positions scaled to the grid of pre-training: baaivision/EVA 5623d08 EVA-02/asuka/rope.py."""
    frequencies = _powers(10000, setting.width)
    rows, columns = _counted(setting.grid)
    if setting.stored is not None:
        rows, columns = (axis / len(axis) * side for axis, side in zip((rows, columns), setting.stored, strict=True))
    row, column = _axes(setting.grid, rows, columns)
    angles = torch.cat([row * frequencies, column * frequencies], 1).repeat_interleave(2, 1)
    return Rotation(angles.cos(), angles.sin(), interleaved=True)


def _croco(setting: Setting) -> Rotation:
    """Base 100, first half of the channels by the row: naver/croco d7de070 models/pos_embed.py (RoPE2D)."""
    frequencies = _powers(100, setting.width)
    row, column = _axes(setting.grid, *_counted(setting.grid))
    angles = torch.cat([(row * frequencies).repeat(1, 2), (column * frequencies).repeat(1, 2)], 1)
    return Rotation(angles.cos(), angles.sin(), interleaved=False, blocks=2)


def _pe(setting: Setting) -> Rotation:
    """Column first, integer positions that start at 1 beside a class token, neighbours turn together.

    perception_models 3e352cc core/vision_encoder/rope.py.
    """
    frequencies = _powers(10000, setting.width)
    row, column = _axes(setting.grid, *(axis + setting.has_cls_token for axis in _counted(setting.grid)))
    angles = torch.cat([column * frequencies, row * frequencies], 1).repeat_interleave(2, 1)
    return Rotation(angles.cos(), angles.sin(), interleaved=True)


def _mlcd(setting: Setting) -> Rotation:
    """Integer positions, row then column, tiled twice; the class token turns by learned angles that the file stores.

    huggingface/transformers 5.24.0 models/mlcd/modeling_mlcd.py.
    """
    assert setting.frequencies is not None
    frequencies = _powers(setting.base or 10000, setting.width)
    row, column = _axes(setting.grid, *_counted(setting.grid))
    angles = torch.cat([setting.frequencies, torch.cat([row * frequencies, column * frequencies], 1)]).repeat(1, 2)
    return Rotation(angles.cos(), angles.sin(), interleaved=False)


def _capi(setting: Setting) -> Rotation:
    """Coordinates 0 to 1, both ends included, on either axis; registers go round the edge of that square.

    facebookresearch/capi 98b4fa1 model.py:55-81, 337-392. Frequencies [2, hd] are stored.
    """
    assert setting.frequencies is not None
    row, column = _axes(setting.grid, *(torch.linspace(0, 1, cells) for cells in setting.grid))
    cells = torch.cat([row, column], 1)
    lowest, highest = cells.amin(0), cells.amax(0)
    angles = torch.cat([lowest + _edge(setting.num_registers) * (highest - lowest), cells]) @ setting.frequencies
    return Rotation(angles.cos(), angles.sin(), interleaved=False)


def _edge(number: int) -> Tensor:
    """Points round the edge of the unit square [number, 2], a quarter of them on each side."""
    along = torch.arange(number // 4) / (number // 4)
    zero, one = torch.zeros_like(along), torch.ones_like(along)
    sides = [(along, zero), (one, along), (1 - along, one), (zero, 1 - along)]
    return torch.cat([torch.stack(side, 1) for side in sides])


VARIANTS: dict[str, Callable[[Setting], Rotation]] = {
    "dinov3": _dinov3,
    "eva": _eva,
    "croco": _croco,
    "pe": _pe,
    "capi": _capi,
    "mlcd": _mlcd,
}
