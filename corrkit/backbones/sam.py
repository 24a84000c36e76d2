"""SAM's image encoder: timm's blocks with windows and decomposed relative positions, then the neck."""

import functools
from typing import TYPE_CHECKING, Any, Self, cast

from torch import Tensor, nn

from corrkit.backbones.building import Built, chosen_layer, fill
from corrkit.backbones.heads import choose_heads
from corrkit.backbones.positions import resample
from corrkit.checkpoints.recognition import Recognised

if TYPE_CHECKING:
    from timm.models.vision_transformer_sam import VisionTransformerSAM


def build(recognised: Recognised, *, heads: int | None = None, layer: int | str | None = None) -> Built:
    """The encoder of a recognised SAM file, filled.

    Args:
        recognised: the file's tensors under timm's names.
        heads: attention heads; None: as the relative positions tell.
        layer: block whose output is taken, before the neck; None: the neck's output.

    Raises:
        CheckpointError: incomplete or contradictory tensors, or a layer that doesn't exist.
    """
    import torch
    from timm.models.vision_transformer_sam import VisionTransformerSAM

    state = recognised.state
    dim, _, patch, _ = recognised.state["patch_embed.proj.weight"].shape
    depth = recognised.depth("blocks")
    side = recognised.state["pos_embed"].shape[1]
    names = {index: f"blocks.{index}.attn.rel_pos_h" for index in range(depth)}
    spans = {index: (len(state[name]) + 1) // 2 for index, name in names.items() if name in state}
    windows = {span for span in spans.values() if span != side}
    chosen, why = choose_heads(recognised, dim, depth, heads)
    with torch.device("meta"):
        encoder = VisionTransformerSAM(
            img_size=side * patch,
            patch_size=patch,
            embed_dim=dim,
            depth=depth,
            num_heads=chosen,
            mlp_ratio=recognised.state["blocks.0.mlp.fc1.weight"].shape[0] / dim,
            num_classes=0,
            window_size=min(windows, default=0),
            global_attn_indexes=tuple(index for index, span in spans.items() if span == side),
            use_rel_pos=True,
            neck_chans=recognised.state["neck.0.weight"].shape[0],
            norm_layer=cast(Any, functools.partial(nn.LayerNorm, eps=1e-6)),
        )
    fill(encoder, recognised)
    executed = chosen_layer(recognised, layer, depth)
    return Built(
        network=SAMEncoder(encoder, None if layer is None else executed),
        architecture=f"sam_vit_{dim}x{depth}_patch{patch}",
        stride=patch,
        multiple=patch,
        layer="neck" if layer is None else str(executed),
        position="absolute",
        evidence=(
            ("heads", f"{chosen}: {why}"),
            ("windows", f"{', '.join(map(str, sorted(windows))) or 'none'}, from the lengths of rel_pos_h"),
            (
                "layer",
                "the neck after the last block" if layer is None else f"block {executed} of {depth}, before the neck",
            ),
        ),
    )


class SAMEncoder(nn.Module):
    """Normalised frames [B, 3, H, W] to features [B, h, w, C].

    Args:
        encoder: timm's network.
        layer: block whose output is taken; None: the neck's.
    """

    position = "dino"  # SAM's own code takes no other size than the native one

    def __init__(self, encoder: "VisionTransformerSAM", layer: int | None) -> None:
        super().__init__()
        self.encoder, self.layer = encoder, layer

    def forward(self, frames: Tensor) -> Tensor:
        """[B, 3, H, W] to [B, h, w, C]."""
        encoder: Any = self.encoder
        x = encoder.patch_embed.proj(frames).movedim(1, -1)  # [B, h, w, D]
        x = x + resample(encoder.pos_embed[0], (x.shape[1], x.shape[2]), self.position)
        for block in encoder.blocks[: self.layer]:
            x = block(x)
        features: Tensor = x if self.layer is not None else encoder.neck(x.movedim(-1, 1)).movedim(1, -1)
        return features

    def with_position(self, rule: str) -> Self:
        """The same network, weights shared, under another resampling rule."""
        other = self.__class__(self.encoder, self.layer)
        other.position = rule
        return other
