"""Vision transformers whose tokens are tubelets: VideoMAE (v1, v2), MVD, OmniMAE, MAE-ST, V-JEPA, V-JEPA 2.

A single frame is repeated to fill one tubelet and takes the positions of the first slice; `clip` takes real frames.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from corrkit.backbones.building import Built, chosen_layer, fill, missing, table_shape
from corrkit.backbones.heads import assumption, choose_heads
from corrkit.backbones.networks.base import Network, WindowRule
from corrkit.backbones.networks.positions import resample, sinusoid
from corrkit.backbones.networks.rotary import Rotation
from corrkit.backbones.networks.vit import ALL_BIASES, Attention, Block, Parts
from corrkit.checkpoints.configuration import activation, epsilon, require_obeyed, switched_off
from corrkit.checkpoints.heads import entry
from corrkit.checkpoints.recognised import Recognised
from corrkit.checkpoints.rules import TubeletRules
from corrkit.errors import CheckpointError

Grid = tuple[int, int, int]  # time slices, rows, columns


def build(recognised: Recognised, *, heads: int | None = None, layer: int | str | None = None) -> Built:
    """The network of a recognised tubelet transformer, filled.

    Args:
        recognised: the file's tensors under timm's names.
        heads: number of attention heads, where it isn't known for the width and depth.
        layer: how many blocks to execute (1 is the first); None: all.

    Raises:
        CheckpointError: incomplete or contradictory tensors, unknown heads, a layer that doesn't exist.
    """
    rules: TubeletRules = recognised.system.rules
    state = recognised.state
    depth = recognised.depth("blocks")
    dim, channels, tubelet, patch, width = recognised.tensor("patch_embed.proj.weight", 5).shape
    if channels != 3 or patch != width:
        raise CheckpointError(
            f"{recognised.path} has tubelets of {channels} channels and {patch}x{width} pixels.",
            "Only square patches of RGB frames can be evaluated.",
        )
    positions = _positions(recognised, dim)
    require_obeyed(recognised, _facts(recognised, depth, positions))
    chosen, why = choose_heads(recognised, dim, depth, heads, rules.heads)
    executed = chosen_layer(recognised, layer, depth)
    parts = Parts(
        dim=dim,
        depth=depth,
        heads=chosen,
        patch=(patch, patch),
        hidden=_hidden(recognised),
        final_norm=rules.final_norm,
        activation=activation(recognised, rules.activation),
        eps=epsilon(recognised, rules.eps),
        biases=ALL_BIASES - switched_off(recognised.config),
        has_cls_token="cls_token" in state,
        position=None,
    )
    with torch.device("meta"):
        network = TubeletTransformer(parts, positions, tubelet, executed, state)
    fill(network, recognised)
    return Built(
        network=network,
        architecture=f"vit_{dim}x{depth}_patch{patch}_tubelet{tubelet}",
        stride=patch,
        multiple=patch,
        layer=str(executed),
        position="rotary" if positions.kind == "rotary" else "own" if positions.kind == "trilinear" else "absolute",
        evidence=(
            ("heads", f"{chosen}: {why}"),
            (
                "layer",
                f"block {executed} of {depth}, {'without a' if parts.final_norm == 'none' else 'after the'} final norm",
            ),
        ),
        notes=(
            f"Each frame is repeated {tubelet} times to fill one tubelet.",
            *assumption(chosen, why),
            *_assumed(positions),
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Positions:
    """How tubelets get their positions: kind is that of `TubeletRules`; stored is the grid of the file's tables."""

    kind: str
    stored: Grid
    rows: int = 0


