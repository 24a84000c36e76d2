"""Fallbacks: networks whose names tell the architecture, but not who trained them."""

from corrkit.checkpoints.registry.layouts import TIMM
from corrkit.checkpoints.system import System, ViTRules

ENTRIES = (
    System(
        name="vit",
        title="ViT in timm's names (DINO, MAE, supervised, ...)",
        layouts=(TIMM,),
        rules=ViTRules(heads={(1280, 32): 16, (1408, 40): 16}),
        source="facebookresearch/mae efb2a80 models_vit.py",
        proven="golden",
        notes=(
            "The names don't tell which system trained this ViT; position rule, mean and std are DINO's and MAE's.",
        ),
    ),
)
