"""The propagation loop over a clip: features to affinities (label-free), then labels along them, and feedback."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from corrkit.errors import ProtocolError
from corrkit.propagation.affinity import SparseAffinity, transport
from corrkit.propagation.contexts import Context
from corrkit.propagation.features import prepare
from corrkit.propagation.matching import Matcher
from corrkit.propagation.memory import Copies, context_frames, is_needed_later
from corrkit.protocols import Protocol, load_protocol, override
from corrkit.protocols.schema import PointLabels

if TYPE_CHECKING:
    from torch import Tensor

    _Prepared = tuple[Tensor, Tensor | None]
    """Features of a frame, and the classes of its cells, where these are known."""

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
    every = zip(_prepared(iter(features), (height, width), protocol), classes or itertools.repeat(None), strict=False)
    return _transported(_Frames(every), first_labels.detach(), later_labels, protocol, predicted, ahead)


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
        prepared: features and classes of that frame and those after it.
        protocol: the rules.
        ahead: see `propagate`.
    """

    def __init__(
        self, frame: int, labels: "Tensor", prepared: "Iterator[_Prepared]", protocol: Protocol, ahead: int
    ) -> None:
        self.frame = frame
        given = labels.reshape(-1, labels.shape[2]).float()
        self.matched = _matched(prepared, protocol, ahead)
        self._given, self._protocol = given, protocol
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
        own = torch.stack([m[:, self._channels].to(step.affinity.weights.device) for m in maps])
        return transport(own, step.affinity)

    def joins(self, soft: "Tensor", frame: int) -> "Tensor":
        """Labels [N, L] of the clip's `frame` with the start's own in their place; frames come in order."""
        soft = soft.clone()
        if frame > self.frame:
            soft[:, self._channels] = self.carried(next(self.matched))
            return soft
        if self._protocol.memory.predict_first:
            next(self.matched)  # of the start's own frame, whose labels are given
        soft[:, self._channels] = 0
        if isinstance(self._protocol.labels, PointLabels):  # points share cells, masks don't
            return soft + self._given
        share = self._given.sum(1, keepdim=True)
        return (1 - share) * soft + share * self._given

    def is_replaced_by(self, other: "_Start") -> bool:
        """Whether another start gives all that this one carries; the background stays with the first start."""
        if isinstance(self._channels, slice) or isinstance(other._channels, slice):
            return False
        return bool(torch.isin(self._channels, other._channels).all())

    def widen(self, count: int) -> None:
        """Adds empty channels up to `count`."""
        self._first = {role: _widened(labels, count) for role, labels in self._first.items()}
        self._stored = {frame: _widened(labels, count) for frame, labels in self._stored.items()}

    def keep(self, labels: "Tensor", frame: int) -> None:
        """Takes the labels [N, L] of the clip's `frame` as later frames read them."""
        since = frame - self.frame
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
    return _matched(prepared, protocol, AHEAD)


