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
from corrkit.propagation.contexts import Context
from corrkit.propagation.features import prepare, require_finite
from corrkit.propagation.label_maps import LabelMaps
from corrkit.propagation.matching import Matcher, Wanted
from corrkit.propagation.memory import Copies, context_frames, is_needed_later
from corrkit.propagation.starts import Matched, Start, rescaled_over_classes
from corrkit.protocols import Protocol, load_protocol, override
from corrkit.protocols.schema import Affinity, Memory

if TYPE_CHECKING:
    from torch import Tensor

    _Prepared = tuple[tuple[Tensor, Tensor], Tensor | None]
    """What `prepare` makes of a frame's features, and the classes of its cells, where these are known."""

AHEAD = 3
"""Frames read ahead: query frames matched at once share context frames, so products get wider; 3 gains a quarter."""
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
    ahead: int = AHEAD,
    **overrides: object,
) -> Iterator["Tensor"]:
    """Carries the labels of frame 0 through a clip by nearest neighbours in feature space.

    Labels that enter later have a context of their own, which begins in their frame; there they take the place of
    what was propagated (visinf/dense-ulearn-vos 88e5e35 infer_vos.py:163-288), of their own channels everywhere.

    Streams: besides the results it holds the context frames of at most `ahead` + 1 query frames, whatever the length of
    the clip.

    Args:
        features: [T, h, w, C], or an iterable of [h, w, C] in the order of frames; any float type, any device.
        first_labels: [h, w, L], the label map of frame 0 in [0, 1]; h and w are `features.finer` times the features'.
        protocol: "TASK/NAME", or a `Protocol`.
        later_labels: frame after 0 to the label map [h, w, L] of what enters there, 0 in every other channel, the
            background's too. It is looked at when the frame is there, so it may be filled meanwhile; a map of more
            channels than before brings new ones, which the results have from then on.
        predicted: from a soft map [h, w, L] to the labels [h, w, L] of what is predicted from it, for protocols that
            feed predictions back (`labels.feedback`).
        classes: of the cells of every frame, [h, w] int64 with -1 for any, or None for a frame of which nothing is
            known. Cells of different classes are never matched: what an oracle of matches does.
        matched: where the first labels go, where that is found elsewhere (`SharedMatching`); features then say of
            which size they are, and where later labels go.
        ahead: how many frames it may read ahead of the one it yields; 0 for frames that are still to come.
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
    for frame, labels in later_labels.items():
        _require_fit(frame, labels, first_labels.shape)
    _require_finite(first_labels)
    if protocol.labels.feedback == "prediction" and predicted is None:
        raise ValueError(f"{protocol.identifier} feeds predictions back; `predicted` does not say what these are")
    height, width, _ = first_labels.shape
    raw = iter(features)
    every = zip(_prepared(raw, (height, width), protocol), classes or itertools.repeat(None), strict=False)
    source = _Source(raw, _Frames(every), matched, ahead)
    return _transported(source, first_labels.detach(), later_labels, protocol, predicted)


def matched(features: Iterator["Tensor"], grid: tuple[int, int], protocol: Protocol) -> Iterator[Matched]:
    """Where the labels of every frame come from, without labels: of those that are given in the first frame.

    Args:
        features: [h, w, C] of every frame.
        grid: of the label maps, `features.finer` times (h, w).
        protocol: the rules.
    """
    prepared = zip(_prepared(features, grid, protocol), itertools.repeat(None), strict=False)
    return _matched(prepared, protocol, AHEAD)


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
            self._steps = _matched_together(prepared, self._protocols, AHEAD)
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


def _matched(prepared: "Iterator[_Prepared]", protocol: Protocol, ahead: int) -> Iterator[Matched]:
    """The label-free half: which context cells the cells of each frame go back to."""
    return (step for (step,) in _matched_together(prepared, [protocol], ahead))


def _matched_together(
    prepared: "Iterator[_Prepared]", protocols: Sequence[Protocol], ahead: int
) -> Iterator[list[Matched]]:
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
        size = 1 if is_alone else 1 + min(ahead, _BLOCK_BYTES // (4 * block[start - 1][0][0].numel()))
        by_memory = dict(zip(memories, found, strict=True))
        steps = deque(
            [
                Matched(frame=frame, context=contexts[p.memory][frame], affinity=by_memory[p.memory][p.affinity][place])
                for p in protocols
            ]
            for place, frame in enumerate(block)
        )
        del block, found, by_memory
        while steps:
            yield steps.popleft()
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


class _Frames:
    """Prepared frames for several readers; what the slowest has not read yet waits, and nothing else."""

    def __init__(self, frames: "Iterator[_Prepared]") -> None:
        self._frames = frames
        self._waiting: dict[int, deque[_Prepared]] = {}
        self._numbers = itertools.count()

    def reader(self, beside: int | None = None) -> tuple[int, "Iterator[_Prepared]"]:
        """A reader's number and its frames: those that come, or those that another reader has still to read."""
        number = next(self._numbers)
        self._waiting[number] = deque() if beside is None else self._waiting[beside].copy()
        return number, self._read(number)

    def leave(self, number: int) -> None:
        """Nothing waits for this reader any more."""
        del self._waiting[number]

    def _read(self, number: int) -> "Iterator[_Prepared]":
        own = self._waiting[number]
        while True:
            if not own:
                frame = next(self._frames, None)
                if frame is None:
                    return
                for queue in self._waiting.values():
                    queue.append(frame)
                del frame
            yield own.popleft()


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the frames of a clip come from: raw features, the same prepared, and where the first labels go."""

    raw: "Iterator[Tensor]"
    frames: _Frames
    matched: "Iterator[Matched] | None"
    ahead: int


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
    source: _Source,
    first_labels: "Tensor",
    later_labels: "Mapping[int, Tensor]",
    protocol: Protocol,
    predicted: "Callable[[Tensor], Tensor] | None",
) -> Iterator["Tensor"]:
    """The feature-free half: label maps along the affinities, fed back as the protocol says."""
    frames, ahead = source.frames, source.ahead
    steps, place = source.matched, None
    passing: Iterator[object] = itertools.repeat(None)
    if steps is not None and not later_labels:
        steps = (step for step, _ in zip(steps, source.raw, strict=False))  # in step, so that no features wait
    else:
        if steps is None:
            steps = _matched(frames.reader()[1], protocol, ahead)
        place, passing = frames.reader()  # stands at the frame whose labels are asked for
    maps = LabelMaps()
    first = Start(0, first_labels, steps, protocol, maps)
    position, shape = 0, first_labels.shape
    later: dict[int, Start] = {}  # by the number of its reader
    for step in first.matched:
        for _ in range(position, step.frame):
            next(passing)
        position = step.frame
        entering = later_labels.get(step.frame)
        if entering is not None:
            _require_fit(step.frame, entering, shape)
            shape = entering.shape
            maps.widen(shape[2])
            for start in (first, *later.values()):
                start.widen(shape[2])
        if entering is not None and bool(entering.any()):
            number, prepared = frames.reader(beside=place)
            added = Start(step.frame, entering.detach(), _matched(prepared, protocol, ahead), protocol, maps)
            for replaced in [other for other, start in later.items() if start.is_replaced_by(added)]:
                frames.leave(replaced)
                del later[replaced]
            later[number] = added
        soft = first.carried(step)
        for start in later.values():
            soft = start.joins(soft, step.frame)
        labels, shown = _fed_back(soft, protocol)
        if protocol.labels.feedback == "prediction" and predicted is not None:
            labels = predicted(shown.view(shape)).detach().to(soft).view(soft.shape)
        _keep(maps, (first, *later.values()), labels, step.frame)
        shown = shown.view(shape)
        del step, soft, labels  # nothing of a frame lies in the way of what the matching of the next ones takes
        yield shown


def _keep(maps: LabelMaps, starts: Sequence[Start], labels: "Tensor", frame: int) -> None:
    """Takes the labels [N, L] of a frame as later frames read them, and drops what none reads any more."""
    for start in starts:
        start.keep(labels, frame)
    maps.drop(lambda old: any(start.reads(old, frame) for start in starts))
    if any(start.reads(frame, frame) for start in starts):
        maps.keep(frame, labels)


def _require_fit(frame: int, labels: "Tensor", shape: "torch.Size") -> None:
    """Raises ValueError for labels that can't enter in this frame of a clip whose label maps are of `shape`."""
    if frame < 1 or labels.ndim != 3 or labels.shape[:2] != shape[:2] or labels.shape[2] < shape[2]:
        raise ValueError("later_labels belong to frames after 0, and have the shape of first_labels, or more channels")
    _require_finite(labels)


