"""Encoders: a plain ViT of timm's blocks that processes visible tokens only (or all, with a mask token)."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from timm.models.beit import Block as QVBlock
from timm.models.beit import RelativePositionBias
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn.functional import interpolate

from corrkit.training.networks.masks import Grid, Mask, gather, ids_of
from corrkit.training.networks.positions import Positions
from corrkit.training.schema import EncoderSpec


@dataclass(slots=True, kw_only=True)
class Tokens:
    """Encoded tokens of a batch of views.

    z [B, P + K, D]: class token (P is 0 or 1), then visible tokens in the order of mask.keep, or all L tokens where
    `full`. mask: what was hidden, None for nothing. grid: (t, h, w). taps: output of a block (1 is the first), by
    number, before the final norm.
    """

    z: Tensor
    grid: Grid
    num_prefix: int
    mask: Mask | None = None
    full: bool = True
    taps: dict[int, Tensor] = field(default_factory=dict)

    @property
    def prefix(self) -> Tensor:
        """[B, P, D]."""
        return self.z[:, : self.num_prefix]

    @property
    def patches(self) -> Tensor:
        """[B, K, D]."""
        return self.z[:, self.num_prefix :]

    @property
    def count(self) -> int:
        """L, the tokens of a view before any are dropped."""
        return self.grid[0] * self.grid[1] * self.grid[2]


class PatchEmbedding(nn.Module):
    """Pixels of images [B, 3, H, W] or, where there are several frames, clips [B, 3, T, H, W] to tokens [B, L, D]."""

    def __init__(self, spec: EncoderSpec, frames: int) -> None:
        super().__init__()
        cell = (spec.patch, spec.patch)
        if frames > 1:
            self.proj: nn.Module = nn.Conv3d(3, spec.dim, (spec.tubelet, *cell), (spec.tubelet, *cell))
        else:
            self.proj = nn.Conv2d(3, spec.dim, cell, cell)

    def forward(self, pixels: Tensor) -> Tensor:
        """To [B, L, D], in the order (t, y, x)."""
        tokens: Tensor = self.proj(pixels)
        return tokens.flatten(2).transpose(1, 2)


NETWORKS = MappingProxyType(
    {"vit": "encoder:Encoder", "convnextv2": "convnext:SparseConvNeXt", "mvit": "mvit:MaskedMViT"}
)
"""`EncoderSpec.network` to "module:class" of this package."""


def make_encoder(spec: EncoderSpec, size: int, frames: int) -> Any:
    """The encoder that a recipe names, freshly initialised; arguments as of `MaskedEncoder`."""
    module, name = NETWORKS[spec.network].split(":")
    return getattr(importlib.import_module(f"corrkit.training.networks.{module}"), name)(spec, size, frames)


class MaskedEncoder(nn.Module):
    """What all encoders have: the tokens of a view, and where they lie in it.

    Args:
        spec: the recipe's.
        size: pixels of a view's side.
        frames: of a clip; 1 for images.
    """

    def __init__(self, spec: EncoderSpec, size: int, frames: int = 1) -> None:
        super().__init__()
        self.spec = spec
        side = size // spec.patch
        self.grid: Grid = (max(1, frames // spec.tubelet), side, side)
        self.num_prefix = int(spec.cls)

    def grid_of(self, pixels: Tensor) -> Grid:
        """Tokens (t, h, w) of views of this size."""
        frames = self.grid[0] if pixels.ndim == 4 else pixels.shape[2] // self.spec.tubelet
        return frames, pixels.shape[-2] // self.spec.patch, pixels.shape[-1] // self.spec.patch

    def in_pixels(self, hidden: Tensor, pixels: Tensor) -> Tensor:
        """Hidden [B, L] tokens of views [B, 3, (T,) H, W] as [B, 1, (T,) H, W]."""
        cells = hidden.reshape(len(hidden), 1, *self.grid_of(pixels)).float()
        size = pixels.shape[2:] if pixels.ndim == 5 else (1, *pixels.shape[2:])
        return interpolate(cells, size).bool().reshape(len(cells), 1, *pixels.shape[2:])

    def settings(self) -> dict[str, str]:
        """What a checkpoint must say of the network because its tensors don't."""
        return {}


