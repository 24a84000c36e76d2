"""ResNets trained for correspondence or by contrast, each with the dense variant that its authors test."""

import re
from typing import TYPE_CHECKING

from corrkit.checkpoints.rules import ResNetRules
from corrkit.checkpoints.system import Layout, State, System

if TYPE_CHECKING:
    from corrkit.checkpoints.opening import Opened

_BUILD = "corrkit.backbones.networks.resnet:build"
_TORCHVISION = {r"conv1\.weight": 4, r"layer1\.0\.conv1\.weight": 4, r"layer1\.0\.bn1\.running_mean": 1}
LAB = ((50.0, 0.0, 0.0), (50.0, 127.0, 127.0))


def complete(state: State) -> State:
    """Batch counters, which no evaluation reads, and 5-D kernels as 2-D ones (TimeCycle inflates in time)."""
    import torch

    flat = {name: tensor.squeeze(2) if tensor.ndim == 5 else tensor for name, tensor in state.items()}
    counters = {
        re.sub("running_mean$", "num_batches_tracked", name): torch.tensor(0)
        for name in state
        if name.endswith("running_mean")
    }
    return {**flat, **counters}


def _told_from_vfs(opened: "Opened") -> str | None:
    """Whether a file with VFS's names is of Spa-then-Temp: tools/train.py keeps the configuration in meta.config."""
    from corrkit.checkpoints.heads import entry

    branches = opened.tree.get("state_dict", opened.tree) if isinstance(opened.tree, dict) else {}
    config = entry(opened.tree, "meta.config")
    if any(str(name).split(".")[0] == "backbone_t" for name in branches):
        return "a second backbone, backbone_t"
    if isinstance(config, str) and re.search(r"type\s*=\s*'Framework'|pool_type\s*=\s*'none'", config):
        return "meta.config"
    if re.search(r"spa.?then.?temp", opened.path.name, re.IGNORECASE):
        return "the name of the file"
    return None


RESNET = Layout(name="torchvision ResNet", anchors=_TORCHVISION, convert=complete)
PADDED_RESNET = Layout(
    name="ResNet with padding modules",
    anchors={r"conv1\.1\.weight": 4, r"layer1\.0\.conv1\.1\.weight": 4},
    renames=((r"((layer\d\.\d+\.)?conv\d)\.1\.", r"\1."),),
    convert=complete,
)
INFLATED_RESNET = Layout(
    name="ResNet inflated in time",
    anchors={r"encoderVideo\.conv1\.weight": 5, r"encoderVideo\.layer1\.0\.conv1\.weight": 5},
    renames=((r"encoderVideo\.", ""),),
    convert=complete,
)
NUMBERED_RESNET = Layout(  # nn.Sequential(*list(resnet.children())[:-1]), as lightly's examples build it
    name="ResNet as a numbered sequence",
    anchors={r"0\.weight": 4, r"1\.running_mean": 1, r"4\.0\.conv1\.weight": 4, r"7\.0\.conv1\.weight": 4},
    renames=(
        (r"0\.", "conv1."),
        (r"1\.", "bn1."),
        *((rf"{number + 3}\.", f"layer{number}.") for number in range(1, 5)),
    ),
    convert=complete,
)
MM_RESNET = Layout(
    name="mmcv ResNet",
    anchors={r"conv1\.conv\.weight": 4, r"layer1\.0\.conv1\.conv\.weight": 4},
    renames=(
        (r"conv1\.conv\.", "conv1."),
        (r"conv1\.bn\.", "bn1."),
        (r"(layer\d\.\d+)\.conv(\d)\.conv\.", r"\1.conv\2."),
        (r"(layer\d\.\d+)\.conv(\d)\.bn\.", r"\1.bn\2."),
        (r"(layer\d\.\d+)\.downsample\.conv\.", r"\1.downsample.0."),
        (r"(layer\d\.\d+)\.downsample\.bn\.", r"\1.downsample.1."),
    ),
    convert=complete,
)
MAST_RESNET = Layout(
    name="MAST ResNet",
    anchors={r"feature_extraction\.conv1\.0\.weight": 4, r"post_convolution\.weight": 4},
    renames=(
        (r"feature_extraction\.", ""),
        (r"conv1\.0\.", "conv1."),
        (r"conv1\.1\.", "bn1."),
        (r"(layer\d\.\d+)\.left\.0\.", r"\1.conv1."),
        (r"(layer\d\.\d+)\.left\.1\.", r"\1.bn1."),
        (r"(layer\d\.\d+)\.left\.3\.", r"\1.conv2."),
        (r"(layer\d\.\d+)\.left\.4\.", r"\1.bn2."),
        (r"(layer\d\.\d+)\.shortcut\.", r"\1.downsample."),
    ),
    convert=complete,
)

