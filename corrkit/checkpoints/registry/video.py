"""Video transformers: tubelets (VideoMAE, MVD, OmniMAE, MAE-ST, V-JEPA), MViT, MaskFeat, Video Swin."""

import re
from typing import TYPE_CHECKING

from corrkit.checkpoints.registry import marks
from corrkit.checkpoints.registry.huggingface_layouts import HF
from corrkit.checkpoints.registry.layouts import TIMM
from corrkit.checkpoints.rules import MViTRules, TubeletRules, ViTRules
from corrkit.checkpoints.system import HALF, KINETICS, Layout, System

if TYPE_CHECKING:
    from corrkit.checkpoints.opening import Opened

_TUBELETS = "corrkit.backbones.networks.tubelets:build"
_MEAN_NORM = "norm of the mean of the tokens, not of each token"

TUBELET = Layout(
    name="tubelet ViT",
    anchors={
        r"patch_embed\.proj\.weight": 5,
        r"blocks\.\d+\.attn\.(qkv|q)\.weight": 2,
        r"blocks\.\d+\.norm1\.weight": 1,
    },
)
PADDED_TUBELET = Layout(
    name="tubelet ViT with padding",
    anchors={r"patch_embed\.proj\.1\.weight": 5, r"blocks\.\d+\.attn\.qkv\.weight": 2},
    renames=((r"patch_embed\.proj\.1\.", "patch_embed.proj."),),
)
HF_VIDEOMAE = Layout(
    name="Hugging Face VideoMAE",
    anchors={
        r"embeddings\.patch_embeddings\.projection\.weight": 5,
        r"encoder\.layer\.\d+\.attention\.attention\.q_bias": 1,
    },
    renames=(
        (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
        (r"encoder\.layer\.(\d+)\.attention\.attention\.([qkv])(uery|ey|alue)\.", r"blocks.\1.attn.\2."),
        (r"encoder\.layer\.(\d+)\.attention\.attention\.", r"blocks.\1.attn."),
        (r"encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"blocks.\1.attn.proj."),
        (r"encoder\.layer\.(\d+)\.intermediate\.dense\.", r"blocks.\1.mlp.fc1."),
        (r"encoder\.layer\.(\d+)\.output\.dense\.", r"blocks.\1.mlp.fc2."),
        (r"encoder\.layer\.(\d+)\.layernorm_before\.", r"blocks.\1.norm1."),
        (r"encoder\.layer\.(\d+)\.layernorm_after\.", r"blocks.\1.norm2."),
        (r"layernorm\.", "norm."),
    ),
)
HF_VIVIT = Layout(
    name="Hugging Face ViViT",
    anchors={
        r"embeddings\.patch_embeddings\.projection\.weight": 5,
        r"embeddings\.position_embeddings": 3,
        r"encoder\.layer\.\d+\.attention\.attention\.query\.weight": 2,
    },
    renames=HF.renames,
)
TIMESFORMER = Layout(
    name="TimeSformer",
    anchors={
        r"patch_embed\.proj\.weight": 4,
        r"time_embed": 3,
        r"blocks\.\d+\.temporal_attn\.qkv\.weight": 2,
    },
)
HF_TIMESFORMER = Layout(
    name="Hugging Face TimeSformer",
    anchors={
        r"embeddings\.patch_embeddings\.projection\.weight": 4,
        r"encoder\.layer\.\d+\.attention\.attention\.qkv\.weight": 2,
    },
    renames=(
        (r"embeddings\.time_embeddings$", "time_embed"),
        *HF.renames,
        (r"(blocks\.\d+\.)temporal_layernorm\.", r"\1temporal_norm1."),
        (r"(blocks\.\d+\.)temporal_dense\.", r"\1temporal_fc."),
        (r"(blocks\.\d+\.)temporal_attention\.attention\.", r"\1temporal_attn."),
        (r"(blocks\.\d+\.)temporal_attention\.output\.dense\.", r"\1temporal_attn.proj."),
        (r"(blocks\.\d+\.)attention\.attention\.", r"\1attn."),
    ),
)
MVIT = Layout(
    name="MViT",
    anchors={r"patch_embed\.proj\.weight": None, r"blocks\.\d+\.attn\.pool_k\.weight": None},
)


def _mask_tokens(opened: "Opened") -> int:
    """Mask tokens of the predictor: up to 2 in V-JEPA, 10 in V-JEPA 2 (configs of facebookresearch/jepa, vjepa2)."""
    from corrkit.checkpoints.naming import flatten

    names = (re.fullmatch(r"(?:.*\.)?predictor\..*mask_tokens\.(\d+)", name) for name in flatten(opened.tree))
    return max((int(match[1]) + 1 for match in names if match), default=0)


def _empty_tables(opened: "Opened") -> bool:
    """Whether a stored table was never filled, which V-JEPA does before training and V-JEPA 2 has no need to."""
    from corrkit.checkpoints.naming import flatten

    tables = [tensor for name, tensor in flatten(opened.tree).items() if name.endswith("backbone.pos_embed")]
    return bool(tables) and not any(table.any() for table in tables)


_STRIDES = "with the usual strides of queries and keys, which only a configuration in the file tells"


def _configured(opened: "Opened") -> str | None:
    """Whether PySlowFast's or mvit's configuration is in the file."""
    from corrkit.checkpoints.heads import entry

    return "cfg, the configuration in the file" if isinstance(entry(opened.tree, "cfg"), str) else None


def _vjepa(opened: "Opened") -> str | None:
    tokens = _mask_tokens(opened)
    return f"{tokens} mask tokens in the predictor" if 0 < tokens <= 2 and not _empty_tables(opened) else None


def _vjepa2(opened: "Opened") -> str | None:
    if (tokens := _mask_tokens(opened)) > 2:
        return f"{tokens} mask tokens in the predictor"
    return "a table of positions that was never filled" if _empty_tables(opened) else None


PIXEL_MASK = Layout(
    name="timm ViT with a mask in pixel space",
    anchors={**TIMM.anchors, r"mask_token": 4},
    renames=TIMM.renames,
)
VIDEO_SWIN = Layout(
    name="Video Swin",
    anchors={r"patch_embed\.proj\.weight": 5, r"layers\.0\.blocks\.0\.attn\.relative_position_bias_table": 2},
)

ENTRIES = (
    System(
        name="omnimae",
        title="OmniMAE",
        layouts=(PADDED_TUBELET,),
        build=_TUBELETS,
        rules=TubeletRules(position="stored"),
        source="facebookresearch/omnivore 1d55abd omnivision/models/vision_transformer.py:49",
        proven="golden",
    ),
    System(
        name="maskfeat_video",
        title="MaskFeat for videos (MViTv2)",
        layouts=(MVIT,),
        signs=(r"pred_head\..*", r"patch_embed\.proj\.weight"),
        drop={r"hogs\..*": "target of pre-training"},
        certain=_configured,
        distinction=_STRIDES,
        build="corrkit.backbones.networks.mvit:build",
        rules=MViTRules(),
        mean=KINETICS[0],
        std=KINETICS[1],
        source="facebookresearch/SlowFast 287ec00 slowfast/models/masked.py:30",
        proven="golden",
        notes=("Pre-training has no norm behind the last block; nor have the features.",),
    ),
    System(
        name="mvit_video",
        title="MViT and MViTv2 for videos",
        layouts=(MVIT,),
        signs=(r"blocks\.\d+\.attn\.pool_k\.weight", r"(pos_embed_temporal|blocks\.\d+\.attn\.rel_pos_t)"),
        certain=_configured,
        distinction=_STRIDES,
        build="corrkit.backbones.networks.mvit:build",
        rules=MViTRules(),
        mean=KINETICS[0],
        std=KINETICS[1],
        source="facebookresearch/SlowFast 287ec00 slowfast/models/video_model_builder.py:985, attention.py:48",
        proven="golden",
    ),
    System(
        name="mvit",
        title="MViT and MViTv2 for images",
        layouts=(MVIT,),
        certain=_configured,
        distinction=_STRIDES,
        build="corrkit.backbones.networks.mvit:build",
        rules=MViTRules(),
        source="facebookresearch/mvit dfbdfdf mvit/models/mvit_model.py",
        proven="golden",
    ),
    System(
        name="mae_st_finetuned",
        title="MAE-ST after fine-tuning",
        layouts=(TUBELET,),
        signs=(r"pos_embed_spatial", r"pos_embed_temporal", r"head\.(projection\.)?weight"),
        without=(r"dec(oder)?_.*",),
        drop={r"norm\.(weight|bias)": _MEAN_NORM},
        build=_TUBELETS,
        rules=TubeletRules(final_norm="none", position="separable"),
        mean=KINETICS[0],
        std=KINETICS[1],
        source="facebookresearch/mae_st c5dec1b models_vit.py:65",
        proven="golden",
    ),
    System(
        name="mae_st",
        title="MAE-ST, also as trained with PySlowFast",
        layouts=(TUBELET,),
        signs=(r"pos_embed_spatial", r"pos_embed_temporal"),
        build=_TUBELETS,
        rules=TubeletRules(position="separable"),
        mean=KINETICS[0],
        std=KINETICS[1],
        source="facebookresearch/mae_st c5dec1b models_mae.py, util/video_vit.py:68",
        proven="golden",
    ),
    System(
        name="mvd",
        title="MVD",
        layouts=(TUBELET,),
        signs=(r"pos_embed", r"blocks\.\d+\.attn\.q_bias"),
        drop={
            r"(down|decoder|mask_token|pos_embed)_(img|vid)\b.*": "decoders of pre-training",
        },
        build=_TUBELETS,
        rules=TubeletRules(position="stored"),
        source="ruiwang2021/mvd 45b877a modeling_student.py:175",
        proven="golden",
    ),
    System(
        name="timesformer",
        title="TimeSformer",
        layouts=(TIMESFORMER,),
        build="corrkit.backbones.networks.timesformer:build",
        mean=KINETICS[0],
        std=KINETICS[1],
        source="facebookresearch/TimeSformer a5ef29a timesformer/models/vit.py",
    ),
    System(
        name="hf_timesformer",
        model_types=("timesformer",),
        title="TimeSformer (Hugging Face)",
        layouts=(HF_TIMESFORMER,),
        build="corrkit.backbones.networks.timesformer:build",
        mean=KINETICS[0],
        std=KINETICS[1],
        source="huggingface/transformers 5.24.0 models/timesformer/modeling_timesformer.py",
        proven="golden",
    ),
    System(
        name="hf_vivit",
        model_types=("vivit",),
        title="ViViT (Hugging Face)",
        layouts=(HF_VIVIT,),
        build=_TUBELETS,
        rules=TubeletRules(position="stored", frames=32, activation="gelu-tanh"),
        mean=HALF[0],
        std=HALF[1],
        source="huggingface/transformers 5.24.0 models/vivit/modeling_vivit.py",
        proven="golden",
        notes=(
            "transformers' class takes clips of num_frames at its own size only; positions of other sizes are "
            "resampled slice by slice, as OmniMAE's.",
        ),
    ),
    System(
        name="hf_videomae_finetuned",
        model_types=("videomae",),
        title="VideoMAE of Hugging Face, fine-tuned",
        layouts=(HF_VIDEOMAE,),
        certain=marks.beside(r"(.*\.)?fc_norm\.weight"),  # of its classifier; else a norm may merely be missing
        distinction="no norm follows the last block, as with use_mean_pooling",
        without=(r"layernorm\.weight",),
        build=_TUBELETS,
        rules=TubeletRules(final_norm="none", position="sinusoid", eps=1e-12),
        source="huggingface/transformers 5.24.0 models/videomae/modeling_videomae.py",
        proven="golden",
    ),
    System(
        name="hf_videomae",
        model_types=("videomae",),
        title="VideoMAE of Hugging Face",
        layouts=(HF_VIDEOMAE,),
        build=_TUBELETS,
        rules=TubeletRules(position="sinusoid", eps=1e-12),
        source="huggingface/transformers 5.24.0 models/videomae/modeling_videomae.py",
        proven="golden",
    ),
    System(
        name="videomae_finetuned",
        title="VideoMAE and VideoMAE v2 after fine-tuning or distillation",
        layouts=(TUBELET,),
        signs=(r"fc_norm\.weight", r"blocks\.\d+\.attn\.q_bias"),
        drop={r"fc_norm\.(weight|bias)": _MEAN_NORM},
        build=_TUBELETS,
        rules=TubeletRules(final_norm="none", position="sinusoid"),
        source="OpenGVLab/VideoMAEv2 29eab1e models/modeling_finetune.py:524",
        proven="golden",
    ),
    System(
        name="videomae",
        title="VideoMAE and VideoMAE v2",
        layouts=(TUBELET,),
        signs=(r"blocks\.\d+\.attn\.q_bias",),
        build=_TUBELETS,
        rules=TubeletRules(position="sinusoid"),
        source="MCG-NJU/VideoMAE 14ef8d8 modeling_finetune.py:83,160; resizing as OmniMAE's",
        proven="golden",
    ),
    System(
        name="vjepa",
        title="V-JEPA",
        layouts=(TUBELET,),
        signs=(r"pos_embed", r"blocks\.\d+\.attn\.qkv\.bias"),
        certain=_vjepa,
        distinction="adds the stored positions",
        without=(r"cls_token", r"img_mod_embed"),
        prefers=(("target_encoder", "encoder"),),
        build=_TUBELETS,
        rules=TubeletRules(position="trilinear"),
        source="facebookresearch/jepa 51c59d5 src/models/vision_transformer.py:226",
        proven="golden",
        notes=("V-JEPA's own image evaluation repeats a frame over the whole clip instead.",),
    ),
    System(
        name="vjepa2",
        title="V-JEPA 2",
        layouts=(TUBELET,),
        certain=_vjepa2,
        distinction="turned by positions, which it doesn't add",
        signs=(r"blocks\.\d+\.attn\.qkv\.bias",),
        without=(r"cls_token", r"img_mod_embed"),
        prefers=(("target_encoder", "encoder"),),
        drop={r"pos_embed": "table that the rotary network doesn't use"},
        build=_TUBELETS,
        rules=TubeletRules(heads="vjepa2", position="rotary"),
        source="facebookresearch/vjepa2 c2963a4 src/models/utils/modules.py:39,138",
        proven="golden",
        notes=("V-JEPA 2's own image evaluation repeats a frame over the whole clip instead.",),
    ),
    System(
        name="violet",
        title="VIOLET and empirical-MVM (their Video Swin)",
        layouts=(VIDEO_SWIN,),
        build="corrkit.backbones.networks.video_swin:build",
        source="tsujuifu/pytorch_violet 4f64751 video_swin.py:145,351,363",
        proven="golden",
    ),
    System(
        name="fastmim_vit",
        title="FastMIM (ViT)",
        layouts=(PIXEL_MASK,),
        rules=ViTRules(position="size"),
        source="ggjy/FastMIM.pytorch d4eea0d mim_vit_pretrain.py",
        proven="golden",
    ),
    System(
        name="maskfeat_image",
        title="MaskFeat for images (ViT)",
        layouts=(TIMM,),
        signs=(r"pred_head\.transforms\..*",),
        without=(r"norm\.weight",),
        drop={r"hogs\..*": "target of pre-training"},
        rules=ViTRules(final_norm="none", position="bilinear"),
        source="facebookresearch/SlowFast 287ec00 slowfast/models/masked.py:30",
        proven="golden",
    ),
)
