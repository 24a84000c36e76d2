"""Networks of other systems in the names of Hugging Face transformers: in stages, of tubelets, convolutional."""

import re
from dataclasses import replace

from corrkit.checkpoints.registry import marks
from corrkit.checkpoints.registry.convolutional import complete
from corrkit.checkpoints.registry.hierarchical import (
    HIERA_HEADS,
    SAM2_TRAINED_ON,
    SAM2_VARIANTS,
    flat_grn,
    timm_downsampling,
)
from corrkit.checkpoints.rules import (
    HieraRules,
    ResNetRules,
    SwinRules,
    TubeletRules,
    ViTRules,
    WindowedHieraRules,
)
from corrkit.checkpoints.system import CLIP, Layout, State, System

_SOURCE = "huggingface/transformers 5.24.0"
_BLOCK = r"(blocks\.\d+\.)"
_STAGE_BLOCK = r"(stages\.\d+\.blocks\.\d+\.)"
_WINDOW_BLOCK = r"(layers\.\d+\.blocks\.\d+\.)"
_MEAN_NORM = "norm of the mean of the features"


def _flat_blocks(state: State) -> State:
    """Blocks numbered through instead of stage by stage: stages.2.layers.1 to blocks.N."""
    found = [re.match(r"stages\.(\d+)\.layers\.(\d+)\.", name) for name in state]
    places = sorted({(int(match[1]), int(match[2])) for match in found if match})
    order = {f"stages.{stage}.layers.{block}.": f"blocks.{number}." for number, (stage, block) in enumerate(places)}
    return {
        re.sub(r"^stages\.\d+\.layers\.\d+\.", lambda match: order[match[0]], name): tensor
        for name, tensor in state.items()
    }


