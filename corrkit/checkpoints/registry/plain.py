"""Supervised networks, and fallbacks whose names tell the architecture but not who trained it."""

from corrkit.checkpoints.registry import marks
from corrkit.checkpoints.registry.layouts import CONV_STEM, JAX, MMPRETRAIN, SPLIT, TIMM
from corrkit.checkpoints.rules import ViTRules
from corrkit.checkpoints.system import HALF, System

_LS = r"blocks\.\d+\.(\d+\.)?ls1\.gamma"

ENTRIES = (
    System(
        name="jax_vit",
        title="ViT of google-research (npz)",
        layouts=(JAX,),
        rules=ViTRules(cls=None, position="dino"),
        mean=HALF[0],
        std=HALF[1],
        source="google-research/vision_transformer c6de1e5",
        proven="golden",
    ),
    System(
        name="deit_distilled",
        title="DeiT, distilled",
        layouts=(TIMM,),
        signs=(r"dist_token",),
        rules=ViTRules(),
        source="facebookresearch/deit 7e160fe",
        proven="golden",
        notes=(
            "DeiT's own code takes the native size only; at others positions are resampled as DINO does, while timm's "
            "class antialiases.",
        ),
    ),
    System(
        name="timm_cait",
        title="CaiT",
        layouts=(TIMM,),
        signs=(r"blocks_token_only\.\d+\.attn\.q\.weight", r"blocks\.\d+\.attn\.proj_l\.weight"),
        refuse=(
            "its attention mixes the heads, which corrkit's networks don't.",
            "Name the architecture: timm:NAME=FILE, e.g. timm:cait_s24_224=FILE.",
        ),
        source="timm 1.0.31 models/cait.py; facebookresearch/deit 7e160fe cait_models.py",
        proven="unknown",
    ),
    System(
        name="deit3",
        title="DeiT III",
        layouts=(TIMM,),
        signs=(r"blocks\.\d+\.gamma_1", r"blocks\.\d+\.attn\.qkv\.bias"),
        certain=marks.file_name(r"deit.?(3|iii)"),
        distinction="not turned by positions",
        rules=ViTRules(),
        source="facebookresearch/deit 7e160fe",
        proven="golden",
    ),
    System(
        name="rope_vit",
        title="ViT with rotary positions in DeiT III's names (timm's vit_*_rope_*, naver-ai/rope-vit)",
        layouts=(TIMM,),
        signs=(r"blocks\.\d+\.gamma_1", r"blocks\.\d+\.attn\.qkv\.bias"),
        certain=marks.by_config,
        distinction="turned by positions",
        refuse=(
            "its tensors don't tell how the positions turn.",
            "Name the architecture: timm:NAME=FILE, e.g. timm:vit_base_patch16_rope_ape_224=FILE.",
        ),
        source="timm 1.0.31; naver-ai/rope-vit",
        proven="unknown",
    ),
    System(
        name="timm_vit",
        title="ViT with timm's config.json",
        layouts=(TIMM,),
        model_types=("timm_wrapper",),
        config={"architecture": (), "pretrained_cfg": ()},
        rules=ViTRules(cls=None, final_norm="optional", position="antialias"),
        source="timm 1.0.31",
        proven="golden",
    ),
    System(
        name="timm_eva",
        title="EVA-02 in timm's names",
        layouts=(TIMM,),
        signs=(r"blocks\.\d+\.attn\.q_bias", r"pos_embed"),
        without=(r".*relative_position_bias_table", r".*rope\.freqs_cos"),
        certain=marks.by_config,
        distinction="turned by positions, as EVA-02 of timm",
        refuse=(
            "timm doesn't store the grid by which it turns them.",
            "Name the architecture: timm:NAME=FILE, e.g. timm:eva02_tiny_patch14_224=FILE.",
        ),
        source="timm 1.0.31 models/eva.py",
        proven="unknown",
    ),
    System(
        name="timm_attention_pool",
        title="ViT with timm's attention pooling (SigLIP, Perception Encoder)",
        layouts=(TIMM,),
        signs=(r"attn_pool\.latent",),
        refuse=(
            "its activation and the turning by positions differ among timm's models with such a pool.",
            "Name the architecture: timm:NAME=FILE, e.g. timm:vit_base_patch16_siglip_224=FILE.",
        ),
        source="timm 1.0.31 models/vision_transformer.py, models/eva.py",
        proven="unknown",
    ),
    System(
        name="timm_post_norm",
        title="ViT with norms behind attention and MLP (timm's ResPostBlock)",
        layouts=(TIMM,),
        told=marks.norms_behind,
        without=(r"blocks\.\d+\.(\d+\.)?(ls1\.gamma|gamma_1)",),
        refuse=(
            "its tensors stand in the order of blocks that normalise what attention and MLP give, which corrkit's "
            "networks don't.",
            "Build it with its own code: py:FILE.py:FUNCTION. If its norms stand in front all the same: --system vit.",
        ),
        source="timm 1.0.31 models/vision_transformer.py",
        proven="unknown",
    ),
    System(
        name="timm_vit_registers",
        title="ViT with registers in timm's own names",
        layouts=(TIMM,),
        signs=(r"reg_token",),
        without=(r"blocks\.\d+\.gamma_1", r"norm_pre\..*"),  # classes that turn by positions
        rules=ViTRules(cls=None, final_norm="optional", position="antialias"),
        source="timm 1.0.31 models/vision_transformer.py, layers/pos_embed.py",
        proven="golden",
        notes=(
            "Only timm calls registers reg_token, so positions are resampled as timm does; mean and std are "
            "ImageNet's, which not all of timm's models take.",
        ),
    ),
    System(
        name="timm_vit_scaled",
        title="ViT with layer scale in timm's own names (DINOv2, DeiT III of timm)",
        layouts=(TIMM,),
        signs=(_LS,),
        without=(r"mask_token", r"re(g|gister)_tokens?", r"norm_pre\..*", r"blocks\.\d+\.\d+\..*"),
        certain=marks.beside(r"(.*\.)?(head|fc_norm)\.(weight|bias)"),  # of a classifier, which DINOv2's files lack
        distinction="positions antialiased, as timm's class, which has no mask token",
        rules=ViTRules(heads="dinov2", cls=None, final_norm="optional", position="antialias"),
        source="timm 1.0.31 models/vision_transformer.py, layers/pos_embed.py",
        proven="golden",
        notes=(
            "Positions are resampled as timm does; mean and std are ImageNet's, which not all of timm's models take.",
        ),
    ),
    System(
        name="mmpretrain_vit",
        title="ViT in MMPretrain's names, mean pooled",
        layouts=(MMPRETRAIN,),
        signs=(r"ln2\..*",),
        without=(r"ln1\..*",),
        drop={r"ln2\..*": "norm of the mean of all patches in classification, never of single ones"},
        rules=ViTRules(cls=None, final_norm="none", position="size"),
        source="open-mmlab/mmpretrain ee7f2e88",
    ),
    System(
        name="mmpretrain_vit_normed",
        title="ViT in MMPretrain's names",
        layouts=(MMPRETRAIN,),
        rules=ViTRules(cls=None, position="size"),
        source="open-mmlab/mmpretrain ee7f2e88",
    ),
    System(
        name="vit_mean_pooled",
        title="ViT in timm's names that classifies by the mean of its patches",
        layouts=(TIMM,),
        distinction="not turned by positions, classifies by the mean",
        signs=(r"fc_norm\.weight",),
        without=(r"norm\.weight", _LS),
        rules=ViTRules(cls=None, final_norm="none"),
        source="timm 1.0.31",
        notes=(
            "Patches of this network are never normalised: features are the last block's output.",
            "The names don't tell which system trained this ViT; position rule, mean and std are DINO's and MAE's.",
        ),
    ),
    System(
        name="vit",
        title="ViT in timm's names (DINO, MAE, supervised, ...)",
        layouts=(TIMM, SPLIT, CONV_STEM),
        distinction="not turned by positions",
        without=(_LS,),
        rules=ViTRules(row_first_heads="mocov3", cls=None),
        source="facebookresearch/mae efb2a80 models_vit.py; facebookresearch/dino 7c446df",
        proven="golden",
        notes=(
            "The names don't tell which system trained this ViT; position rule, mean and std are DINO's and MAE's.",
        ),
    ),
)
