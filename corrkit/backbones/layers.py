"""Several layers of one network in one pass: each layer is a backbone of its own, the forward pass is shared."""

import copy
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from corrkit.backbones.contract import interface_of
from corrkit.backbones.framewise import Framewise
from corrkit.backbones.loading import Loading, open_layers
from corrkit.backbones.networks.base import Network
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
    """Runs the network once per frame and hands each layer its features, for layers in lockstep.

    Args:
        network: whose layers are asked for.
        layers: their numbers, in the order of their `SharedLayer`s.
    """

    def __init__(self, network: Network, layers: tuple[int, ...]) -> None:
        self.network, self.layers = network, layers
        self._clip: _Clip | None = None
        self._under: dict[str, SharedPass] = {}

    @contextmanager
    def lockstep(self, members: "Sequence[SharedLayer]") -> "Iterator[None]":
        """Until it ends, the members' next `encode` is of one clip, whose frames all of them see.

        Outside of it each layer's `encode` is a pass of its own.
        """
        positions = tuple(dict.fromkeys(member.position for member in members))
        self._begin(positions)
        try:
            yield
        finally:
            self._begin(())

    def stream(self, position: int, frames: "Iterator[Tensor]") -> "Iterator[Tensor] | None":
        """The features of one layer of the clip in lockstep; None where it takes no part, or has its stream already."""
        return None if self._clip is None else self._clip.stream(position, frames)

    def with_position(self, rule: str) -> "SharedPass":
        """The pass of all these layers under another rule, one for all who ask; this one stays as it is."""
        if rule not in self._under:
            self._under[rule] = SharedPass(self.network.with_position(rule), self.layers)
            self._under[rule]._begin(() if self._clip is None else self._clip.positions)
        return self._under[rule]

    def _begin(self, positions: tuple[int, ...]) -> None:
        self._clip = _Clip(self, positions) if positions else None
        for other in self._under.values():
            other._begin(positions)


class _Clip:
    """One pass over one clip: features wait for each layer that takes part until it asks for them."""

    def __init__(self, shared: SharedPass, positions: tuple[int, ...]) -> None:
        self.positions = positions
        self._network, self._layers = shared.network, tuple(shared.layers[position] for position in positions)
        self._waiting: dict[int, deque[Tensor]] = {position: deque() for position in positions}
        self._taken: set[int] = set()
        self._frames: Iterator[Tensor] | None = None

    def stream(self, position: int, frames: "Iterator[Tensor]") -> "Iterator[Tensor] | None":
        if position not in self.positions or position in self._taken:
            return None
        self._taken.add(position)
        return self._features(position, frames)

    def _features(self, position: int, frames: "Iterator[Tensor]") -> "Iterator[Tensor]":
        """Whoever asks first gives the frames; those of the others are never read."""
        self._frames = self._frames or frames
        while True:
            if not self._waiting[position]:
                frame = next(self._frames, None)
                if frame is None:
                    return
                found = self._network.taps(frame[None], self._layers)
                for queue, features in zip(self._waiting.values(), found, strict=True):
                    queue.append(features[0].float())
            yield self._waiting[position].popleft()


class SharedLayer(Framewise):
    """One layer's backbone: all that it says of itself is what the layer says when it is evaluated alone.

    Args:
        alone: the backbone of this layer on its own.
        shared: the pass it shares.
        position: its place among the layers of the pass.
    """

    def __init__(self, alone: Framewise, shared: SharedPass, position: int) -> None:
        super().__init__(shared.network, interface_of(alone))
        self.shared, self.position = shared, position

    def __call__(self, frames: "Tensor") -> "Tensor":
        """Normalised frames [B, 3, H, W] to features [B, h, w, C] of this layer."""
        layer = self.shared.layers[self.position]
        return self.shared.network.taps(frames, (layer,))[0].float()

    def encode(self, frames: "Iterable[Tensor]") -> "Iterator[Tensor]":
        """In lockstep with other layers a part of their pass (`SharedPass.lockstep`), else a pass of its own."""
        stream = self.shared.stream(self.position, iter(frames))
        return super().encode(frames) if stream is None else stream

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
