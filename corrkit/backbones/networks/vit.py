"""A plain vision transformer that holds any published ViT's weights: one module, its parts chosen by `Parts`.

timm's ViT, Beit, Eva, Aimv2 and naflex classes hold the same weights, but none resamples positions by the published
rules (timm's own rule moves features by 3 to 18 %), and importing timm takes seconds. Parity with timm at the native
size is a test.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention, silu

from corrkit.backbones.networks.base import Network
from corrkit.backbones.networks.positions import resample, sincos
from corrkit.backbones.networks.relative import RelativeBias, Rule
from corrkit.backbones.networks.rotary import Grid, Rotation, Setting, rotation, stored_shape

ALL_BIASES = frozenset({"patch", "qkv", "proj", "mlp"})
_NUM_TABLES = 4  # networks under several position rules share what is kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a vision transformer is made of; everything but `heads` and the names of rules is read from tensors.

    mlp: "mlp" (fc1, activation, fc2) or "swiglu" (w12 packs gate and value, w3); hidden: its width.
    num_registers: tokens between the class token and the patches. position_rows: prefix tokens that have a row in
    the stored position table, whose cells are `grid`. norm: "layer" or "rms"; final_norm: "none" where features are
    the last block's output, "weightless" where the file stores none. biases: which projections have one.
    stem: widths of convolutions in place of the patch projection.
    layerscale, mlp_norm, pre_norm, patch_norm: whether the file has them. position: rule of `positions.RULES`, or
    "sincos" where nothing is stored. rotary: a variant of `rotary.VARIANTS`; frequencies: whether
    the file stores its frequencies; rotary_base: where a configuration gives it. relative: BEiT's
    tables, resampled by relative_rule.
    """

    dim: int
    depth: int
    heads: int
    patch: tuple[int, int]
    hidden: int
    mlp: Literal["mlp", "swiglu"] = "mlp"
    activation: str = "gelu"
    norm: Literal["layer", "rms"] = "layer"
    final_norm: Literal["affine", "weightless", "none"] = "affine"
    eps: float = 1e-6
    biases: frozenset[str] = ALL_BIASES
    has_cls_token: bool = True
    num_registers: int = 0
    position: str | None = "dino"
    position_rows: int = 1
    grid: Grid | None = None
    rotary: str | None = None
    frequencies: bool = False
    rotary_base: float | None = None
    relative: Literal["shared", "blockwise"] | None = None
    relative_rule: Rule = "geometric"
    layerscale: bool = False
    stem: tuple[int, ...] = ()
    mlp_norm: bool = False
    pre_norm: bool = False
    patch_norm: bool = False


