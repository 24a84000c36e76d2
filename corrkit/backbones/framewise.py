"""Backbones that see each frame on its own."""

import copy
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Self

from corrkit.backbones.batches import Batches
from corrkit.backbones.contract import Described, Interface
from corrkit.backbones.networks.base import Network

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class Framewise(Described):
    """A network under the backbone contract (`corrkit.backbones.contract.Backbone`).

    Args:
        network: normalised frames [B, 3, H, W] to features [B, h, w, C].
        interface: what the backbone says of itself.
        batches: those of the backbone that this one is made of, if any.
    """

    def __init__(self, network: "nn.Module", interface: Interface, batches: Batches | None = None) -> None:
        super().__init__(interface)
        self.network, self.batches = network, batches or Batches()

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
        return self.batches.through(self, frames)

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
