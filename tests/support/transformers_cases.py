"""Classes of transformers with tiny configurations, and the files that they write."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

VIT = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 80,
    "image_size": 64,
    "patch_size": 8,
}
SMALLER = {**{name: value for name, value in VIT.items() if name != "intermediate_size"}, "mlp_ratio": 2}
DPT = {**VIT, "backbone_out_indices": [0, 1, 1, 1], "reassemble_factors": [1, 1, 1, 1]}
STAGES = {"depths": [1, 1, 2, 1], "hidden_sizes": [8, 12, 16, 24]}
NATIVE, WIDE, ODD = (64, 64), (64, 96), (40, 72)
FIRST_SWINS: dict[str, dict[str, Any]] = {"": {"window_size": 4}, "eps": {"window_size": 4, "layer_norm_eps": 1e-2}}
SWINS: dict[str, dict[str, Any]] = {
    "": {"window_size": 4},
    "pretrained": {"window_size": 6, "pretrained_window_sizes": [5, 5, 3]},
    "no-bias": {"window_size": 8, "qkv_bias": False, "hidden_act": "gelu_new", "layer_norm_eps": 1e-3},
}
RESIZED = {"interpolate_pos_encoding": True}


@dataclass(frozen=True, kw_only=True)
class Written:
    """A class of transformers with a configuration, and how its features are read.

    prefix: tokens in front of the patches; sizes: of inputs; call: further arguments of its forward pass; output: name
    of what holds tokens [B, P + N, C] or a map [B, C, h, w] ("channels last": [B, h, w, C]).
    """

    model: str
    config: str
    options: dict[str, Any]
    prefix: int = 1
    sizes: tuple[tuple[int, int], ...] = (NATIVE, WIDE, ODD)
    call: dict[str, Any] = field(default_factory=dict)
    output: str = "last_hidden_state"
    stride: int = 8
    layer: int | None = None
    id: str = ""


CASES = [
    Written(model="ViTModel", config="ViTConfig", options=VIT, call=RESIZED),
    Written(model="ViTModel", config="ViTConfig", options={**VIT, "qkv_bias": False}, call=RESIZED, id="no-qkv-bias"),
    Written(
        model="ViTModel", config="ViTConfig", options={**VIT, "hidden_act": "gelu_new"}, call=RESIZED, id="tanh-gelu"
    ),
    Written(model="DeiTModel", config="DeiTConfig", options=VIT, prefix=2, call=RESIZED),
    Written(model="ViTMSNModel", config="ViTMSNConfig", options=VIT, call=RESIZED),
    Written(model="DPTModel", config="DPTConfig", options=DPT),
    Written(model="IJepaModel", config="IJepaConfig", options=VIT, prefix=0, call=RESIZED),
    Written(model="Dinov2Model", config="Dinov2Config", options=SMALLER),
    Written(model="Dinov2Model", config="Dinov2Config", options={**SMALLER, "use_swiglu_ffn": True}, id="swiglu"),
    Written(model="Dinov2WithRegistersModel", config="Dinov2WithRegistersConfig", options=SMALLER, prefix=5),
    Written(model="DINOv3ViTModel", config="DINOv3ViTConfig", options={**VIT, "num_register_tokens": 4}, prefix=5),
    Written(
        model="DINOv3ViTModel",
        config="DINOv3ViTConfig",
        options={**VIT, "num_register_tokens": 4, "use_gated_mlp": True, "hidden_act": "silu", "rope_theta": 70.0},
        prefix=5,
        id="gated",
    ),
    Written(
        model="DINOv3ViTModel",
        config="DINOv3ViTConfig",
        options={**VIT, "num_register_tokens": 4, "query_bias": False, "mlp_bias": False},
        prefix=5,
        id="some-biases",
    ),
    Written(model="BeitModel", config="BeitConfig", options={**VIT, "use_relative_position_bias": True}),
    Written(
        model="BeitModel",
        config="BeitConfig",
        options={**VIT, "use_shared_relative_position_bias": True, "use_mean_pooling": False},
        id="shared",
    ),
    Written(
        model="Data2VecVisionModel", config="Data2VecVisionConfig", options={**VIT, "use_relative_position_bias": True}
    ),
    Written(model="CLIPVisionModel", config="CLIPVisionConfig", options=VIT, call=RESIZED),
    Written(
        model="CLIPVisionModel",
        config="CLIPVisionConfig",
        options={**VIT, "hidden_act": "gelu"},
        call=RESIZED,
        id="gelu",
    ),
    *(
        Written(model=f"{name}VisionModel", config=f"{name}VisionConfig", options=VIT, call=RESIZED)
        for name in ("MetaClip2", "ChineseCLIP", "AltCLIP", "CLIPSeg")
    ),
    Written(model="SiglipVisionModel", config="SiglipVisionConfig", options=VIT, prefix=0, call=RESIZED),
    Written(model="GitVisionModel", config="GitVisionConfig", options=VIT, call=RESIZED),
    Written(model="MLCDVisionModel", config="MLCDVisionConfig", options=VIT),
    Written(
        model="MLCDVisionModel",
        config="MLCDVisionConfig",
        options={**VIT, "rope_parameters": {"rope_type": "axial", "rope_theta": 70.0}},
        id="base",
    ),
    Written(model="Tipsv2VisionModel", config="Tipsv2VisionConfig", options=SMALLER, prefix=2),
    Written(
        model="Tipsv2VisionModel",
        config="Tipsv2VisionConfig",
        options={**SMALLER, "use_swiglu_ffn": True},
        prefix=2,
        id="swiglu",
    ),
    Written(model="Aimv2VisionModel", config="Aimv2VisionConfig", options=VIT, prefix=0, sizes=(NATIVE,)),
    Written(
        model="Aimv2VisionModel", config="Aimv2VisionConfig", options={**VIT, "is_native": True}, prefix=0, id="native"
    ),
    Written(
        model="RadioModel",
        config="RadioConfig",
        options={**SMALLER, "mlp_ratio": 2.0, "num_cls_tokens": 2, "num_registers": 2, "max_img_size": 128}
        | {"patch_dim": 192, "summary_idxs": [0, 1], "norm_mean": [0.0] * 3, "norm_std": [1.0] * 3},
        prefix=4,
    ),
    *(
        Written(
            model=f"{kind}Model",
            config=f"{kind}Config",
            options={"image_size": 64, "embed_dim": 12, "depths": [2, 2, 2], "num_heads": [1, 2, 4], **more},
            prefix=0,
            sizes=(NATIVE, WIDE, (96, 128), uneven),
            stride=16,
            id=name,
        )
        for kind, uneven, further in (("Swin", (80, 112), FIRST_SWINS), ("Swinv2", (48, 80), SWINS))
        for name, more in further.items()
    ),
    Written(
        model="ConvNextModel",
        config="ConvNextConfig",
        options=STAGES,
        sizes=(NATIVE, WIDE),
        stride=32,
        layer=4,
    ),
    Written(
        model="ConvNextV2Model",
        config="ConvNextV2Config",
        options=STAGES,
        sizes=(NATIVE, WIDE),
        stride=32,
        layer=4,
    ),
    Written(
        model="HieraModel",
        config="HieraConfig",
        options={"image_size": [64, 64], "embed_dim": 8, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8]},
        prefix=0,
        sizes=(NATIVE, WIDE),
        call=RESIZED,
        stride=32,
    ),
    Written(
        model="SamVisionModel",
        config="SamVisionConfig",
        options={
            **SMALLER,
            "mlp_ratio": 2.0,
            "output_channels": 16,
            "window_size": 3,
            "global_attn_indexes": [1],
            "mlp_dim": 96,
        },
        sizes=(NATIVE,),
    ),
    Written(
        model="Sam2HieraDetModel",
        config="Sam2HieraDetConfig",
        options={
            "hidden_size": 8,
            "image_size": [64, 64],
            "blocks_per_stage": [1, 2, 2, 1],
            "embed_dim_per_stage": [8, 16, 32, 64],
            "num_attention_heads_per_stage": [1, 2, 4, 8],
            "window_size_per_stage": [8, 4, 4, 2],
            "global_attention_blocks": [4],
            "window_positional_embedding_background_size": [4, 4],
        },
        output="channels last",
        sizes=(NATIVE, WIDE),
        stride=32,
        layer=4,
    ),
]


def written(case: Written, folder: Path) -> Any:
    """The peer's model with every weight drawn anew, saved by its own code."""
    import transformers

    torch.manual_seed(0)
    model = getattr(transformers, case.model)(getattr(transformers, case.config)(**case.options)).eval()
    for parameter in model.parameters():
        parameter.data.normal_(std=0.3)
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
        elif name.endswith("running_mean"):
            buffer.normal_(std=0.3)
    model.save_pretrained(folder)
    return model


