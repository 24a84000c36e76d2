"""Systems in the names of Hugging Face transformers."""

from dataclasses import replace

from corrkit.checkpoints.registry import marks
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

_SOURCE = "huggingface/transformers 5.24.0"
_LS = r"(encoder\.layer|layers)\.\d+\.layer_scale1\.lambda1"
_TABLE = r"(.*\.)?relative_position_bias_table"
_BLIND_NORM = {r"post_layernorm\..*": "norm of the class token alone"}
_CLIP_TYPES = tuple(  # models/*/modeling_*.py: the others are made from CLIP's vision tower
    f"{name}{part}"
    for name in ("clip", "metaclip_2", "chinese_clip", "altclip", "clipseg")
    for part in ("", "_vision_model")
)
_CLIP_PARTS = ("cls_token", "norm_pre.weight", "norm_pre.bias")
_CLIP = ViTRules(eps=1e-5, final_norm="none", activation="quick-gelu", position="size", absent=frozenset({"patch"}))
_PRE_NORM = r"pre_layrnorm\..*"  # sic
_OTHER_TOWERS = (_PRE_NORM, r"embeddings\.class_embedding")

ENTRIES = (
    System(
        name="hf_rf_detr",
        model_types=("rf_detr", "rf_detr_dinov2"),
        title="RF-DETR, its DINOv2 that attends within windows",
        layouts=(HF, HF_MEMORY),
        signs=(_LS,),
        beside=(r"(.*\.)?(refpoint_embed|reference_point_embed)\.weight",),
        refuse=(
            "most of its blocks attend within windows, which only its own code lays out.",
            "Build it with its own code: py:FILE.py:FUNCTION.",
        ),
        source=f"{_SOURCE} models/rf_detr/modeling_rf_detr.py",
        proven="unknown",
    ),
    System(
        name="hf_dinov2_reg",
        model_types=("dinov2_with_registers",),
        title="DINOv2 with registers (Hugging Face)",
        layouts=(HF, HF_MEMORY),
        signs=(_LS, r"embeddings\.register_tokens"),
        rules=ViTRules(heads="dinov2", position="antialias"),
        source=_SOURCE,
        proven="golden",
    ),
    System(
        name="hf_dinov2",
        model_types=("dinov2",),
        title="DINOv2, Web-DINO (Hugging Face)",
        layouts=(HF, HF_MEMORY),
        signs=(_LS,),
        rules=ViTRules(heads="dinov2", position="size"),
        source=_SOURCE,
        proven="golden",
        assumptions=(
            "Without a config.json taken as DINOv2, whose blocks attend everywhere; most of those of RF-DETR's encoder "
            "alone, which has the same names, attend within windows.",
        ),
    ),
    System(
        name="hf_dinov3",
        model_types=("dinov3_vit",),
        title="DINOv3 (Hugging Face)",
        layouts=(HF_DINOV3_GATED, HF_DINOV3),
        rules=ViTRules(heads="dinov3", eps=1e-5, position=None, rotary="dinov3", gate="config"),
        requires=("cls_token", "reg_token"),
        source=_SOURCE,
        proven="golden",
    ),
    System(
        name="hf_beit_mim",
        model_types=("beit", "data2vec-vision"),
        title="BEiT with its masked-modelling head (Hugging Face)",
        layouts=(HF_BEIT_MIM,),
        signs=(_TABLE,),
        rules=ViTRules(eps=1e-12, position=None, relative=True, relative_rule="bilinear"),
        mean=HALF[0],
        std=HALF[1],
        source=_SOURCE,
        proven="golden",
    ),
    System(
        name="hf_beit",
        model_types=("beit", "data2vec-vision"),
        title="BEiT, data2vec-vision (Hugging Face)",
        layouts=(HF, HF_MEMORY),
        signs=(_TABLE,),
        rules=ViTRules(eps=1e-12, final_norm="optional", position=None, relative=True, relative_rule="bilinear"),
        mean=HALF[0],
        std=HALF[1],
        source=_SOURCE,
        proven="golden",
    ),
    System(
        name="hf_dpt",
        model_types=("dpt",),
        title="DPT (Hugging Face), its image encoder",
        layouts=(HF, HF_MEMORY),
        told=marks.either(marks.beside(r"(.*\.)?neck\.(reassemble_stage|fusion_stage)\..*"), marks.of_type("dpt")),
        rules=ViTRules(eps=1e-12, position="bilinear"),
        mean=HALF[0],
        std=HALF[1],
        source=f"{_SOURCE} models/dpt/modeling_dpt.py",
        proven="golden",
    ),
    System(
        name="hf_vit",
        model_types=("vit", "vit_mae", "ijepa", "deit", "vit_msn"),
        title="ViT, ViT-MAE, I-JEPA, DeiT, ViT-MSN (Hugging Face)",
        layouts=(HF, HF_MEMORY),
        rules=ViTRules(cls=None, eps=1e-12, position="size"),
        source=_SOURCE,
        proven="golden",
        assumptions=(
            "Without a config.json taken as a ViT, whose positions are resampled bicubically; those of a DPT's encoder "
            "alone, which has the same names, are resampled bilinearly.",
        ),
    ),
    System(
        name="hf_siglip2_naflex",
        model_types=("siglip2", "siglip2_vision_model"),
        title="SigLIP 2 NaFlex (Hugging Face)",
        layouts=(HF_NAFLEX,),
        rules=ViTRules(heads="siglip", cls=False, activation="gelu-tanh", position="bilinear-antialias"),
        mean=HALF[0],
        std=HALF[1],
        source=_SOURCE,
        proven="golden",
    ),
    System(
        name="hf_mlcd",
        title="MLCD (Hugging Face)",
        layouts=(HF_TOWER,),
        model_types=("mlcd_vision_model", "mlcd"),
        signs=(_PRE_NORM, r"class_pos_emb"),
        drop=_BLIND_NORM,
        rules=ViTRules(eps=1e-5, final_norm="none", position=None, rotary="mlcd", absent=frozenset({"patch"})),
        requires=(*_CLIP_PARTS, "rope.freqs"),
        mean=CLIP[0],
        std=CLIP[1],
        source=_SOURCE,
        proven="golden",
    ),
    System(
        name="hf_clip",
        title="CLIP (Hugging Face)",
        layouts=(HF_TOWER,),
        model_types=_CLIP_TYPES,
        signs=(_PRE_NORM,),
        certain=marks.by_config,
        distinction="activation quick_gelu, as OpenAI's weights",
        drop=_BLIND_NORM,
        rules=_CLIP,
        requires=_CLIP_PARTS,
        mean=CLIP[0],
        std=CLIP[1],
        source=_SOURCE,
        proven="golden",
    ),
    System(
        name="hf_clip_gelu",
        title="CLIP with the exact GELU (Hugging Face)",
        layouts=(HF_TOWER,),
        model_types=_CLIP_TYPES,
        signs=(_PRE_NORM,),
        certain=marks.by_config,
        distinction="activation gelu, as LAION's, MetaCLIP's and DFN's weights",
        drop=_BLIND_NORM,
        rules=replace(_CLIP, activation="gelu"),
        requires=_CLIP_PARTS,
        mean=CLIP[0],
        std=CLIP[1],
        source=_SOURCE,
        proven="golden",
    ),
    System(
        name="hf_git",
        title="GIT (Hugging Face), its image encoder",
        layouts=(HF_TOWER,),
        model_types=("git_vision_model",),
        signs=(_PRE_NORM,),
        certain=marks.by_config,
        distinction="activation quick_gelu and a norm after the last block, as GIT's image encoder",
        rules=replace(_CLIP, final_norm="affine"),
        requires=_CLIP_PARTS,
        mean=CLIP[0],
        std=CLIP[1],
        source=_SOURCE,
        proven="golden",
    ),
    System(
        name="hf_siglip",
        model_types=("siglip", "siglip_vision_model"),
        title="SigLIP, SigLIP 2 of fixed resolution (Hugging Face)",
        layouts=(HF_TOWER,),
        without=_OTHER_TOWERS,
        certain=marks.beside(r"(.*\.)?logit_bias"),  # of its loss; Phi-4's encoder has its pooling, too
        distinction="positions resized to the grid, as SigLIP",
        rules=ViTRules(heads="siglip", cls=False, activation="gelu-tanh", position="size"),
        mean=HALF[0],
        std=HALF[1],
        source=_SOURCE,
        proven="golden",
    ),
    System(
        name="hf_idefics",
        title="Vision encoder of SmolVLM, Idefics2, Idefics3 (Hugging Face)",
        layouts=(HF_TOWER,),
        without=_OTHER_TOWERS,
        certain=marks.beside(r"(.*\.)?connector\.(modality_projection|perceiver_resampler)\..*"),
        distinction="positions in buckets of each picture's shares, as SmolVLM, Idefics and Phi-4",
        refuse=(
            "its positions are looked up by each picture's own shape, which corrkit doesn't compute.",
            "Build it with transformers in a function of your own: py:FILE.py:FUNCTION.",
        ),
        source=f"{_SOURCE} models/idefics3/modeling_idefics3.py",
        proven="unknown",
    ),
)
