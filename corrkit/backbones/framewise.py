"""Backbones that see each frame on its own."""

import copy
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Self

from corrkit.backbones.contract import Described, Interface
from corrkit.backbones.networks.base import Network

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

_GPU_BATCH = 8  # frames of a forward pass on an accelerator; on a CPU a batch gains nothing and costs memory


class Framewise(Described):
    """A network under the backbone contract (`corrkit.backbones.contract.Backbone`).

    Args:
        network: normalised frames [B, 3, H, W] to features [B, h, w, C].
        interface: what the backbone says of itself.
    """

    def __init__(self, network: "nn.Module", interface: Interface) -> None:
        super().__init__(interface)
        self.network = network

    def __call__(self, frames: "Tensor") -> "Tensor":
        """Normalised frames [B, 3, H, W] float32 to features [B, h, w, C] float32.

        Raises:
            ValueError: for frames of another shape.
        """
        if frames.ndim != 4 or frames.shape[1] != 3:
            raise ValueError(f"frames are {list(frames.shape)}, not [B, 3, H, W]")
        return self.network(frames).float()  # type: ignore[no-any-return]

    def encode(self, frames: "Iterable[Tensor]") -> "Iterator[Tensor]":
        """Normalised frames [3, H, W] of one clip in order to features [h, w, C], one per frame, streaming."""
        for batch in batches(frames):
            yield from self(batch)

    def with_position(self, rule: str) -> Self:
        """The same backbone under another resampling rule of its absolute position embedding."""
        other = copy.copy(self)
        if isinstance(self.network, Network):
            other.network = self.network.with_position(rule)
        return other

    def to(self, device: "torch.device | str") -> Self:
        """The same backbone with its network on a device (moved in place)."""
        self.network.to(device)
        return self


def batches(frames: "Iterable[Tensor]") -> "Iterator[Tensor]":
    """Frames [3, H, W] in order as what a forward pass takes of them at a time: [B, 3, H, W]."""
    import torch

    stream = iter(frames)
    first = next(stream, None)
    if first is None:
        return
    size = 1 if first.device.type == "cpu" else _GPU_BATCH
    batch = [first, *islice(stream, size - 1)]
    while batch:
        yield torch.stack(batch)
        batch = list(islice(stream, size))
