"""Several layers of one network in one pass: each layer is a backbone of its own, the forward pass is shared."""

import copy
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Self

from corrkit.backbones.contract import interface_of
from corrkit.backbones.framewise import Framewise
from corrkit.backbones.loading import Loading, open_layers
from corrkit.backbones.network import Network
from corrkit.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from torch import Tensor


def load_layers(spec: str, layers: Sequence[str], loading: Loading) -> "list[SharedLayer]":
    """One backbone per layer, from a file that is read once; in lockstep they cost one forward pass per frame.

    Args:
        spec: a checkpoint file or folder, as for `load_backbone`.
        layers: numbers from 1, or ["all"].
        loading: as for `load_backbone`; without layer or window.

    Raises:
        CheckpointError: as `load_backbone`, and for a layer that does not exist.
        UsageError: for a network that gives no intermediate layers, or whose layers differ in input size; for options
            that several layers exclude.
    """
    for option in ("layer", "window"):
        if option in loading.given:
            raise UsageError(f"--layers and --{option} exclude each other.", "Use one of them.")
    backbone_of = open_layers(spec, loading)
    whole = backbone_of(None)
    network = whole.network
    if not isinstance(network, Network) or whole.mode.kind != "framewise":
        raise UsageError(f"{spec} gives no layers that can share a pass.", "Leave --layers out.")
    depth = network.num_layers
    numbers = list(range(1, depth + 1)) if list(layers) == ["all"] else [_number(layer, depth) for layer in layers]
    every = [backbone_of(number) for number in numbers]
    if any(alone.multiple != whole.multiple for alone in every):
        raise UsageError(f"The layers of {spec} need inputs of different sizes.", "Use --layer, one at a time.")
    shared = SharedPass(network, tuple(numbers))
    return [SharedLayer(alone, shared, position) for position, alone in enumerate(every)]


class SharedPass:
    """Runs the network once per frame and hands each layer its features.

    Args:
        network: whose layers are asked for.
        layers: their numbers, in the order of their `SharedLayer`s.
    """

    def __init__(self, network: Network, layers: tuple[int, ...]) -> None:
        self.network, self.layers = network, layers
        self._waiting: list[deque[Tensor]] = []
        self._under: dict[str, SharedPass] = {}

    def start(self) -> None:
        """Forgets what is left of an earlier clip."""
        self._waiting = [deque() for _ in self.layers]

    def features(self, position: int, frames: "Iterator[Tensor]") -> "Iterator[Tensor]":
        """The features of one layer. The first layer reads the frames, the others what it left for them."""
        while True:
            if not self._waiting[position]:
                frame = next(frames, None) if position == 0 else None
                if frame is None:
                    return
                for queue, layer in zip(self._waiting, self.network.taps(frame[None], self.layers), strict=True):
                    queue.append(layer[0].float())
            yield self._waiting[position].popleft()

    def with_position(self, rule: str) -> "SharedPass":
        """The pass of all these layers under another rule, one for all who ask; this one stays as it is."""
        if rule not in self._under:
            self._under[rule] = SharedPass(self.network.with_position(rule), self.layers)
        return self._under[rule]


class SharedLayer(Framewise):
    """One layer's backbone: all that it says of itself is what the layer says when it is evaluated alone.

    Args:
        alone: the backbone of this layer on its own.
        shared: the pass it shares.
        position: its place among the layers; 0 leads.
    """

    def __init__(self, alone: Framewise, shared: SharedPass, position: int) -> None:
        super().__init__(shared.network, interface_of(alone))
        self.shared, self._position = shared, position

    def __call__(self, frames: "Tensor") -> "Tensor":
        """Normalised frames [B, 3, H, W] to features [B, h, w, C] of this layer."""
        layer = self.shared.layers[self._position]
        return self.shared.network.taps(frames, (layer,))[0].float()

    def encode(self, frames: "Iterable[Tensor]") -> "Iterator[Tensor]":
        """See `SharedPass.features`; only the first layer's frames are read."""
        if self._position == 0:
            self.shared.start()
        return self.shared.features(self._position, iter(frames))

    def with_position(self, rule: str) -> Self:
        """Under another rule of position embeddings, in the pass of all layers under that rule."""
        other = copy.copy(self)
        other.shared = self.shared.with_position(rule)
        other.network = other.shared.network
        return other


def _number(layer: str, depth: int) -> int:
    if not str(layer).isdecimal() or not 1 <= int(layer) <= depth:
        raise CheckpointError(f"There is no layer {layer!r}: the network has {depth}.", f"Give 1 to {depth}, or all.")
    return int(layer)
