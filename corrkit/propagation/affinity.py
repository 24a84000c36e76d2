"""The sparse affinity between a query frame and its context frames, and the transport of labels along it."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


_BYTES_PER_ENTRY = 12  # an int64 and a float32


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseAffinity:
    """For every query cell its kept context cells and their weights, as compressed rows.

    Query cell q (row-major over the grid) keeps the entries offsets[q] : offsets[q + 1], ordered by index, and those
    that `tied` holds for it.

    Attributes:
        indices: [E] int64 in [0, num_context * N): context number times N plus the row-major cell.
        weights: [E] float32 > 0. A row sums to 1, or to less where the softmax ran over whole frames.
        offsets: [N + 1] int64, offsets[0] = 0, offsets[N] = E.
        num_context: context frames the indices refer to.
        tied: query cells that keep so many cells of equal similarity that they aren't listed.
    """

    indices: "Tensor"
    weights: "Tensor"
    offsets: "Tensor"
    num_context: int
    tied: Sequence["TiedRows"] = ()

    @property
    def num_cells(self) -> int:
        """N, the number of cells of one frame."""
        return self.offsets.shape[0] - 1

    def rows(self) -> "Tensor":
        """[E] int64, the query cell of each entry."""
        return torch.repeat_interleave(self.offsets.diff())

    def parts(self, num_context: Sequence[int]) -> list["SparseAffinity"]:
        """Cuts the rows of several query frames, one after the other, into one affinity each."""
        size = self.num_cells // len(num_context)
        parts = []
        bounds = itertools.pairwise(self.offsets[::size].tolist())  # the host waits for the device, once
        for number, (own, (first, last)) in enumerate(zip(num_context, bounds, strict=True)):
            parts.append(
                SparseAffinity(
                    indices=self.indices[first:last],
                    weights=self.weights[first:last],
                    offsets=self.offsets[number * size : (number + 1) * size + 1] - first,
                    num_context=own,
                    tied=[tied.moved(rows=-number * size) for tied in self.tied if tied.first // size == number],
                )
            )
        return parts


@dataclass(frozen=True, slots=True, kw_only=True)
class TiedRows:
    """Query cells that keep every context cell as similar as their k-th one: on flat features all of the window.

    A byte per pair, where a list of entries would take twelve, and a sort.

    Attributes:
        rows: [R] int64, the query cells, all of one query frame.
        columns: [W] int64, rising: indices of the context cells among which they choose.
        copies: [R, W] whole numbers: how often a cell is kept.
        weight: [R, 1] float64, of one copy of a cell at the k-th similarity.
        above: rows and columns (places in `rows` and `columns`) and weights of the more similar ones, [A] each.
    """

    rows: "Tensor"
    columns: "Tensor"
    copies: "Tensor"
    weight: "Tensor"
    above: tuple["Tensor", "Tensor", "Tensor"]

    @property
    def first(self) -> int:
        """The first query cell."""
        return int(self.rows[0])

    @property
    def is_long(self) -> bool:
        """Whether a list of the entries would be the larger form."""
        return int(self.copies.count_nonzero()) * _BYTES_PER_ENTRY > self.copies.nbytes

    def moved(self, *, rows: int = 0, columns: int = 0, share: float = 1.0) -> "TiedRows":
        """The same with other numbers of query and context cells, and weights multiplied by `share`."""
        row, column, weight = self.above
        return replace(
            self,
            rows=self.rows + rows,
            columns=self.columns + columns,
            weight=self.weight * share,
            above=(row, column, weight * share),
        )

    def weights(self) -> "Tensor":
        """[R, W] float32, 0 where nothing is kept."""
        weights = (self.copies * self.weight).float()
        row, column, weight = self.above
        weights[row, column] = weight
        return weights

    def entries(self) -> tuple["Tensor", "Tensor", "Tensor"]:
        """Query cells, indices and weights as a list: [E] each."""
        row, column = self.copies.nonzero(as_tuple=True)
        return self.rows[row], self.columns[column], self.weights()[row, column]


def transport(labels: "Tensor", affinity: SparseAffinity) -> "Tensor":
    """Weighted sum of context labels: one propagation step. Knows no features.

    Args:
        labels: [num_context, N, L] float32, label maps of the context frames in the order they were matched in.
        affinity: what `match` returned.

    Returns:
        [N, L] float32: the sum over a query cell's entries of weight times label.

    Raises:
        ValueError: if the labels do not belong to the affinity's context frames.

    Source: ajabri/videowalk 047f3f4 code/test.py:137-141 (the rule).
    """
    expected = (affinity.num_context, affinity.num_cells)
    if labels.ndim != 3 or tuple(labels.shape[:2]) != expected:
        raise ValueError(
            f"labels have shape {tuple(labels.shape)}; the affinity expects [{expected[0]}, {expected[1]}, L]"
        )
    flat = labels.reshape(-1, labels.shape[2])
    moved = functional.embedding_bag(
        affinity.indices,
        flat,
        affinity.offsets,
        mode="sum",
        per_sample_weights=affinity.weights,
        include_last_offset=True,
    )
    for tied in affinity.tied:
        indices = tied.columns.expand(len(tied.rows), -1)
        moved[tied.rows] += functional.embedding_bag(indices, flat, mode="sum", per_sample_weights=tied.weights())
    return moved


def from_entries(
    rows: "Tensor",
    indices: "Tensor",
    weights: Sequence["Tensor"],
    *,
    tied: Sequence[Sequence[TiedRows]],
    num_cells: int,
    num_context: int,
) -> list[SparseAffinity]:
    """Compresses entries given in any order, once for all of several weightings of them.

    Args:
        rows: [E] int64, the query cells.
        indices: [E] int64.
        weights: [E] float32 of each weighting.
        tied: of each weighting.
        num_cells: query cells.
        num_context: context frames.
    """
    order = torch.argsort(rows * (num_context * num_cells) + indices)
    counts = torch.zeros(num_cells + 1, dtype=torch.int64, device=rows.device)
    counts.index_add_(0, rows + 1, torch.ones_like(rows))  # bincount would wait for the device
    offsets = counts.cumsum(0)
    ordered = indices[order]
    return [
        SparseAffinity(indices=ordered, weights=own[order], offsets=offsets, num_context=num_context, tied=own_tied)
        for own, own_tied in zip(weights, tied, strict=True)
    ]
