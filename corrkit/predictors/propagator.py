"""The propagator: a backbone under a protocol."""

import functools
from collections.abc import Callable, Generator, Hashable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

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
from corrkit.predictors.contract import Predictor
from corrkit.protocols import Protocol
from corrkit.protocols.schema import Features, Frames
from corrkit.tasks.clips import some
from corrkit.tasks.contract import AnyClip, ClipT, Codec, Geometry, Label, Notes, Task, Truth

if TYPE_CHECKING:
    import torch

    from corrkit.frames.preparation import Resized
    from corrkit.propagation.propagator import Matched

ResizedFrames = dict[Hashable, Callable[[int], "Resized"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkInput:
    """All that a backbone's features of a clip depend on beside clip and backbone; equal for protocols that agree.

    source: which kind of frames, of which (height, width): a re-saved copy is another than the data set's own.
    size: (height, width) of the network's input. interpolation: to that size. mean, std: per channel, in the units of
    the colour. position: see `backbones.contract.with_position`. layers: how many are averaged. windows: length,
    padding and time up-sampling for a network that sees clips, None for others. rule: where size and interpolation
    come from.
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
        """Raises ProtocolError where the protocol is for networks of another colour; else as `under`."""
        asked, colour = protocol.features.colour, self.interface.colour
        if asked not in ("published", colour):
            raise ProtocolError(
                f"{protocol.identifier} is for networks that take {asked} pictures; {self.name} takes {colour}.",
                "Choose another protocol, or run it with the network's own colours: --set colour=published.",
            )
        self.under(protocol.features)

    def network_input(self, clip: AnyClip, protocol: Protocol) -> NetworkInput:
        """What the network sees of a clip under a protocol. Raises DataError for frames that are too small."""
        from corrkit.backbones.under_protocol import sees_clips
        from corrkit.frames.preparation import network_size

        said, rules = self.interface, protocol.features
        return NetworkInput(
            source=(type(clip.frames), clip.frames.size),
            size=network_size(clip.frames.size, protocol.frames, said.multiple),
            interpolation=protocol.frames.interpolation,
            mean=said.mean,
            std=protocol_std(said, protocol),
            colour=said.colour,
            position=rules.position if said.report.position == "absolute" else "published",
            layers=rules.layers,
            windows=(rules.window, rules.window_padding, rules.time_upsampling) if sees_clips(self.backbone) else None,
            rule=protocol.frames,
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
        from corrkit.frames.preparation import FramePreparation, frame_of_constant_size, read_ahead

        prepare = FramePreparation(seen.size, seen.rule, seen.mean, seen.std, seen.colour)

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
        from corrkit.propagation import propagate

        given = task.given(clip, protocol)
        first = next(features)
        finer = protocol.features.finer
        grid = (first.shape[0] * finer, first.shape[1] * finer)
        geometry = Geometry(original=clip.frames.size, network=seen.size, grid=grid, stride=self.stride / finer)
        codec = task.codec(clip, geometry, protocol)
        maps = {index: codec.encode(label).to(first.device) for index, label in given.items()}
        lost = [name for index, label in given.items() for name in codec.lost(label, maps[index])]
        labels = maps.pop(0)
        for later in maps.values():
            later[..., 0] = 0  # background was there before
        if not protocol.memory.predict_first:
            yield codec.first_prediction(given[0])

        def predicted(soft: "torch.Tensor") -> "torch.Tensor":
            return codec.encode(codec.decode(soft))

        every, classes = chain([first], features), self.classes(clip, codec)
        soft_maps = propagate(
            every,
            labels,
            later_labels=maps,
            protocol=protocol,
            predicted=predicted,
            classes=classes,
            matched=matched,
        )
        yield from decoding.mapped(codec.decode, soft_maps)
        return [("what is given without a cell on the grid can't be followed", some(lost))] if lost else []

    def classes(self, clip: ClipT, codec: Codec[Label]) -> "Iterator[torch.Tensor | None] | None":
        """What is known of the cells of every frame (see `propagate`); nothing."""
        return None


def protocol_std(interface: Interface, protocol: Protocol) -> tuple[float, ...]:
    """The protocol's divisor for backbones with ImageNet statistics, the backbone's own for all others."""
    return protocol.features.std if protocol.features.std and interface.std == IMAGENET_STD else interface.std
