"""The Video Swin of VIOLET and empirical-MVM, which gives one map per frame.

Source of every step: tsujuifu/pytorch_violet 4f64751 video_swin.py. timm has no Video Swin. torchvision's
`shifted_window_attention_3d` gives the same features but for rounding (3e-7), and takes 1.2 (one frame) to 1.5 times
(8 frames) as long, since it doesn't fuse its attention.
"""

import itertools
import math
import re
from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from corrkit.backbones.building import Built, fill, missing
from corrkit.backbones.networks.base import Network, WindowRule
from corrkit.backbones.networks.stages import Stage, choose_stage
from corrkit.checkpoints.recognised import Recognised
from corrkit.errors import CheckpointError

Grid = tuple[int, int, int]  # time, rows, columns
_PATCH = 4


def build(recognised: Recognised, *, heads: int | None = None, layer: int | str | None = None) -> Built:
    """The network of a recognised Video Swin, filled.

    Args:
        recognised: the file's tensors under their published names.
        heads: not needed: the tables of relative positions tell. If given, it must agree with the first stage's.
        layer: a stage (1 is the first) before its downsampling; None: the last one after the final norm.

    Raises:
        CheckpointError: incomplete tensors, contradicting heads, a stage that doesn't exist.
    """
    state = recognised.state
    depths = _depths(recognised)
    tables = [_table(recognised, number) for number in range(len(depths))]
    all_heads = tuple(int(table.shape[1]) for table in tables)
    if heads is not None and heads != all_heads[0]:
        raise CheckpointError(
            f"{recognised.path} has {all_heads[0]} heads in its first stage, not {heads}.", "Leave --heads out."
        )
    window = _window(recognised, tables[0].shape[0])
    stage = choose_stage(recognised, layer, len(depths), has_norm=True)
    with torch.device("meta"):
        network = VideoSwin(state, depths, all_heads, window, stage)
    fill(network, recognised)
    return Built(
        network=network,
        architecture=f"video_swin_{state['patch_embed.proj.weight'].shape[0]}_{'_'.join(map(str, depths))}",
        stride=_PATCH * 2 ** (stage.number - 1),
        multiple=_PATCH * 2 ** (len(depths) - 1),
        layer=stage.label,
        position="relative",
        evidence=(
            ("heads", f"{all_heads}: width of the tables of relative positions"),
            ("window", f"{window}: length of the tables of relative positions"),
            ("layer", stage.words(len(depths))),
        ),
        notes=("A single frame is followed by a zero frame, as the published network pads every clip.",),
    )


class VideoSwin(Network):
    """Normalised frames [B, 3, H, W] to features [B, h, w, C] of a stage; each frame on its own."""

    def __init__(
        self, state: dict[str, Tensor], depths: tuple[int, ...], heads: tuple[int, ...], window: Grid, stage: Stage
    ) -> None:
        super().__init__()
        self.stage, self.layer, self.num_layers, self.window = stage, stage.number, len(depths), WindowRule()
        weight = state["patch_embed.proj.weight"]
        dim, kernel = weight.shape[0], (weight.shape[2], weight.shape[3], weight.shape[4])
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv3d(3, dim, kernel, (1, kernel[1], kernel[2]))
        self.patch_embed.norm = nn.LayerNorm(dim) if "patch_embed.norm.weight" in state else nn.Identity()
        self.layers = nn.ModuleList()
        for number, (depth, count) in enumerate(zip(depths, heads, strict=True)):
            width = dim * 2**number
            part = nn.Module()
            hidden = state[f"layers.{number}.blocks.0.mlp.fc1.weight"].shape[0]
            part.blocks = nn.ModuleList(Block(width, count, window, hidden, index % 2 == 1) for index in range(depth))
            if number + 1 < len(depths):
                part.downsample = Merging(width)
            self.layers.append(part)
        self.norm = nn.LayerNorm(dim * 2 ** (len(depths) - 1))

    def still(self, frames: Tensor) -> Tensor:
        """Clips of one frame."""
        return frames[:, :, None]

    def published(self, features: Tensor) -> Tensor:
        """After the final norm, where the last stage's published features were chosen."""
        return self.norm(features) if self.stage.normed else features

    def outputs(self, pixels: Tensor, upto: int) -> Iterator[Tensor]:
        """Output [B, T, h, w, C] of each stage before its downsampling, without a norm."""
        height, width = pixels.shape[3:]
        pixels = functional.pad(
            pixels, (0, -width % _PATCH, 0, -height % _PATCH, 0, 1)
        )  # behind the last frame a zero one
        x = self.patch_embed.norm(self.patch_embed.proj(pixels).movedim(1, -1))  # type: ignore[operator]
        for number, part in enumerate(self.layers[:upto]):
            if number:
                x = self.layers[number - 1].downsample(x)  # type: ignore[operator]
            for block in part.blocks:  # type: ignore[union-attr]
                x = block(x)
            yield x


