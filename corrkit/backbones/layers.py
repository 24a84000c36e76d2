"""Several layers of one network in one pass: each layer is a backbone of its own, the forward pass is shared."""

import copy
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Self

from corrkit.backbones.batches import Batches
from corrkit.backbones.contract import Backbone, interface_of
from corrkit.backbones.framewise import Framewise
from corrkit.backbones.loading import Loading, open_layers
from corrkit.backbones.networks.base import Network
from corrkit.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from torch import Tensor


def load_layers(spec: str, layers: Sequence[str], loading: Loading) -> "list[SharedLayer]":
    """One backbone per layer, from a file that is read once; together they cost one forward pass per frame.

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
    shared = SharedPass(network, Batches())
    return [SharedLayer(alone, shared, number) for alone, number in zip(every, numbers, strict=True)]


def network_key(backbone: Backbone) -> Hashable:
    """Equal for backbones that one pass can serve: layers that were loaded together, or one and the same."""
    return id(backbone.shared) if isinstance(backbone, SharedLayer) else id(backbone)


def layer_key(backbone: Backbone) -> Hashable:
    """Equal for those backbones of one `network_key` that give the same features of one input."""
    return backbone.number if isinstance(backbone, SharedLayer) else None


def encode_together(backbones: Sequence[Backbone], frames: "Iterable[Tensor]") -> "Iterator[list[Tensor]]":
    """Features of one clip from several backbones of one `network_key`, in one pass of their network.

    Args:
        backbones: at least one; the same one may stand there several times.
        frames: normalised frames [3, H, W] in order.

    Returns:
        For each frame the features [h, w, C] of each backbone, streaming, as its own `encode` gives them.
    """
    first = backbones[0]
    if not isinstance(first, SharedLayer):
        return ([features] * len(backbones) for features in first.encode(frames))
    layers = [backbone.number for backbone in backbones if isinstance(backbone, SharedLayer)]
    return first.shared.encode(frames, layers)


class SharedPass:
    """A network that gives several of its layers in one pass.

    Args:
        network: whose layers are asked for.
        batches: shared by the network under all rules.
    """

    def __init__(self, network: Network, batches: Batches) -> None:
        self.network, self.batches = network, batches
        self._under: dict[str, SharedPass] = {}

    def encode(self, frames: "Iterable[Tensor]", layers: Sequence[int]) -> "Iterator[list[Tensor]]":
        """Frames [3, H, W] of one clip in order to the features [h, w, C] of each layer, frame by frame."""
        distinct = tuple(dict.fromkeys(layers))

        def forward(batch: "Tensor") -> "Iterator[list[Tensor]]":
            found = dict(zip(distinct, self.network.taps(batch, distinct), strict=True))
            return (_of_frame(found, number, layers) for number in range(len(batch)))

        return self.batches.through(forward, frames)

    def with_position(self, rule: str) -> "SharedPass":
        """The pass of all these layers under another rule, one for all who ask; this one stays as it is."""
        if rule not in self._under:
            self._under[rule] = SharedPass(self.network.with_position(rule), self.batches)
        return self._under[rule]


class SharedLayer(Framewise):
    """One layer's backbone: all that it says of itself is what the layer says when it is evaluated alone.

    Args:
        alone: the backbone of this layer on its own.
        shared: the pass it shares.
        number: of the layer, from 1.
    """

    def __init__(self, alone: Framewise, shared: SharedPass, number: int) -> None:
        super().__init__(shared.network, interface_of(alone), shared.batches)
        self.shared, self.number = shared, number

    def __call__(self, frames: "Tensor") -> "Tensor":
        """Normalised frames [B, 3, H, W] to features [B, h, w, C] of this layer."""
        return self.shared.network.taps(frames, (self.number,))[0].float()

    def with_position(self, rule: str) -> Self:
        """Under another rule of position embeddings, in the pass of all layers under that rule."""
        other = copy.copy(self)
        other.shared = self.shared.with_position(rule)
        other.network = other.shared.network
        return other


def _of_frame(maps: "Mapping[int, Tensor]", number: int, layers: Sequence[int]) -> "list[Tensor]":
    """Of a batch's maps [B, h, w, C] by layer one frame's [h, w, C], for each of the layers asked for."""
    features = {layer: own[number].float() for layer, own in maps.items()}
    return [features[layer] for layer in layers]


def _number(layer: str, depth: int) -> int:
    if not str(layer).isdecimal() or not 1 <= int(layer) <= depth:
        raise CheckpointError(f"There is no layer {layer!r}: the network has {depth}.", f"Give 1 to {depth}, or all.")
    return int(layer)
