"""Exact windowed matching by tiled matrix products: the only affinity code.

Scheme: the grid is cut into tiles; the M queries of a tile meet the P cells of the box around their windows, in each
context frame, by one matrix product into a slice of [F, M, P] scores. Nothing outside the box is ever multiplied. The
maximum over the F frames, plus the window as 0 / -inf, gives [M, P]; the k best cells lie at its k best positions, so
top-k looks at P positions and then at F * k scores. Exact; one more than k is looked at to detect ties at the cut.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from corrkit.errors import ProtocolError
from corrkit.propagation.affinity import SparseAffinity, from_entries
from corrkit.propagation.selection import (
    Candidates,
    best_positions,
    copies_taken,
    copies_taken_with_ties,
    weigh,
)
from corrkit.propagation.window import Box, Window, strips, tile_shape
from corrkit.protocols.schema import Affinity

if TYPE_CHECKING:
    from torch import Tensor

# Below 16 query rows MKL's products differ in the last bit; above, they depend on neither tile nor thread count.
_MIN_ROWS = 16
# A tile's fixed cost in (query, key) pairs of C = 384: kernel launches weigh more where the products are faster.
_TILE_OVERHEAD = {"cpu": 20_000, "cuda": 5_000_000}
_SLOW_ROWS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One context frame. It is matched once, however many copies of it stand in the context.

    features: [h, w, C] as `prepare` returns them. windowed: copies that the window restricts. free: copies whose every
    cell may be chosen.
    """

    features: "Tensor"
    windowed: int = 1
    free: int = 0


def match(query: "Tensor", contexts: Sequence[Context], affinity: Affinity) -> SparseAffinity:
    """For each query cell, the context cells it is most similar to and their weights. Knows no labels.

    Similarity is the dot product in float32. Among equal similarities at the k-th place, `ties = "exact"` ; all copies of a cell go together.

    Args:
        query: [h, w, C] float32 features of the frame being labelled, prepared.
        contexts: at least one context frame of the same shape; a frame appears once, unless its copies carry different labels.
        affinity: radius, shape, inclusive, topk, ties, scope, temperature and normalise are obeyed.

    Returns:
        Indices number the context frames in the given order. Rows sum to 1 with normalise = "kept".

    Raises:
        ValueError: on shapes that differ or an empty context.
        ProtocolError: if the window admits no cell at all, or scope and normalise contradict each other.
        CorrkitError: if a product overflows float32.
    """
    height, width, _ = _checked_shape(query, contexts)
    window = Window.of(affinity)
    _check_rules(contexts, window, affinity)
    with torch.no_grad(), torch.autocast(query.device.type, enabled=False):
        if affinity.scope == "joint":
            slots = [_Slot(number, c.features, c.windowed, c.free) for number, c in enumerate(contexts)]
            entries = _match_jointly(query, slots, window, affinity)
        else:
            entries = _match_each(query, contexts, window, affinity)
    return from_entries(entries.rows, entries.indices, entries.weights, height * width, len(contexts))


@dataclass(frozen=True, slots=True)
class _Slot:
    """A context frame with its number in the caller's order."""

    number: int
    features: "Tensor"
    windowed: int
    free: int


@dataclass(frozen=True, slots=True)
class _Entries:
    rows: "Tensor"  # [E] query cells
    indices: "Tensor"  # [E]
    weights: "Tensor"  # [E]

    @staticmethod
    def joined(parts: Sequence["_Entries"]) -> "_Entries":
        return _Entries(*(torch.cat([getattr(p, name) for p in parts]) for name in ("rows", "indices", "weights")))


def _checked_shape(query: "Tensor", contexts: Sequence[Context]) -> tuple[int, int, int]:
    if query.ndim != 3 or 0 in query.shape:
        raise ValueError(f"query features have shape {tuple(query.shape)}, not [h, w, C]")
    if not contexts:
        raise ValueError("there is no context frame to match with")
    for context in contexts:
        if context.features.shape != query.shape:
            raise ValueError(f"context {tuple(context.features.shape)} and query {tuple(query.shape)} differ in shape")
        if min(context.windowed, context.free) < 0 or context.windowed + context.free < 1:
            raise ValueError(f"a context frame has {context.windowed} windowed and {context.free} free copies")
    height, width, channels = query.shape
    return height, width, channels


