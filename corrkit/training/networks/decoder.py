"""Decoders: blocks of cross-attention, self-attention and MLP in a written order, and a linear head."""

from collections.abc import Sequence
from functools import partial

import torch
from timm.layers.attention import Attention
from timm.layers.mlp import Mlp
from timm.models.beit import Attention as QVAttention
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from corrkit.training.networks.encoder import Tokens, initialise
from corrkit.training.networks.masks import Grid, Mask, gather, ids_of
from corrkit.training.networks.positions import Positions
from corrkit.training.schema import DecoderSpec


class Decoder(nn.Module):
    """From encoded tokens to a prediction [B, L, channels] for every token of the query view.

    Args:
        spec: the recipe's.
        width: channels of the encoder.
        grid: tokens of a view.
        channels: of the prediction.
        memory_width: channels of a memory that isn't embedded, 0 for the decoder's own.
        fills: whether hidden tokens are dropped by the encoder and come back here as mask tokens.
    """

    def __init__(
        self, spec: DecoderSpec, width: int, grid: Grid, channels: int, *, memory_width: int = 0, fills: bool = True
    ) -> None:
        super().__init__()
        self.spec = spec
        self.num_prefix = int(spec.cls != "none" and spec.blocks != "")
        dim = spec.dim if spec.blocks else width
        if spec.blocks:
            self.embed: nn.Module = nn.Linear(width, dim, bias=spec.embed_bias)
            self.positions = Positions(spec.position, grid, dim, self.num_prefix)
            self.norm: nn.Module = nn.LayerNorm(dim, eps=1e-6) if spec.final_norm else nn.Identity()
        else:
            self.embed, self.norm = nn.Identity(), nn.Identity()
            self.positions = Positions("none", grid, dim, 0)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim)) if fills else None
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim)) if spec.cls == "own" else None
        self.frame_vectors = nn.Parameter(torch.zeros(spec.frame_vectors, 1, 1, dim)) if spec.frame_vectors else None
        self.blocks = nn.ModuleList(
            ConvBlock(dim, grid) if spec.blocks == "v" else DecoderBlock(spec, memory_width or dim)
            for _ in range(spec.depth if spec.blocks else 0)
        )
        self.head = nn.Linear(dim, channels)
        initialise(self)

    def forward(self, query: Tokens, memory: Sequence[Tokens] = (), cls: Tensor | None = None) -> Tensor:
        """Predicts all tokens of the query view.

        Args:
            query: the view's visible (or all) tokens.
            memory: other views, read by cross-attention; without any the block's cross-attention is left out.
            cls: class token [B, 1, D] of the encoder that takes the place of the query's own.
        """
        queries, read = self.queries(query, cls), self.memory(memory) if memory else None
        if read is not None and self.spec.concatenates:
            return self.decode(torch.cat([queries, read], 1), None)[:, : query.count]
        return self.decode(queries, read)

    def queries(self, query: Tokens, cls: Tensor | None = None) -> Tensor:
        """The full sequence [B, P + L, Dd]: embedded visible tokens, mask tokens, positions."""
        embedded = self.embed(query.z)
        prefix, patches = embedded[:, : query.num_prefix], embedded[:, query.num_prefix :]
        if query.mask is not None and not query.full:
            assert self.mask_token is not None
            assert query.mask.restore is not None
            hidden = self.mask_token.expand(len(patches), query.count - patches.shape[1], -1)
            patches = gather(torch.cat([patches, hidden], 1), query.mask.restore)
        if self.cls_token is not None:
            prefix = self.cls_token.expand(len(patches), -1, -1)
        prefix = prefix if cls is None else self.embed(cls)
        if self.spec.visible_position or query.mask is None:
            return self.placed(prefix, patches, query.grid)
        placed = self.placed(prefix, patches, query.grid)
        return torch.where(self._is_hidden(query.mask), placed, torch.cat([prefix, patches], 1))

    def placed(self, prefix: Tensor, patches: Tensor, grid: Grid | None = None) -> Tensor:
        """Prefix [B, P, Dd] and all patches [B, L, Dd] of a grid with positions, as one sequence."""
        first, rest = self.positions.rows(grid)
        patches = patches + rest
        return torch.cat([prefix + first, patches], 1) if self.num_prefix else patches

    def _is_hidden(self, mask: Mask) -> Tensor:
        """[B, P + L, 1]; the class token is visible."""
        visible = torch.zeros(len(mask.hidden), self.num_prefix, dtype=torch.bool, device=mask.hidden.device)
        return torch.cat([visible, mask.hidden], 1)[..., None]

    def memory(self, views: Sequence[Tokens]) -> Tensor:
        """Embedded tokens of the memory views in one sequence [B, M, Dd], class tokens included."""
        parts = []
        for index, tokens in enumerate(views):
            x = self.embed(tokens.z)
            if self.spec.memory_position:
                x = x + self._rows_of(tokens)
            if self.frame_vectors is not None:
                x = x + self.frame_vectors[index]
            parts.append(x)
        return torch.cat(parts, 1)

    def decode(self, x: Tensor, memory: Tensor | None) -> Tensor:
        """Blocks, norm and head; the prefix is dropped."""
        prediction: Tensor = self.head(self.run(x, memory))
        return prediction[:, self.num_prefix :]

    def run(self, x: Tensor, memory: Tensor | None) -> Tensor:
        """Blocks and norm, [B, P + L, Dd]."""
        for block in self.blocks:
            x = block(x, memory)
        normed: Tensor = self.norm(x)
        return normed

    def _rows_of(self, tokens: Tokens) -> Tensor:
        """Positions [B or 1, P + K, Dd] of the tokens that are there."""
        first, rest = self.positions.rows(tokens.grid)
        assert isinstance(rest, Tensor)
        ids = ids_of(None if tokens.full else tokens.mask, tokens.count, len(tokens.z), tokens.z.device)
        rows = gather(rest.expand(len(ids), -1, -1), ids)
        if not tokens.num_prefix:
            return rows
        assert isinstance(first, Tensor)
        return torch.cat([first.expand(len(rows), -1, -1), rows], 1)


