"""Which cells may be matched at all, where their classes are known: what an oracle of matches looks at."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

ANY = -1
"""The class of cells that any other may match."""


class Classes:
    """The classes of the cells of some query frames and of the context frames that they are matched with.

    Args:
        queries: [h, w] int64 of each query frame, at least one of them; None for a frame of which nothing is known.
        contexts: the same of each context frame.
    """

    def __init__(self, queries: Sequence["Tensor | None"], contexts: Sequence["Tensor | None"]) -> None:
        anything = torch.full_like(next(classes for classes in queries if classes is not None), ANY)
        every = [anything if classes is None else classes for classes in (*queries, *contexts)]
        together = torch.stack(every).flatten(1)  # [B + F, N]
        self._distinct, self._places = torch.unique(together[: len(queries)], return_inverse=True)  # [D], [B, N]
        self._contexts = together[len(queries) :]

    def places(self, members: "Tensor", cells: "Tensor") -> "Tensor":
        """Which of the distinct classes rows have, [R]; members and cells [R]: query frame and cell of each row."""
        places: Tensor = self._places[members, cells]
        return places

    def forbid(self, scores: "Iterable[Tensor]", own: "Tensor", frames: slice, cells: "slice | Tensor") -> None:
        """Makes similarities of cells of different classes -inf.

        Args:
            scores: [M, P] float32 of rows with cells of each context frame; changed in place.
            own: [M] the rows' `places`.
            frames: which of the context frames.
            cells: [P] which of their cells.
        """
        classes, others = self._distinct.view(1, -1, 1), self._contexts[frames, cells].unsqueeze(1)
        differ = (classes != others) & (classes != ANY) & (others != ANY)
        limits = torch.where(differ, -torch.inf, torch.inf)  # [F, D, P]
        for frame_scores, frame_limits in zip(scores, limits, strict=True):
            # Four times as fast as a mask of pairs; frame by frame, so that the limits stay in the cache.
            torch.minimum(frame_scores, frame_limits.index_select(0, own), out=frame_scores)
