"""The propagation loop over a clip: features to affinities (label-free), then labels along them, and feedback."""

import itertools
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from corrkit.errors import ProtocolError
from corrkit.propagation.affinity import SparseAffinity, transport
from corrkit.propagation.contexts import Context
from corrkit.propagation.features import prepare, require_finite
from corrkit.propagation.matching import Matcher, Wanted
from corrkit.propagation.memory import Copies, context_frames, is_needed_later
from corrkit.protocols import Protocol, load_protocol, override
from corrkit.protocols.schema import Affinity, Memory

if TYPE_CHECKING:
    from torch import Tensor

    _Prepared = tuple[tuple[Tensor, Tensor], Tensor | None]
    """What `prepare` makes of a frame's features, and the classes of its cells, where these are known."""

# Query frames that are matched at once: they share context frames, so products get wider; 4 gains about a quarter.
_BLOCK = 4
_BLOCK_BYTES = 32_000_000  # features read ahead for it, beyond the first query frame


def propagate(
    features: "Tensor | Iterable[Tensor]",
    first_labels: "Tensor",
    *,
    protocol: str | Protocol = "davis/dino",
    later_labels: "Mapping[int, Tensor]" = MappingProxyType({}),
    predicted: "Callable[[Tensor], Tensor] | None" = None,
    classes: "Iterable[Tensor | None] | None" = None,
    matched: "Iterator[Matched] | None" = None,
    **overrides: object,
) -> Iterator["Tensor"]:
    """Carries the labels of frame 0 through a clip by nearest neighbours in feature space.

    Labels that enter later have a context of their own, which begins in their frame; there they take the place of
    what was propagated (visinf/dense-ulearn-vos 88e5e35 infer_vos.py:163-288).

    Streams: besides the results it holds the context frames of at most four query frames, whatever the length of the
    clip; it reads at most three frames ahead of the one it yields.

    Args:
        features: [T, h, w, C], or an iterable of [h, w, C] in the order of frames; any float type, any device.
        first_labels: [h, w, L], the label map of frame 0 in [0, 1]; h and w are `features.finer` times the features'.
        protocol: "TASK/NAME", or a `Protocol`.
        later_labels: frame after 0 to the label map [h, w, L] of what enters there, 0 in every other channel, the
            background's too.
        predicted: from a soft map [h, w, L] to the labels [h, w, L] of what is predicted from it, for protocols that
            feed predictions back (`labels.feedback`).
        classes: of the cells of every frame, [h, w] int64 with -1 for any, or None for a frame of which nothing is
            known. Cells of different classes are never matched: what an oracle of matches does.
        matched: where the first labels go, where that is found elsewhere (`SharedMatching`); features then say of
            which size they are, and where later labels go.
        **overrides: constants of the protocol by leaf or dotted name, e.g. radius=8 or predict_first=True.

    Returns:
        An iterator of soft label maps [h, w, L] float32 on the features' device, for frames 1 to T-1; for frame 0 too
        if the protocol predicts it (`predict_first`).

    Raises:
        ValueError: on wrong shapes; without `predicted` where the protocol feeds predictions back.
        ProtocolError: for an unknown protocol or override, or rules that leave a query cell without context.
        CorrkitError: while iterating, for NaN or infinite features (naming the frame).
    """
    if isinstance(protocol, str):
        protocol = load_protocol(protocol)
    protocol = override(protocol, overrides)
    if isinstance(features, torch.Tensor) and features.ndim != 4:
        raise ValueError(f"features have shape {tuple(features.shape)}, not [T, h, w, C]")
    if first_labels.ndim != 3 or 0 in first_labels.shape:
        raise ValueError(f"first_labels have shape {tuple(first_labels.shape)}, not [h, w, L]")
    if any(labels.shape != first_labels.shape for labels in later_labels.values()) or min(later_labels, default=1) < 1:
        raise ValueError("later_labels belong to frames after 0, and have the shape of first_labels")
    if not all(bool(torch.isfinite(labels).all()) for labels in (first_labels, *later_labels.values())):
        raise ValueError("labels hold NaN or infinite values")
    if protocol.labels.feedback == "prediction" and predicted is None:
        raise ValueError(f"{protocol.identifier} feeds predictions back; `predicted` does not say what these are")
    height, width, _ = first_labels.shape
    later_labels = {frame: labels for frame, labels in sorted(later_labels.items()) if bool(labels.any())}
    raw = iter(features)
    every = zip(_prepared(raw, (height, width), protocol), classes or itertools.repeat(None), strict=False)
    copies = _copies(every, len(later_labels) + (matched is None))
    if matched is None:
        matched = _matched(copies.pop(), protocol)
    elif not later_labels:
        matched = (step for step, _ in zip(matched, raw, strict=False))  # in step, so that no features wait
    first = _Start(0, first_labels.detach(), iter(()), matched, protocol)
    later = [
        _Start(frame, labels.detach(), own, _matched(own, protocol), protocol)
        for (frame, labels), own in zip(later_labels.items(), copies, strict=True)
    ]
    return _transported(first, later, protocol, predicted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """A query frame with its context and the affinity to it; frames count from the first that was given."""

    frame: int
    context: list[Copies]
    affinity: SparseAffinity


class _Start:
    """Labels that are given in one frame, on their way from there on, in a context of their own.

    Args:
        frame: where they are given.
        labels: the label map [h, w, L] of that frame.
        passed: one for every frame of the clip; those before `frame` are passed by.
        matched: where they go from there on.
        protocol: the rules.
    """

    def __init__(
        self,
        frame: int,
        labels: "Tensor",
        passed: "Iterator[_Prepared]",
        matched: Iterator[Matched],
        protocol: Protocol,
    ) -> None:
        self.frame, self.shape = frame, labels.shape
        given = labels.reshape(-1, labels.shape[2]).float()
        self.matched = matched
        self._given, self._prepared, self._protocol = given, passed, protocol
        self._passed = 0  # frames before the start
        self._channels = given.any(0).nonzero().flatten() if frame else slice(None)
        self._first: dict[str, Tensor] = {"padding": given, "long-term": given}  # of the start's frame, by role
        if protocol.labels.rescale == "classes" and frame == 0:
            # CRW rescales its prediction in place after storing it; at t = 0 that is a view of the long-term copy of
            # frame 0, while the copies before the clip stay as they were (ajabri/videowalk 047f3f4
            # code/test.py:146-152).
            self._first["long-term"] = _rescaled_over_classes(given)
        self._stored = {0: given}  # label maps [N, L], as propagated, by frame since the start

    def carried(self, step: Matched) -> "Tensor":
        """The start's own channels [N, l] in a query frame."""
        maps = [self._first[c.role] if c.role in self._first else self._stored[c.frame] for c in step.context]
        if self.frame:
            maps = [m[:, self._channels] for m in maps]
        own = torch.stack([m.to(step.affinity.weights.device) for m in maps])
        return transport(own, step.affinity)

    def joins(self, soft: "Tensor", frame: int) -> "Tensor":
        """Labels [N, L] of the clip's `frame` with the start's own in their place; frames come in order."""
        while self._passed < min(frame, self.frame):
            next(self._prepared)
            self._passed += 1
        if frame < self.frame:
            return soft
        if frame > self.frame:
            soft = soft.clone()
            soft[:, self._channels] = self.carried(next(self.matched))
            return soft
        if self._protocol.memory.predict_first:
            next(self.matched)  # of the start's own frame, whose labels are given
        share = self._given.sum(1, keepdim=True)
        return (1 - share) * soft + share * self._given

    def keep(self, labels: "Tensor", frame: int) -> None:
        """Takes the labels [N, L] of the clip's `frame` as later frames read them."""
        since = frame - self.frame
        if since < 0:
            return
        if since == 0 < self.frame:
            self._first = dict.fromkeys(self._first, labels)
        self._stored[since] = labels
        for old in [f for f in self._stored if f > 0 and not is_needed_later(f, since, self._protocol.memory)]:
            del self._stored[old]


def matched(features: Iterator["Tensor"], grid: tuple[int, int], protocol: Protocol) -> Iterator[Matched]:
    """Where the labels of every frame come from, without labels: of those that are given in the first frame.

    Args:
        features: [h, w, C] of every frame.
        grid: of the label maps, `features.finer` times (h, w).
        protocol: the rules.
    """
    prepared = zip(_prepared(features, grid, protocol), itertools.repeat(None), strict=False)
    return _matched(prepared, protocol)


class SharedMatching:
    """Where the labels of a clip's frames come from, found in one go for several protocols of one `matching_key`.

    Each step is that of the protocol's own matching, to the bit; it waits until its reader asks for it.

    Args:
        features: [h, w, C] of every frame.
    """

    def __init__(self, features: Iterator["Tensor"]) -> None:
        self._features = features
        self._protocols: list[Protocol] = []
        self._waiting: list[deque[Matched]] = []
        self._steps: Iterator[list[Matched]] | None = None

    def join(self, protocol: Protocol) -> Iterator[Matched]:
        """The steps of a protocol; all join before any reads."""
        assert self._steps is None, "a reader that joins late would miss steps"
        waiting: deque[Matched] = deque()
        self._protocols.append(protocol)
        self._waiting.append(waiting)
        return self._read(waiting)

    def _read(self, waiting: "deque[Matched]") -> Iterator[Matched]:
        while waiting or self._advance():
            yield waiting.popleft()

    def _advance(self) -> bool:
        """Takes the next step of all readers, where there is one."""
        if self._steps is None:
            first = self._protocols[0]
            prepared = zip(_prepared(self._features, None, first), itertools.repeat(None), strict=False)
            self._steps = _matched_together(prepared, self._protocols)
        found = next(self._steps, None)
        for waiting, step in zip(self._waiting, found or (), strict=found is not None):
            waiting.append(step)
        return found is not None


def matching_key(protocol: Protocol) -> Hashable | None:
    """Equal for protocols that one matching can serve: all but context, topk, ties and temperature agree.

    None where none can be shared: a softmax over more than what was kept would add up in another order.
    """
    if protocol.affinity.scope != "joint" or protocol.affinity.normalise != "kept" or protocol.affinity.topk == 0:
        return None
    features, memory = protocol.features, replace(protocol.memory, context=0)
    affinity = replace(protocol.affinity, topk=0, ties="keep", temperature=1.0)
    prepared = features.finer, features.l2, features.group_weights
    return prepared, memory, affinity, _first_differs(protocol)


def _matched(prepared: "Iterator[_Prepared]", protocol: Protocol) -> Iterator[Matched]:
    """The label-free half: which context cells the cells of each frame go back to."""
    return (step for (step,) in _matched_together(prepared, [protocol]))


def _matched_together(prepared: "Iterator[_Prepared]", protocols: Sequence[Protocol]) -> Iterator[list[Matched]]:
    """The same for protocols of one `matching_key`, or a single one: for each frame a step of each."""
    matcher = Matcher(protocols[0].affinity)
    memories = sorted({p.memory: None for p in protocols}, key=lambda memory: -memory.context)
    widest = memories[0]
    affinities = {m: list(dict.fromkeys(p.affinity for p in protocols if p.memory == m)) for m in memories}
    remembered: dict[int, _Prepared] = {}
    start, size = (0, 1) if widest.predict_first else (1, 1)
    if not widest.predict_first:
        remembered.update(enumerate(itertools.islice(prepared, 1)))
    unchecked = dict(remembered)
    while block := dict(zip(itertools.count(start), itertools.islice(prepared, size), strict=False)):
        remembered |= block
        require_finite({frame: counts for frame, ((_, counts), _) in (unchecked | block).items()})
        unchecked.clear()
        contexts = {m: {frame: _context_of(frame, m, protocols[0]) for frame in block} for m in memories}
        found = matcher.match_each(
            [own for (own, _), _ in block.values()],
            [_wanted(contexts[m].values(), remembered, affinities[m]) for m in memories],
            [known for _, known in block.values()],
        )
        start += len(block)
        for old in [f for f in remembered if not is_needed_later(f, start - 1, widest)]:
            del remembered[old]
        # Of spaced queues query frames share nothing with the next ones; windows kept whole are large by themselves.
        is_alone = widest.spacing > 1 or protocols[0].affinity.topk == 0
        size = 1 if is_alone else 1 + min(_BLOCK - 1, _BLOCK_BYTES // (4 * block[start - 1][0][0].numel()))
        frames = list(block)
        block.clear()
        by_memory = dict(zip(memories, found, strict=True))
        for place, frame in enumerate(frames):
            yield [
                Matched(frame=frame, context=contexts[p.memory][frame], affinity=by_memory[p.memory][p.affinity][place])
                for p in protocols
            ]
    require_finite({frame: counts for frame, ((_, counts), _) in unchecked.items()})  # a clip of a single frame


def _wanted(
    contexts: Iterable[Sequence[Copies]], remembered: "Mapping[int, _Prepared]", affinities: Sequence[Affinity]
) -> Wanted:
    def context(copies: Copies) -> Context:
        (features, _), classes = remembered[copies.frame]
        return Context(features=features, windowed=copies.windowed, free=copies.free, classes=classes)

    return Wanted(contexts=[[context(copies) for copies in own] for own in contexts], affinities=affinities)


def _prepared(
    features: Iterator["Tensor"], grid: tuple[int, ...] | None, protocol: Protocol
) -> "Iterator[tuple[Tensor, Tensor]]":
    """Normalised features, frame by frame, without holding on to the raw ones; None takes any grid."""
    channels = None
    for frame in itertools.count():
        raw = next(features, None)
        if raw is None:
            return
        own_grid = tuple(side * protocol.features.finer for side in raw.shape[:2])
        grid = grid or own_grid
        if raw.ndim != 3 or own_grid != grid:
            raise ValueError(
                f"features of frame {frame} have shape {tuple(raw.shape)}, first_labels the grid {grid[0]}x{grid[1]} "
                f"(features.finer = {protocol.features.finer})"
            )
        channels = channels or raw.shape[2]
        if raw.shape[2] != channels:
            raise ValueError(f"features of frame {frame} have {raw.shape[2]} channels, earlier frames {channels}")
        ready = prepare(raw, protocol.features, frame)
        del raw
        yield ready
        del ready


def _copies(frames: "Iterator[_Prepared]", count: int) -> "list[Iterator[_Prepared]]":
    """Iterators over the same frames; what the slowest has not read yet waits, and nothing else."""
    waiting: list[deque[_Prepared]] = [deque() for _ in range(count)]

    def read(own: "deque[_Prepared]") -> "Iterator[_Prepared]":
        while True:
            if not own:
                frame = next(frames, None)
                if frame is None:
                    return
                for queue in waiting:
                    queue.append(frame)
                del frame
            yield own.popleft()

    return [read(own) for own in waiting]


def _first_differs(protocol: Protocol) -> bool:
    """Whether copies of frame 0 carry different labels by role."""
    return protocol.memory.predict_first or protocol.labels.rescale == "classes"


def _context_of(frame: int, memory: Memory, protocol: Protocol) -> list[Copies]:
    context = context_frames(frame, memory, first_differs=_first_differs(protocol))
    if not context:
        raise ProtocolError(
            f"Frame {frame} has no context: memory.long_term is {list(memory.long_term)}, memory.context "
            f"{memory.context} and memory.first_copies {memory.first_copies!r}.",
            "Put frame 0 into long_term, or set first_copies to once or fill.",
        )
    return context


def _transported(
    first: _Start,
    later: Sequence[_Start],
    protocol: Protocol,
    predicted: "Callable[[Tensor], Tensor] | None",
) -> Iterator["Tensor"]:
    """The feature-free half: label maps along the affinities, fed back as the protocol says."""
    for step in first.matched:
        soft = first.carried(step)
        for start in later:
            soft = start.joins(soft, step.frame)
        labels, shown = _fed_back(soft, protocol)
        if protocol.labels.feedback == "prediction" and predicted is not None:
            labels = predicted(shown.view(first.shape)).to(soft).view(soft.shape)
        for start in (first, *later):
            start.keep(labels, step.frame)
        yield shown.view(first.shape)


def _fed_back(soft: "Tensor", protocol: Protocol) -> tuple["Tensor", "Tensor"]:
    """What later frames read as labels, and what is given out; [N, L] each."""
    shown = soft if protocol.labels.rescale == "none" else _rescaled_over_classes(soft)
    if protocol.labels.rescale == "classes-fed-back":
        # After queuing, but in place (google-deepmind/representations4d 75aca30 colabs/rvm_evaluation_demo.ipynb).
        soft = shown
    if protocol.labels.feedback == "minmax":
        normalised = _minmax_over_cells(soft)
        return normalised, normalised
    if protocol.labels.feedback == "hard":
        return functional.one_hot(soft.argmax(1), soft.shape[1]).to(soft), shown
    return soft, shown


def _rescaled_over_classes(labels: "Tensor") -> "Tensor":
    """Min-max of each cell over its classes. Source: ajabri/videowalk 047f3f4 code/test.py:150-152."""
    shifted = labels - labels.amin(1, keepdim=True)
    return shifted / shifted.amax(1, keepdim=True)


def _minmax_over_cells(labels: "Tensor") -> "Tensor":
    """Min-max of each class over the frame; a constant class (the published code skips all-zero ones) stays as it is.

    Source: xiaolonw/TimeCycle 16d33ac test_davis.py:493-499; Liusifei/UVC f1b6fd9 test_jhmdb.py:530-537.
    """
    shifted = labels - labels.amin(0, keepdim=True)
    largest = shifted.amax(0, keepdim=True)
    return torch.where(largest > 0, shifted / largest, labels)
