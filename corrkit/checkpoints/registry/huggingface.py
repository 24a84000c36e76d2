"""Systems in the names of Hugging Face transformers."""

from corrkit.checkpoints.registry.huggingface_layouts import (
    HF,
    HF_BEIT_MIM,
    HF_DINOV3,
    HF_DINOV3_GATED,
    HF_MEMORY,
    HF_NAFLEX,
    HF_TOWER,
)
from corrkit.checkpoints.rules import ViTRules
from corrkit.checkpoints.system import CLIP, HALF, System

_SOURCE = "huggingface/transformers 5.23.0"
_LS = r"(encoder\.layer|layers)\.\d+\.layer_scale1\.lambda1"
_TABLE = r"(.*\.)?relative_position_bias_table"
_HEADS = {(1280, 32): 16, (1408, 40): 16}
_BLIND_NORM = {r"post_layernorm\..*": "norm of the class token alone"}

ENTRIES = (
    System(
        name="hf_dinov2_reg",
        title="DINOv2 with registers (Hugging Face)",
        layouts=(HF, HF_MEMORY),
        signs=(_LS, r"embeddings\.register_tokens"),
        rules=ViTRules(position="antialias"),
        source=_SOURCE,
        proven="golden",
    ),
    System(
        name="hf_dinov2",
        title="DINOv2, Web-DINO (Hugging Face)",
        layouts=(HF, HF_MEMORY),
        signs=(_LS,),
        rules=ViTRules(position="size"),
        source=_SOURCE,
        proven="golden",
    ),
    System(
        name="hf_dinov3",
        title="DINOv3 (Hugging Face)",
        layouts=(HF_DINOV3_GATED, HF_DINOV3),
        rules=ViTRules(heads={(1280, 32): 20, (4096, 40): 32}, eps=1e-5, position=None, rotary="dinov3"),
        requires=("cls_token", "reg_token"),
        source=_SOURCE,
        proven="golden",
    ),
    System(
        name="hf_beit_mim",
        title="BEiT with its masked-modelling head (Hugging Face)",
        layouts=(HF_BEIT_MIM,),
        signs=(_TABLE,),
        rules=ViTRules(eps=1e-12, position=None, relative=True),
        mean=HALF[0],
        std=HALF[1],
        source=_SOURCE,
        proven="golden",
    ),
    System(
        name="hf_beit",
        title="BEiT, data2vec-vision (Hugging Face)",
        layouts=(HF, HF_MEMORY),
        signs=(_TABLE,),
        rules=ViTRules(eps=1e-12, final_norm="optional", position=None, relative=True),
        mean=HALF[0],
        std=HALF[1],
        source=_SOURCE,
        proven="golden",
    ),
    System(
        name="hf_vit",
        title="ViT, ViT-MAE, I-JEPA, DeiT, ViT-MSN (Hugging Face)",
        layouts=(HF, HF_MEMORY),
        rules=ViTRules(heads=_HEADS, cls=None, eps=1e-12, position="size"),
        source=_SOURCE,
        proven="golden",
    ),
    System(
        name="hf_siglip2_naflex",
        title="SigLIP 2 NaFlex (Hugging Face)",
        layouts=(HF_NAFLEX,),
        rules=ViTRules(heads={(1152, 27): 16}, cls=False, activation="gelu-tanh", position="bilinear-antialias"),
        mean=HALF[0],
        std=HALF[1],
        source=_SOURCE,
        proven="golden",
    ),
    System(
        name="hf_clip",
        title="CLIP (Hugging Face)",
        layouts=(HF_TOWER,),
        signs=(r"pre_layrnorm\..*",),
        drop=_BLIND_NORM,
        rules=ViTRules(
            eps=1e-5, final_norm="none", activation="quick-gelu", position="size", absent=frozenset({"patch"})
        ),
        requires=("cls_token", "norm_pre.weight", "norm_pre.bias"),
        mean=CLIP[0],
        std=CLIP[1],
        source=_SOURCE,
        proven="golden",
    ),
    System(
        name="hf_siglip",
        title="SigLIP, SigLIP 2 of fixed resolution (Hugging Face)",
        layouts=(HF_TOWER,),
        rules=ViTRules(heads={(1152, 27): 16}, cls=False, activation="gelu-tanh", position="size"),
        mean=HALF[0],
        std=HALF[1],
        source=_SOURCE,
        proven="golden",
    ),
)
