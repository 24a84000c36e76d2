"""RVM: a ViT encodes each frame, a gated recurrent core carries a state from frame to frame."""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from corrkit.backbones.building import Built, chosen_layer, fill
from corrkit.backbones.contract import Mode
from corrkit.backbones.heads import assumption, choose_heads
from corrkit.backbones.networks.positions import resample, sinusoid
from corrkit.backbones.networks.vit import MLP, Attention, Block, Parts, PatchEmbedding
from corrkit.checkpoints.recognised import Recognised

_SIDE = 16  # the table of positions is made for 16 x 16 cells and resized by jax.image.resize, bicubic with antialias


def build(recognised: Recognised, *, heads: int | None = None, layer: int | str | None = None) -> Built:
    """The network of a recognised RVM file, filled.

    Args:
        recognised: the file's tensors under canonical names.
        heads: attention heads; None: as the file tells.
        layer: block of the encoder whose output, after its norm, is taken instead of the recurrent state.

    Raises:
        CheckpointError: incomplete or contradictory tensors, or a layer that doesn't exist.
    """
    dim, _, patch, _ = recognised.tensor("patch_embed.proj.weight", 4).shape
    depth = recognised.depth("blocks")
    chosen, why = choose_heads(recognised, dim, depth, heads)
    parts = Parts(
        dim=dim,
        depth=depth,
        heads=chosen,
        patch=(patch, patch),
        hidden=recognised.state["blocks.0.mlp.fc1.weight"].shape[0],
        activation="gelu-tanh",
    )
    executed = None if layer is None or layer == "last" else chosen_layer(recognised, layer, depth)
    with torch.device("meta"):
        network = RVM(parts, recognised.depth("core"), executed)
    fill(network, recognised)
    return Built(
        network=network,
        architecture=f"rvm_{dim}x{depth}_patch{patch}",
        stride=patch,
        multiple=patch,
        layer="state" if executed is None else str(executed),
        position="own",
        mode=Mode(kind="recurrent" if executed is None else "framewise"),
        evidence=(
            ("heads", f"{chosen}: {why}"),
            ("layer", "the recurrent state" if executed is None else f"block {executed} of {depth} of the encoder"),
        ),
        notes=assumption(chosen, why),
    )


class RVM(nn.Module):
    """Normalised frames to features; `step` carries the state, `forward` takes each frame as the first of a clip.

    google-deepmind/representations4d 75aca30, in float32; its own runs keep norms in bfloat16.

    Args:
        parts: of the encoder's blocks.
        core: number of blocks of the recurrent core.
        layer: block of the encoder to stop after; None: the recurrent state is the output.
    """

    def __init__(self, parts: Parts, core: int, layer: int | None) -> None:
        super().__init__()
        self.parts, self.layer, self.position = parts, layer, "antialias"
        self.cls_token = nn.Parameter(torch.empty(1, 1, parts.dim))
        self.patch_embed = PatchEmbedding(parts)
        self.blocks = nn.ModuleList(Block(parts) for _ in range(parts.depth))
        self.norm = nn.LayerNorm(parts.dim, eps=parts.eps)
        self.core = nn.ModuleList(CrossBlock(parts) for _ in range(core))
        self.core_norm = nn.LayerNorm(parts.dim, eps=parts.eps)
        self.state_norm = nn.LayerNorm(parts.dim, eps=1e-4, bias=False)
        self.input_update, self.input_reset, self.state_update, self.state_reset = (
            nn.Linear(parts.dim, parts.dim, bias=False) for _ in range(4)
        )

    def forward(self, frames: Tensor) -> Tensor:
        """[B, 3, H, W] to [B, h, w, C]."""
        return self.step(frames, None)[0]

    def step(self, frames: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The next frames [B, 3, H, W] of B clips and states [B, 1 + N, C] to features [B, h, w, C] and states."""
        patches = self.patch_embed(frames)
        grid = (patches.shape[2], patches.shape[3])
        x = patches.flatten(2).transpose(1, 2) + self._positions(grid).to(patches.device)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1)
        for block in self.blocks[: self.layer]:
            x = block(x, None, None, grid)
        x = self.norm(x)
        if self.layer is None:
            x = state = self._gated(x, torch.zeros_like(x) if state is None else state)
        return x[:, 1:].reshape(len(x), *grid, -1), state

    def _gated(self, x: Tensor, state: Tensor) -> Tensor:
        """The state after the tokens [B, 1 + N, C] of a frame."""
        update = torch.sigmoid(self.input_update(x) + self.state_update(state))
        reset = torch.sigmoid(self.input_reset(x) + self.state_reset(state))
        memory, candidate = reset * self.state_norm(state), x
        for block in self.core:
            candidate = block(candidate, memory)
        after: Tensor = (1 - update) * state + update * self.core_norm(candidate)
        return after

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        """Positions [N, C] of a grid of cells."""
        table = sinusoid(_SIDE * _SIDE, self.parts.dim).reshape(_SIDE, _SIDE, -1)
        return resample(table, grid, self.position).flatten(0, 1)


class CrossBlock(nn.Module):
    """Attention to the memory, then MLP, then self-attention, each before a residual sum."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.cross_norm = nn.LayerNorm(parts.dim, eps=parts.eps)
        self.cross = CrossAttention(parts)
        self.norm2 = nn.LayerNorm(parts.dim, eps=parts.eps)
        self.mlp = MLP(parts)
        self.norm1 = nn.LayerNorm(parts.dim, eps=parts.eps)
        self.attn = Attention(parts)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """Tokens [B, N, C] and memory [B, M, C] to tokens."""
        crossed: Tensor = x + self.cross(self.cross_norm(x), memory)
        moved: Tensor = crossed + self.mlp(self.norm2(crossed))
        attended: Tensor = moved + self.attn(self.norm1(moved), None, None, (0, 0))
        return attended


class CrossAttention(nn.Module):
    """Multi-head attention of tokens to a memory."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.heads = parts.heads
        self.q, self.k, self.v, self.proj = (nn.Linear(parts.dim, parts.dim) for _ in range(4))

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """Queries [B, N, C] and memory [B, M, C] to [B, N, C]."""
        q, k, v = (self._split(part) for part in (self.q(x), self.k(memory), self.v(memory)))
        projected: Tensor = self.proj(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return projected

    def _split(self, x: Tensor) -> Tensor:
        """[B, N, C] to [B, heads, N, hd]."""
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)
