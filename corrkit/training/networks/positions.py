"""Position tables of encoders and decoders, by name."""

import torch
from torch import Tensor, nn

from corrkit.backbones.networks.positions import resample, sincos, sinusoid
from corrkit.training.networks.masks import Grid


class Positions(nn.Module):
    """Adds a position to each token. Fixed tables are buffers named `pos_embed`; learned ones are parameters.

    Args:
        rule: as in `schema.EncoderSpec.position`.
        grid: tokens (t, h, w).
        dim: channels.
        num_prefix: 1 where the fixed table has a row (of zeros) for the class token.
    """

    def __init__(self, rule: str, grid: Grid, dim: int, num_prefix: int) -> None:
        super().__init__()
        self.rule, self.grid, self.num_prefix = rule, grid, num_prefix
        if rule == "separable":
            self.pos_embed_spatial = nn.Parameter(torch.empty(1, grid[1] * grid[2], dim))
            self.pos_embed_temporal = nn.Parameter(torch.empty(1, grid[0], dim))
            self.pos_embed_class = nn.Parameter(torch.empty(1, num_prefix, dim)) if num_prefix else None
        elif rule == "learned":
            self.pos_embed = nn.Parameter(torch.empty(1, num_prefix + grid[0] * grid[1] * grid[2], dim))
        elif rule != "none":
            self.register_buffer("pos_embed", table(rule, grid, dim, num_prefix)[None])
        for parameter in self.parameters():
            nn.init.trunc_normal_(parameter, std=0.02)

    def rows(self, grid: Grid | None = None) -> tuple[Tensor | float, Tensor | float]:
        """Positions of prefix [1, P, D] and tokens [1, L, D]; 0.0 where there are none.

        For another `grid` tables are resampled in space, as facebookresearch/dino 7c446df does for its local crops, and
        fewer slices of time take the first ones, as facebookresearch/omnivore 1d55abd does for images.
        """
        if self.rule == "none":
            return 0.0, 0.0
        if grid is not None and grid != self.grid:
            first, rest = self.rows()
            assert isinstance(rest, Tensor)
            slices = rest.unflatten(1, self.grid)[0, : grid[0]]  # [t, h, w, D]
            return first, torch.stack([resample(one, grid[1:], "dino") for one in slices]).flatten(0, 2)[None]
        if self.rule == "separable":
            time, cells = self.grid[0], self.grid[1] * self.grid[2]
            tokens = self.pos_embed_spatial.repeat(1, time, 1) + self.pos_embed_temporal.repeat_interleave(cells, 1)
            return 0.0 if self.pos_embed_class is None else self.pos_embed_class, tokens
        assert isinstance(self.pos_embed, Tensor)
        return self.pos_embed[:, : self.num_prefix], self.pos_embed[:, self.num_prefix :]


def table(rule: str, grid: Grid, dim: int, num_prefix: int) -> Tensor:
    """A fixed table [P + L, D]: "sincos-column" and "sincos-row" in two dimensions, "sinusoid" over the flat index."""
    count = grid[0] * grid[1] * grid[2]
    if rule == "sinusoid":
        rows = sinusoid(count, dim)
    else:
        rows = sincos((grid[1], grid[2]), dim, rule.removeprefix("sincos-")).flatten(0, 1).repeat(grid[0], 1)
    return torch.cat([torch.zeros(num_prefix, dim), rows])


def crop_geometry(first: Tensor, second: Tensor) -> Tensor:
    """Where the second crop lies in units of the first, [6, B].

    Offsets down, right, and right where one is flipped; ratios of heights and widths; whether exactly one is flipped.

    OpenGVLab/Siamese-Image-Modeling bbdec30 main_pretrain.py:187-195; frames are flipped before they are cropped.

    Args:
        first: boxes [B, 6]: top, left, height, width, width of the frame, flipped.
        second: likewise.
    """
    top, left, height, width, frame, flipped = first.double().T
    top2, left2, height2, width2, _, flipped2 = second.double().T
    offsets = (top2 - top) / height, (left2 - left) / width, (frame - left - left2) / width
    return torch.stack([*offsets, height2 / height, width2 / width, (flipped != flipped2).double()])


def relative_positions(geometry: Tensor, grid: int, dim: int) -> Tensor:
    """Embeddings [B, grid · grid, 2 dim] of the cells of the second crop in the first one's coordinates.

    OpenGVLab/Siamese-Image-Modeling bbdec30 util/pos_embed.py:72-107.

    Args:
        geometry: of `crop_geometry`.
        grid: cells on a side.
        dim: half of the channels.
    """
    down, right, mirrored, ratio_y, ratio_x, flipped = geometry.double()
    cells = torch.arange(grid, dtype=torch.float64, device=geometry.device) + 0.5
    y = ratio_y[:, None] * cells + down[:, None] * grid - 0.5  # [B, g]
    direction, offset = torch.where(flipped > 0, -1.0, 1.0), torch.where(flipped > 0, mirrored, right)
    x = (direction * ratio_x)[:, None] * cells + offset[:, None] * grid - 0.5
    full = [y[:, :, None].expand(-1, -1, grid), x[:, None].expand(-1, grid, -1)]
    full += [(10 * ratio.log())[:, None, None].expand(-1, grid, grid) for ratio in (ratio_y, ratio_x)]
    frequencies = 10000 ** -(torch.arange(dim // 4, dtype=torch.float64, device=geometry.device) / (dim // 4))
    angles = [value.flatten(1)[..., None] * frequencies for value in full]
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], 2)
