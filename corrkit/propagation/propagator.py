"""The propagation loop over a clip: memory, matching, transport, feedback."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from corrkit.errors import ProtocolError
from corrkit.propagation.affinity import transport
from corrkit.propagation.features import prepare
from corrkit.propagation.matching import Context, Matcher
from corrkit.propagation.memory import Copies, context_frames, is_needed_later
from corrkit.protocols import Protocol, load_protocol, override

if TYPE_CHECKING:
    from torch import Tensor


def propagate(
    features: "Tensor | Iterable[Tensor]",
    first_labels: "Tensor",
    *,
    protocol: "str | Protocol" = "davis/dino",
    **overrides: Any,
) -> Iterator["Tensor"]:
    """Carries the labels of frame 0 through a clip by nearest neighbours in feature space.

    Streams: besides the results it holds the context frames of one query frame, whatever the length of the clip.

    Args:
        features: [T, h, w, C], or an iterable of [h, w, C] in the order of frames; any float type, any device.
        first_labels: [h, w, L], the label map of frame 0 in [0, 1].
        protocol: "TASK/NAME", or a `Protocol`.
        **overrides: constants of the protocol by leaf or dotted name, e.g. radius=8 or predict_first=True.

    Returns:
        An iterator of soft label maps [h, w, L] float32 on the features' device, for frames 1 to T-1; for frame 0 too
        if the protocol predicts it (`predict_first`).

    Raises:
        ValueError: on wrong shapes.
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
    if not bool(torch.isfinite(first_labels).all()):
        raise ValueError("first_labels hold NaN or infinite values")
    return _steps(iter(features), first_labels.detach(), protocol)


@dataclass(slots=True, kw_only=True)
class _Remembered:
    """A context frame: prepared features [h, w, C], and its label map [N, L] as propagated."""

    features: "Tensor"
    labels: "Tensor"


@dataclass(slots=True, kw_only=True)
class _FirstLabels:
    """Label maps [N, L] of frame 0's copies: `padding` before the clip and `long_term`; rescaling tells them apart."""

    padding: "Tensor"
    long_term: "Tensor"


def _steps(features: Iterator["Tensor"], first_labels: "Tensor", protocol: Protocol) -> Iterator["Tensor"]:
    remembered: dict[int, _Remembered] = {}
    matcher = Matcher(protocol.affinity)
    frame = 0
    for raw in features:
        _check_grid(raw, first_labels, frame, remembered)
        current = prepare(raw, protocol.features, frame)
        del raw  # one frame less in memory while matching
        if frame == 0:
            first = _first_labels(first_labels.to(current), protocol)
            remembered[0] = _Remembered(features=current, labels=first.padding)
        if frame > 0 or protocol.memory.predict_first:
            soft = _predicted(current, frame, remembered, first, matcher, protocol)
            kept, shown = _fed_back(soft, protocol)
            remembered[frame] = _Remembered(features=current, labels=kept)
            yield shown.view(first_labels.shape)
        for old in [f for f in remembered if not is_needed_later(f, frame, protocol.memory)]:
            del remembered[old]
        frame += 1  # noqa: SIM113 - enumerate would hold on to `raw`


def _check_grid(features: "Tensor", first_labels: "Tensor", frame: int, remembered: dict[int, _Remembered]) -> None:
    if features.ndim != 3 or features.shape[:2] != first_labels.shape[:2]:
        height, width, _ = first_labels.shape
        raise ValueError(
            f"features of frame {frame} have shape {tuple(features.shape)}; first_labels ask for [{height}, {width}, C]"
        )
    for other in remembered.values():
        if other.features.shape != features.shape:
            raise ValueError(
                f"features of frame {frame} have {features.shape[2]} channels, earlier frames {other.features.shape[2]}"
            )


def _first_labels(labels: "Tensor", protocol: Protocol) -> _FirstLabels:
    given = labels.reshape(-1, labels.shape[2])
    if protocol.labels.rescale == "none":
        return _FirstLabels(padding=given, long_term=given)
    # CRW rescales its prediction in place after storing it; at t = 0 that is a view of the long-term copy of frame 0,
    # while the copies before the clip stay as they were (ajabri/videowalk 047f3f4 code/test.py:146-152).
    return _FirstLabels(padding=given, long_term=_rescaled_over_classes(given))


def _predicted(
    query: "Tensor",
    frame: int,
    remembered: dict[int, _Remembered],
    first: _FirstLabels,
    matcher: Matcher,
    protocol: Protocol,
) -> "Tensor":
    """[N, L] labels of the query frame, before feedback."""
    frames = context_frames(frame, protocol.memory)
    if not frames:
        raise ProtocolError(
            f"Frame {frame} has no context: memory.long_term is {list(protocol.memory.long_term)}, memory.context "
            f"{protocol.memory.context} and memory.first_copies {protocol.memory.first_copies!r}.",
            "Put frame 0 into long_term, or set first_copies to once or fill.",
        )
    contexts, labels = [], []
    for index, copies in frames.items():
        for own, windowed, free in _by_labels(remembered[index].labels, copies, index, first, protocol):
            contexts.append(Context(features=remembered[index].features, windowed=windowed, free=free))
            labels.append(own)
    return transport(torch.stack(labels), matcher.match(query, contexts))


def _by_labels(
    own: "Tensor", copies: Copies, frame: int, first: _FirstLabels, protocol: Protocol
) -> list[tuple["Tensor", int, int]]:
    """A frame's copies as (label map, windowed copies, free copies): one entry, unless copies of frame 0 differ."""
    free = 0 if protocol.memory.mask_first else copies.long_term
    parts = [
        (first.long_term if frame == 0 else own, copies.long_term - free, free),
        (first.padding if frame == 0 else own, copies.padding, 0),
        (own, copies.queue, 0),
    ]
    merged: list[tuple[Tensor, int, int]] = []
    for labels, windowed, unrestricted in parts:
        if windowed + unrestricted == 0:
            continue
        if merged and merged[-1][0] is labels:
            windowed, unrestricted = windowed + merged[-1][1], unrestricted + merged[-1][2]
            merged.pop()
        merged.append((labels, windowed, unrestricted))
    return merged


def _fed_back(soft: "Tensor", protocol: Protocol) -> tuple["Tensor", "Tensor"]:
    """What later frames read as labels, and what is given out; [N, L] each."""
    shown = soft if protocol.labels.rescale == "none" else _rescaled_over_classes(soft)
    if protocol.labels.feedback == "minmax":
        normalised = _minmax_over_cells(soft)
        return normalised, normalised
    if protocol.labels.feedback == "minmax-nonzero":  # Liusifei/UVC f1b6fd9 test_jhmdb.py:530-537
        normalised = _minmax_over_cells(soft).where(soft.sum(0) != 0, soft)
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
