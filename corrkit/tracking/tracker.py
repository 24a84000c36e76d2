"""`Tracker`: labels carried through a stream of frames, one step a frame."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from corrkit.backbones.contract import Backbone
from corrkit.errors import ProtocolError, UsageError
from corrkit.inference import exact_inference, training_state_untouched
from corrkit.palette import VOID
from corrkit.predictors.contract import Predictor
from corrkit.predictors.loading import make_predictor
from corrkit.predictors.propagator import Carrier, Propagator
from corrkit.protocols import Protocol, load_protocol
from corrkit.protocols.schema import PointLabels
from corrkit.subject import constants_of
from corrkit.tasks import load_task
from corrkit.tasks.contract import Codec, Geometry, Notes
from corrkit.tasks.jhmdb_points import PointCodec
from corrkit.tasks.masks import MaskCodec

if TYPE_CHECKING:
    import torch

Frame: TypeAlias = NDArray[np.uint8]
Labels: TypeAlias = NDArray[Any]
"""An id mask [H, W] uint8, or points [J, 2] float64: (x, y) in pixels, the centre of the top left one is (0, 0)."""
Model: TypeAlias = "str | Path | Backbone | torch.nn.Module | Predictor"


class Tracker:
    """Labels of a first frame carried through a stream, each frame's labels before the next frame is there.

    It is the propagation that `corrkit.evaluate` scores: over a clip's frames it gives the predictions of an evaluation
    under the same protocol (on a CPU to the last bit). Memory holds the context of the protocol, whatever the length.

    Args:
        model: a spec, a backbone or a module, as for `corrkit.evaluate`; one that sees later frames can't follow a
            stream.
        protocol: "TASK/NAME", a file or constants; a name alone, or None for the default, is of davis for masks and of
            jhmdb for points.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        **overrides: protocol constants by leaf name, e.g. radius=20.

    Raises:
        CorrkitError: for a checkpoint or protocol that can't be used.
    """

    def __init__(
        self, model: Model, *, protocol: str | Protocol | None = None, device: str = "auto", **overrides: object
    ) -> None:
        self._predictor = propagator_of(model, device)
        self._protocol, self._overrides = _loaded(protocol), overrides
        if isinstance(self._protocol, Protocol):
            self.protocol_for(points=isinstance(self._protocol.labels, PointLabels))
        self._under_way: _UnderWay | None = None

    def __getstate__(self) -> dict[str, object]:
        if self._under_way is not None:
            raise UsageError("A Tracker that follows a stream can't be copied.", "Copy it before `start`.")
        return vars(self)

    @property
    def notes(self) -> Notes:
        """What is odd about the labels given since `start`: a sentence and its detail."""
        return self._started().carrier.notes

    def start(self, frame: Frame, labels: Labels) -> Labels:
        """Begins anew with the labels of a frame.

        Args:
            frame: uint8 RGB [H, W, 3].
            labels: an id mask [H, W] of whole numbers: 0 is background, 255 void, which counts as background; or
                points [J, 2].

        Returns:
            What an evaluation takes for the prediction of this frame: as a rule the labels themselves.

        Raises:
            UsageError: for frames or labels of another form, an empty mask, or one without background.
            ProtocolError: for a protocol that is not for such labels.
        """
        require_frame(frame)
        labels, is_points = checked(labels, (frame.shape[0], frame.shape[1]), is_first=True)
        protocol = self.protocol_for(points=is_points)
        self._under_way = None
        with training_state_untouched(self._predictor.live), exact_inference():
            under_way = _UnderWay.begun(self._predictor, protocol, frame, labels)
            prediction = next(under_way.carrier)
        self._under_way = under_way
        return prediction

    def step(self, frame: Frame) -> Labels:
        """The labels of the next frame. Raises UsageError for a frame of another size, or before `start`."""
        return self._advanced(frame, None)

    def add(self, frame: Frame, labels: Labels) -> Labels:
        """As `step`, with labels that are given in this frame: new objects, or better labels of those there are.

        Args:
            frame: the next frame.
            labels: an id mask that holds nothing but what is given; or points [J, 2], NaN for those that are not
                given, new ones behind. What is given is followed from this frame on; all else goes on as it was.

        Raises:
            UsageError: as `start`, and for labels of another kind than those at the start.
        """
        under_way = self._started()
        require_frame(frame)
        labels, is_points = checked(labels, (frame.shape[0], frame.shape[1]), is_first=False)
        if is_points != bool(under_way.num_points):
            raise UsageError("Masks and points can't be mixed in one stream.", "Use a Tracker for each.")
        if is_points and len(labels) < under_way.num_points:
            raise UsageError(
                f"{len(labels)} points are given, {under_way.num_points} are followed.", "Give NaN for those not given."
            )
        return self._advanced(frame, labels)

    def _advanced(self, frame: Frame, given: Labels | None) -> Labels:
        under_way = self._started()
        require_frame(frame)
        if frame.shape[:2] != under_way.size:
            height, width = under_way.size
            raise UsageError(
                f"Frame {under_way.count} is {frame.shape[1]}x{frame.shape[0]}, the first was {width}x{height}.",
                "Bring all frames to one size, or start anew.",
            )
        self._under_way = None  # an error within ends it
        with training_state_untouched(self._predictor.live), exact_inference():
            prediction = under_way.advanced(frame, given)
        self._under_way = under_way
        return prediction

    def _started(self) -> "_UnderWay":
        if self._under_way is None:
            raise UsageError(
                "There are no labels to carry on.", "Call start(frame, labels) first, also after an error."
            )
        return self._under_way

    def protocol_for(self, *, points: bool) -> Protocol:
        """The constants by which points, or masks, are followed. Raises CorrkitError where they can't be."""
        protocol = constants_for(self._protocol, self._overrides, points=points)
        if isinstance(protocol.labels, PointLabels) != points:
            other, own = ("points", "masks") if points else ("masks", "points")
            raise ProtocolError(f"{protocol.identifier} carries {own}, not {other}.", "Choose another protocol.")
        if getattr(protocol.frames, "stored_size", ()):
            raise ProtocolError(
                f"{protocol.identifier} is for copies of a data set that its own preprocessing wrote (stored_size).",
                "Choose another protocol, or set stored_size=[].",
            )
        self._predictor.require(protocol)
        mode = self._predictor.mode_under(protocol)
        if mode.sees_future:
            raise UsageError(
                f"{self._predictor.name} sees windows of {mode.length} frames, later ones too: a stream has none yet.",
                "Leave the window out (window=0).",
            )
        return protocol


