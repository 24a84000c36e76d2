"""Exact windowed matching by tiled matrix products: the only affinity code.

Scheme: the grid is cut into tiles; the M queries of a tile meet the P cells of the box around their windows, in each
context frame, by one matrix product into a slice of [F, M, P] scores. Nothing outside the box is ever multiplied. The
maximum over the F frames, plus the window as 0 / -inf, gives [M, P]; the k best cells lie at its k best positions, so
top-k looks at P positions and then at F * k scores. Exact; one more than k is looked at to detect ties at the cut.
Several query frames that share context frames are matched at once: M then counts a tile's cells in all of them, which
makes the products wider and the keys to be read fewer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from corrkit.errors import ProtocolError
from corrkit.propagation.affinity import SparseAffinity, TiedRows, from_entries
from corrkit.propagation.contexts import Context, SharedContexts
from corrkit.propagation.scoring import Extent, Group, Plan, Tile, Workspace
from corrkit.propagation.selection import (
    Candidates,
    best_positions,
    copies_above,
    copies_taken,
    copies_taken_with_ties,
    weigh,
    weigh_with_ties,
    widened,
)
from corrkit.propagation.window import Window
from corrkit.protocols.schema import Affinity

if TYPE_CHECKING:
    from torch import Tensor

_ANY = -1
_TIED_PAIRS = 500_000  # similarities of rows with ties that are worked on at a time


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
    return Matcher(affinity).match([query], [contexts])[0]


class Matcher:
    """`match` for the frames of one clip: several query frames at once; tiles, window and buffers are reused."""

    def __init__(self, affinity: Affinity) -> None:
        if affinity.scope == "joint" and affinity.normalise == "frame":
            raise ProtocolError(
                "affinity.normalise = frame contradicts affinity.scope = joint.",
                "Set scope = frame to select and average per frame, or normalise = kept.",
            )
        if affinity.normalise == "window" and (affinity.scope == "frame" or affinity.shape == "none"):
            raise ProtocolError(
                "affinity.normalise = window needs a window, and all context frames together.",
                "Set shape to square or circle and scope = joint, or normalise = kept.",
            )
        self._affinity = affinity
        self._window = Window.of(affinity)
        self._workspace: Workspace | None = None
        self._plan: Plan | None = None

    def match(
        self,
        queries: Sequence["Tensor"],
        contexts: Sequence[Sequence[Context]],
        classes: Sequence["Tensor | None"] | None = None,
    ) -> list[SparseAffinity]:
        """The affinity of each query frame to its own context frames, contexts[i] of queries[i]; see `match`.

        Context frames that several queries share (the same tensor) are read once for all of them. `classes` are those
        of each query, as in `Context`; a cell for which no cell of its class is left matches nothing.
        """
        known = list(classes or [None] * len(queries))
        for query, own in zip(queries, contexts, strict=True):
            _check_shapes(query, own)
            self._check_window(own)
        # The buffers outlive this call, which may come from inside or outside an inference mode.
        device = queries[0].device.type
        with torch.inference_mode(mode=False), torch.no_grad(), torch.autocast(device, enabled=False):
            if self._affinity.scope == "joint":
                return self._jointly(queries, contexts, known)
            return [self._each(*alone) for alone in zip(queries, contexts, known, strict=True)]

    def _check_window(self, contexts: Sequence[Context]) -> None:
        if self._affinity.normalise == "window" and any(context.free for context in contexts):
            raise ProtocolError(
                "affinity.normalise = window needs a window around each cell, which frame 0 has not.",
                "Set memory.mask_first = true, or normalise = kept.",
            )
        has_windowed_only = all(c.free == 0 for c in contexts) or self._affinity.scope == "frame"
        if self._window.is_empty and has_windowed_only:
            raise ProtocolError(
                f"A strict {self._window.shape} window of radius 0 admits no cell, so there is nothing to average "
                "(published code returns NaN here).",
                "Use radius >= 1, inclusive = true, shape = none, or leave frame 0 free with mask_first = false.",
            )

    def _each(self, query: "Tensor", contexts: Sequence[Context], classes: "Tensor | None") -> SparseAffinity:
        """Selection within each context frame; the results are averaged over all copies of all frames."""
        height, width, _ = query.shape
        total = sum(c.windowed + c.free for c in contexts)
        rows, indices, weights, tied = [], [], [], []
        for number, c in enumerate(contexts):
            for copies, alone in (
                (c.windowed, replace(c, windowed=1, free=0)),
                (c.free, replace(c, windowed=0, free=1)),
            ):
                if copies:
                    matched = self._jointly([query], [[alone]], [classes])[0]
                    rows.append(matched.rows())
                    indices.append(matched.indices + number * height * width)
                    weights.append(matched.weights * (copies / total))
                    tied += [part.moved(columns=number * height * width, share=copies / total) for part in matched.tied]
        return from_entries(
            torch.cat(rows),
            torch.cat(indices),
            torch.cat(weights),
            tied=tied,
            num_cells=height * width,
            num_context=len(contexts),
        )

    def _jointly(
        self,
        queries: Sequence["Tensor"],
        contexts: Sequence[Sequence[Context]],
        classes: Sequence["Tensor | None"],
    ) -> list[SparseAffinity]:
        """Selection over all context frames of a query together."""
        height, width, _ = queries[0].shape
        is_open, is_empty = self._window.covers(height, width), self._window.is_empty
        windowed, free = SharedContexts(len(queries)), SharedContexts(len(queries))
        for query, own in enumerate(contexts):
            for number, c in enumerate(own):
                if is_open or c.free == 0:
                    windowed.add(c, query, number, windowed=c.windowed + c.free, free=0)
                else:
                    free.add(c, query, number, windowed=c.windowed, free=c.free)
        windowed = SharedContexts(len(queries)) if is_empty else windowed
        plan = self._plan_for(height, width, windowed, free, queries[0].device)
        block = _Block(queries, classes, windowed, free, plan, self._window, self._affinity)
        entries = [part for group in plan.groups for part in block.entries(group)]
        rows, indices, weights = (torch.cat(column) for column in zip(*entries, strict=True))
        num_context = max(len(own) for own in contexts)
        all_queries = from_entries(
            rows,
            indices,
            weights,
            tied=block.tied,
            num_cells=len(queries) * height * width,
            num_context=num_context,
        )
        return all_queries.parts([len(own) for own in contexts])

    def _plan_for(
        self, height: int, width: int, windowed: SharedContexts, free: SharedContexts, device: torch.device
    ) -> Plan:
        extent = Extent(
            height=height,
            width=width,
            num_queries=windowed.num_queries,
            num_windowed=len(windowed.frames),
            num_free=len(free.frames),
            num_pairs=sum(frame.last - frame.first for frame in windowed.seen()),
        )
        if self._workspace is None:
            self._workspace = Workspace(device)
        if self._plan is None or self._plan.extent != extent:
            self._plan = Plan(extent, self._window, self._workspace, device)
        return self._plan


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


def _differ(classes: "Tensor", others: "Tensor") -> "Tensor":
    return (classes != others) & (classes != _ANY) & (others != _ANY)


_Entries = tuple["Tensor", "Tensor", "Tensor"]  # rows (query frame times N plus cell), indices, weights: [E] each


class _Block:
    """The matching of a block of query frames, group of tiles by group of tiles.

    tied: rows with ties at the cut whose entries would be too many to list; complete once `entries` has gone through
    all groups.
    """

    def __init__(
        self,
        queries: Sequence["Tensor"],
        classes: Sequence["Tensor | None"],
        windowed: SharedContexts,
        free: SharedContexts,
        plan: Plan,
        window: Window,
        affinity: Affinity,
    ) -> None:
        self.queries, self.windowed, self.free, self.plan = queries, windowed, free, plan
        self.window, self.affinity = window, affinity
        self.tied: list[TiedRows] = []
        self.width, self.num_cells = plan.extent.width, plan.extent.height * plan.extent.width
        device = queries[0].device
        self.windowed_copies = torch.tensor(windowed.windowed, device=device).view(-1, len(queries))  # [F, B]
        self.classes = classes
        self.offsets = torch.tensor(windowed.numbers, device=device).view(-1, len(queries)) * self.num_cells

    def entries(self, group: Group) -> Iterator[_Entries]:
        """The entries of a group of tiles; rows with ties at the cut come after the others."""
        features = self.plan.rows_of(group, self.queries)  # [R, C]
        scores = self.plan.windowed_scores(features, group, self.windowed.seen()) if self.windowed.frames else []
        free_scores = self.plan.free_scores(features, group, self.free.seen())
        self._forbid(group, scores, free_scores)
        if self.affinity.topk == 0:
            yield from self._entries_of_all(group, scores, free_scores)
            return
        candidates = self._candidates(group, scores, free_scores)
        taken, threshold, undecided = copies_taken(candidates, self.affinity)
        log_total = self._log_total(group, scores, free_scores)
        weights = weigh(candidates.values, taken, self.affinity.temperature, log_total)
        kept = (taken > 0) & ~undecided.unsqueeze(1)
        rows = group.members * self.num_cells + group.cells
        yield rows.unsqueeze(1).expand_as(kept)[kept], candidates.indices[kept], weights[kept]
        if bool(undecided.any()):
            for tied in self._tied_rows(group, scores, free_scores, undecided, candidates, threshold, log_total):
                if tied.is_long:
                    self.tied.append(tied)
                else:
                    yield tied.entries()

    def _forbid(self, group: Group, scores: list["Tensor"], free_scores: list["Tensor"]) -> None:
        """Makes similarities of cells of different classes -inf, where these are known."""
        if all(classes is None for classes in self.classes):
            return
        anything = group.cells.new_full((self.num_cells,), _ANY)
        queries = [anything if classes is None else classes.flatten() for classes in self.classes]
        own = torch.stack(queries)[group.members, group.cells].unsqueeze(1)  # [R, 1]
        for place, classes in enumerate(self.windowed.classes):
            others = anything if classes is None else classes.flatten()
            for tile, tile_scores in zip(group.tiles, scores, strict=True):
                differ = _differ(own[tile.first : tile.last], others[tile.cells])
                tile_scores[place].masked_fill_(differ, -torch.inf)
        for frame_scores, classes in zip(free_scores, self.free.classes, strict=True):
            if classes is not None:
                frame_scores.masked_fill_(_differ(own, classes.flatten()), -torch.inf)

    def _candidates(self, group: Group, scores: list["Tensor"], free_scores: list["Tensor"]) -> Candidates:
        """The k + 1 best distinct cells of each row, over all context frames."""
        count = self.affinity.topk + 1
        parts = [self._best_in_window(group, scores, count)] if scores else []
        for place, frame_scores in enumerate(free_scores):
            cells = best_positions(frame_scores, min(count, self.num_cells))
            numbers = torch.tensor(self.free.numbers[place], device=cells.device)[group.members]
            indices = numbers.unsqueeze(1) * self.num_cells + cells
            copies = self._copies_of_free(group, place, slice(None), cells).expand_as(cells)
            parts.append(Candidates(values=frame_scores.gather(1, cells), indices=indices, copies=copies))
        return parts[0] if len(parts) == 1 else Candidates.best(parts, count)

    def _best_in_window(self, group: Group, scores: list["Tensor"], count: int) -> Candidates:
        """The best cells of the windowed context frames."""
        best, values, cells = [], [], []
        positions_kept = min(count, min(tile.keys.size for tile in group.tiles))
        for tile, tile_scores in zip(group.tiles, scores, strict=True):
            over_frames = tile_scores.amax(0)  # [B * m, P]
            over_frames.view(-1, *tile.outside.shape).add_(tile.outside)
            positions = best_positions(over_frames, positions_kept)  # [B * m, c]
            best.append(over_frames.gather(1, positions))
            values.append(tile_scores.gather(2, positions.expand(len(tile_scores), -1, -1)))  # [F, B * m, c]
            cells.append(tile.cells[positions])
        merged = torch.cat(values, 1).masked_fill_(torch.cat(best) == -torch.inf, -torch.inf)  # [F, R, c]
        merged = merged.transpose(0, 1).flatten(1)  # [R, F * c]
        chosen = merged.topk(min(count, merged.shape[1]), dim=1)
        frame, place = chosen.indices // positions_kept, chosen.indices % positions_kept
        members = group.members.unsqueeze(1)
        return Candidates(
            values=chosen.values,
            indices=self.offsets[frame, members] + torch.cat(cells).gather(1, place),
            copies=self.windowed_copies[frame, members],
        )

    def _copies_of_free(self, group: Group, place: int, rows: "slice | Tensor", cells: "Tensor") -> "Tensor":
        """Copies of cells [R, c] of a free frame: its windowed copies count only inside the window.

        [R, 1] where it has none of those.
        """
        free = torch.tensor(self.free.free[place], device=cells.device)[group.members[rows]].unsqueeze(1)
        if not any(self.free.windowed[place]):
            return free
        dy = group.y[rows].unsqueeze(1) - cells // self.width
        dx = group.x[rows].unsqueeze(1) - cells % self.width
        windowed = torch.tensor(self.free.windowed[place], device=cells.device)[group.members[rows]].unsqueeze(1)
        return free + windowed * self.window.admits(dy, dx)

    def _log_total(self, group: Group, scores: list["Tensor"], free_scores: list["Tensor"]) -> "Tensor | None":
        """[R, 1] logsumexp over the frame (then the only one) or over the windows, where the protocol asks for it."""
        if self.affinity.normalise == "kept":
            return None
        if self.affinity.normalise == "window":
            return torch.cat(
                [self._log_total_of_windows(group, *pair) for pair in zip(group.tiles, scores, strict=True)]
            )
        tiles = group.tiles if scores else []
        inside = [tile_scores[0] + tile.outside for tile_scores, tile in zip(scores, tiles, strict=True)]
        scaled = [widened(s) / self.affinity.temperature for s in (*inside, *free_scores)]
        return torch.cat([torch.logsumexp(s, 1, keepdim=True) for s in scaled])

    def _log_total_of_windows(self, group: Group, tile: Tile, scores: "Tensor") -> "Tensor":
        """[B * m, 1] logsumexp over the windows of all context frames, with 0 for each cell outside of the picture.

        Source: zlai0/MAST a57b043 models/colorizer.py (SpatialCorrelationSampler, which pads with zeros).
        """
        members = group.members[tile.first : tile.last]
        copies = widened(self.windowed_copies[:, members].unsqueeze(2).float())  # [F, B * m, 1]
        inside = (scores.view(len(scores), -1, *tile.outside.shape) + tile.outside).view(scores.shape)
        scaled = widened(inside) / self.affinity.temperature + copies.log()
        num_outside = (self.window.size - (tile.outside == 0).sum(1)).repeat(len(members) // len(tile.outside))
        outside = (num_outside * copies[..., 0].sum(0)).log().unsqueeze(1)
        return torch.logaddexp(torch.logsumexp(scaled, (0, 2)).unsqueeze(1), outside)

    def _entries_of_all(self, group: Group, scores: list["Tensor"], free_scores: list["Tensor"]) -> Iterator[_Entries]:
        """Every cell that may be chosen."""
        every = torch.ones(len(group.cells), dtype=torch.bool, device=group.cells.device)
        log_total = self._log_total(group, scores, free_scores)
        for member, rows, values, columns, copies in self._chunks(group, scores, free_scores, every):
            taken = torch.cat([torch.where(v > -torch.inf, c, 0) for v, c in zip(values, copies, strict=True)], 1)
            total = None if log_total is None else log_total[rows]
            weights = weigh(torch.cat(list(values), 1), taken, self.affinity.temperature, total)
            row, column = (taken > 0).nonzero(as_tuple=True)
            yield member * self.num_cells + group.cells[rows[row]], columns[column], weights[row, column]

    def _tied_rows(
        self,
        group: Group,
        scores: list["Tensor"],
        free_scores: list["Tensor"],
        undecided: "Tensor",
        candidates: Candidates,
        threshold: "Tensor",
        log_total: "Tensor | None",
    ) -> Iterator[TiedRows]:
        """Rows whose k-th similarity is not unique, from all their similarities."""
        for member, rows, values, columns, copies in self._chunks(group, scores, free_scores, undecided):
            own, least = candidates.of(rows), threshold[rows]
            above = copies_above(own, least)
            taken = copies_taken_with_ties(values, copies, least, above, self.affinity)
            total = None if log_total is None else log_total[rows]
            weight, more = weigh_with_ties(
                torch.cat(list(values), 1), taken, least, above, own, self.affinity.temperature, total
            )
            yield TiedRows(
                rows=member * self.num_cells + group.cells[rows],
                columns=columns,
                copies=taken,
                weight=weight,
                above=more,
            )

    def _chunks(
        self, group: Group, scores: list["Tensor"], free_scores: list["Tensor"], chosen: "Tensor"
    ) -> Iterator[tuple[int, "Tensor", Sequence["Tensor"], "Tensor", Sequence["Tensor"]]]:
        """Some rows at a time: their query frame, the rows, values and copies per context frame, all columns."""
        for number, tile in enumerate(group.tiles):
            width = len(self.windowed.frames) * tile.keys.size + len(free_scores) * self.num_cells
            num_rows = max(1, _TIED_PAIRS // width)
            in_tile = tile.first + chosen[tile.first : tile.last].nonzero().squeeze(1)
            tile_scores = scores[number] if scores else None
            for member in sorted(set(group.members[in_tile].tolist())):
                for rows in in_tile[group.members[in_tile] == member].split(num_rows):
                    per_frame = self._whole_rows(group, tile, member, rows, tile_scores, free_scores)
                    values, columns, copies = zip(*per_frame, strict=True)
                    yield member, rows, values, torch.cat(columns), copies

    def _whole_rows(
        self,
        group: Group,
        tile: Tile,
        member: int,
        rows: "Tensor",
        tile_scores: "Tensor | None",
        free_scores: list["Tensor"],
    ) -> list[tuple["Tensor", "Tensor", "Tensor"]]:
        """Per context frame of query frame `member`, in its order: values [R', W], indices [W], copies.

        Copies are [R', W], [R', 1] or [1, 1].
        """
        columns = []  # with the frame's number in front
        local = rows - tile.first
        outside = tile.outside.index_select(0, local % tile.queries.size)
        for place, numbers in enumerate(self.windowed.numbers):
            if numbers[member] >= 0 and tile_scores is not None:
                values = tile_scores[place].index_select(0, local).add_(outside)
                copies = self.windowed_copies[place, member].view(1, 1)
                columns.append((numbers[member], values, tile.cells, copies))
        every = torch.arange(self.num_cells, device=rows.device)
        for place, numbers in enumerate(self.free.numbers):
            if numbers[member] >= 0:
                copies = self._copies_of_free(group, place, rows, every.expand(len(rows), -1))
                columns.append((numbers[member], free_scores[place][rows], every, copies))
        columns.sort(key=lambda column: column[0])
        return [(values, number * self.num_cells + cells, copies) for number, values, cells, copies in columns]
