"""What networks in layers share: one pass that gives any of their layers, windows of frames, position rules."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from torch import Tensor, nn

from corrkit.backbones.networks.positions import RULES


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowRule:
    """The windows of real frames that a network takes: multiples of `tubelet`; of `length` only, where it has one."""

    tubelet: int = 1
    length: int | None = None


class Network(nn.Module):
    """Normalised frames [B, 3, H, W] to features [B, h, w, C] of one of its layers (blocks or stages; 1 is the first).

    Attributes:
        num_layers: how many there are.
        layer: the one that `forward` gives.
        position: the rule of `positions.RULES` for stored positions; anything else where no rule can be chosen.
        window: the windows of frames it takes; None where it sees single frames only.
    """

    num_layers: int
    layer: int
    position: str | None = None
    window: WindowRule | None = None

    def outputs(self, pixels: Tensor, upto: int) -> Iterator[Tensor]:
        """One pass: the outputs of layers 1 to `upto`, each as soon as it is there.

        Args:
            pixels: [B, 3, H, W] to outputs [B, h, w, C]; of a network that sees time [B, 3, T, H, W] to
                [B, T', h, w, C].
            upto: the last layer to execute.
        """
        raise NotImplementedError

    def still(self, frames: Tensor) -> Tensor:
        """Single frames [B, 3, H, W] as `outputs` takes them."""
        return frames

    def normed(self, output: Tensor, layer: int) -> Tensor:
        """The features that a layer's output is evaluated as: itself, unless a norm follows every layer."""
        return output

    def published(self, features: Tensor) -> Tensor:
        """What the published evaluation makes of the features of `layer`."""
        return features

    def forward(self, frames: Tensor) -> Tensor:
        """[B, 3, H, W] to [B, h, w, C]; a network that sees time sees a still clip and gives its first slice."""
        return self.published(self.taps(frames, (self.layer,))[0])

    def taps(self, frames: Tensor, layers: tuple[int, ...]) -> list[Tensor]:
        """Features [B, h, w, C] of each of the given layers, in one pass."""
        found = self._chosen(self.still(frames), layers)
        return [features[:, 0] if features.ndim == 5 else features for features in found]

    def clip(self, frames: Tensor) -> Tensor:
        """A window of frames [T, 3, H, W] to time slices [T', h, w, C]; each sees the whole window."""
        return self.published(self._chosen(frames.transpose(0, 1)[None], (self.layer,))[0])[0]

    def with_position(self, rule: str) -> Self:
        """The same network, weights shared, under another rule of `positions.RULES`."""
        other = copy.copy(self)
        if self.position in RULES:
            other.position = rule
        return other

    def _chosen(self, pixels: Tensor, layers: tuple[int, ...]) -> list[Tensor]:
        found = {
            number: self.normed(output, number)
            for number, output in enumerate(self.outputs(pixels, max(layers)), 1)
            if number in layers
        }
        return [found[number] for number in layers]
