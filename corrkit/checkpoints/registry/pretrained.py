"""Checkpoints of `corrkit pretrain`."""

from corrkit.checkpoints.registry.layouts import TIMM
from corrkit.checkpoints.registry.video import MVIT, TUBELET
from corrkit.checkpoints.rules import MViTRules, TubeletRules, ViTRules
from corrkit.checkpoints.system import Layout, System

_MARKER = (r"corrkit_pretrain",)
_SOURCE = "corrkit/training/checkpoint.py"

TIMM_CONVNEXT = Layout(
    name="timm ConvNeXt V2",
    anchors={r"stem\.0\.weight": 4, r"stages\.0\.blocks\.0\.mlp\.grn\.weight": 1},
)

ENTRIES = (
    System(
        name="corrkit_convnextv2",
        title="ConvNeXt V2 trained with corrkit pretrain",
        layouts=(TIMM_CONVNEXT,),
        beside=_MARKER,
        build="corrkit.backbones.networks.hierarchical:build_convnext",
        source=_SOURCE,
        proven="source",
    ),
    System(
        name="corrkit_mvit",
        title="MViTv2 trained with corrkit pretrain",
        layouts=(MVIT,),
        beside=_MARKER,
        build="corrkit.backbones.networks.mvit:build",
        rules=MViTRules(),
        source=_SOURCE,
        proven="source",
    ),
    System(
        name="corrkit",
        title="ViT trained with corrkit pretrain",
        layouts=(TIMM,),
        beside=_MARKER,
        without=(r"rel_pos_bias\..*",),  # BEiT's own entry reads those
        drop={r"(mask_colour|view_vectors)": "mask colour or view vectors of pre-training"},
        rules=ViTRules(final_norm="optional", cls=None),
        source=_SOURCE,
        proven="source",
    ),
    System(
        name="corrkit_clips",
        title="Tubelet ViT trained with corrkit pretrain",
        layouts=(TUBELET,),
        signs=(r"pos_embed",),
        beside=_MARKER,
        build="corrkit.backbones.networks.tubelets:build",
        rules=TubeletRules(position="stored"),
        source=_SOURCE,
        proven="source",
    ),
    System(
        name="corrkit_clips_separable",
        title="Tubelet ViT trained with corrkit pretrain (space and time apart)",
        layouts=(TUBELET,),
        signs=(r"pos_embed_spatial",),
        beside=_MARKER,
        build="corrkit.backbones.networks.tubelets:build",
        rules=TubeletRules(position="separable"),
        source=_SOURCE,
        proven="source",
    ),
)
