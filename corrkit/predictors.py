"""Predictors turn a clip (frames and first labels) into predictions: the propagator, and the floor and the ceiling."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

from corrkit.backbones.contract import IMAGENET_STD, Backbone, Mode, Report
from corrkit.protocols import Protocol as ProtocolConstants
from corrkit.tasks.contract import Clip, Geometry, Task

if TYPE_CHECKING:
    import torch

GRID_STRIDE = 16
"""Of the oracle's grid where no backbone decides it: the ViT-S/16 that most published tables use."""


class Predictor(Protocol):
    """Anything that predicts a clip. `stride` is None where no grid is involved; `digest` None where it is unknown."""

    report: Report
    mode: Mode
    digest: str | None

    @property
    def stride(self) -> int | None:
        """Pixels of the network's input per grid cell."""
        ...

    def predict(self, clip: Clip, task: Task, protocol: ProtocolConstants) -> Iterator[Any]:
        """Predictions of frames 0..T-1 in order, streaming; None for a frame that can't be predicted."""
        ...


class Propagator:
    """A backbone under a protocol: features of every frame, nearest neighbours in the context, labels carried along.

    Args:
        backbone: see `corrkit.backbones.contract.Backbone`.
        device: where features, matching and read-out run.
    """

    def __init__(self, backbone: Backbone, device: "torch.device") -> None:
        self.backbone = backbone.to(device) if hasattr(backbone, "to") else backbone
        self.device = device
        self.report, self.mode, self.stride = backbone.report, backbone.mode, backbone.stride
        self.digest: str | None = getattr(backbone, "digest", None)

    def predict(self, clip: Clip, task: Task, protocol: ProtocolConstants) -> Iterator[Any]:
        """See `Predictor`. Memory holds the context, not the clip."""
        from corrkit.frames.preparation import FramePreparation, frame_of_constant_size, network_size, read_ahead
        from corrkit.propagation import propagate

        backbone = with_protocol_position(self.backbone, protocol)
        size = network_size(clip.frames.size, protocol.frames, getattr(backbone, "multiple", backbone.stride))
        prepare = FramePreparation(size, protocol.frames, backbone.mean, protocol_std(backbone, protocol))
        first_annotation = clip.annotation(0)

        def frame(index: int) -> "torch.Tensor":
            return prepare(frame_of_constant_size(clip.frames, index, clip.name))

        frames = (frame.to(self.device, non_blocking=True) for frame in read_ahead(frame, len(clip.frames)))
        features = iter(backbone.encode(frames))
        first = next(features)
        geometry = Geometry(
            original=clip.frames.size, network=size, grid=tuple(first.shape[:2]), stride=backbone.stride
        )
        codec = task.codec(clip, geometry, protocol)
        labels = codec.encode(first_annotation).to(first.device)
        if not protocol.memory.predict_first:
            yield first_annotation if protocol.readout.first_frame == "copy" else codec.decode(labels)
        for soft in propagate(chain([first], features), labels, protocol=protocol):
            yield codec.decode(soft)


@dataclass(frozen=True, slots=True)
class Identity:
    """Repeats the first labels at original resolution: the floor that any tracker must beat."""

    report: Report = Report(system="identity", architecture="none", parameters=0)
    mode: Mode = Mode()
    digest: str | None = "identity"
    stride: int | None = None

    def predict(self, clip: Clip, task: Task, protocol: ProtocolConstants) -> Iterator[Any]:
        """See `Predictor`."""
        first = clip.annotation(0)
        for _ in range(len(clip.frames)):
            yield first


@dataclass(frozen=True, slots=True)
class Oracle:
    """True labels of every frame through grid and read-out: the ceiling of a protocol at one stride."""

    stride: int = GRID_STRIDE
    multiple: int | None = None
    report: Report = Report(system="oracle", architecture="none", parameters=0)
    mode: Mode = field(default_factory=Mode)

    @property
    def digest(self) -> str:
        """The stride decides everything."""
        return f"oracle@{self.stride}"

    def predict(self, clip: Clip, task: Task, protocol: ProtocolConstants) -> Iterator[Any]:
        """See `Predictor`."""
        from corrkit.frames.preparation import network_size

        size = network_size(clip.frames.size, protocol.frames, self.multiple or self.stride)
        grid = tuple(-(-side // self.stride) for side in size)
        geometry = Geometry(original=clip.frames.size, network=size, grid=grid, stride=self.stride)
        codec = task.codec(clip, geometry, protocol)
        for index in range(len(clip.frames)):
            annotation = clip.annotation(index)
            yield None if annotation is None else codec.decode(codec.encode(annotation))


def with_protocol_position(backbone: Backbone, protocol: ProtocolConstants) -> Backbone:
    """The backbone under the protocol's position rule, where it has an absolute position embedding to resample."""
    rule = protocol.features.position
    if rule == "published" or backbone.report.position != "absolute" or not hasattr(backbone, "with_position"):
        return backbone
    resampled: Backbone = backbone.with_position(rule)
    return resampled


def protocol_std(backbone: Backbone, protocol: ProtocolConstants) -> tuple[float, ...]:
    """The protocol's divisor for backbones with ImageNet statistics, the backbone's own for all others."""
    if protocol.features.std and tuple(backbone.std) == IMAGENET_STD:
        return protocol.features.std
    return tuple(backbone.std)