class Block(nn.Module):
    """Attention in (shifted) windows of space and time, then an MLP."""

    def __init__(self, dim: int, heads: int, window: Grid, hidden: int, shifted: bool) -> None:
        super().__init__()
        self.window, self.shifted = window, shifted
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, heads, window)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Module()
        self.mlp.fc1 = nn.Linear(dim, hidden)
        self.mlp.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, h, w, C] to the same."""
        x = x + self._attended(self.norm1(x))
        hidden = functional.gelu(self.mlp.fc1(self.norm2(x)))  # type: ignore[operator]
        return x + self.mlp.fc2(hidden)  # type: ignore[no-any-return, operator]

    def _attended(self, x: Tensor) -> Tensor:
        grid: Grid = tuple(x.shape[1:4])  # type: ignore[assignment]
        window: Grid = tuple(min(side, cells) for side, cells in zip(self.window, grid, strict=True))  # type: ignore[assignment]
        shift = tuple(
            side // 2 if self.shifted and cells > side else 0 for side, cells in zip(self.window, grid, strict=True)
        )
        padding = [-cells % side for cells, side in zip(grid, window, strict=True)]
        x = functional.pad(x, (0, 0, 0, padding[2], 0, padding[1], 0, padding[0]))
        padded: Grid = tuple(x.shape[1:4])  # type: ignore[assignment]
        mask = None
        if any(shift):
            x = torch.roll(x, [-step for step in shift], (1, 2, 3))
            mask = _mask(padded, window, shift).to(x.device)
        x = _merged(self.attn(_parted(x, window), window, mask), window, padded)
        if any(shift):
            x = torch.roll(x, shift, (1, 2, 3))
        return x[:, : grid[0], : grid[1], : grid[2]]


class WindowAttention(nn.Module):
    """Attention among the tokens of a window, with a learned bias per distance."""

    def __init__(self, dim: int, heads: int, window: Grid) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.relative_position_bias_table = nn.Parameter(torch.empty(math.prod(2 * side - 1 for side in window), heads))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, window: Grid, mask: Tensor | None) -> Tensor:
        """Windows [B · n, N, C] to the same; mask [n, N, N].

        Where the grid cuts the window to N tokens, the published code takes the first N rows and columns of the whole
        window's index. That is right for a cut in time only; a cut in space scrambles the bias, here as there.
        """
        tokens = math.prod(window)
        index = _distances(self.window)[:tokens, :tokens].to(x.device)
        bias = self.relative_position_bias_table[index].permute(2, 0, 1)[None]  # [1, heads, N, N]
        if mask is not None:
            bias = (bias + mask[:, None]).repeat(len(x) // len(mask), 1, 1, 1)
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        x = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias.expand(len(x), -1, -1, -1))
        return self.proj(x.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class Merging(nn.Module):
    """Halves rows and columns: four neighbours become one token of twice the width."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, h, w, C] to [B, T, h / 2, w / 2, 2 C]."""
        x = functional.pad(x, (0, 0, 0, x.shape[3] % 2, 0, x.shape[2] % 2))
        neighbours = [x[:, :, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(neighbours, -1)))  # type: ignore[no-any-return]