class Encoder(MaskedEncoder):
    """A ViT under timm's names."""

    def __init__(self, spec: EncoderSpec, size: int, frames: int = 1) -> None:
        super().__init__(spec, size, frames)
        side = self.grid[1]
        self.patch_embed = PatchEmbedding(spec, frames)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, spec.dim)) if spec.cls else None
        self.positions = Positions(spec.position, self.grid, spec.dim, self.num_prefix)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, spec.dim)) if spec.hidden_tokens == "replace" else None
        self.mask_colour = nn.Parameter(torch.zeros(1, 3, 1, 1)) if spec.hidden_tokens == "pixels" else None
        self.view_vectors = nn.Parameter(torch.zeros(spec.view_vectors, 1, 1, spec.dim)) if spec.view_vectors else None
        self.rel_pos_bias = RelativePositionBias((side, side), spec.heads) if spec.relative else None
        self.blocks = nn.ModuleList(block(spec.dim, spec.heads, spec, index) for index in range(spec.depth))
        self.norm = nn.LayerNorm(spec.dim, eps=1e-6) if spec.final_norm else nn.Identity()
        initialise(self)
        if spec.frozen_patches:
            self.patch_embed.requires_grad_(False)

    def forward(self, pixels: Tensor, mask: Mask | None = None, taps: Sequence[int] = ()) -> Tokens:
        """Encodes a batch of views.

        Args:
            pixels: [B, 3, H, W] or [B, 3, T, H, W], normalised.
            mask: tokens to hide.
            taps: numbers of blocks whose output is wanted too.
        """
        return self._run([self.embed(pixels, mask)], [mask], taps, self.grid_of(pixels))[0]

    def together(self, views: Sequence[Tensor], masks: Sequence[Mask | None]) -> list[Tokens]:
        """All views through the blocks as one sequence (the joint encoder of SiamMAE's ablation)."""
        embedded = [self.embed(pixels, mask) for pixels, mask in zip(views, masks, strict=True)]
        if self.view_vectors is not None:
            embedded = [tokens + vector for tokens, vector in zip(embedded, self.view_vectors, strict=True)]
        return self._run(embedded, masks, (), self.grid_of(views[0]))

    def embed(self, pixels: Tensor, mask: Mask | None) -> Tensor:
        """Tokens [B, P + K, D] before the blocks: positions added, hidden tokens dropped or replaced."""
        if self.mask_colour is not None and mask is not None:
            pixels = torch.where(self.in_pixels(mask.hidden, pixels), self.mask_colour, pixels)
        if self.spec.hidden_tokens in ("zeros", "grey") and mask is not None:
            colour = pixels.mean(1, keepdim=True) * (self.spec.hidden_tokens == "grey")
            pixels = torch.where(self.in_pixels(mask.hidden, pixels), colour, pixels)
        tokens: Tensor = self.patch_embed(pixels)
        if self.mask_token is not None and mask is not None:
            tokens = torch.where(mask.hidden[..., None], self.mask_token, tokens)
        first, rest = self.positions.rows(self.grid_of(pixels))
        tokens = tokens + rest
        if mask is not None and self.spec.hidden_tokens == "drop":
            tokens = gather(tokens, ids_of(mask, tokens.shape[1], len(tokens), tokens.device))
        if self.cls_token is None:
            return tokens
        return torch.cat([(self.cls_token + first).expand(len(tokens), -1, -1), tokens], 1)

    def _run(
        self, embedded: Sequence[Tensor], masks: Sequence[Mask | None], taps: Sequence[int], grid: Grid
    ) -> list[Tokens]:
        x = torch.cat(list(embedded), 1) if len(embedded) > 1 else embedded[0]
        kept: dict[int, Tensor] = {}
        extra: dict[str, Any] = {} if self.rel_pos_bias is None else {"shared_rel_pos_bias": self.rel_pos_bias()}
        for number, layer in enumerate(self.blocks, 1):
            x = layer(x, **extra)
            if number in taps:
                kept[number] = x
        parts = self.norm(x).split([part.shape[1] for part in embedded], 1)
        dropped = self.spec.hidden_tokens == "drop"
        return [
            Tokens(z=z, grid=grid, num_prefix=self.num_prefix, mask=mask, full=mask is None or not dropped, taps=kept)
            for z, mask in zip(parts, masks, strict=True)
        ]


def block(dim: int, heads: int, spec: EncoderSpec, index: int) -> nn.Module:
    """A pre-norm block of timm, with biases for queries, keys and values or for queries and values only."""
    kind: Any = QVBlock if spec.bias == "qv" else Block
    drop_path = spec.drop_path * index / max(1, spec.depth - 1)
    made: nn.Module = kind(
        dim, heads, mlp_ratio=spec.mlp_ratio, qkv_bias=True, drop_path=drop_path, norm_layer=_norm,
        init_values=spec.scale or None,
    )  # fmt: skip
    return made


def _norm(dim: int, **kwargs: Any) -> nn.LayerNorm:
    return nn.LayerNorm(dim, **{"eps": 1e-6, **kwargs})


def initialise(module: nn.Module) -> None:
    """MAE's rule: Xavier for linear layers and patches, 0 for biases, N(0, 0.02) for tokens and vectors.

    facebookresearch/mae efb2a80 models_mae.py:64-93.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d | nn.Conv3d):
            nn.init.xavier_uniform_(part.weight.flatten(1))
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.LayerNorm) and part.weight is not None:
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)
    for name, parameter in module.named_parameters():
        if name.rsplit(".", 1)[-1] in ("cls_token", "mask_token", "mask_colour", "view_vectors", "frame_vectors"):
            nn.init.normal_(parameter, std=0.02)