def _loaded(protocol: str | Protocol | None) -> str | Protocol | None:
    """The constants of "TASK/NAME" or a file; a name alone is left, since the labels tell its task."""
    if isinstance(protocol, str) and (Path(protocol).is_file() or "/" in protocol):
        return load_protocol(protocol)
    return protocol


def constants_for(asked: str | Protocol | None, overrides: Mapping[str, object], *, points: bool) -> Protocol:
    """A protocol with overrides, asked for as in `Tracker`. Raises ProtocolError or UsageError for unknown ones."""
    asked = _loaded(asked)
    task = asked.task if isinstance(asked, Protocol) else "jhmdb" if points else "davis"
    return constants_of(load_task(task), asked, overrides)


@dataclass(kw_only=True)
class _UnderWay:
    """A stream that has begun.

    size: (height, width) of its frames. waiting: frames that the network has not seen yet. prepare: from a frame to the
    network's input. num_points: how many are followed, 0 where it is masks. count: frames taken.
    """

    size: tuple[int, int]
    num_points: int
    waiting: "deque[torch.Tensor]"
    prepare: "Callable[[Frame], torch.Tensor]"
    carrier: "Carrier[Labels]"
    count: int = 1

    @classmethod
    def begun(cls, predictor: Propagator, protocol: Protocol, frame: Frame, labels: Labels) -> "_UnderWay":
        size = frame.shape[0], frame.shape[1]
        seen = predictor.input_of(Tracker, size, protocol)
        preparation = seen.preparation()

        def prepare(frame: Frame) -> "torch.Tensor":
            return preparation(frame).to(predictor.device)

        waiting = deque([prepare(frame)])
        features = _encoded(predictor.under(protocol.features), waiting)
        first = next(features)
        codec = _codec(labels, predictor.geometry(first, seen, protocol), protocol)
        carrier = Carrier(chain([first], features), codec, labels, protocol, first.device, ahead=0)
        num_points = len(labels) if isinstance(protocol.labels, PointLabels) else 0
        return cls(size=size, num_points=num_points, waiting=waiting, prepare=prepare, carrier=carrier)

    def advanced(self, frame: Frame, given: Labels | None) -> Labels:
        """The prediction of the next frame, in which labels may be given."""
        if given is not None:
            self.carrier.add(self.count, given)
            self.num_points = len(given) if self.num_points else 0
        self.waiting.append(self.prepare(frame))
        self.count += 1
        return next(self.carrier)