class TubeletTransformer(Network):
    """Normalised frames [B, 3, H, W] to features [B, h, w, C]; each frame on its own.

    Args:
        parts: what its blocks are made of.
        positions: of the tubelets.
        tubelet: frames per token.
        layer: how many blocks are executed; the final norm, where there is one, follows.
        state: tensors of the file, for shapes.
    """

    cls_token: nn.Parameter
    pos_embed: nn.Parameter
    pos_embed_spatial: nn.Parameter
    pos_embed_temporal: nn.Parameter
    pos_embed_class: nn.Parameter
    position: str

    def __init__(self, parts: Parts, positions: Positions, tubelet: int, layer: int, state: dict[str, Tensor]) -> None:
        super().__init__()
        self.parts, self.positions, self.tubelet, self.position = parts, positions, tubelet, "size"
        self.layer, self.num_layers, self.window = layer, parts.depth, WindowRule(tubelet=tubelet)
        kernel = (tubelet, *parts.patch)
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv3d(3, parts.dim, kernel, kernel)
        for name in ("cls_token", "pos_embed", "pos_embed_spatial", "pos_embed_temporal", "pos_embed_class"):
            if name in state and not (name == "pos_embed" and positions.kind == "rotary"):
                setattr(self, name, nn.Parameter(torch.empty(table_shape(name, state[name], parts.dim))))
        self.blocks = nn.ModuleList(Block(parts) for _ in range(parts.depth))
        if "blocks.0.attn.scale" in state:
            for block in self.blocks:
                block.attn = CosineAttention(parts)
        self.norm: nn.Module = nn.LayerNorm(parts.dim, eps=parts.eps) if parts.final_norm == "affine" else nn.Identity()

    def still(self, frames: Tensor) -> Tensor:
        """Each frame repeated to fill a tubelet."""
        return frames[:, :, None].expand(-1, -1, self.tubelet, -1, -1)

    def normed(self, output: Tensor, layer: int) -> Tensor:
        """After the final norm, where there is one, whichever the block."""
        return self.norm(output)  # type: ignore[no-any-return]

    def outputs(self, pixels: Tensor, upto: int) -> Iterator[Tensor]:
        """Tubelet tokens [B, T', h, w, C] after each block, before the final norm."""
        patches = self.patch_embed.proj(pixels)  # type: ignore[operator]  # [B, D, T', h, w]
        grid: Grid = tuple(patches.shape[2:])
        x = patches.flatten(2).transpose(1, 2)
        table = self._table(grid)
        if table is not None:
            x = x + table.to(x)
        if self.parts.has_cls_token:
            front: Tensor = self.cls_token
            if hasattr(self, "pos_embed_class"):
                front = front + self.pos_embed_class
            if self.positions.rows:
                front = front + self.pos_embed[:, : self.positions.rows]
            x = torch.cat([front.expand(len(x), -1, -1), x], 1)
        turn = _rotation(grid, self.parts.dim // self.parts.heads).to(x.device) if table is None else None
        for block in self.blocks[:upto]:
            x = block(x, turn, None, grid[1:])
            yield x[:, -math.prod(grid) :].unflatten(1, grid)

    def _table(self, grid: Grid) -> Tensor | None:
        """Positions [1, N, C] of all tokens, or None where they are turned instead."""
        kind, stored = self.positions.kind, self.positions.stored
        if kind == "rotary":
            return None
        if kind == "trilinear":
            return _trilinear(self.pos_embed[:, self.positions.rows :], stored, grid)
        if kind == "separable":
            space = self._space(self.pos_embed_spatial[0], stored[1:], grid[1:])
            return (space[None] + self._slices(self.pos_embed_temporal[0], grid[0])[:, None, None]).flatten(0, 2)[None]
        if kind == "sinusoid":
            side = stored[1] or min(grid[1:])
            table, stored = sinusoid(grid[0] * side * side, self.parts.dim), (grid[0], side, side)
        else:
            table = self.pos_embed[0, self.positions.rows :]
        slices = table.unflatten(0, stored)[: grid[0]]
        if len(slices) < grid[0]:
            raise _too_long(grid[0], stored[0])
        return torch.stack([resample(part, grid[1:], self.position) for part in slices]).flatten(0, 2)[None]

    def _space(self, table: Tensor, stored: tuple[int, int], grid: tuple[int, int]) -> Tensor:
        return resample(table.unflatten(0, stored), grid, self.position)

    def _slices(self, table: Tensor, count: int) -> Tensor:
        if count > len(table):
            raise _too_long(count, len(table))
        return table[:count]


class CosineAttention(Attention):
    """Normalised queries and keys, learned scale: OpenGVLab/VideoMAEv2 29eab1e models/modeling_finetune.py:74."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self.scale = nn.Parameter(torch.empty(parts.heads, 1, 1))

    def forward(self, x: Tensor, *_: Any) -> Tensor:
        """Tokens [B, N, D] to the same."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        scale = self.scale.clamp(max=math.log(100)).exp()
        x = functional.scaled_dot_product_attention(
            functional.normalize(q, dim=-1) * scale, functional.normalize(k, dim=-1), v, scale=1.0
        )
        projected: Tensor = self.proj(x.transpose(1, 2).flatten(2))
        return projected


def _trilinear(table: Tensor, stored: Grid, grid: Grid) -> Tensor:
    """V-JEPA resizes in time as well: facebookresearch/jepa 51c59d5 src/models/vision_transformer.py:226."""
    if grid == stored:
        return table
    volume = table.unflatten(1, stored).movedim(-1, 1)  # [1, D, T, h, w]
    factors = [cells / had for cells, had in zip(grid, stored, strict=True)]
    return functional.interpolate(volume, scale_factor=factors, mode="trilinear").flatten(2).transpose(1, 2)


def _rotation(grid: Grid, width: int) -> Rotation:
    """V-JEPA 2's rotation: thirds of the channels for time, row, column, the rest stays as it is.

    Angles are tiled while neighbours turn together, so the two of a pair have different angles: an acknowledged slip
    that the weights were trained with (facebookresearch/vjepa2 c2963a4 src/models/utils/modules.py:39).
    """
    third = 2 * ((width // 3) // 2)
    frequencies = 10000 ** -(torch.arange(third // 2, dtype=torch.float64) / (third / 2))
    axes = torch.meshgrid(*(torch.arange(cells, dtype=torch.float64) for cells in grid), indexing="ij")
    turned = [(axis.flatten()[:, None] * frequencies).repeat(1, 2) for axis in axes]
    still = torch.zeros(math.prod(grid), width - 3 * third, dtype=torch.float64)
    angles = torch.cat([*turned, still], 1)
    return Rotation(angles.cos().float(), angles.sin().float(), interleaved=True)


def _positions(recognised: Recognised, dim: int) -> Positions:
    """What the file's tables say about the grid they were made for."""
    rules: TubeletRules = recognised.system.rules
    state = recognised.state
    tables = {"separable": ["pos_embed_spatial", "pos_embed_temporal"], "sinusoid": [], "rotary": []}
    needed = tables.get(rules.position, ["pos_embed"])
    absent = [name for name in needed if name not in state]
    if absent:
        raise missing(recognised, absent)
    if rules.position == "separable":
        return Positions(kind="separable", stored=(state[needed[1]].shape[1], *_square(recognised, needed[0])))
    if rules.position == "rotary":
        return Positions(kind="rotary", stored=(0, 0, 0))
    if rules.position == "sinusoid":
        pixels = recognised.config.get("image_size", rules.side if dim in rules.widths else 0)
        side = (pixels if isinstance(pixels, int) else 0) // int(state["patch_embed.proj.weight"].shape[-1])
        return Positions(kind="sinusoid", stored=(0, side, side))
    rows = int("cls_token" in state)
    told = entry(recognised.tree, "recipe.views.frames")  # corrkit's own checkpoints say it
    said = recognised.config.get("num_frames", told)
    slices = (said if isinstance(said, int) else rules.frames) // int(state["patch_embed.proj.weight"].shape[2])
    for count in (slices, *(n for n in (8, 4, 2, 16, 32, 1, 3, 5, 6) if n != slices)):
        cells, rest = divmod(state["pos_embed"].shape[1] - rows, count)
        if rest == 0 and math.isqrt(cells) ** 2 == cells:
            return Positions(kind=rules.position, stored=(count, math.isqrt(cells), math.isqrt(cells)), rows=rows)
    raise CheckpointError(
        f"{recognised.path}: {recognised.file_name('pos_embed')} has {state['pos_embed'].shape[1]} rows, which are no "
        "square grid over time.",
        "Only models that were trained on square frames can be evaluated.",
    )


def _facts(recognised: Recognised, depth: int, positions: Positions) -> dict[str, int | list[int]]:
    """What of a network a configuration beside its file may say too, under transformers' names."""
    dim, _, tubelet, patch, _ = recognised.state["patch_embed.proj.weight"].shape
    listed = isinstance(recognised.config.get("tubelet_size"), list)  # ViViT's holds the patch's sides too
    sides: dict[str, int | list[int]] = {"tubelet_size": [tubelet, patch, patch]}
    facts: dict[str, int | list[int]] = {
        "hidden_size": dim,
        "num_hidden_layers": depth,
        "qkv_bias": "blocks.0.attn.qkv.bias" in recognised.state,
        **(sides if listed else {"tubelet_size": tubelet, "patch_size": patch}),
    }
    if positions.kind in ("stored", "trilinear"):
        facts |= {"num_frames": positions.stored[0] * tubelet, "image_size": positions.stored[1] * patch}
    return facts


def _assumed(positions: Positions) -> tuple[str, ...]:
    if positions.kind != "sinusoid" or positions.stored[1]:
        return ()
    return ("The grid of training isn't in the file: the square of the input's shorter side is taken for it.",)


def _square(recognised: Recognised, name: str) -> tuple[int, int]:
    cells = recognised.state[name].shape[1]
    side = math.isqrt(cells)
    if side * side != cells:
        raise CheckpointError(
            f"{recognised.path}: {recognised.file_name(name)} has {cells} rows, which is no square grid.",
            "Only models that were trained on square frames can be evaluated.",
        )
    return side, side


def _hidden(recognised: Recognised) -> int:
    if "blocks.0.mlp.fc1.weight" not in recognised.state:
        raise missing(recognised, ["blocks.0.mlp.fc1.weight"])
    return int(recognised.state["blocks.0.mlp.fc1.weight"].shape[0])


def _too_long(count: int, known: int) -> CheckpointError:
    return CheckpointError(
        f"A window has {count} time slices, the model's positions end at {known}.", "Choose a shorter window."
    )
