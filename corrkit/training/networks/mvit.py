"""MViTv2 under MaskFeat's masks: all tokens are processed, hidden ones as a mask token."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from corrkit.backbones.networks.mvit import new_mvit
from corrkit.backbones.networks.mvit_design import new_config, new_designs
from corrkit.training.networks.encoder import MaskedEncoder, Tokens
from corrkit.training.networks.masks import Mask
from corrkit.training.schema import EncoderSpec


class MaskedMViT(MaskedEncoder):
    """The network of `corrkit.backbones.networks.mvit`. Its patches of 4 pixels overlap, as published."""

    def __init__(self, spec: EncoderSpec, size: int, frames: int = 1) -> None:
        super().__init__(spec, size, frames)
        self.video, self.times = spec.tubelet > 1, spec.patch // 4
        grid = (self.grid[0], self.grid[1] * self.times, self.grid[2] * self.times)
        self.designs = new_designs(
            dim=spec.dim, heads=spec.heads, depth=spec.depth, widens=spec.widens, pooled=self.times.bit_length() - 1,
            grid=grid, video=self.video, in_attention=spec.widening == "attention",
        )  # fmt: skip
        self.network = new_mvit(self.designs, video=self.video, cls=spec.cls, norm=spec.final_norm)
        self.mask_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, spec.dim), std=0.02))

    def forward(self, pixels: Tensor, mask: Mask | None = None, taps: Sequence[int] = ()) -> Tokens:
        """Encodes views [B, 3, (T,) H, W], normalised, to all tokens without the class token; there are no taps."""
        x, grid = self.network.embed(pixels)
        if mask is not None:
            hidden = mask.hidden.unflatten(1, self.grid)
            hidden = hidden.repeat_interleave(self.times, 2).repeat_interleave(self.times, 3).flatten(1)
            x = torch.where(hidden[..., None], self.mask_token, x)
        features = self.network.encode(x, grid)
        return Tokens(z=features.flatten(1, 3), grid=self.grid, num_prefix=0, mask=mask)

    def settings(self) -> dict[str, str]:
        """The strides, under the name and in the words of published files."""
        return {"cfg": new_config(self.designs, video=self.video, cls=self.spec.cls)}