def _require_finite(labels: "Tensor") -> None:
    if not bool(torch.isfinite(labels).all()):
        raise ValueError("labels hold NaN or infinite values")


def _fed_back(soft: "Tensor", protocol: Protocol) -> tuple["Tensor", "Tensor"]:
    """What later frames read as labels, and what is given out; [N, L] each."""
    shown = soft if protocol.labels.rescale == "none" else rescaled_over_classes(soft)
    if protocol.labels.rescale == "classes-fed-back":
        # After queuing, but in place (google-deepmind/representations4d 75aca30 colabs/rvm_evaluation_demo.ipynb).
        soft = shown
    if protocol.labels.feedback == "minmax":
        normalised = _minmax_over_cells(soft)
        return normalised, normalised
    if protocol.labels.feedback == "hard":
        return functional.one_hot(soft.argmax(1), soft.shape[1]).to(soft), shown
    return soft, shown


def _minmax_over_cells(labels: "Tensor") -> "Tensor":
    """Min-max of each class over the frame; a constant class (the published code skips all-zero ones) stays as it is.

    Source: xiaolonw/TimeCycle 16d33ac test_davis.py:493-499; Liusifei/UVC f1b6fd9 test_jhmdb.py:530-537.
    """
    shifted = labels - labels.amin(0, keepdim=True)
    largest = shifted.amax(0, keepdim=True)
    return torch.where(largest > 0, shifted / largest, labels)
