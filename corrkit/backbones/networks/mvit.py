"""MViT and MViTv2, for images and videos, and MaskFeat's pre-trained ones.

timm's MViTv2 has no time axis and asserts square inputs; frames of videos aren't square. At square sizes this module
gives what timm's gives.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from corrkit.backbones.building import Built, chosen_layer, fill, table_shape
from corrkit.backbones.networks.base import Network, WindowRule
from corrkit.backbones.networks.mvit_design import (
    BlockDesign,
    Grid,
    patch_strides,
    read_config,
    read_designs,
    stored_grid,
)
from corrkit.backbones.networks.positions import resample
from corrkit.checkpoints.recognised import Recognised
from corrkit.errors import CheckpointError

_EPS = 1e-6


def build(recognised: Recognised, *, heads: int | None = None, layer: int | str | None = None) -> Built:
    """The network of a recognised MViT, filled.

    Args:
        recognised: the file's tensors under their published names.
        heads: of the first block; only a check, since the pooling kernels tell.
        layer: how many blocks to execute (1 is the first); None: all.

    Raises:
        CheckpointError: incomplete tensors, contradicting heads, a layer that doesn't exist.
    """
    state = recognised.state
    config, source = read_config(recognised)
    if config.get("CLS_EMBED_ON") and "cls_token" not in state:
        raise recognised.missing(["cls_token"])
    designs = read_designs(recognised, config)
    if heads is not None and heads != designs[0].heads:
        raise CheckpointError(
            f"{recognised.path} has {designs[0].heads} heads in its first block, not {heads}.", "Leave --heads out."
        )
    executed = chosen_layer(recognised, layer, len(designs))
    weight = state["patch_embed.proj.weight"]
    embedding = patch_strides(weight, config)
    if any(len(steps) != weight.ndim - 2 for steps in embedding):
        raise CheckpointError(
            f"{recognised.path}: {recognised.file_name('patch_embed.proj.weight')} is {list(weight.shape)}, and the "
            f"configuration in the file gives it strides {embedding[0]} and padding {embedding[1]}.",
            "Get the file again, or the configuration of this network.",
        )
    with torch.device("meta"):
        network = MViT(state, designs, executed, embedding, stored_grid(recognised, config))
    fill(network, recognised)
    stride = network.stride
    video = weight.ndim == 5
    norm = "after the final norm" if "norm.weight" in state else "without a norm"
    return Built(
        network=network,
        architecture=f"mvit_{weight.shape[0]}x{len(designs)}{'_video' if video else ''}",
        stride=stride,
        multiple=stride,
        layer=str(executed),
        position="absolute" if network.has_positions else "relative",
        evidence=(
            ("heads", f"{[design.heads for design in designs]}: width of the pooling kernels"),
            ("strides", f"of queries {[design.query_stride for design in designs]}: {source}"),
            ("layer", f"block {executed} of {len(designs)}, {norm}"),
        ),
        notes=("A frame is repeated twice: the temporal kernel sees [0, f, f].",) if video else (),
    )


def new_mvit(designs: list[BlockDesign], *, video: bool, cls: bool, norm: bool) -> "MViT":
    """A freshly initialised MViTv2 of `mvit_design.new_designs`, without absolute positions.

    Initialised as facebookresearch/SlowFast 287ec00: N(0, 0.02), truncated, and 0 for biases.
    """
    dim = designs[0].dim
    kernel = (3, 7, 7) if video else (7, 7)
    shapes: dict[str, tuple[int, ...]] = {"patch_embed.proj.weight": (dim, 3, *kernel)}
    shapes |= {"cls_token": (1, 1, dim)} if cls else {}
    shapes |= {"norm.weight": (designs[-1].out_dim,)} if norm else {}
    state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    network = MViT(state, designs, len(designs), patch_strides(state["patch_embed.proj.weight"], {}), None)
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            nn.init.trunc_normal_(parameter, std=0.02)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
    return network


class MViT(Network):
    """Normalised frames [B, 3, H, W] to features [B, h, w, C]; each frame on its own.

    Args:
        state: tensors of the file, for shapes.
        designs: its blocks.
        layer: how many are executed; the final norm, where there is one, follows.
        embedding: stride and padding of the patch convolution over (time,) rows, columns.
        stored: grid of a table of positions with one row per token, if there is one.
    """

    cls_token: nn.Parameter | None
    pos_embed: nn.Parameter | None
    pos_embed_spatial: nn.Parameter | None
    pos_embed_temporal: nn.Parameter | None
    pos_embed_class: nn.Parameter | None
    position: str

    def __init__(
        self,
        state: dict[str, Tensor],
        designs: list[BlockDesign],
        layer: int,
        embedding: tuple[tuple[int, ...], tuple[int, ...]],
        stored: Grid | None,
    ) -> None:
        super().__init__()
        weight = state["patch_embed.proj.weight"]
        self.layer, self.num_layers, self.stored, self.position = layer, len(designs), stored, "size"
        self.video = weight.ndim == 5
        self.window = WindowRule() if self.video else None
        convolution: Any = nn.Conv3d if self.video else nn.Conv2d
        self.patch_embed = nn.Module()
        self.patch_embed.proj = convolution(3, weight.shape[0], weight.shape[2:], *embedding)
        for name in ("cls_token", "pos_embed", "pos_embed_spatial", "pos_embed_temporal", "pos_embed_class"):
            shape = table_shape(name, state[name], weight.shape[0]) if name in state else None
            setattr(self, name, None if shape is None else nn.Parameter(torch.empty(shape)))
        self.blocks = nn.ModuleList(Block(design) for design in designs)
        self.norm = nn.LayerNorm(designs[-1].out_dim, eps=_EPS) if "norm.weight" in state else None
        self.stride = embedding[0][-1] * math.prod(design.query_stride[-1] for design in designs[:layer])

    @property
    def has_positions(self) -> bool:
        """Whether absolute positions are added."""
        return self.pos_embed is not None or self.pos_embed_spatial is not None

    def still(self, frames: Tensor) -> Tensor:
        """A video network sees each frame twice: its temporal kernel is longer than one frame."""
        return frames[:, :, None].expand(-1, -1, 2, -1, -1) if self.video else frames

    def normed(self, output: Tensor, layer: int) -> Tensor:
        """After the final norm, where there is one, if the block is the last."""
        return output if self.norm is None or layer < self.num_layers else self.norm(output)

    def outputs(self, pixels: Tensor, upto: int) -> Iterator[Tensor]:
        """Tokens [B, T', h, w, C] after each block, before the final norm."""
        return self.encoded(*self.embed(pixels), upto)

    def embed(self, pixels: Tensor) -> tuple[Tensor, Grid]:
        """[B, 3, (T,) H, W] to tokens [B, N, D] without positions, and their grid."""
        patches = self.patch_embed.proj(pixels)  # type: ignore[operator]
        grid: Grid = tuple(patches.shape[2:]) if self.video else (1, *patches.shape[2:])
        return patches.flatten(2).transpose(1, 2), grid

    def encode(self, x: Tensor, grid: Grid) -> Tensor:
        """Embedded tokens [B, N, D] of a grid to features [B, T', h, w, C] of the layer."""
        *_, output = self.encoded(x, grid, self.layer)
        return self.normed(output, self.layer)

    def encoded(self, x: Tensor, grid: Grid, upto: int) -> Iterator[Tensor]:
        """Embedded tokens [B, N, D] of a grid to tokens [B, T', h, w, C] after each block, before the final norm."""
        table = self._table(grid)
        x = x if table is None else x + table
        if self.cls_token is not None:
            front: Tensor = self.cls_token
            front = front + self.pos_embed_class if self.pos_embed_class is not None else front
            front = front + self.pos_embed[:, :1] if self.pos_embed is not None else front
            x = torch.cat([front.expand(len(x), -1, -1), x], 1)
        for block in self.blocks[:upto]:
            x, grid = block(x, grid)
            yield x[:, -math.prod(grid) :].unflatten(1, grid)

    def _table(self, grid: Grid) -> Tensor | None:
        """Positions [1, N, C] of all tokens, time slice by time slice."""
        if self.pos_embed_spatial is not None and self.pos_embed_temporal is not None:
            side = math.isqrt(self.pos_embed_spatial.shape[1])
            space = resample(self.pos_embed_spatial[0].unflatten(0, (side, side)), grid[1:], self.position)
            return (space[None] + self.pos_embed_temporal[0, : grid[0], None, None]).flatten(0, 2)[None]
        if self.pos_embed is None or self.stored is None:
            return None
        slices = self.pos_embed[0, -math.prod(self.stored) :].unflatten(0, self.stored)[: grid[0]]
        return torch.stack([resample(part, grid[1:], self.position) for part in slices]).flatten(0, 2)[None]


class Block(nn.Module):
    """Pooling attention and MLP: facebookresearch/SlowFast 287ec00 slowfast/models/attention.py (MultiScaleBlock)."""

    def __init__(self, design: BlockDesign) -> None:
        super().__init__()
        self.design = design
        self.norm1 = nn.LayerNorm(design.dim, eps=_EPS)
        self.attn = PoolingAttention(design)
        self.norm2 = nn.LayerNorm(design.attention_dim, eps=_EPS)
        self.mlp = MLP(design)
        if "proj.weight" in design.state:
            self.proj = nn.Linear(design.dim, design.out_dim)

    def forward(self, x: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        """Tokens [B, P + N, D] of a grid to tokens of the grid that query pooling leaves."""
        normed = self.norm1(x)
        attended, pooled = self.attn(normed, grid)
        skip = self.proj(normed) if self.design.widens_in_attention else x
        x = _max_pooled(skip, grid, self.design.query_stride) + attended
        normed = self.norm2(x)
        widens = self.design.out_dim != self.design.attention_dim
        return (self.proj(normed) if widens else x) + self.mlp(normed), pooled


class MLP(nn.Module):
    """Two linear layers around GELU."""

    def __init__(self, design: BlockDesign) -> None:
        super().__init__()
        hidden = design.state["mlp.fc1.weight"].shape[0]
        self.fc1 = nn.Linear(design.attention_dim, hidden)
        self.fc2 = nn.Linear(hidden, design.out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] to [..., D']."""
        return self.fc2(functional.gelu(self.fc1(x)))  # type: ignore[no-any-return]


class PoolingAttention(nn.Module):
    """Attention whose queries, keys and values are pooled on the grid, with decomposed relative positions."""

    def __init__(self, design: BlockDesign) -> None:
        super().__init__()
        self.design = design
        self.width = design.attention_dim // design.heads
        self.qkv = nn.Linear(design.dim, 3 * design.attention_dim, bias="attn.qkv.bias" in design.state)
        self.proj = nn.Linear(design.attention_dim, design.attention_dim)
        for part in "qkv":
            name = f"attn.pool_{part}.weight"
            stride = design.query_stride if part == "q" else design.key_stride
            if name in design.state:
                # Kernels of an even size would move the grid by half a cell, queries and keys apart.
                kernel = (size | 1 for size in design.state[name].shape[2:])
                setattr(self, f"pool_{part}", Pooling(torch.Size((self.width, 1, *kernel)), stride))
                setattr(self, f"norm_{part}", nn.LayerNorm(self.width, eps=_EPS))
        for axis in "thw":
            name = f"attn.rel_pos_{axis}"
            if name in design.state:
                setattr(self, f"rel_pos_{axis}", nn.Parameter(torch.empty(len(design.state[name]), self.width)))

    def forward(self, x: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        """Tokens [B, P + N, D] to [B, P + N', D'] and the grid of the pooled queries."""
        front = x.shape[1] - math.prod(grid)  # the class token, if there is one
        q, k, v = self.qkv(x).unflatten(2, (3, self.design.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        q, query_grid = self._pooled("q", q, grid, front)
        k, key_grid = self._pooled("k", k, grid, front)
        v, _ = self._pooled("v", v, grid, front)
        bias = self._bias(q[:, :, front:], query_grid, key_grid)
        if bias is not None and front:
            bias = functional.pad(bias, (front, 0, front, 0))
        x = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        if self.design.adds_query:
            x = x + torch.cat([torch.zeros_like(q[:, :, :front]), q[:, :, front:]], 2)
        return self.proj(x.transpose(1, 2).flatten(2)), query_grid

    def _pooled(self, part: str, x: Tensor, grid: Grid, front: int) -> tuple[Tensor, Grid]:
        """[B, heads, P + N, hd] to the same on the pooled grid, normalised."""
        if not hasattr(self, f"pool_{part}"):
            return x, grid
        cells, pooled = getattr(self, f"pool_{part}")(x[:, :, front:], grid)
        return getattr(self, f"norm_{part}")(torch.cat([x[:, :, :front], cells], 2)), pooled

    def _bias(self, q: Tensor, query_grid: Grid, key_grid: Grid) -> Tensor | None:
        """[B, heads, N', M]: products of the (unscaled) queries with the tables of relative positions, axis by axis."""
        if not hasattr(self, "rel_pos_h"):
            return None
        q = q.unflatten(2, query_grid)  # [B, heads, t, h, w, hd]
        axes = "thw"
        total: Tensor | None = None
        for index, axis in enumerate(axes):
            if not hasattr(self, f"rel_pos_{axis}"):
                continue
            table = _relative(getattr(self, f"rel_pos_{axis}"), query_grid[index], key_grid[index])
            product = torch.einsum(f"bnthwc,{axis}kc->bnthwk", q, table)  # [B, heads, t, h, w, cells of the axis]
            shape = [1, 1, 1]
            shape[index] = key_grid[index]
            part = product.unflatten(-1, shape)
            total = part if total is None else total + part
        assert total is not None
        return total.expand(*total.shape[:5], *key_grid).flatten(5, 7).flatten(2, 4)


class Pooling(nn.Module):
    """A depthwise convolution on the grid, its kernel shared by all heads."""

    def __init__(self, shape: torch.Size, stride: Grid) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape))
        self.stride = stride

    def forward(self, x: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        """[B, heads, N, hd] of a grid to the same of the pooled grid."""
        volume = x.flatten(0, 1).transpose(1, 2).unflatten(2, grid)  # [B heads, hd, t, h, w]
        kernel = self.weight if self.weight.ndim == 5 else self.weight[:, :, None]
        padding = [size // 2 for size in kernel.shape[2:]]
        pooled = functional.conv3d(volume, kernel, stride=self.stride, padding=padding, groups=len(kernel))
        cells = pooled.flatten(2).transpose(1, 2).unflatten(0, x.shape[:2])
        return cells, tuple(pooled.shape[2:])  # type: ignore[return-value]


def _max_pooled(x: Tensor, grid: Grid, stride: Grid) -> Tensor:
    """The skip connection [B, P + N, D] on the grid of the pooled queries."""
    if math.prod(stride) == 1:
        return x
    front = x.shape[1] - math.prod(grid)
    volume = x[:, front:].transpose(1, 2).unflatten(2, grid)
    kernel = [step + 1 if step > 1 else step for step in stride]
    pooled = functional.max_pool3d(volume, kernel, stride, [size // 2 for size in kernel])
    return torch.cat([x[:, :front], pooled.flatten(2).transpose(1, 2)], 1)


def _relative(table: Tensor, queries: int, keys: int) -> Tensor:
    """[queries, keys, C]: the row of each distance, in a table resized to 2 · max(queries, keys) - 1 distances."""
    distances = 2 * max(queries, keys) - 1
    if len(table) != distances:
        table = functional.interpolate(table.t()[None], size=distances, mode="linear")[0].t()
    query_scale, key_scale = max(keys / queries, 1.0), max(queries / keys, 1.0)
    query = torch.arange(queries, device=table.device)[:, None] * query_scale
    key = torch.arange(keys, device=table.device)[None] * key_scale
    return table[(query - key + (keys - 1) * key_scale).long()]
