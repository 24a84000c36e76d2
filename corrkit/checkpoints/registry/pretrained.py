"""Checkpoints of `corrkit pretrain`."""

from corrkit.checkpoints.registry.layouts import TIMM
from corrkit.checkpoints.rules import ViTRules
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
)
