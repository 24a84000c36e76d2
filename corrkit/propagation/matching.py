"""Exact windowed matching by tiled matrix products: the only affinity code.

Scheme: the grid is cut into tiles; the M queries of a tile meet the P cells of the box around their windows, in each
context frame, by one matrix product into a slice of [F, M, P] scores. Nothing outside the box is ever multiplied. The
maximum over the F frames, plus the window as 0 / -inf, gives [M, P]; the k best cells lie at its k best positions, so
top-k looks at P positions and then at F * k scores. Exact; one more than k is looked at to detect ties at the cut.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from corrkit.errors import ProtocolError
from corrkit.propagation.affinity import SparseAffinity, from_entries
from corrkit.propagation.scoring import Plan, Strip
from corrkit.propagation.selection import (
    Candidates,
    best_positions,
    copies_taken,
    copies_taken_with_ties,
    weigh,
)
from corrkit.propagation.window import Window
from corrkit.protocols.schema import Affinity

if TYPE_CHECKING:
    from torch import Tensor

_ROWS_WITH_TIES = 64  # worked on at a time: each holds every similarity of its query


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One context frame. It is matched once, however many copies of it stand in the context.

    Attributes:
        features: [h, w, C] as `prepare` returns them.
        windowed: copies that the window restricts.
        free: copies whose every cell may be chosen.
    """

    features: "Tensor"
    windowed: int = 1
    free: int = 0


def match(query: "Tensor", contexts: Sequence[Context], affinity: Affinity) -> SparseAffinity:
    """For each query cell, the context cells it is most similar to and their weights. Knows no labels.

    Similarity is the dot product in float32. Among equal similarities at the k-th place, `ties = "exact"` prefers the
    earlier context frame, then the earlier copy, then the lower cell.

    Args:
        query: [h, w, C] float32 features of the frame being labelled, prepared.
        contexts: at least one context frame of the same shape. A frame appears twice only if its copies carry
            different labels.
        affinity: radius, shape, inclusive, topk, ties, scope, temperature and normalise are obeyed.

    Returns:
        Indices number the context frames in the given order. Rows sum to 1 with normalise = "kept".

    Raises:
        ValueError: on shapes that differ or an empty context.
        ProtocolError: if the window admits no cell at all, or scope and normalise contradict each other.
        CorrkitError: if a product overflows float32.
    """
    return Matcher(affinity).match(query, contexts)


class Matcher:
    """`match` for the frames of one clip: tiles, window and buffers are made once and reused."""

    def __init__(self, affinity: Affinity) -> None:
        if affinity.scope == "joint" and affinity.normalise == "frame":
            raise ProtocolError(
                "affinity.normalise = frame contradicts affinity.scope = joint.",
                "Set scope = frame to select and average per frame, or normalise = kept.",
            )
        self._affinity = affinity
        self._window = Window.of(affinity)
        self._plans: dict[tuple[object, ...], Plan] = {}

    def match(self, query: "Tensor", contexts: Sequence[Context]) -> SparseAffinity:
        """See the function `match`."""
        _check_shapes(query, contexts)
        self._check_window(contexts)
        with torch.no_grad(), torch.autocast(query.device.type, enabled=False):
            joint = self._affinity.scope == "joint"
            entries = list(self._jointly(query, list(enumerate(contexts))) if joint else self._each(query, contexts))
            rows, indices, weights = (torch.cat(column) for column in zip(*entries, strict=True))
        height, width, _ = query.shape
        return from_entries(rows, indices, weights, num_cells=height * width, num_context=len(contexts))

    def _check_window(self, contexts: Sequence[Context]) -> None:
        has_windowed_only = all(c.free == 0 for c in contexts) or self._affinity.scope == "frame"
        if self._window.is_empty and has_windowed_only:
            raise ProtocolError(
                f"A strict {self._window.shape} window of radius 0 admits no cell, so there is nothing to average "
                "(published code returns NaN here).",
                "Use radius >= 1, inclusive = true, shape = none, or leave frame 0 free with mask_first = false.",
            )

    def _each(self, query: "Tensor", contexts: Sequence[Context]) -> Iterator["_Entries"]:
        """Selection within each context frame; the results are averaged over all copies of all frames."""
        total = sum(c.windowed + c.free for c in contexts)
        for number, c in enumerate(contexts):
            for copies, alone in (
                (c.windowed, Context(features=c.features, windowed=1, free=0)),
                (c.free, Context(features=c.features, windowed=0, free=1)),
            ):
                for rows, indices, weights in self._jointly(query, [(number, alone)]) if copies else ():
                    yield rows, indices, weights * (copies / total)

    def _jointly(self, query: "Tensor", numbered: Sequence[tuple[int, Context]]) -> Iterator["_Entries"]:
        """Selection over all given context frames together."""
        height, width, _ = query.shape
        if self._window.covers(height, width):
            numbered = [(i, Context(features=c.features, windowed=c.windowed + c.free, free=0)) for i, c in numbered]
        windowed = [] if self._window.is_empty else [(i, c) for i, c in numbered if c.free == 0]
        free = [(i, c) for i, c in numbered if c.free > 0]
        plan = self._plan(height, width, len(windowed), query.device)
        for strip in plan.strips:
            yield from _StripMatch(query, strip, windowed, free, plan, self._window, self._affinity).entries()

    def _plan(self, height: int, width: int, num_frames: int, device: torch.device) -> Plan:
        """Tiles depend on the number of frames only through their memory, so frames are rounded up to a power of 2."""
        num_frames = 1 << max(0, num_frames - 1).bit_length()
        key = (height, width, num_frames, device)
        if key not in self._plans:
            self._plans = {key: Plan(height, width, self._window, num_frames, device)}
        return self._plans[key]