def _encoded(backbone: Backbone, waiting: "deque[torch.Tensor]") -> "Iterator[torch.Tensor]":
    """Features of frames as they come. Those seen one by one are encoded one by one: none may be waited for."""

    def coming() -> "Iterator[torch.Tensor]":
        while True:
            if not waiting:
                raise UsageError(
                    f"{backbone.report.system} asks for frames ahead of the stream.", "Evaluate it on clips."
                )
            yield waiting.popleft()

    if backbone.mode.kind != "framewise":
        return iter(backbone.encode(coming()))
    return (features for frame in coming() for features in backbone.encode([frame]))


def _codec(labels: Labels, geometry: Geometry, protocol: Protocol) -> Codec[Labels]:
    if isinstance(protocol.labels, PointLabels):
        return PointCodec(geometry, protocol.labels, protocol.readout)
    return MaskCodec(labels, geometry, protocol.labels, protocol.readout)


def checked(labels: Labels, size: tuple[int, int], *, is_first: bool) -> tuple[Labels, bool]:
    """Labels in the form that codecs take, and whether they are points.

    Args:
        labels: see `Tracker.start` and `Tracker.add`.
        size: (height, width) of the frame.
        is_first: whether they begin a stream: then points are all given, and a mask has an object and background.

    Raises:
        UsageError: naming what they are instead.
    """
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 2 and labels.dtype.kind in "fiu" and labels.shape != size:
        labels = labels.astype(np.float64)
        unknown = np.isnan(labels).any(axis=1)
        if not len(labels) or unknown.all() or (is_first and unknown.any()):
            raise UsageError(
                f"{int((~unknown).sum())} of {len(labels)} points are given.", "Give (x, y) of every point."
            )
        return labels, True
    if labels.ndim != 2 or labels.dtype.kind not in "uib":
        raise UsageError(
            f"Labels are {labels.dtype} of shape {list(labels.shape)}.",
            "Give an id mask [H, W] of whole numbers, or points [J, 2].",
        )
    if labels.shape != size:
        turned = " It seems to be turned: frames are as the video's rotation flag says." * (labels.shape[::-1] == size)
        raise UsageError(
            f"The mask is {labels.shape[1]}x{labels.shape[0]}, the frame {size[1]}x{size[0]}.{turned}",
            "Draw it on a frame of this size.",
        )
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) <= VOID:
        raise UsageError(f"The mask holds ids from {labels.min()} to {labels.max()}.", f"Ids are 1 to {VOID - 1}.")
    ids = np.where(labels == VOID, 0, labels).astype(np.uint8)
    if not ids.any():
        raise UsageError("The mask is empty: it holds no object to follow.", "Give each object an id from 1 on.")
    if is_first and ids.all():
        raise UsageError("No pixel of the mask has id 0, the background.", "Leave what is no object 0.")
    return ids, False


def require_frame(frame: Frame) -> None:
    """Raises UsageError for anything but uint8 RGB [H, W, 3]."""
    if not (isinstance(frame, np.ndarray) and frame.ndim == 3 and frame.shape[2] == 3 and frame.dtype == np.uint8):
        found = f"{frame.dtype} of shape {list(frame.shape)}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise UsageError(f"A frame is {found}.", "Give frames as uint8 RGB [H, W, 3].")


def propagator_of(model: Model, device: str) -> Propagator:
    """The propagator of a model. Raises CorrkitError for one that can't be loaded, or has no features."""
    predictor = make_predictor(model, device=device)
    if not isinstance(predictor, Propagator):
        raise UsageError(f"{predictor.name} has no features to match.", "Name a network, or rgb or hog.")
    return predictor
