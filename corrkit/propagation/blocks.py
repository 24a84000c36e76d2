"""The matching of a block of query frames that share context frames: scores, candidates, what is taken, its weights.

Similarities know nothing of k, ties and temperature, and those with the widest of several contexts hold those with the
narrower ones: one set of scores serves all of them.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from corrkit.propagation.affinity import SparseAffinity, TiedRows
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
from corrkit.propagation.taken import Taken
from corrkit.propagation.window import Window
from corrkit.protocols.schema import Affinity

if TYPE_CHECKING:
    from torch import Tensor

_TIED_PAIRS = 500_000  # similarities of rows with ties that are worked on at a time

Scores = tuple[list["Tensor"], list["Tensor"]]
"""Similarities of a group: [F, B * m, P] of each tile with the windowed context frames, [R, N] with each free one."""


def _runs(places: Sequence[int]) -> list[slice]:
    """Rising numbers as slices of those that follow each other."""
    starts = [n for n, place in enumerate(places) if n == 0 or place != places[n - 1] + 1]
    ends = [*starts[1:], len(places)][: len(starts)]
    return [slice(places[start], places[end - 1] + 1) for start, end in zip(starts, ends, strict=True)]


def _of_each(parts: Sequence["Tensor"]) -> "Tensor":
    """Parts [F, ...] one after the other."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