def _parted(x: Tensor, window: Grid) -> Tensor:
    """[B, T, h, w, C] to windows [B · n, N, C]."""
    cut = x.unflatten(3, (-1, window[2])).unflatten(2, (-1, window[1])).unflatten(1, (-1, window[0]))
    windows: Tensor = cut.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(0, 3).flatten(1, 3)
    return windows


def _merged(windows: Tensor, window: Grid, grid: Grid) -> Tensor:
    """Windows [B · n, N, C] back to [B, T, h, w, C]."""
    counts = [cells // side for cells, side in zip(grid, window, strict=True)]
    cut = windows.unflatten(1, window).unflatten(0, (-1, *counts))
    whole: Tensor = cut.permute(0, 1, 4, 2, 5, 3, 6, 7).flatten(5, 6).flatten(3, 4).flatten(1, 2)
    return whole


@lru_cache(maxsize=8)
def _distances(window: Grid) -> Tensor:
    """Row of the table for each pair of tokens of a window [N, N]."""
    axes = torch.meshgrid(*(torch.arange(side) for side in window), indexing="ij")
    place = torch.stack(axes).flatten(1)  # [3, N]
    offset = place[:, :, None] - place[:, None] + torch.tensor(window)[:, None, None] - 1
    return (offset[0] * (2 * window[1] - 1) + offset[1]) * (2 * window[2] - 1) + offset[2]


@lru_cache(maxsize=8)
def _mask(grid: Grid, window: Grid, shift: tuple[int, ...]) -> Tensor:
    """[n, N, N]: -100 between tokens that the shift brought together from opposite ends of the grid."""
    region = torch.zeros(1, *grid, 1)
    parts = [
        (slice(-side), slice(-side, -step), slice(-step, None)) if step else (slice(None),)
        for side, step in zip(window, shift, strict=True)
    ]
    for number, (time, rows, columns) in enumerate(itertools.product(*parts)):
        region[:, time, rows, columns] = number
    windows = _parted(region, window)[..., 0]  # [n, N]
    return torch.where(windows[:, None] == windows[:, :, None], 0.0, -100.0)


def _depths(recognised: Recognised) -> tuple[int, ...]:
    counts: dict[int, int] = {}
    for name in recognised.state:
        match = re.match(r"layers\.(\d+)\.blocks\.(\d+)\.", name)
        if match:
            counts[int(match[1])] = max(counts.get(int(match[1]), 0), int(match[2]) + 1)
    absent = [f"layers.{number}.blocks.0.mlp.fc1.weight" for number in range(max(counts)) if number not in counts]
    absent += [
        name for number in counts if (name := f"layers.{number}.blocks.0.mlp.fc1.weight") not in recognised.state
    ]
    if absent:
        raise missing(recognised, absent)
    return tuple(counts[number] for number in sorted(counts))


def _table(recognised: Recognised, number: int) -> Tensor:
    name = f"layers.{number}.blocks.0.attn.relative_position_bias_table"
    if name not in recognised.state:
        raise missing(recognised, [name])
    return recognised.state[name]


def _window(recognised: Recognised, rows: int) -> Grid:
    """The window with the largest square of space whose distances fill a table of that many rows."""
    for side in range(math.isqrt(rows), 0, -1):
        time, rest = divmod(rows, (2 * side - 1) ** 2)
        if rest == 0 and time % 2 == 1:
            return (time + 1) // 2, side, side
    raise CheckpointError(
        f"{recognised.path}: a table of relative positions has {rows} rows, which fits no window.",
        "Only windows that are square in space can be evaluated.",
    )