HF_AIMV2 = Layout(
    name="Hugging Face AIMv2",
    anchors={r"embeddings\.patch_embed\.weight": 4, r"encoder\.layers\.\d+\.ffn\.gate_proj\.weight": 2},
    renames=(
        (r"embeddings\.patch_embed\.", "patch_embed.proj."),
        (r"embeddings\.rms_norm\.", "patch_embed.norm."),
        (r"embeddings\.position_embedding\.weight$", "pos_embed"),
        (r"rms_norm\.", "norm."),
        (r"encoder\.layers\.", "blocks."),
        (rf"{_BLOCK}rms_norm(\d)\.", r"\1norm\2."),
        (rf"{_BLOCK}attention\.([qkv])_proj\.", r"\1attn.\2."),
        (rf"{_BLOCK}attention\.out_proj\.", r"\1attn.proj."),
        (rf"{_BLOCK}ffn\.gate_proj\.", r"\1mlp.gate."),
        (rf"{_BLOCK}ffn\.up_proj\.", r"\1mlp.value."),
        (rf"{_BLOCK}ffn\.down_proj\.", r"\1mlp.w3."),
    ),
)
HF_VJEPA2 = Layout(
    name="Hugging Face V-JEPA 2",
    anchors={
        r"encoder\.embeddings\.patch_embeddings\.proj\.weight": 5,
        r"encoder\.layer\.\d+\.attention\.query\.weight": 2,
    },
    renames=(
        (r"encoder\.embeddings\.patch_embeddings\.proj\.", "patch_embed.proj."),
        (r"encoder\.layernorm\.", "norm."),
        (r"encoder\.layer\.", "blocks."),
        (rf"{_BLOCK}attention\.([qkv])(uery|ey|alue)\.", r"\1attn.\2."),
        (rf"{_BLOCK}attention\.proj\.", r"\1attn.proj."),
    ),
)
HF_SWIN = Layout(
    name="Hugging Face Swin",
    anchors={
        r"embeddings\.patch_embeddings\.projection\.weight": 4,
        r"encoder\.layers\.0\.blocks\.0\.attention\.self\.relative_position_bias_table": 2,
    },
    renames=(
        (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
        (r"embeddings\.norm\.", "patch_embed.norm."),
        (r"layernorm\.", "norm."),
        (r"encoder\.layers\.", "layers."),
        (rf"{_WINDOW_BLOCK}attention\.self\.([qkv])(uery|ey|alue)\.", r"\1attn.\2."),
        (rf"{_WINDOW_BLOCK}attention\.self\.relative", r"\1attn.relative"),
        (rf"{_WINDOW_BLOCK}attention\.output\.dense\.", r"\1attn.proj."),
        (rf"{_WINDOW_BLOCK}layernorm_before\.", r"\1norm1."),
        (rf"{_WINDOW_BLOCK}layernorm_after\.", r"\1norm2."),
        (rf"{_WINDOW_BLOCK}intermediate\.dense\.", r"\1mlp.fc1."),
        (rf"{_WINDOW_BLOCK}output\.dense\.", r"\1mlp.fc2."),
    ),
    convert=timm_downsampling,
)
HF_SWINV2 = Layout(
    name="Hugging Face Swin V2",
    anchors={
        r"embeddings\.patch_embeddings\.projection\.weight": 4,
        r"encoder\.layers\.0\.blocks\.0\.attention\.self\.logit_scale": 3,
    },
    renames=(
        *HF_SWIN.renames,
        (rf"{_WINDOW_BLOCK}attention\.self\.logit_scale$", r"\1attn.logit_scale"),
        (rf"{_WINDOW_BLOCK}attention\.self\.continuous_position_bias_mlp\.", r"\1attn.cpb_mlp."),
    ),
    convert=timm_downsampling,
)
HF_CONVNEXT = Layout(
    name="Hugging Face ConvNeXt",
    anchors={r"embeddings\.patch_embeddings\.weight": 4, r"encoder\.stages\.0\.layers\.0\.dwconv\.weight": 4},
    renames=(
        (r"embeddings\.patch_embeddings\.", "stem.0."),
        (r"embeddings\.layernorm\.", "stem.1."),
        (r"encoder\.stages\.(\d+)\.downsampling_layer\.", r"stages.\1.downsample."),
        (r"encoder\.stages\.(\d+)\.layers\.", r"stages.\1.blocks."),
        (rf"{_STAGE_BLOCK}dwconv\.", r"\1conv_dw."),
        (rf"{_STAGE_BLOCK}layernorm\.", r"\1norm."),
        (rf"{_STAGE_BLOCK}pwconv(\d)\.", r"\1mlp.fc\2."),
        (rf"{_STAGE_BLOCK}grn\.", r"\1mlp.grn."),
        (rf"{_STAGE_BLOCK}layer_scale_parameter$", r"\1gamma"),
    ),
    convert=flat_grn,
)
HF_DINOV3_CONVNEXT = Layout(
    name="Hugging Face DINOv3 ConvNeXt",
    anchors={
        r"stages\.0\.downsample_layers\.0\.weight": 4,
        r"stages\.0\.layers\.0\.depthwise_conv\.weight": 4,
    },
    renames=(
        (r"model\.(?=stages\.)", ""),
        (r"stages\.0\.downsample_layers\.", "stem."),
        (r"stages\.(\d+)\.downsample_layers\.", r"stages.\1.downsample."),
        (r"stages\.(\d+)\.layers\.", r"stages.\1.blocks."),
        (rf"{_STAGE_BLOCK}depthwise_conv\.", r"\1conv_dw."),
        (rf"{_STAGE_BLOCK}layer_norm\.", r"\1norm."),
        (rf"{_STAGE_BLOCK}pointwise_conv(\d)\.", r"\1mlp.fc\2."),
        (r"layer_norm\.", "norm."),
    ),
)
HF_HIERA = Layout(
    name="Hugging Face Hiera",
    anchors={
        r"embeddings\.patch_embeddings\.projection\.weight": 4,
        r"encoder\.stages\.0\.layers\.0\.attn\.qkv\.weight": 2,
    },
    renames=(
        (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
        (r"embeddings\.position_embeddings$", "pos_embed"),
        (r"encoder\.stages\.", "stages."),
        (r"(stages\.\d+\.layers\.\d+\.)layernorm_before\.", r"\1norm1."),
        (r"(stages\.\d+\.layers\.\d+\.)layernorm_after\.", r"\1norm2."),
    ),
    convert=_flat_blocks,
)
HF_SAM = Layout(
    name="Hugging Face SAM",
    anchors={r"patch_embed\.projection\.weight": 4, r"layers\.\d+\.attn\.rel_pos_[hw]": 2},
    renames=(
        (r"patch_embed\.projection\.", "patch_embed.proj."),
        (r"layers\.", "blocks."),
        (rf"{_BLOCK}layer_norm(\d)\.", r"\1norm\2."),
        (rf"{_BLOCK}mlp\.lin(\d)\.", r"\1mlp.fc\2."),
        (r"neck\.conv1\.", "neck.0."),
        (r"neck\.layer_norm1\.", "neck.1."),
        (r"neck\.conv2\.", "neck.2."),
        (r"neck\.layer_norm2\.", "neck.3."),
    ),
)
HF_SAM2 = Layout(
    name="Hugging Face SAM 2",
    anchors={r"patch_embed\.projection\.weight": 4, r"pos_embed_window": 4, r"blocks\.\d+\.mlp\.proj_in\.weight": 2},
    renames=(
        (r"patch_embed\.projection\.", "patch_embed.proj."),
        (rf"{_BLOCK}layer_norm(\d)\.", r"\1norm\2."),
        (rf"{_BLOCK}mlp\.proj_in\.", r"\1mlp.fc1."),
        (rf"{_BLOCK}mlp\.proj_out\.", r"\1mlp.fc2."),
    ),
)
HF_RESNET = Layout(
    name="Hugging Face ResNet",
    anchors={
        r"embedder\.embedder\.convolution\.weight": 4,
        r"encoder\.stages\.0\.layers\.0\.layer\.0\.convolution\.weight": 4,
    },
    renames=(
        (r"embedder\.embedder\.convolution\.", "conv1."),
        (r"embedder\.embedder\.normalization\.", "bn1."),
        *((rf"encoder\.stages\.{stage}\.layers\.", f"layer{stage + 1}.") for stage in range(4)),
        (r"(layer\d\.\d+\.)shortcut\.convolution\.", r"\1downsample.0."),
        (r"(layer\d\.\d+\.)shortcut\.normalization\.", r"\1downsample.1."),
        *((rf"(layer\d\.\d+\.)layer\.{part}\.convolution\.", rf"\1conv{part + 1}.") for part in range(3)),
        *((rf"(layer\d\.\d+\.)layer\.{part}\.normalization\.", rf"\1bn{part + 1}.") for part in range(3)),
    ),
    convert=complete,
)
_AIM = ViTRules(
    heads="aimv2",
    head_width=128,
    cls=False,
    eps=1e-5,
    norm="rms",
    gate="config",
    absent=frozenset({"qkv", "proj", "mlp"}),
    position="antialias",
)
_AIM_TYPES = ("aimv2", "aimv2_vision_model")

ENTRIES = (
    System(
        name="hf_aimv2",
        title="AIMv2 (Hugging Face)",
        layouts=(HF_AIMV2,),
        model_types=_AIM_TYPES,
        signs=(r"embeddings\.position_embedding\.weight",),
        rules=_AIM,
        requires=("patch_embed.norm.weight",),
        mean=CLIP[0],
        std=CLIP[1],
        source=_SOURCE,
        proven="golden",
    ),
    System(
        name="hf_aimv2_native",
        title="AIMv2, native resolution (Hugging Face)",
        layouts=(HF_AIMV2,),
        model_types=_AIM_TYPES,
        certain=marks.by_config,
        distinction="computes its positions, which the file doesn't hold",
        rules=replace(_AIM, position="sincos"),
        requires=("patch_embed.norm.weight",),
        mean=CLIP[0],
        std=CLIP[1],
        source=_SOURCE,
        proven="golden",
    ),
    System(
        name="hf_vjepa2",
        title="V-JEPA 2 (Hugging Face)",
        layouts=(HF_VJEPA2,),
        model_types=("vjepa2",),
        build="corrkit.backbones.networks.tubelets:build",
        rules=TubeletRules(heads="vjepa2", position="rotary"),
        source=_SOURCE,
        proven="golden",
        notes=(
            "V-JEPA 2's own image evaluation repeats a frame over the whole clip instead.",
            "At other sizes than the crop_size of its config transformers' class numbers positions by that size; here "
            "the real grid counts, as in the published code.",
        ),
    ),
    System(
        name="hf_swin",
        title="Swin (Hugging Face)",
        layouts=(HF_SWIN,),
        model_types=("swin",),
        build="corrkit.backbones.networks.hierarchical:build_swin",
        rules=SwinRules(shifts="both"),
        source=_SOURCE,
        proven="golden",
    ),
    System(
        name="hf_swinv2",
        title="Swin V2 (Hugging Face)",
        layouts=(HF_SWINV2,),
        model_types=("swinv2",),
        build="corrkit.backbones.networks.swin_v2:build",
        source=_SOURCE,
        proven="golden",
    ),
    System(
        name="hf_convnext",
        title="ConvNeXt, ConvNeXt V2 (Hugging Face)",
        layouts=(HF_CONVNEXT,),
        model_types=("convnext", "convnextv2"),
        drop={r"layernorm\.(weight|bias)": _MEAN_NORM},
        build="corrkit.backbones.networks.hierarchical:build_convnext",
        source=_SOURCE,
        proven="golden",
    ),
    System(
        name="hf_dinov3_convnext",
        title="DINOv3 ConvNeXt (Hugging Face)",
        layouts=(HF_DINOV3_CONVNEXT,),
        model_types=("dinov3_convnext",),
        build="corrkit.backbones.networks.dinov3_convnext:build",
        source=_SOURCE,
        proven="golden",
    ),
    System(
        name="hf_hiera",
        title="Hiera (Hugging Face)",
        layouts=(HF_HIERA,),
        model_types=("hiera",),
        drop={r"pooler\..*": _MEAN_NORM},
        build="corrkit.backbones.networks.hiera:build",
        rules=HieraRules(heads=HIERA_HEADS),
        source=_SOURCE,
        proven="golden",
    ),
    System(
        name="hf_sam",
        title="SAM (Hugging Face, image encoder)",
        layouts=(HF_SAM,),
        model_types=("sam", "sam_vision_model"),
        signs=(r"neck\..*",),
        build="corrkit.backbones.networks.sam:build",
        rules=ViTRules(),
        requires=("pos_embed",),
        source=_SOURCE,
        proven="golden",
    ),
    System(
        name="hf_sam2",
        title="SAM 2 image encoder (Hugging Face)",
        layouts=(HF_SAM2,),
        model_types=("sam2", "sam2_vision_model", "sam2_hiera_det_model"),
        build="corrkit.backbones.networks.hiera:build_sam2",
        rules=WindowedHieraRules(variants=SAM2_VARIANTS),
        trained_on=SAM2_TRAINED_ON,
        source=_SOURCE,
        proven="golden",
    ),
    System(
        name="hf_resnet",
        title="ResNet (Hugging Face)",
        layouts=(HF_RESNET,),
        model_types=("resnet",),
        build="corrkit.backbones.networks.resnet:build",
        rules=ResNetRules(),
        source=_SOURCE,
        notes=("Evaluated as CRW's test does with any ResNet: layer 3 at stride 8.",),
    ),
)
