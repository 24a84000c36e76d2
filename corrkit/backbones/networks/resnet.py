"""ResNets as dense feature extractors: timm's network with the strides, padding and pooling of each published test."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from corrkit.backbones.building import Built, fill, missing
from corrkit.backbones.networks.base import Network
from corrkit.checkpoints.recognised import Recognised
from corrkit.checkpoints.rules import ResNetRules
from corrkit.errors import CheckpointError

if TYPE_CHECKING:
    from timm.models.resnet import ResNet

_DEPTHS: dict[tuple[str | int, ...], int] = {
    ("basic", 2, 2, 2): 18,
    ("basic", 3, 4, 6): 34,
    ("bottleneck", 3, 4, 6): 50,
    ("bottleneck", 3, 4, 23): 101,
}
"""Kind and number of blocks of the first three layers (the fourth may be absent) to the usual name."""

_TAILS = ("afterconv1", "post_convolution")


def build(recognised: Recognised, *, heads: int | None = None, layer: int | str | None = None) -> Built:
    """The network of a recognised ResNet, filled.

    Args:
        recognised: the file's tensors under torchvision's names.
        heads: refused; a ResNet has none.
        layer: 1 to 4, or the name of a convolution behind them ("afterconv1" of TimeCycle); None: the system's default.

    Raises:
        CheckpointError: incomplete tensors, a layer that doesn't exist, or heads.
    """
    if heads is not None:
        raise CheckpointError(f"{recognised.path} is a ResNet, which has no attention heads.", "Leave --heads out.")
    rules: ResNetRules = recognised.system.rules
    blocks = _blocks(recognised)
    chosen = _layer(recognised, layer, rules, len(blocks))
    with torch.device("meta"):
        network = DenseResNet(_timm(recognised, blocks, rules), recognised.state, chosen)
    fill(network, recognised)
    stride = 2 * (2 if rules.pool == "max" else 1)
    for factor in rules.strides[: chosen if isinstance(chosen, int) else _before_tail(chosen)]:
        stride *= factor
    padding = _padding(recognised, rules)
    kind = "bottleneck" if _is_bottleneck(recognised) else "basic"
    depth = _DEPTHS.get((kind, *blocks[:3]))
    return Built(
        network=network,
        architecture=f"resnet{depth}" if depth else f"resnet_{kind}_{'_'.join(map(str, blocks))}",
        stride=stride,
        multiple=1,
        layer=str(chosen),
        colour=rules.colour,
        evidence=(
            ("layer", f"{chosen} of {len(blocks)} layers"),
            ("strides", f"{rules.strides}, {padding} padding, {rules.pool} pooling: {recognised.system.source}"),
        ),
    )


class DenseResNet(Network):
    """Normalised frames [B, 3, H, W] to features [B, h, w, C] of one layer.

    Args:
        net: timm's ResNet, its strides, padding and pooling already as they shall be.
        state: tensors of the file, for the shape of a convolution behind the layers.
        layer: 1 to 4, or the name of that convolution.
    """

    def __init__(self, net: "ResNet", state: dict[str, Tensor], layer: int | str) -> None:
        super().__init__()
        self.tail = layer if isinstance(layer, str) else None
        self.layer = layer if isinstance(layer, int) else _before_tail(layer)
        self.conv1, self.bn1, self.act1, self.maxpool = net.conv1, net.bn1, net.act1, net.maxpool
        self.layers = [name for name in ("layer1", "layer2", "layer3", "layer4") if hasattr(net, name)]
        self.num_layers = len(self.layers)
        for name in self.layers:
            setattr(self, name, getattr(net, name))
        for name in _TAILS:
            if f"{name}.weight" in state:
                channels, inputs, size, _ = state[f"{name}.weight"].shape
                tail = nn.Conv2d(inputs, channels, size, padding=size // 2, bias=f"{name}.bias" in state)
                setattr(self, name, tail)

    def outputs(self, pixels: Tensor, upto: int) -> Iterator[Tensor]:
        """Output [B, h, w, C] of each layer."""
        x = self.maxpool(self.act1(self.bn1(self.conv1(pixels))))
        for name in self.layers[:upto]:
            x = getattr(self, name)(x)
            yield x.permute(0, 2, 3, 1)

    def published(self, features: Tensor) -> Tensor:
        """After the convolution behind the layer, where that was chosen."""
        if self.tail is None:
            return features
        convolved: Tensor = getattr(self, self.tail)(features.permute(0, 3, 1, 2))
        if self.tail == "afterconv1":  # xiaolonw/TimeCycle 16d33ac models/videos/model_test.py:135
            convolved = functional.normalize(functional.relu(convolved), dim=1)
        return convolved.permute(0, 2, 3, 1)


def _before_tail(tail: str) -> int:
    return 3 if tail == "afterconv1" else 4


def _blocks(recognised: Recognised) -> list[int]:
    """Blocks per layer; layers beyond those of the file are left out."""
    counts: dict[int, int] = {}
    for name in recognised.state:
        match = re.match(r"layer(\d)\.(\d+)\.", name)
        if match:
            counts[int(match[1])] = max(counts.get(int(match[1]), 0), int(match[2]) + 1)
    absent = [f"layer{number}.0.conv1.weight" for number in range(1, max(counts) + 1) if number not in counts]
    if absent:
        raise missing(recognised, absent)
    return [counts[number] for number in sorted(counts)]


def _is_bottleneck(recognised: Recognised) -> bool:
    return "layer1.0.conv3.weight" in recognised.state


def _timm(recognised: Recognised, blocks: list[int], rules: ResNetRules) -> "ResNet":
    from timm.models.resnet import BasicBlock, Bottleneck, ResNet

    state = recognised.state
    widths = tuple(
        int(state[f"layer{number}.0.conv1.weight"].shape[0]) if f"layer{number}.0.conv1.weight" in state else 64
        for number in range(1, len(blocks) + 1)
    )
    block: Any = Bottleneck if _is_bottleneck(recognised) else BasicBlock
    net = ResNet(block, tuple(blocks), num_classes=0, channels=widths)
    for number, stride in enumerate(rules.strides[: len(blocks)], 1):
        first = getattr(net, f"layer{number}")[0]
        (first.conv2 if block is Bottleneck else first.conv1).stride = (stride, stride)
        if f"layer{number}.0.downsample.0.weight" not in state:
            first.downsample = None
        elif first.downsample is not None:
            first.downsample[0].stride = (stride, stride)
    if rules.pool == "none":
        net.maxpool = nn.Sequential()
    padding = _padding(recognised, rules)
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.padding not in ((0, 0), 0):
            module.padding_mode = padding
    return net


def _padding(recognised: Recognised, rules: ResNetRules) -> Literal["zeros", "reflect"]:
    """CRW reflects at borders, unless `model_type` says otherwise: ajabri/videowalk 047f3f4 code/utils/__init__.py."""
    arguments = recognised.tree.get("args") if isinstance(recognised.tree, dict) else None
    kind = getattr(arguments, "fields", {}).get("model_type")
    return "zeros" if kind in ("scratch_zeropad", "imagenet18", "imagenet50") else rules.padding


def _layer(recognised: Recognised, layer: int | str | None, rules: ResNetRules, count: int) -> int | str:
    known = [*range(1, count + 1), *(tail for tail in _TAILS if f"{tail}.weight" in recognised.state)]
    if layer is None or layer == "last":
        wanted: int | str = rules.layer
    else:
        text = str(layer).removeprefix("layer")
        wanted = int(text) if text.isdecimal() else text
    if wanted not in known:
        if layer is None and isinstance(wanted, int):  # another network that begins like a ResNet (HRNet)
            raise missing(recognised, [f"layer{wanted}.0.conv1.weight"])
        raise CheckpointError(
            f"{recognised.path} has no layer {layer if layer is not None else wanted!r}.",
            f"Give --layer one of {', '.join(map(str, known))}.",
        )
    return wanted