def _matched(prepared: "Iterator[_Prepared]", protocol: Protocol, ahead: int) -> Iterator[Matched]:
    """The label-free half: which context cells the cells of each frame go back to."""
    memory, matcher = protocol.memory, Matcher(protocol.affinity)
    remembered: dict[int, _Prepared] = {}
    start, size = (0, 1) if memory.predict_first else (1, 1)
    if not memory.predict_first:
        remembered.update(enumerate(itertools.islice(prepared, 1)))
    while block := dict(zip(itertools.count(start), itertools.islice(prepared, size), strict=False)):
        remembered |= block
        contexts = {frame: _context_of(frame, protocol) for frame in block}
        affinities = matcher.match(
            [own for own, _ in block.values()],
            [
                [
                    Context(features=own, windowed=c.windowed, free=c.free, classes=known)
                    for c in context
                    for own, known in (remembered[c.frame],)
                ]
                for context in contexts.values()
            ],
            [known for _, known in block.values()],
        )
        start += len(block)
        for old in [f for f in remembered if not is_needed_later(f, start - 1, memory)]:
            del remembered[old]
        # Of spaced queues query frames share nothing with the next ones; windows kept whole are large by themselves.
        is_alone = memory.spacing > 1 or protocol.affinity.topk == 0
        size = 1 if is_alone else 1 + min(ahead, _BLOCK_BYTES // (4 * block[start - 1][0].numel()))
        block.clear()
        for (frame, context), affinity in zip(contexts.items(), affinities, strict=True):
            yield Matched(frame=frame, context=context, affinity=affinity)


def _prepared(features: Iterator["Tensor"], grid: tuple[int, int], protocol: Protocol) -> Iterator["Tensor"]:
    """Checked and normalised features, frame by frame, without holding on to the raw ones."""
    channels = None
    for frame in itertools.count():
        raw = next(features, None)
        if raw is None:
            return
        if raw.ndim != 3 or tuple(side * protocol.features.finer for side in raw.shape[:2]) != grid:
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


def _context_of(frame: int, protocol: Protocol) -> list[Copies]:
    memory = protocol.memory
    first_differs = memory.predict_first or protocol.labels.rescale == "classes"
    context = context_frames(frame, memory, first_differs=first_differs)
    if not context:
        raise ProtocolError(
            f"Frame {frame} has no context: memory.long_term is {list(memory.long_term)}, memory.context "
            f"{memory.context} and memory.first_copies {memory.first_copies!r}.",
            "Put frame 0 into long_term, or set first_copies to once or fill.",
        )
    return context


def _transported(
    frames: _Frames,
    first_labels: "Tensor",
    later_labels: "Mapping[int, Tensor]",
    protocol: Protocol,
    predicted: "Callable[[Tensor], Tensor] | None",
    ahead: int,
) -> Iterator["Tensor"]:
    """The feature-free half: label maps along the affinities, fed back as the protocol says."""
    _, prepared = frames.reader()
    first = _Start(0, first_labels, prepared, protocol, ahead)
    place, passing = frames.reader()
    position, shape = 0, first_labels.shape
    later: dict[int, _Start] = {}  # by the number of its reader
    for step in first.matched:
        for _ in range(position, step.frame):
            next(passing)
        position = step.frame
        entering = later_labels.get(step.frame)
        if entering is not None:
            _require_fit(step.frame, entering, shape)
            shape = entering.shape
            for start in (first, *later.values()):
                start.widen(shape[2])
        if entering is not None and bool(entering.any()):
            number, prepared = frames.reader(beside=place)
            added = _Start(step.frame, entering.detach(), prepared, protocol, ahead)
            for replaced in [other for other, start in later.items() if start.is_replaced_by(added)]:
                frames.leave(replaced)
                del later[replaced]
            later[number] = added
        soft = first.carried(step)
        for start in later.values():
            soft = start.joins(soft, step.frame)
        labels, shown = _fed_back(soft, protocol)
        if protocol.labels.feedback == "prediction" and predicted is not None:
            labels = predicted(shown.view(shape)).to(soft).view(soft.shape)
        for start in (first, *later.values()):
            start.keep(labels, step.frame)
        yield shown.view(shape)


def _require_fit(frame: int, labels: "Tensor", shape: "torch.Size") -> None:
    """Raises ValueError for labels that can't enter in this frame of a clip whose label maps are of `shape`."""
    if frame < 1 or labels.ndim != 3 or labels.shape[:2] != shape[:2] or labels.shape[2] < shape[2]:
        raise ValueError("later_labels belong to frames after 0, and have the shape of first_labels, or more channels")
    _require_finite(labels)


def _require_finite(labels: "Tensor") -> None:
    if not bool(torch.isfinite(labels).all()):
        raise ValueError("labels hold NaN or infinite values")


def _widened(labels: "Tensor", count: int) -> "Tensor":
    """Labels [N, L] with empty channels behind, up to `count`."""
    return functional.pad(labels, (0, count - labels.shape[1]))


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
