"""Networks trained with labels of any kind: text, masks, other networks' features."""

from corrkit.checkpoints.configuration import OPEN_CLIP
from corrkit.checkpoints.registry import marks
from corrkit.checkpoints.registry.layouts import AIM, OPENAI, RADIO, SAM, SPLIT, TIMM
from corrkit.checkpoints.rules import ViTRules
from corrkit.checkpoints.system import CLIP, HALF, System

_NO_PATCH_BIAS = frozenset({"patch"})
_BLIND_NORM = {r"ln_post\..*": "norm of the class token alone"}
_PROJECTION = {r"proj": "projection to the joint space with text"}

ENTRIES = (
    System(
        name="sam",
        title="SAM (image encoder)",
        layouts=(SAM,),
        signs=(r"neck\..*",),
        build="corrkit.backbones.sam:build",
        requires=("pos_embed",),
        source="facebookresearch/segment-anything dca509f",
        proven="golden",
    ),
    System(
        name="eva02",
        title="EVA-02",
        layouts=(SPLIT, TIMM),
        signs=(r"(blocks\.\d+\.attn\.)?rope\.freqs_cos",),
        rules=ViTRules(rotary="eva"),
        mean=CLIP[0],
        std=CLIP[1],
        source="baaivision/EVA 5623d08 (EVA-02/asuka)",
        proven="golden",
    ),
    System(
        name="pe_core",
        title="Perception Encoder, core",
        layouts=(OPENAI,),
        signs=(r"attn_pool\.probe",),
        drop=_PROJECTION,
        rules=ViTRules(
            heads={(1536, 50): 16}, cls=None, eps=1e-5, position="bilinear", rotary="pe", absent=_NO_PATCH_BIAS
        ),
        mean=HALF[0],
        std=HALF[1],
        source="facebookresearch/perception_models 3e352cc",
        proven="golden",
    ),
    System(
        name="pe_spatial",
        title="Perception Encoder, spatial and language",
        layouts=(OPENAI,),
        without=(r"ln_post\..*", r"proj"),
        certain=marks.file_name(r"PE.?(spatial|lang)"),
        distinction="turned by positions; the published files have no ln_post",
        rules=ViTRules(
            heads={(1536, 50): 16},
            cls=None,
            final_norm="none",
            eps=1e-5,
            position="bilinear",
            rotary="pe",
            absent=_NO_PATCH_BIAS,
        ),
        mean=HALF[0],
        std=HALF[1],
        source="facebookresearch/perception_models 3e352cc",
        proven="golden",
    ),
    System(
        name="clip",
        title="CLIP (OpenAI)",
        layouts=(OPENAI,),
        beside=(r"(.*\.)?(input_resolution|context_length|vocab_size)",),
        drop={**_BLIND_NORM, **_PROJECTION},
        rules=ViTRules(eps=1e-5, final_norm="none", activation="quick-gelu", position="size", absent=_NO_PATCH_BIAS),
        requires=("cls_token", "norm_pre.weight", "norm_pre.bias"),
        mean=CLIP[0],
        std=CLIP[1],
        source="openai/CLIP d05afc4",
        proven="golden",
    ),
    System(
        name="open_clip",
        title="CLIP in OpenAI's names (open_clip)",
        layouts=(OPENAI,),
        model_types=(OPEN_CLIP,),
        distinction="never turned by positions; ln_post may have been left out",
        drop={**_BLIND_NORM, **_PROJECTION},
        rules=ViTRules(eps=1e-5, final_norm="none", position="size", absent=_NO_PATCH_BIAS),
        requires=("cls_token", "norm_pre.weight", "norm_pre.bias"),
        mean=CLIP[0],
        std=CLIP[1],
        source="mlfoundations/open_clip; names as openai/CLIP d05afc4",
        notes=(
            "Taken as an open_clip model with exact GELU; OpenAI's own weights and *-quickgelu configurations need "
            "another activation, which no tensor tells (difference 7e-3 of the features' scale).",
        ),
    ),
    System(
        name="aimv2",
        title="AIMv2",
        layouts=(AIM,),
        model_types=("aimv2", "aimv2_vision_model"),
        signs=(r"preprocessor\.pos_embed",),
        rules=ViTRules(
            head_width=128,
            cls=False,
            eps=1e-5,
            norm="rms",
            absent=frozenset({"qkv", "proj", "mlp"}),
            position="antialias",
        ),
        requires=("patch_embed.norm.weight",),
        mean=CLIP[0],
        std=CLIP[1],
        source="apple/ml-aim bd9e068",
        proven="golden",
    ),
    System(
        name="aimv2_native",
        title="AIMv2, native resolution",
        layouts=(AIM,),
        model_types=("aimv2", "aimv2_vision_model"),
        rules=ViTRules(
            head_width=128, cls=False, eps=1e-5, norm="rms", absent=frozenset({"qkv", "proj", "mlp"}), position="sincos"
        ),
        requires=("patch_embed.norm.weight",),
        mean=CLIP[0],
        std=CLIP[1],
        source="apple/ml-aim bd9e068",
        proven="golden",
        notes=("No positions in the file: the native-resolution model, which computes them for any grid.",),
    ),
    System(
        name="radio",
        title="RADIO, C-RADIO",
        layouts=(RADIO,),
        model_types=("radio",),
        drop={
            r"(_?feature_projections|summary_idxs|input_conditioner)\b.*": "head of pre-training or classification",
            r"(model\.)?norm\.(weight|bias)": "norm that the published model replaces by the identity",
        },
        prefers=(("state_dict_ema", "state_dict"),),
        rules=ViTRules(heads={(1280, 32): 16}, cls=False, final_norm="none", position="crop", absent=_NO_PATCH_BIAS),
        requires=("reg_token",),
        mean=CLIP[0],
        std=CLIP[1],
        statistics=(r"(.*\.)?input_conditioner\.norm_mean", r"(.*\.)?input_conditioner\.norm_std"),
        source="NVlabs/RADIO c0f3701",
        proven="golden",
    ),
)