class Block:
    """The matching of a block of query frames with one context each, group of tiles by group of tiles.

    Args:
        queries: features [h, w, C] of each query frame.
        classes: as for `Matcher.match`.
        windowed: context frames that the window restricts.
        free: the others.
        plan: the tiles.
        window: that of all affinities.
        affinities: distinct ones, alike but for topk, ties and temperature.
        wider: a block with wider contexts, whose scores are narrowed to those of this one; None for none.
    """

    def __init__(
        self,
        queries: Sequence["Tensor"],
        classes: Sequence["Tensor | None"],
        windowed: SharedContexts,
        free: SharedContexts,
        plan: Plan,
        window: Window,
        affinities: Sequence[Affinity],
        wider: "Block | None" = None,
    ) -> None:
        self.queries, self.windowed, self.free, self.plan = queries, windowed, free, plan
        self.window = window
        rules = dict.fromkeys((affinity.topk, affinity.ties) for affinity in affinities)
        self.taken = [Taken([one for one in affinities if (one.topk, one.ties) == rule]) for rule in rules]
        # Where no tie has to see the whole row, what is taken can wait for all groups: fewer and larger operations.
        self._is_plain = all(one.normalise == "kept" and one.topk for one in affinities)
        self._waiting: dict[int, list[tuple[Tensor, Candidates]]] = {}
        self._unasked: list[tuple[Group, Candidates]] = []
        self._tied: list[tuple[Group, Candidates]] = []
        self.width, self.num_cells = plan.extent.width, plan.extent.height * plan.extent.width
        self.windowed_copies = self._table(windowed.windowed)  # [F, B]
        self.free_numbers, self.free_copies = self._table(free.numbers), self._table(free.free)
        self.free_windowed = self._table(free.windowed)
        is_known = any(known is not None for known in classes)
        self.classes = Classes(classes, [*windowed.classes, *free.classes]) if is_known else None
        self.offsets = self._table(windowed.numbers) * self.num_cells
        self._hidden = (windowed.hidden(wider.windowed), free.hidden(wider.free)) if wider else ([], [])
        self._runs = _runs([place for place, row in enumerate(windowed.numbers) if max(row) >= 0])

    def scores(self, group: Group) -> Scores:
        """Of a group of tiles; valid until the next call."""
        scores, free_scores = self.plan.scores(group, self.queries, self.windowed.seen(), self.free.seen())
        self._forbid(group, scores, free_scores)
        return scores, free_scores

    def narrow(self, group: Group, scores: Scores) -> None:
        """Makes of the scores of a wider context those of this one: -inf wherever a query frame sees less here."""
        for place, lost in self._hidden[0]:
            for tile, tile_scores in zip(group.tiles, scores[0], strict=True):
                size = tile.queries.size
                tile_scores[place, lost.first * size : lost.last * size] = -torch.inf
        for place, lost in self._hidden[1]:
            is_lost = (group.members >= lost.first) & (group.members < lost.last)
            scores[1][place].masked_fill_(is_lost.unsqueeze(1), -torch.inf)

    def take(self, group: Group, scores: Scores) -> None:
        """Selects in a group of tiles, by every rule; what ties decide, once `ties` says that there are any."""
        most = max(taken.rule.topk for taken in self.taken)
        candidates = self._candidates(group, *scores, most) if most else None
        if candidates is not None and self._is_plain:
            self._unasked.append((group, candidates))
        else:
            self._take_by_all(group, scores, candidates)

    def ties(self) -> list[Group]:
        """The groups, of those taken since this was last asked, with ties among the best: they wait for `take_tied`.

        The host waits for the device, once for all of them.
        """
        if not self._unasked:
            return []
        answers: list[bool] = torch.stack([candidates.have_ties() for _, candidates in self._unasked]).tolist()
        for (group, candidates), has_ties in zip(self._unasked, answers, strict=True):
            if has_ties:
                self._tied.append((group, candidates))
            else:
                rows = group.members * self.num_cells + group.cells
                self._waiting.setdefault(candidates.values.shape[1], []).append((rows, candidates))
        self._unasked = []
        return [group for group, _ in self._tied]

    def take_tied(self, group: Group, scores: Scores) -> None:
        """Selects in a group that `ties` has named, whose similarities are at hand, still or again."""
        for own, candidates in self._tied:
            if own is group:
                self._take_by_all(group, scores, candidates)
        self._tied = [(own, candidates) for own, candidates in self._tied if own is not group]

    def _take_by_all(self, group: Group, scores: Scores, candidates: Candidates | None) -> None:
        for taken in self.taken:
            if candidates is None or taken.rule.topk == 0:
                self._take_all(taken, group, *scores)
            else:
                self._take_best(taken, group, *scores, candidates.first(taken.rule.topk + 1))

    def found(self, num_context: int) -> dict[Affinity, SparseAffinity]:
        """What was taken by affinity, rows of all query frames; once all groups are gone through."""
        while self._waiting:
            self._take_waiting(self._waiting.popitem()[1])
        num_rows, found = len(self.queries) * self.num_cells, dict[Affinity, SparseAffinity]()
        for taken in self.taken:
            found |= taken.found(num_rows, num_context)
        return found

    def _take_waiting(self, waiting: "list[tuple[Tensor, Candidates]]") -> None:
        """The k best cells of rows without ties among them, by every rule."""
        rows, candidates = torch.cat([rows for rows, _ in waiting]), Candidates.below([own for _, own in waiting])
        waiting.clear()  # by now it is twice in memory
        for taken in self.taken:
            own = candidates.first(taken.rule.topk + 1)
            copies, _, _ = copies_taken(own, taken.rule)
            taken.add_kept(rows, own, copies, copies > 0, [None] * len(taken.affinities))

    def _take_best(
        self,
        taken: Taken,
        group: Group,
        scores: list["Tensor"],
        free_scores: list["Tensor"],
        candidates: Candidates,
    ) -> None:
        """The k best cells of each row; rows with ties at the cut come after the others."""
        copies, threshold, undecided = copies_taken(candidates, taken.rule)
        totals = [self._log_total(group, scores, free_scores, one) for one in taken.affinities]
        rows = group.members * self.num_cells + group.cells
        taken.add_kept(rows, candidates, copies, (copies > 0) & ~undecided.unsqueeze(1), totals)
        if bool(undecided.any()):
            for tied in self._tied_rows(taken, group, scores, free_scores, undecided, candidates, threshold, totals):
                taken.add_tied(tied)

    def _table(self, numbers: Sequence[Sequence[int]]) -> "Tensor":
        """[F, B] int64 on the device; the host doesn't wait for the copy."""
        table = torch.tensor(numbers, dtype=torch.int64).view(-1, len(self.queries))
        return table.to(self.queries[0].device, non_blocking=True)

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

    def _candidates(self, group: Group, scores: list["Tensor"], free_scores: list["Tensor"], topk: int) -> Candidates:
        """The k + 1 best distinct cells of each row, over all context frames."""
        count = topk + 1
        parts = [self._best_in_window(group, scores, count)] if self._runs else []
        for place, frame_scores in enumerate(free_scores):
            cells = best_positions(frame_scores, min(count, self.num_cells))
            numbers = self.free_numbers[place, group.members]
            indices = numbers.unsqueeze(1) * self.num_cells + cells
            copies = self._copies_of_free(group, place, slice(None), cells).expand_as(cells)
            parts.append(Candidates(values=frame_scores.gather(1, cells), indices=indices, copies=copies))
        return parts[0] if len(parts) == 1 else Candidates.best(parts, count)

    def _best_in_window(self, group: Group, scores: list["Tensor"], count: int) -> Candidates:
        """The best cells of the windowed context frames."""
        best, values, cells = [], [], []
        positions_kept = min(count, min(tile.keys.size for tile in group.tiles))
        for tile, tile_scores in zip(group.tiles, scores, strict=True):
            parts = [tile_scores[run] for run in self._runs]
            over_frames = functools.reduce(torch.maximum, (part.amax(0) for part in parts))  # [B * m, P]
            over_frames.view(-1, *tile.outside.shape).add_(tile.outside)
            positions = best_positions(over_frames, positions_kept)  # [B * m, c]
            best.append(over_frames.gather(1, positions))
            values.append(_of_each([part.gather(2, positions.expand(len(part), -1, -1)) for part in parts]))
            cells.append(tile.cells[positions])
        merged = torch.cat(values, 1).masked_fill_(torch.cat(best) == -torch.inf, -torch.inf)  # [F, R, c]
        merged = merged.transpose(0, 1).flatten(1)  # [R, F * c]
        chosen = merged.topk(min(count, merged.shape[1]), dim=1)
        frame, place = chosen.indices // positions_kept, chosen.indices % positions_kept
        members = group.members.unsqueeze(1)
        return Candidates(
            values=chosen.values,
            indices=_of_each([self.offsets[run] for run in self._runs])[frame, members]
            + torch.cat(cells).gather(1, place),
            copies=_of_each([self.windowed_copies[run] for run in self._runs])[frame, members],
        )

    def _copies_of_free(self, group: Group, place: int, rows: "slice | Tensor", cells: "Tensor") -> "Tensor":
        """Copies of cells [R, c] of a free frame: its windowed copies count only inside the window.

        [R, 1] where it has none of those.
        """
        free = self.free_copies[place, group.members[rows]].unsqueeze(1)
        if not any(self.free.windowed[place]):
            return free
        dy = group.y[rows].unsqueeze(1) - cells // self.width
        dx = group.x[rows].unsqueeze(1) - cells % self.width
        windowed = self.free_windowed[place, group.members[rows]].unsqueeze(1)
        return free + windowed * self.window.admits(dy, dx)

    def _log_total(
        self, group: Group, scores: list["Tensor"], free_scores: list["Tensor"], affinity: Affinity
    ) -> "Tensor | None":
        """[R, 1] logsumexp over the frame (then the only one) or over the windows, where the protocol asks for it."""
        if affinity.normalise == "kept":
            return None
        if affinity.normalise == "window":
            of_tiles = zip(group.tiles, scores, strict=True)
            return torch.cat([self._log_total_of_windows(group, *pair, affinity.temperature) for pair in of_tiles])
        tiles = group.tiles if scores else []
        inside = [tile_scores[0] + tile.outside for tile_scores, tile in zip(scores, tiles, strict=True)]
        scaled = [widened(s) / affinity.temperature for s in (*inside, *free_scores)]
        return torch.cat([torch.logsumexp(s, 1, keepdim=True) for s in scaled])

    def _log_total_of_windows(self, group: Group, tile: Tile, scores: "Tensor", temperature: float) -> "Tensor":
        """[B * m, 1] logsumexp over the windows of all context frames, with 0 for each cell outside of the picture.

        Source: zlai0/MAST a57b043 models/colorizer.py (SpatialCorrelationSampler, which pads with zeros).
        """
        members = group.members[tile.first : tile.last]
        copies = widened(self.windowed_copies[:, members].unsqueeze(2).float())  # [F, B * m, 1]
        inside = (scores.view(len(scores), -1, *tile.outside.shape) + tile.outside).view(scores.shape)
        scaled = widened(inside) / temperature + copies.log()
        num_outside = (self.window.size - (tile.outside == 0).sum(1)).repeat(len(members) // len(tile.outside))
        outside = (num_outside * copies[..., 0].sum(0)).log().unsqueeze(1)
        return torch.logaddexp(torch.logsumexp(scaled, (0, 2)).unsqueeze(1), outside)

    def _take_all(self, taken: Taken, group: Group, scores: list["Tensor"], free_scores: list["Tensor"]) -> None:
        """Every cell that may be chosen."""
        every = torch.ones(len(group.cells), dtype=torch.bool, device=group.cells.device)
        totals = [self._log_total(group, scores, free_scores, one) for one in taken.affinities]
        for member, rows, values, columns, copies in self._chunks(group, scores, free_scores, every):
            all_values = torch.cat(list(values), 1)
            kept = torch.cat([torch.where(v > -torch.inf, c, 0) for v, c in zip(values, copies, strict=True)], 1)
            row, column = (kept > 0).nonzero(as_tuple=True)
            taken.add(
                member * self.num_cells + group.cells[rows[row]],
                columns[column],
                [
                    weigh(all_values, kept, one.temperature, None if total is None else total[rows])[row, column]
                    for one, total in zip(taken.affinities, totals, strict=True)
                ],
            )

    def _tied_rows(
        self,
        taken: Taken,
        group: Group,
        scores: list["Tensor"],
        free_scores: list["Tensor"],
        undecided: "Tensor",
        candidates: Candidates,
        threshold: "Tensor",
        totals: Sequence["Tensor | None"],
    ) -> Iterator[list[TiedRows]]:
        """Rows whose k-th similarity is not unique, from all their similarities: under each affinity."""
        for member, rows, values, columns, copies in self._chunks(group, scores, free_scores, undecided):
            own, least = candidates.of(rows), threshold[rows]
            above = copies_above(own, least)
            kept = copies_taken_with_ties(values, copies, least, above, taken.rule)
            all_values = torch.cat(list(values), 1)
            tied = []
            for one, total in zip(taken.affinities, totals, strict=True):
                log_total = None if total is None else total[rows]
                weight, more = weigh_with_ties(all_values, kept, least, above, own, one.temperature, log_total)
                tied.append(
                    TiedRows(
                        rows=member * self.num_cells + group.cells[rows],
                        columns=columns,
                        copies=kept,
                        weight=weight,
                        above=more,
                    )
                )
            yield tied

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
