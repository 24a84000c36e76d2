"""SAM's image encoder: timm's blocks with windows and decomposed relative positions, then the neck."""

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn

from corrkit.backbones.building import Built, chosen_layer, fill
from corrkit.backbones.heads import choose_heads
from corrkit.backbones.networks.base import Network
from corrkit.backbones.networks.positions import resample
from corrkit.checkpoints.configuration import require_obeyed
from corrkit.checkpoints.recognised import Recognised
from corrkit.checkpoints.rules import ViTRules

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

    rules: ViTRules = recognised.system.rules
    state = recognised.state
    dim, _, patch, _ = recognised.tensor("patch_embed.proj.weight", 4).shape
    depth = recognised.depth("blocks")
    side = recognised.state["pos_embed"].shape[1]
    names = {index: f"blocks.{index}.attn.rel_pos_h" for index in range(depth)}
    spans = {index: (len(state[name]) + 1) // 2 for index, name in names.items() if name in state}
    windows = {span for span in spans.values() if span != side}
    chosen, why = choose_heads(recognised, dim, depth, heads)
    sizes = {"hidden_size": dim, "num_hidden_layers": depth, "patch_size": patch, "image_size": side * patch}
    require_obeyed(recognised, {"hidden_act": "gelu", "layer_norm_eps": 1e-6, **sizes})
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
        network=SAMEncoder(encoder, None if layer is None else executed, rules.position),
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


class SAMEncoder(Network):
    """Normalised frames [B, 3, H, W] to features [B, h, w, C].

    Args:
        encoder: timm's network.
        layer: block whose output is taken; None: the neck's.
        position: rule by which the stored table is resampled; SAM's own code takes no other size than the native one.
    """

    def __init__(self, encoder: "VisionTransformerSAM", layer: int | None, position: str | None) -> None:
        super().__init__()
        self.position = position
        self.encoder, self.num_layers = encoder, len(encoder.blocks)
        self.layer, self.ends_in_neck = layer or self.num_layers, layer is None

    def outputs(self, pixels: Tensor, upto: int) -> Iterator[Tensor]:
        """Output [B, h, w, C] of each block, before the neck."""
        encoder: Any = self.encoder
        x = encoder.patch_embed.proj(pixels).movedim(1, -1)  # [B, h, w, D]
        assert self.position is not None, "a table has a rule"
        x = x + resample(encoder.pos_embed[0], (x.shape[1], x.shape[2]), self.position)
        for block in encoder.blocks[:upto]:
            x = block(x)
            yield x

    def published(self, features: Tensor) -> Tensor:
        """After the neck, unless a block was chosen."""
        encoder: Any = self.encoder
        return encoder.neck(features.movedim(-1, 1)).movedim(1, -1) if self.ends_in_neck else features
