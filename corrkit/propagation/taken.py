"""What is taken of a block's context cells, under each of several temperatures."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from corrkit.propagation.affinity import SparseAffinity, TiedRows, from_entries
from corrkit.propagation.selection import Candidates, weigh
from corrkit.protocols.schema import Affinity

if TYPE_CHECKING:
    from torch import Tensor


class Taken:
    """What one rule of selection takes of a block, and its weights under each of several temperatures.

    Args:
        affinities: alike in topk and ties.
    """

    def __init__(self, affinities: Sequence[Affinity]) -> None:
        self.affinities, self.rule = affinities, affinities[0]
        self._rows: list[Tensor] = []
        self._indices: list[Tensor] = []
        self._weights: list[list[Tensor]] = [[] for _ in affinities]
        self._tied: list[list[TiedRows]] = [[] for _ in affinities]

    def add(self, rows: "Tensor", indices: "Tensor", weights: Sequence["Tensor"]) -> None:
        """Takes entries: rows (query frame times N plus cell), indices, weights of each affinity; [E] each."""
        self._rows.append(rows)
        self._indices.append(indices)
        for own, further in zip(self._weights, weights, strict=True):
            own.append(further)

    def add_kept(
        self,
        rows: "Tensor",
        candidates: Candidates,
        copies: "Tensor",
        kept: "Tensor",
        totals: Sequence["Tensor | None"],
    ) -> None:
        """Takes candidates of rows [M].

        copies: [M, c] of each that counts. kept: [M, c] which of them are taken here. totals: see `weigh`, of each
        affinity.
        """
        places = kept.flatten().nonzero().squeeze(1)
        self.add(
            rows[places // kept.shape[1]],
            candidates.indices.flatten()[places],
            [
                weigh(candidates.values, copies, one.temperature, total).flatten()[places]
                for one, total in zip(self.affinities, totals, strict=True)
            ],
        )

    def add_tied(self, tied: Sequence[TiedRows]) -> None:
        """Takes rows with ties at the cut, which differ in weights alone; as a list where that is the shorter form."""
        if tied[0].is_long:
            for own, further in zip(self._tied, tied, strict=True):
                own.append(further)
        else:
            listed = [one.entries() for one in tied]
            self.add(*listed[0][:2], [weights for _, _, weights in listed])

    def found(self, num_cells: int, num_context: int) -> dict[Affinity, SparseAffinity]:
        """All of it by affinity."""
        found = from_entries(
            torch.cat(self._rows),
            torch.cat(self._indices),
            [torch.cat(weights) for weights in self._weights],
            tied=self._tied,
            num_cells=num_cells,
            num_context=num_context,
        )
        return dict(zip(self.affinities, found, strict=True))
