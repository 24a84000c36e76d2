"""Backbones that carry a state from the first frame of a clip on."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from corrkit.backbones.framewise import Framewise

if TYPE_CHECKING:
    from torch import Tensor


class Recurrent(Framewise):
    """A network with `step(frames, state)`; calling the backbone takes each frame as the first of a clip.

    Frames go through one by one, whatever the device: each needs the state that the one before has left.
    """

    def encode(self, frames: "Iterable[Tensor]") -> "Iterator[Tensor]":
        """Normalised frames [3, H, W] of one clip in order to features [h, w, C], one per frame, streaming."""
        network: Any = self.network
        state = None
        for frame in frames:
            features, state = network.step(frame[None], state)
            yield features[0].float()
