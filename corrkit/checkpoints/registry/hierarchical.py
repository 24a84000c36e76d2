"""Networks in stages: Swin (SimMIM, FastMIM), ConvNeXt V2 and FCMAE, Hiera, SAM 2's image encoder."""

import math
import re

from corrkit.checkpoints.conversions import ContradictionError, of_rank
from corrkit.checkpoints.registry import marks
from corrkit.checkpoints.rules import HieraRules, Stages, SwinRules, WindowedHieraRules
from corrkit.checkpoints.system import KINETICS, Layout, State, System

HIERA_HEADS = {96: 1, 112: 2, 144: 2, 256: 4}  # facebookresearch/hiera b12b842 hiera/hiera.py:425


def timm_downsampling(state: State) -> State:
    """Downsampling at the beginning of a stage, as in timm; published files have it at the end of the one before."""
    if "layers.0.downsample.reduction.weight" not in state:
        return state
    return {re.sub(r"^layers\.(\d+)\.downsample", _next_stage, name): tensor for name, tensor in state.items()}


def _next_stage(match: re.Match[str]) -> str:
    return f"layers.{int(match[1]) + 1}.downsample"


def _dense(state: State) -> State:
    """Sparse (MinkowskiEngine) kernels as dense ones: facebookresearch/ConvNeXt-V2 2553895 utils.py:545.

    [k·k, in, out] to [out, in, k, k], depthwise [k·k, C] to [C, 1, k, k]; the last two axes are swapped.
    """
    dense = {}
    for name, tensor in state.items():
        if name.endswith(".kernel"):
            side = math.isqrt(of_rank(name, tensor, 2, 3).shape[0])
            if side * side != tensor.shape[0]:
                raise ContradictionError(name, f"has {tensor.shape[0]} cells, which are no square kernel")
            kernel = tensor.permute(2, 1, 0) if tensor.ndim == 3 else tensor.t()[:, None]  # [out, in, k·k]
            dense[name.removesuffix("kernel") + "weight"] = kernel.unflatten(2, (side, side)).transpose(2, 3)
        else:
            dense[name] = tensor.flatten() if tensor.ndim == 2 and 1 in tensor.shape[:1] else tensor
    return {re.sub(r"\.(ln|linear)\.(?=weight$|bias$)", ".", name): tensor for name, tensor in dense.items()}


def flat_grn(state: State) -> State:
    """Gains and biases of global response normalisation [1, 1, 1, C] as [C]."""
    return {name: tensor.flatten() if ".grn." in name else tensor for name, tensor in _dense(state).items()}


SWIN = Layout(
    name="Swin",
    anchors={
        r"patch_embed\.proj\.weight": 4,
        r"layers\.0\.blocks\.0\.attn\.relative_position_bias_table": 2,
    },
    convert=timm_downsampling,
)
CONVNEXT = Layout(
    name="ConvNeXt V2",
    anchors={r"downsample_layers\.0\.0\.weight": 4, r"stages\.0\.0\.grn\.gamma": None},
    renames=(
        (r"downsample_layers\.0\.", "stem."),
        (r"downsample_layers\.(\d+)\.", r"stages.\1.downsample."),
        (r"stages\.(\d+)\.(?=\d+\.)", r"stages.\1.blocks."),
        (r"(stages\.\d+\.blocks\.\d+\.)dwconv\.", r"\1conv_dw."),
        (r"(stages\.\d+\.blocks\.\d+\.)pwconv(\d)\.", r"\1mlp.fc\2."),
        (r"(stages\.\d+\.blocks\.\d+\.)grn\.gamma$", r"\1mlp.grn.weight"),
        (r"(stages\.\d+\.blocks\.\d+\.)grn\.beta$", r"\1mlp.grn.bias"),
    ),
    convert=flat_grn,
)
HIERA = Layout(
    name="Hiera",
    anchors={
        r"patch_embed\.proj\.weight": None,
        r"pos_embed(_spatial)?": 3,
        r"blocks\.\d+\.attn\.qkv\.weight": 2,
        r"blocks\.\d+\.proj\.weight": 2,
    },
)
SAM2 = Layout(
    name="SAM 2 trunk",
    anchors={r"patch_embed\.proj\.weight": 4, r"pos_embed_window": 4, r"blocks\.\d+\.proj\.weight": 2},
    renames=((r"(blocks\.\d+\.mlp\.)layers\.0\.", r"\1fc1."), (r"(blocks\.\d+\.mlp\.)layers\.1\.", r"\1fc2.")),
)
_FINAL_NORM = marks.beside(r"((?!.*(blocks|decoder|encoder)\.).*\.)?norm\.weight")
SAM2_VARIANTS: dict[tuple[int, Stages], tuple[int, Stages, Stages]] = {
    (96, (1, 2, 7, 2)): (1, (8, 4, 14, 7), (5, 7, 9)),
    (96, (1, 2, 11, 2)): (1, (8, 4, 14, 7), (7, 10, 13)),
    (112, (2, 3, 16, 3)): (2, (8, 4, 14, 7), (12, 16, 20)),
    (144, (2, 6, 36, 4)): (2, (8, 4, 16, 8), (23, 33, 43)),
}