class VisionTransformer(Network):
    """Normalised frames [B, 3, H, W] to features [B, h, w, C] of the last executed block, after the final norm.

    Sides that the patch doesn't divide are cropped at the right and bottom, as the patch convolution of every published
    model does.

    Args:
        parts: what it is made of.
        layer: how many blocks are executed; the final norm, where there is one, follows whichever is the last
            (facebookresearch/dino 7c446df vision_transformer.py:216, get_intermediate_layers).
    """

    def __init__(self, parts: Parts, layer: int | None = None) -> None:
        super().__init__()
        self.parts, self.layer, self.position = parts, layer or parts.depth, parts.position
        self.num_layers = parts.depth
        self.patch_embed = PatchEmbedding(parts)
        if parts.has_cls_token:
            self.cls_token = nn.Parameter(torch.empty(1, 1, parts.dim))
        if parts.num_registers:
            self.reg_token = nn.Parameter(torch.empty(1, parts.num_registers, parts.dim))
        if parts.position not in (None, "sincos"):
            assert parts.grid is not None
            rows = parts.position_rows + parts.grid[0] * parts.grid[1]
            self.pos_embed = nn.Parameter(torch.empty(1, rows, parts.dim))
        if parts.relative == "shared":
            self.rel_pos_bias = RelativeBias(_stored(parts), parts.heads, parts.relative_rule)
        if parts.frequencies:
            self.rope = Frequencies(parts)
        self.norm_pre = _norm(parts) if parts.pre_norm else nn.Identity()
        self.blocks = nn.ModuleList(Block(parts) for _ in range(parts.depth))
        self.norm = _final_norm(parts)
        self._tables: dict[tuple[Grid, str | None, torch.device], Tensor] = {}
        self._rotations: dict[tuple[Grid, torch.device], Rotation] = {}

    def outputs(self, pixels: Tensor, upto: int) -> Iterator[Tensor]:
        """Patch tokens [B, h, w, C] after each block, before the final norm."""
        patches = self.patch_embed(pixels)  # [B, D, h, w]
        grid = (patches.shape[2], patches.shape[3])
        x = self.norm_pre(self._with_prefix(patches.flatten(2).transpose(1, 2), grid))
        turn = self._rotation(grid, x.device)
        shared = self.rel_pos_bias(grid) if self.parts.relative == "shared" else None
        for block in self.blocks[:upto]:
            x = block(x, turn, shared, grid)
            yield x[:, -grid[0] * grid[1] :].unflatten(1, grid)

    def normed(self, output: Tensor, layer: int) -> Tensor:
        """After the final norm, whichever the block."""
        return self.norm(output)  # type: ignore[no-any-return]

    def _with_prefix(self, patches: Tensor, grid: Grid) -> Tensor:
        """Adds positions to patches [B, N, D] and puts class and register tokens in front."""
        parts, rows = self.parts, self.parts.position_rows
        prefix: list[Tensor] = [self.cls_token] if parts.has_cls_token else []
        prefix += [self.reg_token] if parts.num_registers else []
        if self.position is not None:
            patches = patches + self._table(grid, patches.device)
        if not prefix:
            return patches
        front = torch.cat(prefix, 1)  # [1, P, D]
        if self.position not in (None, "sincos") and rows:
            front = torch.cat([front[:, :rows] + self.pos_embed[:, :rows], front[:, rows:]], 1)
        return torch.cat([front.expand(len(patches), -1, -1), patches], 1)

    def _table(self, grid: Grid, device: torch.device) -> Tensor:
        """Positions [1, N, D] of the patches; those of a few grids and rules are kept."""
        key = (grid, self.position, device)
        if key not in self._tables:
            if len(self._tables) == _NUM_TABLES:
                self._tables.clear()
            self._tables[key] = self._resampled(grid).flatten(0, 1)[None].to(device)
        return self._tables[key]

    def _resampled(self, grid: Grid) -> Tensor:
        if self.position == "sincos":
            return sincos(grid, self.parts.dim, "column")
        assert self.position is not None
        return resample(
            self.pos_embed[0, self.parts.position_rows :].reshape(*_stored(self.parts), -1), grid, self.position
        )

    def _rotation(self, grid: Grid, device: torch.device) -> Rotation | None:
        if self.parts.rotary is None:
            return None
        key = (grid, device)
        if key not in self._rotations:
            self._rotations.clear()
            setting = Setting(
                grid=grid,
                width=self.parts.dim // self.parts.heads,
                stored=self.parts.grid,
                frequencies=self.rope.freqs.cpu() if self.parts.frequencies else None,
                base=self.parts.rotary_base,
                has_cls_token=self.parts.has_cls_token,
                num_registers=self.parts.num_registers,
            )
            self._rotations[key] = rotation(self.parts.rotary, setting).to(device)
        return self._rotations[key]


class PatchEmbedding(nn.Module):
    """Frames [B, 3, H, W] to patches [B, D, h, w]."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        plain = nn.Conv2d(3, parts.dim, parts.patch, parts.patch, bias="patch" in parts.biases)
        self.proj = _stem(parts) if parts.stem else plain
        self.norm = _norm(parts) if parts.patch_norm else None

    def forward(self, frames: Tensor) -> Tensor:
        """[B, 3, H, W] to [B, D, h, w]."""
        patches: Tensor = self.proj(frames)
        if self.norm is not None:
            normed: Tensor = self.norm(patches.movedim(1, -1))
            patches = normed.movedim(-1, 1)
        return patches


class Block(nn.Module):
    """Pre-norm attention and MLP, each behind an optional LayerScale."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.norm1 = _norm(parts)
        self.attn = Attention(parts)
        self.ls1 = LayerScale(parts.dim) if parts.layerscale else nn.Identity()
        self.norm2 = _norm(parts)
        self.mlp = SwiGLU(parts) if parts.mlp == "swiglu" else MLP(parts)
        self.ls2 = LayerScale(parts.dim) if parts.layerscale else nn.Identity()

    def forward(self, x: Tensor, turn: Rotation | None, shared: Tensor | None, grid: Grid) -> Tensor:
        """Tokens [B, P + N, D] to the same."""
        attended: Tensor = x + self.ls1(self.attn(self.norm1(x), turn, shared, grid))
        transformed: Tensor = self.ls2(self.mlp(self.norm2(attended)))
        return attended + transformed