ENTRIES = (
    System(
        name="mast",
        title="MAST",
        layouts=(MAST_RESNET,),
        build=_BUILD,
        rules=ResNetRules(layer="post_convolution", pool="none", colour="lab"),
        mean=LAB[0],
        std=LAB[1],
        source="zlai0/MAST a57b043",
        proven="golden",
        notes=("MAST was trained on Lab frames and matches without normalising: its own protocol is davis/mast.",),
    ),
    System(
        name="timecycle",
        title="TimeCycle",
        layouts=(INFLATED_RESNET,),
        drop={
            r"afterconv[34]_trans\..*": "head of pre-training or classification",
            r"linear2\..*": "head of pre-training or classification",
        },
        build=_BUILD,
        rules=ResNetRules(),
        source="xiaolonw/TimeCycle 16d33ac; strides and layer ajabri/videowalk 047f3f4 code/utils/__init__.py:255",
        proven="golden",
        notes=("--layer afterconv1 gives the features that TimeCycle's own test uses.",),
    ),
    System(
        name="uvc",
        title="UVC",
        layouts=(RESNET,),
        beside=(r"(.*\.)?gray_encoder\.conv1\.weight",),
        prefers=(("gray_encoder", "rgb_encoder"),),
        build=_BUILD,
        rules=ResNetRules(layer=4, colour="grey"),
        source="Liusifei/UVC 4336938 libs/model.py:183",
        proven="golden",
        notes=("UVC's encoder sees the luminance only, in three equal channels.",),
    ),
    System(
        name="spathentemp",
        title="Spa-then-Temp",
        layouts=(MM_RESNET,),
        told=_told_from_vfs,
        prefers=(("backbone", "backbone_t"),),
        build=_BUILD,
        rules=ResNetRules(strides=(1, 2, 2, 1), pool="none", colour="lab"),
        mean=LAB[0],
        std=LAB[1],
        source="qianduoduolr/Spa-then-Temp 4c94362 configs/test/res18_d8.py",
        proven="golden",
        notes=(
            "Its tensors are named as VFS's: the configuration inside, a second backbone or the file's name tells.",
            "Evaluated as its d8 configuration: stride 8, no pooling.",
        ),
    ),
    System(
        name="vfs",
        title="VFS",
        layouts=(MM_RESNET,),
        drop={r"img_head\..*": "head of pre-training or classification"},
        build=_BUILD,
        rules=ResNetRules(),
        source="xvjiarui/VFS 8e055cc tools/test.py:131",
        proven="golden",
        notes=("Spa-then-Temp names its tensors alike; nothing in this file points to it.",),
    ),
    System(
        name="crw",
        title="CRW",
        layouts=(RESNET, PADDED_RESNET),
        beside=(r"(.*\.)?(selfsim_fc\..*|encoder\.model\.conv1(\.1)?\.weight)",),
        drop={r"selfsim_fc\..*": "head of pre-training or classification"},
        build=_BUILD,
        rules=ResNetRules(padding="reflect"),
        source="ajabri/videowalk 047f3f4 code/resnet.py:20",
        proven="golden",
    ),
    System(
        name="sfc",
        title="SFC, the fine-grained network",
        layouts=(RESNET,),
        beside=(r"(.*\.)?online_encoder\.conv1\.weight",),
        prefers=(("online_encoder", "target_encoder"),),
        build=_BUILD,
        rules=ResNetRules(),
        source="Alxead/SFC c4e349a code/models/encoder.py:93",
        proven="golden",
        notes=("SFC fuses two networks: give FINE.pth+SEMANTIC.pth. A single file runs unfused.",),
    ),
    System(
        name="moco",
        title="MoCo v1 and v2",
        layouts=(RESNET,),
        beside=(r"(.*\.)?encoder_q\.conv1\.weight",),
        prefers=(("encoder_q", "encoder_k"),),
        build=_BUILD,
        rules=ResNetRules(),
        source="facebookresearch/moco 4397a04; dense variant ajabri/videowalk 047f3f4 code/utils/__init__.py:267",
        proven="golden",
    ),
    System(
        name="simsiam",
        title="SimSiam",
        layouts=(RESNET,),
        beside=(r"(.*\.)?encoder\.conv1\.weight", r"(.*\.)?predictor\..*"),
        build=_BUILD,
        rules=ResNetRules(),
        source="facebookresearch/simsiam a7bc177 main_lincls.py:173",
        proven="golden",
    ),
    System(
        name="resnet",
        title="ResNet of an unknown system",
        layouts=(RESNET, MM_RESNET, PADDED_RESNET, NUMBERED_RESNET),
        build=_BUILD,
        rules=ResNetRules(),
        source="the dense variant of ajabri/videowalk 047f3f4 code/resnet.py:20",
        proven="unknown",
        notes=(
            "Evaluated as CRW's test does with any ResNet: layer 3 at stride 8.",
            "Plain strides are assumed: timm's resnetaa* and resnetblur* average or blur there, which no tensor tells.",
        ),
    ),
)
