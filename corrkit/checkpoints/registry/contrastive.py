"""Systems that compare views: contrastive learning and self-distillation."""

from corrkit.checkpoints.registry.layouts import TIMM
from corrkit.checkpoints.system import System, ViTRules

ENTRIES = (
    System(
        name="ibot",
        title="iBOT",
        layouts=(TIMM,),
        beside=(r"(.*\.)?(masked_embed|last_layer2\..*|ibot_loss\..*)",),
        prefers=(("teacher", "student"),),
        rules=ViTRules(),
        source="bytedance/ibot da316d8",
        proven="golden",
    ),
    System(
        name="dino",
        title="DINO",
        layouts=(TIMM,),
        beside=(r"(.*\.)?teacher\.(.*\.)?patch_embed\.proj\.weight",),
        prefers=(("teacher", "student"),),
        rules=ViTRules(),
        source="facebookresearch/dino 7c446df",
        proven="golden",
    ),
)