class Attention(nn.Module):
    """Multi-head self-attention with optional rotation of patch tokens and relative position bias."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.heads = parts.heads
        self.qkv = nn.Linear(parts.dim, 3 * parts.dim, bias="qkv" in parts.biases)
        self.proj = nn.Linear(parts.dim, parts.dim, bias="proj" in parts.biases)
        own = parts.relative == "blockwise"
        self.relative = RelativeBias(_stored(parts), parts.heads, parts.relative_rule) if own else None

    def forward(self, x: Tensor, turn: Rotation | None, shared: Tensor | None, grid: Grid) -> Tensor:
        """Tokens [B, P + N, D] to the same."""
        parts = self.qkv(x).reshape(*x.shape[:2], 3, self.heads, -1)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)  # [B, heads, P + N, hd]
        if turn is not None:
            q, k = turn(q), turn(k)
        bias = self.relative(grid) if self.relative is not None else shared
        x = scaled_dot_product_attention(q, k, v, attn_mask=bias)
        projected: Tensor = self.proj(x.transpose(1, 2).flatten(2))
        return projected


class MLP(nn.Module):
    """Two linear layers around an activation."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.fc1 = nn.Linear(parts.dim, parts.hidden, bias="mlp" in parts.biases)
        self.act = ACTIVATIONS[parts.activation]()
        self.fc2 = nn.Linear(parts.hidden, parts.dim, bias="mlp" in parts.biases)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] to [..., D]."""
        return self.fc2(self.act(self.fc1(x)))  # type: ignore[no-any-return]


class SwiGLU(nn.Module):
    """w3(norm(silu(gate) · value)), where w12 packs gate and value."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.w12 = nn.Linear(parts.dim, 2 * parts.hidden, bias="mlp" in parts.biases)
        self.norm = nn.LayerNorm(parts.hidden, eps=parts.eps) if parts.mlp_norm else nn.Identity()
        self.w3 = nn.Linear(parts.hidden, parts.dim, bias="mlp" in parts.biases)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] to [..., D]."""
        gate, value = self.w12(x).chunk(2, -1)
        return self.w3(self.norm(silu(gate) * value))  # type: ignore[no-any-return]


class QuickGELU(nn.Module):
    """x · sigmoid(1.702 x): openai/CLIP d05afc4 clip/model.py:166. The exact GELU costs 7e-3 of the features' scale."""

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise."""
        return x * torch.sigmoid(1.702 * x)


class LayerScale(nn.Module):
    """A learned gain per channel."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Scales the last axis."""
        return x * self.gamma


class Frequencies(nn.Module):
    """Rotary frequencies that a file stores."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        assert parts.rotary is not None
        self.freqs = nn.Parameter(torch.empty(stored_shape(parts.rotary, parts.dim // parts.heads)))


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu-tanh": lambda: nn.GELU("tanh"),
    "quick-gelu": QuickGELU,
}


def _stem(parts: Parts) -> nn.Sequential:
    """MoCo v3's convolutions, each halving the sides: facebookresearch/moco-v3 c349e6e vits.py (ConvStem)."""
    layers: list[nn.Module] = []
    for before, width in pairwise((3, *parts.stem)):
        layers += [nn.Conv2d(before, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(parts.stem[-1], parts.dim, 1))


def _stored(parts: Parts) -> Grid:
    assert parts.grid is not None
    return parts.grid


def _norm(parts: Parts) -> nn.Module:
    return nn.RMSNorm(parts.dim, eps=parts.eps) if parts.norm == "rms" else nn.LayerNorm(parts.dim, eps=parts.eps)


def _final_norm(parts: Parts) -> nn.Module:
    if parts.final_norm == "none":
        return nn.Identity()
    if parts.final_norm == "weightless":
        return nn.RMSNorm(parts.dim, eps=parts.eps, elementwise_affine=False)
    return _norm(parts)
