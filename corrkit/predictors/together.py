"""Several predictors of one clip in step: each frame is encoded once for all that show it to one network alike."""

import time
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Generic

from corrkit.backbones.contract import Backbone
from corrkit.backbones.layers import encode_together, network_key
from corrkit.backbones.precision import worked_in
from corrkit.beside import Beside
from corrkit.predictors.contract import Predictor
from corrkit.predictors.propagator import Propagator
from corrkit.protocols import Protocol
from corrkit.tasks.contract import ClipT, Label, Notes, Task, Truth

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def predict_together(
    lanes: Sequence[tuple[Predictor, Protocol, ClipT]], task: Task[ClipT, Label, Truth], decoding: Beside
) -> "Iterator[list[Stream[Label]]]":
    """The predictions of each lane, as its own `predict` gives them; to be asked for frame by frame, lane by lane.

    Features wait for the slowest lane, so whoever runs ahead of the others costs memory.

    Args:
        lanes: predictors, each with its protocol and the clip as that protocol sees it.
        task: of all the protocols.
        decoding: where soft maps become labels.
    """
    passes: dict[Hashable, _Pass] = {}
    streams: list[Stream[Label]] = []
    for predictor, protocol, clip in lanes:
        stream = _stream(predictor, protocol, clip, task, passes, decoding)
        streams.append(stream)
    with ExitStack() as stack:
        for shared in passes.values():
            stack.enter_context(closing(shared))
        for stream in streams:
            stack.enter_context(closing(stream))
        yield streams


def _stream(
    predictor: Predictor,
    protocol: Protocol,
    clip: ClipT,
    task: Task[ClipT, Label, Truth],
    passes: "dict[Hashable, _Pass]",
    decoding: Beside,
) -> "Stream[Label]":
    if not isinstance(predictor, Propagator):
        alone = predictor.predict(clip, task, protocol)
        return Stream(alone, None)
    seen = predictor.network_input(clip, protocol)
    key = network_key(predictor.backbone), predictor.precision, seen
    if key not in passes:
        passes[key] = _Pass(lambda: predictor.frames(clip, seen), predictor)
    features = passes[key].join(predictor.under(protocol.features))
    predictions = predictor.propagated(features, clip, task, protocol, seen, decoding)
    return Stream(predictions, passes[key])


class Stream(Generic[Label]):
    """The predictions of one lane, frame by frame, what they cost, and in the end what is odd about them.

    Args:
        predictions: of frames 0, 1, ... in order.
        shared: the pass that their features come from, if any.
    """

    def __init__(self, predictions: Generator[Label | None, None, Notes], shared: "_Pass | None") -> None:
        self._predictions, self._shared = predictions, shared
        self._own = 0.0
        self.notes: Notes = ()

    def __iter__(self) -> Iterator[Label | None]:
        return self

    def __next__(self) -> Label | None:
        started, before = time.perf_counter(), self._in_pass
        try:
            return next(self._predictions)
        except StopIteration as end:
            self.notes = end.value or ()
            raise
        finally:
            self._own += time.perf_counter() - started - (self._in_pass - before)

    @property
    def seconds(self) -> float:
        """As if the lane had its pass to itself."""
        return self._own + self._in_pass

    @property
    def _in_pass(self) -> float:
        return self._shared.seconds if self._shared else 0.0

    def close(self) -> None:
        """Predicts no more frames."""
        self._predictions.close()


class _Pass:
    """One pass of a network over a clip: features wait for each reader until it asks for them.

    Args:
        frames: opens the frames, as the network takes them.
        predictor: whose device and precision the network works with.
    """

    def __init__(self, frames: "Callable[[], Iterator[Tensor]]", predictor: Propagator) -> None:
        self._open_frames, self._predictor = frames, predictor
        self._backbones: list[Backbone] = []
        self._waiting: list[deque[Tensor]] = []
        self._frames: Iterator[Tensor] | None = None
        self._encoded: Iterator[list[Tensor]] = iter(())
        self.seconds = 0.0

    def join(self, backbone: Backbone) -> "Iterator[Tensor]":
        """The features [h, w, C] of every frame from this backbone; all join before any reads."""
        assert self._frames is None, "a reader that joins late would miss frames"
        waiting: deque[Tensor] = deque()
        self._backbones.append(backbone)
        self._waiting.append(waiting)
        return self._read(waiting)

    def close(self) -> None:
        """Reads no more frames."""
        if isinstance(self._frames, Generator):
            self._frames.close()

    def _read(self, waiting: "deque[Tensor]") -> "Iterator[Tensor]":
        while waiting or self._advance():
            yield waiting.popleft()

    def _advance(self) -> bool:
        """Encodes the next frame, where there is one."""
        started = time.perf_counter()
        if self._frames is None:
            self._frames = self._open_frames()
            encoded = encode_together(self._backbones, self._frames)
            self._encoded = worked_in(self._predictor.precision, self._predictor.device, encoded)
        found = next(self._encoded, None)
        for waiting, features in zip(self._waiting, found or (), strict=found is not None):
            waiting.append(features)
        self.seconds += time.perf_counter() - started
        return found is not None
