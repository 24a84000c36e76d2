"""Checkpoints of `corrkit pretrain`."""

from corrkit.checkpoints.registry.layouts import TIMM
from corrkit.checkpoints.registry.video import TUBELET
from corrkit.checkpoints.rules import TubeletRules, ViTRules
from corrkit.checkpoints.system import System

ENTRIES = (
    System(
        name="corrkit",
        title="ViT trained with corrkit pretrain",
        layouts=(TIMM,),
        beside=(r"corrkit_pretrain",),
        without=(r"rel_pos_bias\..*",),  # BEiT's own entry reads those
        drop={r"(mask_colour|view_vectors)": "mask colour or view vectors of pre-training"},
        rules=ViTRules(final_norm="optional", cls=None),
        source="corrkit/training/checkpoint.py",
        proven="source",
    ),
    System(
        name="corrkit_clips",
        title="Tubelet ViT trained with corrkit pretrain",
        layouts=(TUBELET,),
        signs=(r"pos_embed",),
        beside=(r"corrkit_pretrain",),
        build="corrkit.backbones.tubelets:build",
        rules=TubeletRules(position="stored"),
        source="corrkit/training/checkpoint.py",
        proven="source",
    ),
    System(
        name="corrkit_clips_separable",
        title="Tubelet ViT trained with corrkit pretrain (space and time apart)",
        layouts=(TUBELET,),
        signs=(r"pos_embed_spatial",),
        beside=(r"corrkit_pretrain",),
        build="corrkit.backbones.tubelets:build",
        rules=TubeletRules(position="separable"),
        source="corrkit/training/checkpoint.py",
        proven="source",
    ),
)
