"""TimeSformer with divided attention: each block attends over the frames of a place, then over places of a frame."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from corrkit.backbones.building import Built, chosen_layer, fill
from corrkit.backbones.heads import assumption, choose_heads
from corrkit.backbones.networks.base import Network, WindowRule
from corrkit.backbones.networks.positions import resample
from corrkit.backbones.networks.vit import ALL_BIASES, MLP, Attention, Parts, PatchEmbedding
from corrkit.checkpoints.configuration import activation, epsilon, require_obeyed, switched_off
from corrkit.checkpoints.recognised import Recognised
from corrkit.errors import CheckpointError


def build(recognised: Recognised, *, heads: int | None = None, layer: int | str | None = None) -> Built:
    """The network of a recognised TimeSformer, filled.

    Args:
        recognised: the file's tensors under the names of facebookresearch/TimeSformer.
        heads: number of attention heads, where it isn't known for the width and depth.
        layer: how many blocks to execute (1 is the first); None: all.

    Raises:
        CheckpointError: incomplete or contradictory tensors, unknown heads, a layer that doesn't exist.
    """
    require_obeyed(recognised, {"attention_type": "divided_space_time"})
    depth = recognised.depth("blocks")
    dim, _, patch, _ = recognised.tensor("patch_embed.proj.weight", 4).shape
    slots = int(recognised.tensor("time_embed", 3).shape[1])
    cells = int(recognised.tensor("pos_embed", 3).shape[1]) - 1
    side = math.isqrt(cells)
    if side * side != cells:
        raise CheckpointError(
            f"{recognised.path}: {recognised.file_name('pos_embed')} has {cells + 1} rows, which are no square grid.",
            "Only models that were trained on square frames can be evaluated.",
        )
    facts = {"hidden_size": dim, "num_hidden_layers": depth, "patch_size": patch, "image_size": side * patch}
    require_obeyed(recognised, {**facts, "num_frames": slots})
    chosen, why = choose_heads(recognised, dim, depth, heads)
    executed = chosen_layer(recognised, layer, depth)
    parts = Parts(
        dim=dim,
        depth=depth,
        heads=chosen,
        patch=(patch, patch),
        hidden=int(recognised.tensor("blocks.0.mlp.fc1.weight", 2).shape[0]),
        activation=activation(recognised, "gelu"),
        eps=epsilon(recognised, 1e-6),
        biases=ALL_BIASES - switched_off(recognised.config),
        position="nearest",
        grid=(side, side),
    )
    with torch.device("meta"):
        network = TimeSformer(parts, slots, executed)
    fill(network, recognised)
    return Built(
        network=network,
        architecture=f"timesformer_{dim}x{depth}_patch{patch}_frames{slots}",
        stride=patch,
        multiple=patch,
        layer=str(executed),
        position="absolute",
        evidence=(("heads", f"{chosen}: {why}"), ("layer", f"block {executed} of {depth}, after the final norm")),
        notes=("A single frame is a clip of one, at the first place in time.", *assumption(chosen, why)),
    )


class TimeSformer(Network):
    """Normalised frames [B, 3, H, W] to features [B, h, w, C]; each frame on its own.

    Args:
        parts: what its blocks are made of.
        slots: places in time that the file stores; clips of other lengths take the nearest ones.
        layer: how many blocks are executed; the final norm follows.
    """

    def __init__(self, parts: Parts, slots: int, layer: int) -> None:
        super().__init__()
        assert parts.grid is not None
        self.parts, self.grid, self.position = parts, parts.grid, parts.position
        self.layer, self.num_layers, self.window = layer, parts.depth, WindowRule()
        self.patch_embed = PatchEmbedding(parts)
        self.cls_token = nn.Parameter(torch.empty(1, 1, parts.dim))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + math.prod(parts.grid), parts.dim))
        self.time_embed = nn.Parameter(torch.empty(1, slots, parts.dim))
        self.blocks = nn.ModuleList(DividedBlock(parts) for _ in range(parts.depth))
        self.norm = nn.LayerNorm(parts.dim, eps=parts.eps)

    def still(self, frames: Tensor) -> Tensor:
        """Clips of one frame."""
        return frames[:, :, None]

    def normed(self, output: Tensor, layer: int) -> Tensor:
        """After the final norm, whichever the block."""
        return self.norm(output)  # type: ignore[no-any-return]

    def outputs(self, pixels: Tensor, upto: int) -> Iterator[Tensor]:
        """Patch tokens [B, T, h, w, C] after each block, before the final norm."""
        clips, frames = pixels.shape[0], pixels.shape[2]
        patches = self.patch_embed(pixels.transpose(1, 2).flatten(0, 1)).movedim(1, -1)  # [B T, h, w, D]
        grid = (patches.shape[1], patches.shape[2])
        assert self.position is not None
        patches = patches + resample(self.pos_embed[0, 1:].unflatten(0, self.grid), grid, self.position).to(patches)
        patches = patches.flatten(1, 2).unflatten(0, (clips, frames)) + self._times(frames)[:, :, None]  # [B, T, N, D]
        front = (self.cls_token + self.pos_embed[:, :1]).expand(clips, -1, -1)
        for block in self.blocks[:upto]:
            front, patches = block(front, patches)
            yield patches.unflatten(2, grid)

    def _times(self, frames: int) -> Tensor:
        """Places in time [1, T, D] of the frames of a clip."""
        if frames == self.time_embed.shape[1]:
            return self.time_embed
        return interpolate(self.time_embed.transpose(1, 2), size=frames, mode="nearest").transpose(1, 2)


class DividedBlock(nn.Module):
    """facebookresearch/TimeSformer a5ef29a timesformer/models/vit.py:89 (divided_space_time)."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.norm1, self.norm2, self.temporal_norm1 = (nn.LayerNorm(parts.dim, eps=parts.eps) for _ in range(3))
        self.attn, self.temporal_attn = Attention(parts), Attention(parts)
        self.temporal_fc = nn.Linear(parts.dim, parts.dim)
        self.mlp = MLP(parts)

    def forward(self, front: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Class token [B, 1, D] and patches [B, T, N, D] to the same."""
        clips, frames, cells = patches.shape[:3]
        lines = patches.transpose(1, 2).flatten(0, 1)  # [B N, T, D]
        moved = self.temporal_fc(self.temporal_attn(self.temporal_norm1(lines), None, None, (1, frames)))
        patches = patches + moved.unflatten(0, (clips, cells)).transpose(1, 2)
        every = torch.cat([front[:, None].expand(-1, frames, -1, -1), patches], 2).flatten(0, 1)  # [B T, 1 + N, D]
        moved = self.attn(self.norm1(every), None, None, (1, cells)).unflatten(0, (clips, frames))
        front, patches = front + moved[:, :, 0].mean(1, keepdim=True), patches + moved[:, :, 1:]
        return front + self.mlp(self.norm2(front)), patches + self.mlp(self.norm2(patches))
