"""V-JEPA 2.1: still frames through its image path, windows of frames through its video path."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from corrkit.backbones.building import Built, chosen_layer, fill
from corrkit.backbones.heads import assumption, choose_heads
from corrkit.backbones.networks.base import Network, WindowRule
from corrkit.backbones.networks.rotary import Rotation
from corrkit.backbones.networks.vit import Block, Parts
from corrkit.checkpoints.recognised import Recognised
from corrkit.errors import CheckpointError

# Blocks (1 is the first) after which one of the four norms is trained, by depth.
_TAPS = {12: (3, 6, 9, 12), 24: (6, 12, 18, 24), 40: (10, 20, 30, 40), 48: (12, 24, 38, 48)}
_TRAINED_SIDE = 16  # cells per side of pre-training at 256 pixels: facebookresearch/vjepa2 app/vjepa_2_1 (be434e4)


def build(recognised: Recognised, *, heads: int | None = None, layer: int | str | None = None) -> Built:
    """The encoder of a recognised V-JEPA 2.1 file, filled.

    Args:
        recognised: the file's tensors.
        heads: attention heads, where they aren't known for the width and depth.
        layer: block whose output is taken (1 is the first), after the norm of the first tap at or behind it; None: the
            last.

    Raises:
        CheckpointError: incomplete or contradictory tensors, unknown heads, a layer that doesn't exist.
    """
    dim, _, tubelet, patch, _ = recognised.tensor("patch_embed.proj.weight", 5).shape
    depth = recognised.depth("blocks")
    if depth not in _TAPS:
        raise CheckpointError(
            f"{recognised.path} has {depth} blocks; the places of V-JEPA 2.1's norms are known for {[*_TAPS]}.",
            "If blocks are missing, get the complete file.",
        )
    chosen, why = choose_heads(recognised, dim, depth, heads, recognised.system.rules.heads)
    executed = chosen_layer(recognised, layer, depth)
    hidden = recognised.state["blocks.0.mlp.fc1.weight"].shape[0]
    parts = Parts(
        dim=dim, depth=depth, heads=chosen, patch=(patch, patch), hidden=hidden, has_cls_token=False, position=None
    )
    with torch.device("meta"):
        network = VJEPA21(parts, tubelet, executed)
    fill(network, recognised)
    return Built(
        network=network,
        architecture=f"vjepa2_1_{dim}x{depth}_patch{patch}",
        stride=patch,
        multiple=patch,
        layer=str(executed),
        position="rotary",
        evidence=(
            ("heads", f"{chosen}: {why}"),
            ("layer", f"block {executed} of {depth}, after norms_block.{network.norm_of(executed)}"),
        ),
        notes=("Single frames take V-JEPA 2.1's image path, not a tubelet.", *assumption(chosen, why)),
    )


class VJEPA21(Network):
    """Normalised frames [B, 3, H, W] to features [B, h, w, C].

    Args:
        parts: what its blocks are made of.
        tubelet: frames per token of the video path.
        layer: how many blocks are executed.
    """

    def __init__(self, parts: Parts, tubelet: int, layer: int) -> None:
        super().__init__()
        self.parts, self.layer, self.num_layers = parts, layer, parts.depth
        self.window = WindowRule(tubelet=tubelet)
        self.patch_embed = _projection(parts, tubelet)
        self.patch_embed_img = _projection(parts, 1)
        self.img_mod_embed = nn.Parameter(torch.empty(1, 1, parts.dim))
        self.video_mod_embed = nn.Parameter(torch.empty(1, 1, parts.dim))
        self.blocks = nn.ModuleList(Block(parts) for _ in range(parts.depth))
        self.norms_block = nn.ModuleList(nn.LayerNorm(parts.dim, eps=parts.eps) for _ in _TAPS[parts.depth])

    def still(self, frames: Tensor) -> Tensor:
        """Clips of one frame, which take the image path."""
        return frames[:, :, None]

    def normed(self, output: Tensor, layer: int) -> Tensor:
        """After the norm of the first tap at or behind the block."""
        return self.norms_block[self.norm_of(layer)](output)  # type: ignore[no-any-return]

    def norm_of(self, layer: int) -> int:
        """Number of the norm that follows a block, or the next tap behind it."""
        return next(number for number, tap in enumerate(_TAPS[self.parts.depth]) if layer <= tap)

    def outputs(self, pixels: Tensor, upto: int) -> Iterator[Tensor]:
        """Tokens [B, T', h, w, C] after each block, before a norm."""
        single = pixels.shape[2] == 1
        projection: Any = self.patch_embed_img if single else self.patch_embed
        patches, kind = projection.proj(pixels), self.img_mod_embed if single else self.video_mod_embed
        grid = tuple(patches.shape[2:])
        x = patches.flatten(2).transpose(1, 2) + kind
        turn = _rotation(grid, self.parts.dim // self.parts.heads).to(x.device)
        for block in self.blocks[:upto]:
            x = block(x, turn, None, grid[1:])
            yield x.unflatten(1, grid)


def _projection(parts: Parts, tubelet: int) -> nn.Module:
    kernel = (tubelet, *parts.patch)
    holder = nn.Module()
    holder.proj = nn.Conv3d(3, parts.dim, kernel, kernel)
    return holder


def _rotation(grid: tuple[int, ...], width: int) -> Rotation:
    """Thirds of the channels for time, row and column; rows and columns span the grid of pre-training.

    Neighbours turn together by the same angle, unlike in V-JEPA 2 (facebookresearch/vjepa2 app/vjepa_2_1, be434e4).
    """
    third = 2 * ((width // 3) // 2)
    frequencies = 10000 ** -(torch.arange(third // 2, dtype=torch.float32) / (third / 2))
    slices, *sides = grid
    axes = [torch.arange(slices, dtype=torch.float32)]
    axes += [torch.arange(side, dtype=torch.float32) * (_TRAINED_SIDE - 1) / max(side - 1, 1) for side in sides]
    places = torch.meshgrid(*axes, indexing="ij")
    turned = [(place.flatten()[:, None] * frequencies).repeat_interleave(2, 1) for place in places]
    still = torch.zeros(math.prod(grid), width - 3 * third)
    angles = torch.cat([*turned, still], 1)
    return Rotation(angles.cos(), angles.sin(), interleaved=True)
