"""Systems that predict masked parts of images or videos."""

from corrkit.checkpoints.registry.layouts import TIMM
from corrkit.checkpoints.system import System, ViTRules

_HEADS = {(1280, 32): 16}

ENTRIES = (
    System(
        name="cropmae",
        title="CropMAE, and SiamMAE as trained with its repository",
        layouts=(TIMM,),
        signs=(r"decoder_blocks\.0\.self_attn\.in_proj_weight", r"decoder_blocks\.0\.multihead_attn\.in_proj_weight"),
        without=(r"decoder_frame_info",),
        rules=ViTRules(heads=_HEADS),
        source="alexandre-eymael/CropMAE 5d0dab2",
        proven="golden",
    ),
    System(
        name="catmae",
        title="CatMAE",
        layouts=(TIMM,),
        signs=(r"decoder_frame_info",),
        rules=ViTRules(heads=_HEADS),
        source="minhoooo1/CatMAE 0fb1f60",
        proven="golden",
    ),
    System(
        name="rsp",
        title="RSP",
        layouts=(TIMM,),
        signs=(r"to_posterior\..*", r"to_prior\..*"),
        drop={r"to_(posterior|prior)\..*": "heads of the stochastic latent of pre-training"},
        rules=ViTRules(heads=_HEADS),
        source="huiwon-jang/RSP 5ea2b91",
        proven="golden",
    ),
    System(
        name="mae",
        title="MAE",
        layouts=(TIMM,),
        signs=(r"decoder_embed\.weight", r"mask_token", r"decoder_blocks\.0\.attn\.qkv\.weight"),
        rules=ViTRules(heads=_HEADS),
        source="facebookresearch/mae efb2a80",
        proven="golden",
    ),
)