_Entries = tuple["Tensor", "Tensor", "Tensor"]  # query cells, indices, weights: [E] each


def _check_shapes(query: "Tensor", contexts: Sequence[Context]) -> None:
    if query.ndim != 3 or 0 in query.shape:
        raise ValueError(f"query features have shape {tuple(query.shape)}, not [h, w, C]")
    if not contexts:
        raise ValueError("there is no context frame to match with")
    for context in contexts:
        if context.features.shape != query.shape:
            raise ValueError(f"context {tuple(context.features.shape)} and query {tuple(query.shape)} differ in shape")
        if min(context.windowed, context.free) < 0 or context.windowed + context.free < 1:
            raise ValueError(f"a context frame has {context.windowed} windowed and {context.free} free copies")


class _StripMatch:
    """The matching of one strip of query cells against all context frames."""

    def __init__(
        self,
        query: "Tensor",
        strip: Strip,
        windowed: Sequence[tuple[int, Context]],
        free: Sequence[tuple[int, Context]],
        plan: Plan,
        window: Window,
        affinity: Affinity,
    ) -> None:
        box = strip.box
        queries = query[box.top : box.bottom, box.left : box.right].reshape(strip.cells.numel(), -1)  # [Q, C]
        self.strip, self.windowed, self.free, self.window, self.affinity = strip, windowed, free, window, affinity
        self.width, self.num_cells = plan.width, plan.height * plan.width
        self.scores = plan.windowed_scores(queries, strip, [c.features for _, c in windowed]) if windowed else []
        self.free_scores = plan.free_scores(queries, [c.features for _, c in free])

    def entries(self) -> Iterator[_Entries]:
        """Query cells, indices and weights; the rows with ties at the cut come after the others."""
        candidates = self._candidates()
        taken, threshold, undecided = copies_taken(candidates, self.affinity)
        log_total = self._log_total()
        weights = weigh(candidates.values, taken, self.affinity.temperature, log_total)
        kept = (taken > 0) & ~undecided.unsqueeze(1)
        yield self.strip.cells.unsqueeze(1).expand_as(kept)[kept], candidates.indices[kept], weights[kept]
        if bool(undecided.any()):
            for number, tile in enumerate(self.strip.tiles):
                rows = tile.first + undecided[tile.first : tile.last].nonzero().squeeze(1)
                for start in range(0, len(rows), _ROWS_WITH_TIES):
                    some = rows[start : start + _ROWS_WITH_TIES]
                    total = None if log_total is None else log_total[some]
                    yield self._entries_with_ties(number, some, threshold[some], total)

    def _candidates(self) -> Candidates:
        """The k + 1 best distinct cells of each query, over all context frames."""
        count = self.affinity.topk + 1
        parts = [self._best_in_window(count)] if self.windowed else []
        for (number, context), scores in zip(self.free, self.free_scores, strict=True):
            cells = best_positions(scores, min(count, self.num_cells))
            copies = self._copies_of_free(context, slice(None), cells)
            parts.append(
                Candidates(values=scores.gather(1, cells), indices=number * self.num_cells + cells, copies=copies)
            )
        return parts[0] if len(parts) == 1 else Candidates.best(parts, count)

    def _best_in_window(self, count: int) -> Candidates:
        """The best cells of the windowed context frames."""
        best, values, cells = [], [], []
        count = min(count, min(tile.cells.numel() for tile in self.strip.tiles))
        for tile, scores in zip(self.strip.tiles, self.scores, strict=True):
            over_frames = scores.amax(0).add_(tile.outside)  # [M, P]
            positions = best_positions(over_frames, count)  # [M, c]
            best.append(over_frames.gather(1, positions))
            values.append(scores.gather(2, positions.expand(len(scores), -1, -1)))  # [F, M, c]
            cells.append(tile.cells[positions])
        merged = torch.cat(values, 1).masked_fill_(torch.cat(best) == -torch.inf, -torch.inf)  # [F, Q, c]
        offsets = torch.tensor([number * self.num_cells for number, _ in self.windowed], device=merged.device)
        copies = torch.tensor([context.windowed for _, context in self.windowed], device=merged.device)
        merged = merged.transpose(0, 1).flatten(1)  # [Q, F * c]
        chosen = merged.topk(min(self.affinity.topk + 1, merged.shape[1]), dim=1)
        frame, place = chosen.indices // count, chosen.indices % count
        return Candidates(
            values=chosen.values, indices=offsets[frame] + torch.cat(cells).gather(1, place), copies=copies[frame]
        )

    def _copies_of_free(self, context: Context, rows: "slice | Tensor", cells: "Tensor") -> "Tensor":
        """Copies of cells [M, c] of a free frame: its windowed copies count only inside the window."""
        dy = self.strip.y[rows].unsqueeze(1) - cells // self.width
        dx = self.strip.x[rows].unsqueeze(1) - cells % self.width
        return context.free + context.windowed * self.window.admits(dy, dx)

    def _log_total(self) -> "Tensor | None":
        """[Q, 1] logsumexp over the frame, where the protocol normalises so (it then is the only one)."""
        if self.affinity.normalise == "kept":
            return None
        tiles = self.strip.tiles if self.windowed else []
        windowed = [scores[0] + tile.outside for scores, tile in zip(self.scores, tiles, strict=True)]
        scaled = [scores.double() / self.affinity.temperature for scores in (*windowed, *self.free_scores)]
        return torch.cat([torch.logsumexp(s, 1, keepdim=True) for s in scaled])

    def _entries_with_ties(
        self, number: int, rows: "Tensor", threshold: "Tensor", log_total: "Tensor | None"
    ) -> _Entries:
        """Entries of queries of a tile whose k-th similarity is not unique, from their whole rows."""
        tile = self.strip.tiles[number]
        local = rows - tile.first
        columns = []  # (context number, values [R, W], cells [W], copies [R, W])
        for slot, (context_number, context) in enumerate(self.windowed):
            values = self.scores[number][slot, local] + tile.outside[local]
            copies = torch.full_like(values, context.windowed, dtype=torch.int64)
            columns.append((context_number, values, tile.cells, copies))
        every = torch.arange(self.num_cells, device=rows.device)
        for scores, (context_number, context) in zip(self.free_scores, self.free, strict=True):
            copies = self._copies_of_free(context, rows, every.expand(len(rows), -1))
            columns.append((context_number, scores[rows], every, copies))
        columns.sort(key=lambda column: column[0])
        per_frame = copies_taken_with_ties([c[1] for c in columns], [c[3] for c in columns], threshold, self.affinity)
        taken, values = torch.cat(per_frame, 1), torch.cat([c[1] for c in columns], 1)
        indices = torch.cat([c[0] * self.num_cells + c[2] for c in columns])
        weights = weigh(values, taken, self.affinity.temperature, log_total)
        row, column = (taken > 0).nonzero(as_tuple=True)
        return self.strip.cells[rows[row]], indices[column], weights[row, column]