def _check_rules(contexts: Sequence[Context], window: Window, affinity: Affinity) -> None:
    if affinity.scope == "joint" and affinity.normalise == "frame":
        raise ProtocolError(
            "affinity.normalise = frame contradicts affinity.scope = joint.",
            "Set scope = frame to select and average per frame, or normalise = kept.",
        )
    lacks_cells = all(c.free == 0 for c in contexts) or affinity.scope == "frame"
    if window.is_empty and lacks_cells:
        raise ProtocolError(
            f"A strict {window.shape} window of radius 0 admits no cell, so there is nothing to average "
            "(published code returns NaN here).",
            "Use radius >= 1, inclusive = true, shape = none, or leave a long-term frame free with mask_first = false.",
        )


def _match_each(query: "Tensor", contexts: Sequence[Context], window: Window, affinity: Affinity) -> _Entries:
    """Selection within each context frame; the results are averaged over all copies of all frames."""
    total = sum(c.windowed + c.free for c in contexts)
    parts = []
    for number, context in enumerate(contexts):
        for copies, windowed, free in ((context.windowed, 1, 0), (context.free, 0, 1)):
            if copies:
                slot = _Slot(number, context.features, windowed, free)
                part = _match_jointly(query, [slot], window, affinity)
                parts.append(_Entries(part.rows, part.indices, part.weights * (copies / total)))
    return _Entries.joined(parts)


def _match_jointly(query: "Tensor", slots: Sequence[_Slot], window: Window, affinity: Affinity) -> _Entries:
    height, width, _ = query.shape
    if window.covers(height, width):
        slots = [_Slot(s.number, s.features, s.windowed + s.free, 0) for s in slots]
    windowed = [s for s in slots if not s.free and not window.is_empty]
    free = [s for s in slots if s.free]
    # Where only free frames are left, a tile's queries still go together: its box is just not used.
    reach = window.reach(height, width) if windowed else 0
    shape = tile_shape(
        height,
        width,
        reach,
        bytes_per_pair=4 * max(1, len(windowed)),
        overhead=_TILE_OVERHEAD.get(query.device.type, _TILE_OVERHEAD["cuda"]),
    )
    work = _Work(query=query, windowed=windowed, free=free, window=window, affinity=affinity)
    return _Entries.joined([part for strip in strips(height, width, shape) for part in work.entries(strip, reach)])


@dataclass(slots=True, kw_only=True)
class _Tile:
    """A tile with its scores: queries first..last of its strip against `box` in every windowed context frame."""

    first: int
    last: int
    box: Box
    scores: "Tensor"  # [F, M, P]
    outside: "Tensor | None"  # [M, P] 0 inside the window, -inf outside; None: all inside


