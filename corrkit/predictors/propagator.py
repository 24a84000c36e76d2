"""The propagator: a backbone under a protocol."""

import functools
from collections.abc import Callable, Generator, Hashable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Generic, Self

from corrkit.backbones.contract import (
    IMAGENET_STD,
    Backbone,
    Colour,
    Interface,
    Mode,
    interface_of,
    on_device,
)
from corrkit.backbones.framewise import Framewise
from corrkit.backbones.precision import Precision, require_precision, worked_in
from corrkit.beside import Beside
from corrkit.errors import ProtocolError, UsageError
from corrkit.memory import require_memory
from corrkit.predictors.contract import Predictor
from corrkit.protocols import Protocol
from corrkit.protocols.schema import Features, Frames
from corrkit.tasks.clips import some
from corrkit.tasks.contract import AnyClip, ClipT, Codec, Geometry, Label, Notes, Task, Truth

if TYPE_CHECKING:
    import torch

    from corrkit.frames.preparation import FramePreparation, Resized
    from corrkit.propagation.starts import Matched

_BYTES_PER_PIXEL = 15
"""Of a frame's resized colours, and of them normalised in float32: what no network's features can do without."""

ResizedFrames = dict[Hashable, Callable[[int], "Resized"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkInput:
    """All that a backbone's features of a clip depend on beside clip and backbone; equal for protocols that agree.

    source: which kind of frames, of which (height, width): a re-saved copy is another than the data set's own.
    size: (height, width) of the network's input. interpolation: to that size. mean, std: per channel, in the units of
    the colour. position: see `backbones.contract.with_position`. layers: how many are averaged. windows: length,
    padding and time up-sampling for a network that sees clips, None for others. rule: where size and interpolation
    come from. multiple: of which the network takes sides.
    """

    source: tuple[type, tuple[int, int]]
    size: tuple[int, int]
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    colour: Colour
    position: str
    layers: int
    windows: tuple[int, str, str] | None
    rule: Frames = field(compare=False)
    multiple: int = field(compare=False)

    def preparation(self) -> "FramePreparation":
        """From a decoded frame to the network's input."""
        from corrkit.frames.preparation import FramePreparation

        return FramePreparation(self.size, self.rule, self.mean, self.std, self.colour, multiple=self.multiple)


class Propagator(Predictor):
    """A backbone under a protocol: features of every frame, nearest neighbours in the context, labels carried along.

    Args:
        backbone: see `corrkit.backbones.contract.Backbone`.
        device: where features, matching and read-out run.
        name: for tables and run folders.
        resized: keeps resized frames from call to call, for a caller that evaluates the same clips often.
        precision: of the network's products; features and matching are float32 all the same.

    Raises:
        UsageError: for a precision that the device hasn't, or a backbone without a network.
    """

    knows_classes = False
    """Whether `classes` says anything, so that it matches otherwise than other propagators."""

    def __init__(
        self,
        backbone: Backbone,
        device: "torch.device",
        name: str,
        resized: ResizedFrames | None = None,
        *,
        precision: Precision = "float32",
    ) -> None:
        require_precision(precision, device)
        if precision != "float32" and not backbone.report.parameters:
            raise UsageError(f"{name} has no network that could work in {precision}.", "Leave --precision out.")
        self.name, self.precision = name, precision
        self._resized = resized
        self.backbone, self.interface = on_device(backbone, device), interface_of(backbone)
        self.device, self.device_type = device, device.type
        self.report, self.mode, self.digest = self.interface.report, self.interface.mode, self.interface.digest
        self.stride: int = self.interface.stride

    def require(self, protocol: Protocol) -> None:
        """Raises ProtocolError for one of networks of another colour, or that contradicts itself; else as `under`."""
        from corrkit.propagation.matching import Matcher

        asked, colour = protocol.features.colour, self.interface.colour
        if asked not in ("published", colour):
            raise ProtocolError(
                f"{protocol.identifier} is for networks that take {asked} pictures; {self.name} takes {colour}.",
                "Choose another protocol, or run it with the network's own colours: --set colour=published.",
            )
        Matcher(protocol.affinity)  # refuses what contradicts itself
        self.under(protocol.features)

    def network_input(self, clip: AnyClip, protocol: Protocol) -> NetworkInput:
        """What the network sees of a clip under a protocol. Raises DataError for frames that are too small."""
        return self.input_of(type(clip.frames), clip.frames.size, protocol)

    def input_of(self, source: type, size: tuple[int, int], protocol: Protocol) -> NetworkInput:
        """The same of frames of one size (height, width) and kind.

        Raises:
            DataError: for frames that are too small, or so large that not even one fits into memory.
        """
        from corrkit.backbones.under_protocol import sees_clips
        from corrkit.frames.preparation import network_size

        said, rules = self.interface, protocol.features
        height, width = network_size(size, protocol.frames, said.multiple)
        what = f"A frame of {size[1]}x{size[0]} as the network's input of {width}x{height}"
        require_memory(_BYTES_PER_PIXEL * height * width, what, "Make it smaller: --set size=[...].")
        return NetworkInput(
            source=(source, size),
            size=(height, width),
            interpolation=protocol.frames.interpolation,
            mean=said.mean,
            std=protocol_std(said, protocol),
            colour=said.colour,
            position=rules.position if said.report.position == "absolute" else "published",
            layers=rules.layers,
            windows=(rules.window, rules.window_padding, rules.time_upsampling) if sees_clips(self.backbone) else None,
            rule=protocol.frames,
            multiple=said.multiple,
        )

    def under(self, rules: Features) -> Backbone:
        """The backbone as a protocol asks for it; see `backbones.under_protocol`."""
        from corrkit.backbones.under_protocol import under

        return under(self.backbone, rules)

    @property
    def frames_at_a_time(self) -> int | None:
        """See `Predictor`."""
        return self.backbone.batches.shrunk_to if isinstance(self.backbone, Framewise) else None

    def mode_under(self, protocol: Protocol) -> Mode:
        """See `Predictor`."""
        return self.under(protocol.features).mode

    def notes_under(self, protocol: Protocol) -> tuple[str, ...]:
        """See `Predictor`."""
        rule, notes = protocol.features.position, self.under(protocol.features).report.notes
        if self.report.position != "own" or rule == "published":
            return notes
        return (
            *notes,
            f"{self.report.system} resamples its positions by a rule of its own; that of the protocol ({rule}) is not "
            "applied.",
        )

    def frames(self, clip: AnyClip, seen: NetworkInput) -> "Iterator[torch.Tensor]":
        """Every frame as the network takes it, normalised [3, H, W], in order, read ahead."""
        from corrkit.frames.preparation import frame_of_constant_size, read_ahead

        prepare = seen.preparation()

        def read(index: int) -> "Resized":
            return prepare.resize(frame_of_constant_size(clip.frames, index, clip.name))

        resized: Callable[[int], Resized] = read
        if self._resized is not None:
            key = (clip.name, seen.source, seen.size, seen.interpolation, seen.colour)
            resized = self._resized.setdefault(key, functools.cache(read))

        def frame(index: int) -> "torch.Tensor":
            ready = prepare.normalise(resized(index))
            return ready.pin_memory() if self.device_type == "cuda" else ready  # else the upload waits for the GPU

        return (frame.to(self.device, non_blocking=True) for frame in read_ahead(frame, len(clip.frames)))

    def predict(
        self, clip: ClipT, task: Task[ClipT, Label, Truth], protocol: Protocol
    ) -> Generator[Label | None, None, Notes]:
        """See `Predictor`. Memory holds the context, not the clip."""
        seen = self.network_input(clip, protocol)
        encoded = iter(self.under(protocol.features).encode(self.frames(clip, seen)))
        features = worked_in(self.precision, self.device, encoded)
        with Beside("labels") as decoding:
            return (yield from self.propagated(features, clip, task, protocol, seen, decoding))

    def propagated(
        self,
        features: "Iterator[torch.Tensor]",
        clip: ClipT,
        task: Task[ClipT, Label, Truth],
        protocol: Protocol,
        seen: NetworkInput,
        decoding: Beside,
        matched: "Iterator[Matched] | None" = None,
    ) -> Generator[Label | None, None, Notes]:
        """The predictions that follow from features [h, w, C] of every frame, streaming; see `Predictor`.

        Soft maps become labels in the thread of `decoding`: on a GPU it waits for them, and nobody else does.
        matched: see `propagate`.
        """
        given = task.given(clip, protocol)
        first = next(features)
        self._require_context(first, len(clip.frames), protocol)
        codec = task.codec(clip, self.geometry(first, seen, protocol), protocol)
        carrier = Carrier(
            chain([first], features),
            codec,
            given[0],
            protocol,
            first.device,
            classes=self.classes(clip, codec),
            matched=matched,
            decoded=decoding.mapped,
        )
        for index, label in given.items():
            if index > 0:
                carrier.add(index, label)
        yield from carrier
        return carrier.notes

    def _require_context(self, first: "torch.Tensor", num_frames: int, protocol: Protocol) -> None:
        """Raises DataError where the features of the context, which `propagate` holds, don't fit into memory."""
        from corrkit.propagation.memory import context_frames

        context = max(1, min(num_frames - 1, len(context_frames(num_frames, protocol.memory))))
        if first.device.type == "cpu":
            needed = 4 * first.numel() * protocol.features.finer**2 * context
            what = f"The context of {context} frames, each with features of {list(first.shape)},"
            require_memory(needed, what, "Make the input or the context smaller: --set size=[...], --set context=N.")

    def geometry(self, features: "torch.Tensor", seen: NetworkInput, protocol: Protocol) -> Geometry:
        """Sizes of a clip whose first frame has these features [h, w, C]."""
        finer = protocol.features.finer
        grid = (features.shape[0] * finer, features.shape[1] * finer)
        return Geometry(original=seen.source[1], network=seen.size, grid=grid, stride=self.stride / finer)

    def classes(self, clip: ClipT, codec: Codec[Label]) -> "Iterator[torch.Tensor | None] | None":
        """What is known of the cells of every frame (see `propagate`); nothing."""
        return None


class Carrier(Generic[Label]):
    """What is given in some frames of a clip, carried to all: an iterator of predictions of frames 0, 1, 2, ...

    Args:
        features: [h, w, C] of every frame in order.
        codec: of the clip's labels.
        first: what is given in frame 0.
        protocol: the rules.
        device: of the features.
        classes: see `corrkit.propagate`, as are matched and ahead.
        matched: see classes.
        ahead: None takes the default.
        decoded: makes predictions of soft maps, as `map` does, one after another.
    """

    def __init__(
        self,
        features: "Iterator[torch.Tensor]",
        codec: Codec[Label],
        first: Label,
        protocol: Protocol,
        device: "torch.device",
        *,
        classes: "Iterator[torch.Tensor | None] | None" = None,
        matched: "Iterator[Matched] | None" = None,
        ahead: int | None = None,
        decoded: "Callable[[Callable[[torch.Tensor], Label], Iterator[torch.Tensor]], Iterator[Label]]" = map,
    ) -> None:
        from corrkit.propagation import AHEAD, propagate

        self._codec, self._device = codec, device
        self._index = 0
        self._later: dict[int, torch.Tensor] = {}
        self._copied = None if protocol.memory.predict_first else (first,)
        labels = codec.encode(first).to(device)
        self._lost = [*codec.lost(first, labels)]
        soft_maps = propagate(
            features,
            labels,
            later_labels=self._later,
            protocol=protocol,
            predicted=lambda soft: self._codec.encode(self._codec.decode(soft)),
            classes=classes,
            matched=matched,
            ahead=AHEAD if ahead is None else ahead,
        )
        self._predictions = decoded(lambda soft: self._codec.decode(soft), soft_maps)

    def add(self, frame: int, label: Label) -> None:
        """Takes what is given in a frame that has not been read yet; what it holds is followed from there on."""
        self._codec = self._codec.grown(label)
        labels = self._codec.entering(label).to(self._device)
        self._lost += self._codec.lost(label, labels)
        self._later[frame] = labels

    @property
    def notes(self) -> Notes:
        """What is odd about what was given."""
        return [("what is given without a cell on the grid can't be followed", some(self._lost))] if self._lost else []

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Label:
        if self._copied is not None:
            (first,), self._copied = self._copied, None
            prediction = self._codec.first_prediction(first)
        else:
            prediction = next(self._predictions)
        self._later.pop(self._index, None)
        self._index += 1
        return prediction


def protocol_std(interface: Interface, protocol: Protocol) -> tuple[float, ...]:
    """The protocol's divisor for backbones with ImageNet statistics, the backbone's own for all others."""
    return protocol.features.std if protocol.features.std and interface.std == IMAGENET_STD else interface.std
