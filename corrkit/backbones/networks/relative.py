"""Relative position bias of the BEiT family."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

Grid = tuple[int, int]
Rule = Literal["geometric", "bilinear"]


class RelativeBias(nn.Module):
    """A bias per head and pair of tokens, read from a table over offsets.

    The table has one row per offset of two cells, then class to patch, patch to class, class to class
    (microsoft/unilm 768a3c8 beit/modeling_finetune.py:137-160). The pairs' index is rebuilt for every grid.

    Args:
        stored: the grid (h, w) whose offsets the table holds.
        heads: attention heads.
        rule: how the table is resampled: "geometric" as timm does, since BEiT's own rule (scipy's interp2d) is square
            only and gone from SciPy; "bilinear" as transformers does (models/beit/modeling_beit.py,
            BeitRelativePositionBias).
    """

    def __init__(self, stored: Grid, heads: int, rule: Rule) -> None:
        super().__init__()
        self.stored, self.rule = stored, rule
        offsets = (2 * stored[0] - 1) * (2 * stored[1] - 1)
        self.relative_position_bias_table = nn.Parameter(torch.empty(offsets + 3, heads))
        self._latest: tuple[Grid, Tensor, Tensor] | None = None

    def forward(self, grid: Grid) -> Tensor:
        """The bias [1, heads, 1 + N, 1 + N] for a grid."""
        device = self.relative_position_bias_table.device
        if self._latest is None or self._latest[0] != grid or self._latest[1].device != device:
            self._latest = (grid, self._resized(grid), _pairs(grid).to(device))
        _, table, pairs = self._latest
        return table.T[:, pairs][None].contiguous()

    def _resized(self, grid: Grid) -> Tensor:
        table = self.relative_position_bias_table
        if grid == self.stored:
            return table
        if self.rule == "bilinear":
            return self._bilinear(grid)
        from timm.layers.pos_embed_rel import resize_rel_pos_bias_table

        size = tuple(2 * cells - 1 for cells in grid)
        resized: Tensor = resize_rel_pos_bias_table(table, grid, (size[0] * size[1] + 3, table.shape[1]))
        return resized

    def _bilinear(self, grid: Grid) -> Tensor:
        height, width = (2 * cells - 1 for cells in self.stored)
        offsets = self.relative_position_bias_table[:-3].T.reshape(1, -1, height, width)
        resized = interpolate(offsets, size=tuple(2 * cells - 1 for cells in grid), mode="bilinear")
        return torch.cat([resized[0].flatten(1).T, self.relative_position_bias_table[-3:]])


def _pairs(grid: Grid) -> Tensor:
    """Row of the table for every pair of tokens [1 + N, 1 + N], the class token first."""
    height, width = grid
    rows = torch.arange(height).repeat_interleave(width)
    columns = torch.arange(width).repeat(height)
    offsets = (rows[:, None] - rows + height - 1) * (2 * width - 1) + columns[:, None] - columns + width - 1
    num_offsets = (2 * height - 1) * (2 * width - 1)
    index = torch.empty(1 + height * width, 1 + height * width, dtype=torch.long)
    index[1:, 1:] = offsets
    index[0, :], index[:, 0], index[0, 0] = num_offsets, num_offsets + 1, num_offsets + 2
    return index