@dataclass(slots=True, kw_only=True)
class _Work:
    """What matching one query frame needs in every tile."""

    query: "Tensor"
    windowed: Sequence[_Slot]
    free: Sequence[_Slot]
    window: Window
    affinity: Affinity
    outsides: dict[tuple[int, ...], "Tensor"] = field(default_factory=dict)

    def entries(self, boxes: list[Box], reach: int) -> Iterator[_Entries]:
        """The entries of the tiles of one column strip."""
        height, width, channels = self.query.shape
        strip = Box(top=boxes[0].top, bottom=boxes[-1].bottom, left=boxes[0].left, right=boxes[0].right)
        queries = self.query[strip.top : strip.bottom, strip.left : strip.right].reshape(-1, channels)
        qy, qx = strip.coordinates(self.query.device)
        tiles = list(self._tiles(queries, boxes, reach))
        free_scores = [_products(queries, s.features.view(-1, channels)) for s in self.free]  # [Q, N] each
        candidates = self._candidates(tiles, free_scores, qy, qx)
        taken, threshold, undecided = copies_taken(candidates, self.affinity)
        log_total = self._log_total(tiles, free_scores)
        weights = weigh(candidates.values, taken, self.affinity.temperature, log_total)
        kept = (taken > 0) & ~undecided.unsqueeze(1)
        cells = qy * width + qx
        yield _Entries(cells.unsqueeze(1).expand_as(kept)[kept], candidates.indices[kept], weights[kept])
        if bool(undecided.any()):
            for tile in tiles:
                rows = tile.first + undecided[tile.first : tile.last].nonzero().squeeze(1)
                for some in rows.split(_SLOW_ROWS) if len(rows) else ():
                    yield self._entries_with_ties(
                        tile, some, free_scores, qy[some], qx[some], threshold[some], log_total
                    )

    def _tiles(self, queries: "Tensor", boxes: list[Box], reach: int) -> Iterator[_Tile]:
        """Scores of a strip's tiles, context frame by context frame so that a frame's keys stay in the cache."""
        height, width, channels = self.query.shape
        tiles, first = [], 0
        for box in boxes:
            grown = box.grown(reach, height, width)
            scores = queries.new_empty(len(self.windowed), box.size, grown.size if self.windowed else 0)
            outside = self._outside(box, grown) if self.windowed else None
            tiles.append(_Tile(first=first, last=first + box.size, box=grown, scores=scores, outside=outside))
            first += box.size
        for number, slot in enumerate(self.windowed):
            left, right = tiles[0].box.left, tiles[0].box.right
            keys = slot.features[:, left:right].contiguous()  # [h, wk, C]
            for tile in tiles:
                block = keys[tile.box.top : tile.box.bottom].view(-1, channels)
                _products(queries[tile.first : tile.last], block, out=tile.scores[number])
        return iter(tiles)

    def _outside(self, box: Box, grown: Box) -> "Tensor | None":
        """0 / -inf of a tile's queries against its box; equal tiles share one."""
        key = (
            box.bottom - box.top,
            box.right - box.left,
            box.top - grown.top,
            box.left - grown.left,
            grown.bottom - grown.top,
            grown.right - grown.left,
        )
        if key not in self.outsides:
            qy, qx = box.coordinates(self.query.device)
            ky, kx = grown.coordinates(self.query.device)
            inside = self.window.admits(qy.unsqueeze(1) - ky, qx.unsqueeze(1) - kx)
            self.outsides[key] = torch.where(inside, 0.0, -torch.inf)
        return self.outsides[key]

    def _candidates(self, tiles: list[_Tile], free_scores: list["Tensor"], qy: "Tensor", qx: "Tensor") -> Candidates:
        """The k + 1 best distinct cells of each query of a strip, over all context frames."""
        height, width, _ = self.query.shape
        count = self.affinity.topk + 1
        parts = []
        if self.windowed:
            found = [self._best_in_window(tile, count) for tile in tiles]
            size = max(values.shape[1] for values, _, _ in found)
            parts.append(
                tuple(torch.cat([_padded(f[i], size, (-torch.inf, 0, 0)[i]) for f in found]) for i in range(3))
            )
        for slot, scores in zip(self.free, free_scores, strict=True):
            cells = best_positions(scores, min(count, scores.shape[1]))
            copies = self._free_copies(slot, qy, qx, cells)
            parts.append((scores.gather(1, cells), slot.number * height * width + cells, copies))
        values, indices, copies = (torch.cat([p[i] for p in parts], 1) for i in range(3))
        order = values.topk(min(count, values.shape[1]), dim=1)
        return Candidates(
            values=order.values, indices=indices.gather(1, order.indices), copies=copies.gather(1, order.indices)
        )

    def _best_in_window(self, tile: _Tile, count: int) -> tuple["Tensor", "Tensor", "Tensor"]:
        """values, indices and copies [M, c] of the best cells of a tile's windows."""
        height, width, _ = self.query.shape
        frames, rows, size = tile.scores.shape
        best = tile.scores.amax(0)  # [M, P]
        if tile.outside is not None:
            best += tile.outside
        positions = best_positions(best, min(count, size))  # [M, c]
        values = tile.scores.gather(2, positions.expand(frames, -1, -1))
        if tile.outside is not None:
            values += tile.outside.gather(1, positions)
        values = values.permute(1, 0, 2).reshape(rows, -1)  # [M, F * c]
        values, chosen = values.topk(min(count, values.shape[1]), dim=1)
        frame = chosen // positions.shape[1]
        position = positions.gather(1, chosen % positions.shape[1])
        number = torch.tensor([s.number for s in self.windowed], device=values.device)
        copies = torch.tensor([s.windowed for s in self.windowed], device=values.device)
        y, x = tile.box.coordinates(values.device)
        cells = (y * width + x)[position]
        return values, number[frame] * (height * width) + cells, copies[frame]

    def _free_copies(self, slot: _Slot, qy: "Tensor", qx: "Tensor", cells: "Tensor") -> "Tensor":
        """Copies of cells [M, c] of a free frame: its windowed copies count only inside the window."""
        width = self.query.shape[1]
        inside = self.window.admits(qy.unsqueeze(1) - cells // width, qx.unsqueeze(1) - cells % width)
        return slot.free + slot.windowed * inside

    def _log_total(self, tiles: list[_Tile], free_scores: list["Tensor"]) -> "Tensor | None":
        """[Q, 1] logsumexp over a whole frame, where the protocol normalises so (then there is one frame)."""
        if self.affinity.normalise == "kept":
            return None
        rows = (
            [*free_scores]
            if free_scores
            else [t.scores[0] if t.outside is None else t.scores[0] + t.outside for t in tiles]
        )
        return torch.cat([torch.logsumexp(r.double() / self.affinity.temperature, 1, keepdim=True) for r in rows])

    def _entries_with_ties(
        self,
        tile: _Tile,
        rows: "Tensor",
        free_scores: list["Tensor"],
        qy: "Tensor",
        qx: "Tensor",
        threshold: "Tensor",
        log_total: "Tensor | None",
    ) -> _Entries:
        """Entries of queries whose k-th similarity is not unique, from their whole rows."""
        height, width, _ = self.query.shape
        columns = []  # (context number, values [R, W], cells [W], copies [R, W])
        y, x = tile.box.coordinates(self.query.device)
        local = rows - tile.first
        for number, slot in enumerate(self.windowed):
            values = tile.scores[number, local]
            if tile.outside is not None:
                values = values + tile.outside[local]
            columns.append(
                (slot.number, values, y * width + x, torch.full_like(values, slot.windowed, dtype=torch.int64))
            )
        every = torch.arange(height * width, device=self.query.device)
        for slot, scores in zip(self.free, free_scores, strict=True):
            copies = self._free_copies(slot, qy, qx, every.expand(len(rows), -1))
            columns.append((slot.number, scores[rows], every, copies))
        columns.sort(key=lambda column: column[0])
        values = torch.cat([c[1] for c in columns], 1)
        indices = torch.cat([c[0] * height * width + c[2] for c in columns])
        per_frame = copies_taken_with_ties([c[1] for c in columns], [c[3] for c in columns], threshold, self.affinity)
        taken = torch.cat(per_frame, 1)
        weights = weigh(values, taken, self.affinity.temperature, None if log_total is None else log_total[rows])
        row, column = (taken > 0).nonzero(as_tuple=True)
        return _Entries((qy * width + qx)[row], indices[column], weights[row, column])


def _products(queries: "Tensor", keys: "Tensor", out: "Tensor | None" = None) -> "Tensor":
    """Dot products [M, P] of queries [M, C] and keys [P, C], in rows of at least 16."""
    rows = queries.shape[0]
    if rows < _MIN_ROWS:
        product = functional.pad(queries, (0, 0, 0, _MIN_ROWS - rows)) @ keys.T
        return product[:rows] if out is None else out.copy_(product[:rows])
    return torch.mm(queries, keys.T, out=out)


def _padded(columns: "Tensor", size: int, value: float) -> "Tensor":
    return functional.pad(columns, (0, size - columns.shape[1]), value=value)