class DecoderBlock(nn.Module):
    """Sublayers in the order of spec.blocks, each residual, normalised before or after."""

    def __init__(self, spec: DecoderSpec, memory_width: int) -> None:
        super().__init__()
        self.order, self.pre = spec.blocks, spec.norm == "pre"
        attention = QVAttention if spec.bias == "qv" else Attention
        activation = {"gelu": nn.GELU, "relu": nn.ReLU}[spec.activation]
        make = {
            "c": partial(CrossAttention, spec.dim, memory_width, spec),
            "s": partial(attention, spec.dim, spec.heads, qkv_bias=True, attn_drop=spec.dropout),
            "m": partial(Mlp, spec.dim, spec.hidden or 4 * spec.dim, act_layer=activation, drop=(spec.dropout, 0.0)),
        }
        self.layers = nn.ModuleDict({letter: make[letter]() for letter in spec.blocks})
        self.norms = nn.ModuleDict({letter: nn.LayerNorm(spec.dim, eps=spec.eps) for letter in spec.blocks})
        has_memory_norm = "c" in spec.blocks and self.pre
        self.memory_norm = nn.LayerNorm(memory_width, eps=spec.eps) if has_memory_norm else nn.Identity()
        self.dropout = nn.Dropout(spec.dropout)

    def forward(self, x: Tensor, memory: Tensor | None) -> Tensor:
        """[B, N, D] with memory [B, M, D]; without memory there is no cross-attention."""
        for letter in self.order:
            if letter == "c" and memory is None:
                continue
            layer, norm = self.layers[letter], self.norms[letter]
            extra = (self.memory_norm(memory),) if letter == "c" else ()
            change = self.dropout(layer(norm(x) if self.pre else x, *extra))
            x = x + change if self.pre else norm(x + change)
        return x


class ConvBlock(nn.Module):
    """A dense ConvNeXt V2 block on the grid of an image's tokens."""

    def __init__(self, dim: int, grid: Grid) -> None:
        super().__init__()
        self.sides = grid[1:]
        self.block = ConvNeXtBlock(dim, use_grn=True, ls_init_value=None)

    def forward(self, x: Tensor, memory: None = None) -> Tensor:
        """[B, h · w, D]; there is no memory."""
        maps: Tensor = self.block(x.transpose(1, 2).unflatten(2, self.sides))
        return maps.flatten(2).transpose(1, 2)


class CrossAttention(nn.Module):
    """Queries [B, N, dim] read a memory [B, M, width]."""

    def __init__(self, dim: int, width: int, spec: DecoderSpec) -> None:
        super().__init__()
        self.heads, self.dropout, biased = spec.heads, spec.dropout, spec.bias == "qkv"
        self.q, self.kv = nn.Linear(dim, dim), nn.Linear(width, 2 * dim, bias=biased)
        self.v_bias = None if biased else nn.Parameter(torch.zeros(dim))  # keys have none
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """[B, N, D]."""
        batch, count, dim = x.shape
        query = self.q(x).reshape(batch, count, self.heads, -1).transpose(1, 2)
        pairs = self.kv(memory).reshape(batch, memory.shape[1], 2, self.heads, -1)
        key, value = pairs.permute(2, 0, 3, 1, 4)  # each [B, heads, M, D / heads]
        if self.v_bias is not None:
            value = value + self.v_bias.reshape(self.heads, 1, -1)
        read = scaled_dot_product_attention(query, key, value, dropout_p=self.dropout if self.training else 0.0)
        out: Tensor = self.proj(read.transpose(1, 2).reshape(batch, count, dim))
        return out
