"""The matching of a block of query frames that share context frames: scores, candidates, what is taken, its weights."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from corrkit.propagation.affinity import TiedRows
from corrkit.propagation.classes import Classes
from corrkit.propagation.contexts import SharedContexts
from corrkit.propagation.scoring import Group, Plan, Tile
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

_TIED_PAIRS = 500_000  # similarities of rows with ties that are worked on at a time

Entries = tuple["Tensor", "Tensor", "Tensor"]
"""Rows (query frame times N plus cell), indices, weights: [E] each."""


class Block:
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
        is_known = any(known is not None for known in classes)
        self.classes = Classes(classes, [*windowed.classes, *free.classes]) if is_known else None
        self.offsets = torch.tensor(windowed.numbers, device=device).view(-1, len(queries)) * self.num_cells

    def entries(self, group: Group) -> Iterator[Entries]:
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
        if self.classes is None:
            return
        own = self.classes.places(group.members, group.cells)  # [R]
        num_windowed, every = len(self.windowed.frames), slice(None)
        for number, tile in enumerate(group.tiles):
            rows = slice(tile.first, tile.last)
            if scores:
                self.classes.forbid(scores[number], own[rows], slice(num_windowed), tile.cells)
            if free_scores:
                here = [frame_scores[rows] for frame_scores in free_scores]
                self.classes.forbid(here, own[rows], slice(num_windowed, None), every)

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

    def _entries_of_all(self, group: Group, scores: list["Tensor"], free_scores: list["Tensor"]) -> Iterator[Entries]:
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
