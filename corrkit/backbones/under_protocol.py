"""A backbone as a protocol asks for it: rule of positions, windows of frames, mean of layers."""

from typing import TYPE_CHECKING

import torch
from torch import nn

from corrkit.backbones.contract import Backbone, interface_of, with_position
from corrkit.backbones.framewise import Framewise
from corrkit.backbones.layers import SharedLayer
from corrkit.backbones.networks.base import Network
from corrkit.backbones.windowed import Windowed
from corrkit.errors import UsageError
from corrkit.protocols.schema import Features

if TYPE_CHECKING:
    from torch import Tensor


def under(backbone: Backbone, rules: Features) -> Backbone:
    """The backbone under `position`, `window`, `window_padding`, `time_upsampling` and `layers`; it stays as it is.

    Raises:
        UsageError: the backbone has no such layers, or was opened with other windows.
        CheckpointError: its network takes no windows of that length.
    """
    return _mean_of_layers(_in_windows(with_position(backbone, rules.position), rules), rules.layers)


def sees_clips(backbone: Backbone) -> bool:
    """Whether it sees windows of real frames, or its network could."""
    network = backbone.network if isinstance(backbone, Framewise) else None
    return isinstance(backbone, Windowed) or (isinstance(network, Network) and network.window is not None)


def _in_windows(backbone: Backbone, rule: Features) -> Backbone:
    """In windows where its network was trained on clips; itself where it sees single frames."""
    if isinstance(backbone, Windowed):
        if rule.window not in (0, backbone.mode.length):
            raise UsageError(
                f"The protocol shows windows of {rule.window} frames, --window asks for {backbone.mode.length}.",
                "Leave --window out, or set window=0.",
            )
        return backbone.under(rule)
    if rule.window == 0 or not isinstance(backbone, Framewise) or not sees_clips(backbone):
        return backbone
    if isinstance(backbone, SharedLayer):
        raise UsageError(
            f"The protocol shows windows of {rule.window} frames, in which layers share no pass.",
            "Use --layer, one at a time, or set window=0.",
        )
    return Windowed(backbone, rule.window, padding=rule.window_padding, upsampling=rule.time_upsampling)


def _mean_of_layers(backbone: Backbone, count: int) -> Backbone:
    """Whose features are the mean over the last `count` layers up to its own; itself for 1."""
    if count == 1:
        return backbone
    alone = backbone if isinstance(backbone, Framewise) and not isinstance(backbone, SharedLayer) else None
    network = None if alone is None or alone.mode.kind != "framewise" else alone.network
    if alone is None or not isinstance(network, Network):
        raise UsageError(
            f"features.layers is {count}, but {backbone.report.system} as it is opened gives no layers to average.",
            "Leave --layers and --window out, or set layers=1.",
        )
    if count > network.layer:
        raise UsageError(
            f"features.layers is {count}, but there are {network.layer} layers up to the one that is evaluated.",
            f"Set layers to {network.layer} at most.",
        )
    return Framewise(_Mean(network, count), interface_of(alone), alone.batches)


class _Mean(nn.Module):
    """Normalised frames [B, 3, H, W] to the mean [B, h, w, C] over the last `count` layers."""

    def __init__(self, network: Network, count: int) -> None:
        super().__init__()
        self.network = network
        self.layers = tuple(range(network.layer - count + 1, network.layer + 1))

    def forward(self, frames: "Tensor") -> "Tensor":
        found = self.network.taps(frames, self.layers)
        shapes = sorted({tuple(maps.shape[1:]) for maps in found})
        if len(shapes) > 1:
            raise UsageError(
                f"The last {len(self.layers)} layers give features of shapes {shapes}, of which there is no mean.",
                "Set layers=1.",
            )
        return torch.stack(found).mean(0)
