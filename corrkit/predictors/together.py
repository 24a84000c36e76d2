"""Several predictors of one clip in step.

Each frame is encoded once for all that show it to one network alike, and matched once for all that look for neighbours
in one window.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic

from corrkit.backbones.contract import Backbone
from corrkit.backbones.layers import encode_together, layer_key, network_key
from corrkit.backbones.precision import worked_in
from corrkit.beside import Beside
from corrkit.predictors.contract import Predictor
from corrkit.predictors.propagator import NetworkInput, Propagator
from corrkit.protocols import Protocol
from corrkit.tasks.contract import AnyClip, ClipT, Label, Notes, Task, Truth

if TYPE_CHECKING:
    from torch import Tensor

    from corrkit.propagation.starts import Matched


@contextmanager
def predict_together(
    lanes: Sequence[tuple[Predictor, Protocol, ClipT]], task: Task[ClipT, Label, Truth], decoding: Beside
) -> "Iterator[list[Stream[Label]]]":
    """The predictions of each lane, as its own `predict` gives them; to be asked for frame by frame, lane by lane.

    Features are encoded once for each network and input, neighbours found once for each window (`matching_key`). Both
    wait for the slowest lane, so whoever runs ahead of the others costs memory.

    Args:
        lanes: predictors, each with its protocol and the clip as that protocol sees it.
        task: of all the protocols.
        decoding: where soft maps become labels.
    """
    passes: dict[Hashable, _Pass] = {}
    seen = [_seen(*lane, passes) for lane in lanes]
    keys = Counter(one.key for one in seen if one is not None)
    matchings: dict[Hashable, _Matching] = {}
    streams: list[Stream[Label]] = []
    for (predictor, protocol, clip), one in zip(lanes, seen, strict=True):
        if one is None or not isinstance(predictor, Propagator):
            alone = predictor.predict(clip, task, protocol)
            streams.append(Stream(alone, ()))
            continue
        features = one.shared.join(one.backbone)
        matching = None
        if one.key is not None and keys[one.key] > 1:  # a lane without company matches by itself
            if one.key not in matchings:
                matchings[one.key] = _Matching(one.shared, one.backbone)
            matching = matchings[one.key]
        matched = None if matching is None else matching.join(protocol)
        predictions = predictor.propagated(features, clip, task, protocol, one.input, decoding, matched)
        streams.append(Stream(predictions, [one.shared] if matching is None else [one.shared, matching]))
    with ExitStack() as stack:
        for shared in passes.values():
            stack.enter_context(closing(shared))
        for stream in streams:
            stack.enter_context(closing(stream))
        yield streams


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What a lane's network is shown, and the pass that shows it.

    key: equal for lanes that one matching serves; None for a lane that no other can share one with.
    """

    input: NetworkInput
    backbone: Backbone
    shared: "_Pass"
    key: Hashable | None


def _seen(predictor: Predictor, protocol: Protocol, clip: AnyClip, passes: "dict[Hashable, _Pass]") -> _Seen | None:
    """None for a predictor that has no network."""
    from corrkit.propagation.propagator import matching_key

    if not isinstance(predictor, Propagator):
        return None
    seen, backbone = predictor.network_input(clip, protocol), predictor.under(protocol.features)
    place = network_key(predictor.backbone), predictor.precision, seen
    if place not in passes:
        passes[place] = _Pass(lambda: predictor.frames(clip, seen), predictor)
    own = None if predictor.knows_classes else matching_key(protocol)
    key = None if own is None else (place, layer_key(backbone), own)
    return _Seen(input=seen, backbone=backbone, shared=passes[place], key=key)


class Stream(Generic[Label]):
    """The predictions of one lane, frame by frame, what they cost, and in the end what is odd about them.

    Args:
        predictions: of frames 0, 1, ... in order.
        shared: the pass and the matching that they come from, if any.
    """

    def __init__(
        self, predictions: Generator[Label | None, None, Notes], shared: "Sequence[_Pass | _Matching]"
    ) -> None:
        self._predictions, self._shared = predictions, shared
        self._own = 0.0
        self.notes: Notes = ()

    def __iter__(self) -> Iterator[Label | None]:
        return self

    def __next__(self) -> Label | None:
        started, before = time.perf_counter(), self._in_shared
        try:
            return next(self._predictions)
        except StopIteration as end:
            self.notes = end.value or ()
            raise
        finally:
            self._own += time.perf_counter() - started - (self._in_shared - before)

    @property
    def seconds(self) -> float:
        """As if the lane had its pass and its matching to itself."""
        return self._own + self._in_shared

    @property
    def _in_shared(self) -> float:
        return sum(one.seconds for one in self._shared)

    def close(self) -> None:
        """Predicts no more frames."""
        self._predictions.close()


class _Matching:
    """One matching of a clip's frames, for all lanes of one key.

    Args:
        shared: the pass that its features come from.
        backbone: of all the lanes.
    """

    def __init__(self, shared: "_Pass", backbone: Backbone) -> None:
        from corrkit.propagation.propagator import SharedMatching

        self._pass = shared
        self._steps = SharedMatching(shared.join(backbone))
        self.seconds = 0.0

    def join(self, protocol: Protocol) -> "Iterator[Matched]":
        """The steps of a protocol; all join before any reads."""
        return self._timed(self._steps.join(protocol))

    def _timed(self, steps: "Iterator[Matched]") -> "Iterator[Matched]":
        """Adds up the time spent in them, less that in the pass."""
        while True:
            started, before = time.perf_counter(), self._pass.seconds
            step = next(steps, None)
            self.seconds += time.perf_counter() - started - (self._pass.seconds - before)
            if step is None:
                return
            yield step


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