SAM2_TRAINED_ON = {
    "davis": (
        "the training of SAM 2 with open data sets included DAVIS (about 1.3 % of it), that without did not, and the "
        "file doesn't tell which it had (arXiv 2408.00714, appendix on training)"
    )
}

ENTRIES = (
    System(
        name="sam2",
        title="SAM 2 image encoder",
        layouts=(SAM2,),
        build="corrkit.backbones.networks.hiera:build_sam2",
        rules=WindowedHieraRules(variants=SAM2_VARIANTS),
        source="facebookresearch/sam2 2b90b9f sam2/modeling/backbones/hieradet.py",
        proven="golden",
        trained_on=SAM2_TRAINED_ON,
    ),
    System(
        name="hiera_mae",
        title="Hiera after MAE pre-training",
        layouts=(HIERA,),
        certain=marks.beside(r"(.*\.)?(encoder_norm\.weight|multi_scale_fusion_heads\..*)"),
        distinction="stride 16 in the last stage, as pre-training keeps it",
        without=(r"blocks\.\d+\.attn\.norm_q\.weight",),
        drop={
            r"encoder_norm\.(weight|bias)": "norm of the multi-scale fusion of pre-training",
            r"multi_scale_fusion_heads\..*": "multi-scale fusion of pre-training",
        },
        build="corrkit.backbones.networks.hiera:build",
        rules=HieraRules(heads=HIERA_HEADS, q_pool=2),
        source="facebookresearch/hiera b12b842 hiera/hiera_mae.py:63",
        proven="golden",
        notes=("Pre-training keeps stride 16 in the last stage and has no norm behind it; so do the features.",),
    ),
    System(
        name="hiera_video",
        title="Hiera for videos",
        layouts=(HIERA,),
        certain=_FINAL_NORM,
        distinction="stride 32 in the last stage; its own final norm was left out",
        signs=(r"pos_embed_temporal", r"pos_embed_spatial"),
        without=(r"blocks\.\d+\.attn\.norm_q\.weight",),
        build="corrkit.backbones.networks.hiera:build",
        rules=HieraRules(heads=HIERA_HEADS),
        mean=KINETICS[0],
        std=KINETICS[1],
        source="facebookresearch/hiera b12b842 hiera/hiera.py:425",
        proven="golden",
    ),
    System(
        name="hiera",
        title="Hiera",
        layouts=(HIERA,),
        certain=_FINAL_NORM,
        distinction="stride 32 in the last stage; its own final norm was left out",
        without=(r"blocks\.\d+\.attn\.norm_q\.weight",),
        build="corrkit.backbones.networks.hiera:build",
        rules=HieraRules(heads=HIERA_HEADS),
        source="facebookresearch/hiera b12b842 hiera/hiera.py:425",
        proven="golden",
    ),
    System(
        name="timm_swin",
        title="Swin in timm's own names",
        layouts=(SWIN,),
        signs=(r"layers\.1\.downsample\.reduction\.weight",),  # in front of a stage, as only timm has it
        without=(r"layers\.0\.downsample\..*",),
        build="corrkit.backbones.networks.hierarchical:build_swin",
        rules=SwinRules(pads="behind"),
        source="timm 1.0.31 models/swin_transformer.py",
        proven="golden",
        notes=("Only timm has the halving in front of a stage, so the grid is padded as timm does: behind the shift.",),
    ),
    System(
        name="swin",
        title="Swin (SimMIM, FastMIM and others with its names)",
        layouts=(SWIN,),
        build="corrkit.backbones.networks.hierarchical:build_swin",
        rules=SwinRules(),
        source="microsoft/SimMIM d3e29bc models/simmim.py:31; ggjy/FastMIM.pytorch d4eea0d mim_swin_pretrain.py:647",
        proven="golden",
    ),
    System(
        name="fcmae",
        title="FCMAE (ConvNeXt V2 as pre-trained)",
        layouts=(CONVNEXT,),
        signs=(r".*\.kernel",),
        drop={r"norm\.(weight|bias)": "norm of the mean of the features"},
        build="corrkit.backbones.networks.hierarchical:build_convnext",
        source="facebookresearch/ConvNeXt-V2 2553895 utils.py:545",
        proven="golden",
    ),
    System(
        name="convnextv2",
        title="ConvNeXt V2",
        layouts=(CONVNEXT,),
        drop={r"norm\.(weight|bias)": "norm of the mean of the features"},
        build="corrkit.backbones.networks.hierarchical:build_convnext",
        source="facebookresearch/ConvNeXt-V2 2553895 models/convnextv2.py",
        proven="golden",
    ),
)
