"""Networks in torchvision's names (its ResNets are in `convolutional`)."""

import re

from corrkit.checkpoints.registry.hierarchical import flat_grn
from corrkit.checkpoints.rules import SwinRules, ViTRules
from corrkit.checkpoints.system import Layout, State, System

_SOURCE = "pytorch/vision 0.29"
_BLOCK = r"(blocks\.\d+\.)"


def _stages(match: re.Match[str]) -> str:
    """features.1, 3, 5, 7 are stages 0 to 3; features.2, 4, 6 make them smaller."""
    number = int(match[1])
    return f"stages.{number // 2}.blocks." if number % 2 else f"stages.{number // 2}.downsample."


def _swin(state: State) -> State:
    """Stages as timm's layers, each with the merging of patches in front."""
    staged = {re.sub(r"^features\.(\d+)\.", _stages, name): tensor for name, tensor in state.items()}
    return {re.sub(r"^stages\.", "layers.", name): tensor for name, tensor in staged.items()}


def _convnext(state: State) -> State:
    """Stages, with the scale [C, 1, 1] of a block as a vector."""
    staged = {re.sub(r"^features\.(\d+)\.", _stages, name): tensor for name, tensor in state.items()}
    parts = (("block.0.", "conv_dw."), ("block.2.", "norm."), ("block.3.", "mlp.fc1."), ("block.5.", "mlp.fc2."))
    named: State = {}
    for name, tensor in staged.items():
        for old, new in parts:
            name = re.sub(rf"^(stages\.\d+\.blocks\.\d+\.){re.escape(old)}", rf"\1{new}", name)
        named[name.replace("layer_scale", "gamma")] = tensor.flatten() if name.endswith("layer_scale") else tensor
    return flat_grn(named)


TORCHVISION_VIT = Layout(
    name="torchvision ViT",
    anchors={r"conv_proj\.weight": 4, r"encoder\.layers\.encoder_layer_\d+\.self_attention\.in_proj_weight": 2},
    renames=(
        (r"class_token$", "cls_token"),
        (r"conv_proj\.", "patch_embed.proj."),
        (r"encoder\.pos_embedding$", "pos_embed"),
        (r"encoder\.ln\.", "norm."),
        (r"encoder\.layers\.encoder_layer_", "blocks."),
        (rf"{_BLOCK}ln_(\d)\.", r"\1norm\2."),
        (rf"{_BLOCK}self_attention\.in_proj_", r"\1attn.qkv."),
        (rf"{_BLOCK}self_attention\.out_proj\.", r"\1attn.proj."),
        (rf"{_BLOCK}mlp\.(0|linear_1)\.", r"\1mlp.fc1."),
        (rf"{_BLOCK}mlp\.(3|linear_2)\.", r"\1mlp.fc2."),
    ),
)
TORCHVISION_SWIN = Layout(
    name="torchvision Swin",
    anchors={r"features\.0\.0\.weight": 4, r"features\.1\.0\.attn\.relative_position_bias_table": 2},
    renames=(
        (r"features\.0\.0\.", "patch_embed.proj."),
        (r"features\.0\.2\.", "patch_embed.norm."),
        (r"(features\.\d+\.\d+\.)mlp\.0\.", r"\1mlp.fc1."),
        (r"(features\.\d+\.\d+\.)mlp\.3\.", r"\1mlp.fc2."),
    ),
    convert=_swin,
)
TORCHVISION_CONVNEXT = Layout(
    name="torchvision ConvNeXt",
    anchors={r"features\.0\.0\.weight": 4, r"features\.1\.0\.layer_scale": 3},
    renames=((r"features\.0\.(?=[01]\.)", "stem."),),
    convert=_convnext,
)

ENTRIES = (
    System(
        name="torchvision_vit",
        title="ViT (torchvision)",
        layouts=(TORCHVISION_VIT,),
        rules=ViTRules(position="size"),
        source=f"{_SOURCE} models/vision_transformer.py",
        proven="golden",
        notes=("torchvision's network takes its native size only; at others positions are resampled bicubically.",),
    ),
    System(
        name="torchvision_swin",
        title="Swin (torchvision)",
        layouts=(TORCHVISION_SWIN,),
        without=(r"features\.\d+\.\d+\.attn\.logit_scale",),  # Swin V2
        build="corrkit.backbones.networks.hierarchical:build_swin",
        rules=SwinRules(),
        source=f"{_SOURCE} models/swin_transformer.py",
        proven="golden",
    ),
    System(
        name="torchvision_convnext",
        title="ConvNeXt (torchvision)",
        layouts=(TORCHVISION_CONVNEXT,),
        drop={r"classifier\..*": "norm of the mean of the features, and classifier"},
        build="corrkit.backbones.networks.hierarchical:build_convnext",
        source=f"{_SOURCE} models/convnext.py",
        proven="golden",
    ),
)
