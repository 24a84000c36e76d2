"""Several layers of one network in one pass: each layer is a backbone of its own, the forward pass is shared."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from corrkit.backbones.framewise import Framewise
from corrkit.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from torch import Tensor


def load_layers(
    spec: str, layers: Sequence[str], *, heads: int | None = None, key: str | None = None, system: str | None = None
) -> "list[SharedLayer]":
    """One backbone per layer; consumed in lockstep they cost one forward pass per frame.

    Args:
        spec: a checkpoint file or folder, as for `load_backbone`.
        layers: numbers from 1, or ["all"].
        heads: as for `load_backbone`.
        key: as for `load_backbone`.
        system: as for `load_backbone`.

    Raises:
        CheckpointError: as `load_backbone`, and for a layer that does not exist.
        UsageError: for a network that gives no intermediate layers, or whose layers differ in input size.
    """
    from corrkit.backbones.loading import load_backbone

    whole = load_backbone(spec, heads=heads, key=key, system=system)
    network = getattr(whole, "network", None)
    depth = getattr(network, "num_layers", getattr(network, "layer", None))
    if not isinstance(whole, Framewise) or not isinstance(depth, int):
        raise UsageError(f"{spec} gives no layers that can share a pass.", "Evaluate them one by one with --layer.")
    numbers = list(range(1, depth + 1)) if list(layers) == ["all"] else [_number(layer, depth) for layer in layers]
    shared = SharedPass(whole, tuple(numbers))
    found: list[SharedLayer] = []
    for number in numbers:
        single = load_backbone(spec, heads=heads, layer=number, key=key, system=system)
        assert isinstance(single, Framewise)
        if single.multiple != whole.multiple:
            raise UsageError(f"The layers of {spec} need inputs of different sizes.", "Use --layer, one at a time.")
        found.append(SharedLayer(single, shared, len(found)))
    return found


class SharedPass:
    """Runs the network once per frame and hands each layer its features.

    Args:
        backbone: framewise, with `network.taps`.
        layers: numbers of the layers, in the order of their `SharedLayer`s.
    """

    def __init__(self, backbone: Framewise, layers: tuple[int, ...]) -> None:
        self.backbone, self.layers = backbone, layers
        self._waiting: list[deque[Tensor]] = []

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
                for queue, layer in zip(self._waiting, self._taps(frame), strict=True):
                    queue.append(layer)
            yield self._waiting[position].popleft()

    def _taps(self, frame: "Tensor") -> "list[Tensor]":
        taps: list[Tensor] = self.backbone.network.taps(frame[None], self.layers)  # type: ignore[operator]  # checked by load_layers
        return [layer[0].float() for layer in taps]


class SharedLayer(Framewise):
    """One layer's backbone: report and digest are those of the layer evaluated alone.

    Args:
        alone: the backbone of this layer on its own.
        shared: the pass it shares.
        position: its place among the layers; 0 leads.
    """

    def __init__(self, alone: Framewise, shared: SharedPass, position: int) -> None:
        super().__init__(
            shared.backbone.network,
            stride=alone.stride,
            mean=alone.mean,
            std=alone.std,
            report=alone.report,
            digest=alone.digest,
            multiple=alone.multiple,
        )
        self._shared, self._position = shared, position

    def __call__(self, frames: "Tensor") -> "Tensor":
        """Normalised frames [B, 3, H, W] to features [B, h, w, C] of this layer."""
        layer = self._shared.layers[self._position]
        tapped: list[Tensor] = self.network.taps(frames, (layer,))  # type: ignore[operator]  # checked by load_layers
        return tapped[0].float()

    def encode(self, frames: "Iterable[Tensor]") -> "Iterator[Tensor]":
        """See `SharedPass.features`; only the first layer's frames are read."""
        if self._position == 0:
            self._shared.start()
        return self._shared.features(self._position, iter(frames))

    def with_position(self, rule: str) -> "SharedLayer":
        """Under another rule of position embeddings; the shared network follows the first layer."""
        if self._position == 0:
            self._shared.backbone = self._shared.backbone.with_position(rule)
        return self


def _number(layer: str, depth: int) -> int:
    if not str(layer).isdecimal() or not 1 <= int(layer) <= depth:
        raise CheckpointError(f"There is no layer {layer!r}: the network has {depth}.", f"Give 1 to {depth}, or all.")
    return int(layer)
