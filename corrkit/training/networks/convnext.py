"""ConvNeXt V2 as FCMAE trains it: convolutions that hidden cells don't take part in, on dense maps."""

import itertools
from collections.abc import Sequence
from typing import Any, Literal

import torch
from timm.layers.grn import GlobalResponseNorm
from timm.models.convnext import ConvNeXt
from torch import Tensor
from torch.nn.functional import interpolate

from corrkit.training.networks.encoder import MaskedEncoder, Tokens
from corrkit.training.networks.masks import Mask, gather, ids_of
from corrkit.training.schema import EncoderSpec


class SparseConvNeXt(MaskedEncoder):
    """timm's ConvNeXt V2 without a final norm, every map multiplied by the mask.

    Hidden cells are zero before each depthwise convolution, as sites that a submanifold convolution doesn't have.
    facebookresearch/ConvNeXt-V2 2553895 models/convnextv2_sparse.py. The stem's and the halving convolutions don't
    overlap, so nothing of a hidden cell reaches a visible one.
    """

    stem: Any
    stages: Any

    def __init__(self, spec: EncoderSpec, size: int, frames: int = 1) -> None:
        super().__init__(spec, size, frames)
        edges = (0, *spec.widens, spec.depth)
        network = ConvNeXt(
            depths=tuple(last - first for first, last in itertools.pairwise(edges)),
            dims=tuple(spec.dim * 2**stage for stage in range(len(spec.widens) + 1)),
            use_grn=True,
            ls_init_value=None,
            num_classes=0,
            drop_path_rate=spec.drop_path,
        )
        self.stem, self.stages = network.stem, network.stages

    def forward(self, pixels: Tensor, mask: Mask | None = None, taps: Sequence[int] = ()) -> Tokens:
        """Encodes a batch of images [B, 3, H, W], normalised; there are no taps."""
        x = self.stem(pixels)
        for stage in self.stages:
            halved = stage.downsample(x)
            visible = self.visible(mask, halved)
            x = halved * visible
            for block in stage.blocks:
                x = sparse_block(block, x, visible, self.spec.grn)
        tokens = x.flatten(2).transpose(1, 2)
        if mask is not None:
            tokens = gather(tokens, ids_of(mask, tokens.shape[1], len(tokens), tokens.device))
        return Tokens(z=tokens, grid=self.grid, num_prefix=0, mask=mask, full=mask is None)

    def visible(self, mask: Mask | None, maps: Tensor) -> Tensor:
        """[B, 1, h, w] for maps [B, C, h, w]: 1 where a cell is visible; [1, 1, 1, 1] unmasked."""
        if mask is None:
            return torch.ones_like(maps[:1, :1, :1, :1])
        cells = (~mask.hidden).reshape(-1, 1, *self.grid[1:])
        return interpolate(cells.to(maps.dtype), maps.shape[2:])


def sparse_block(block: Any, x: Tensor, visible: Tensor, over: Literal["image", "batch"]) -> Tensor:
    """A ConvNeXtBlock of timm on the visible cells of x [B, C, h, w], which is zero elsewhere and stays so."""
    change = block.norm(block.conv_dw(x).permute(0, 2, 3, 1))
    responses = block.mlp.act(block.mlp.fc1(change)) * visible.permute(0, 2, 3, 1)
    change = block.mlp.fc2(normalise_responses(block.mlp.grn, responses, over))
    changed: Tensor = (x + block.drop_path(change.permute(0, 3, 1, 2))) * visible
    return changed


def normalise_responses(norm: GlobalResponseNorm, x: Tensor, over: Literal["image", "batch"]) -> Tensor:
    """Global response normalisation of x [B, h, w, C], zero where hidden: norms over the cells of an image or a batch.

    The published sparse code takes the batch, so its statistics depend on the batch size
    (facebookresearch/ConvNeXt-V2 2553895 models/utils.py:16-33), and its dense code the image.
    """
    rows = x.flatten(0, 1)[None] if over == "batch" else x  # [1, B · h, w, C]
    found: Tensor = norm(rows)
    return found.reshape(x.shape)