CLIPS = [
    Written(
        model="VivitModel",
        config="VivitConfig",
        options={**VIT, "num_frames": 6, "tubelet_size": [2, 8, 8]},
        sizes=(NATIVE,),
    ),
    Written(
        model="VideoMAEModel", config="VideoMAEConfig", options={**VIT, "num_frames": 6}, prefix=0, sizes=(NATIVE,)
    ),
    Written(
        model="VideoMAEModel",
        config="VideoMAEConfig",
        options={**VIT, "num_frames": 6, "use_mean_pooling": False},
        prefix=0,
        sizes=(NATIVE,),
        id="norm",
    ),
    Written(
        model="TimesformerModel",
        config="TimesformerConfig",
        options={**VIT, "num_frames": 6},
        sizes=(NATIVE, (128, 64), (96, 64), (32, 128)),
    ),
    Written(
        model="VJEPA2Model",
        config="VJEPA2Config",
        options={"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "mlp_ratio": 2.0, "crop_size": 64}
        | {"patch_size": 8, "frames_per_clip": 6, "pred_hidden_size": 12, "pred_num_attention_heads": 2}
        | {"pred_num_hidden_layers": 1, "pred_num_mask_tokens": 2},
        prefix=0,
        sizes=(NATIVE,),
        call={"skip_predictor": True},
    ),
]
