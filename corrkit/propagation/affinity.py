"""The sparse affinity between a query frame and its context frames, and the transport of labels along it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseAffinity:
    """For every query cell its kept context cells and their weights, as compressed rows.

    Query cell q (row-major over the grid) keeps the entries offsets[q] : offsets[q + 1], ordered by index.

    Attributes:
        indices: [E] int64 in [0, num_context * N): context number times N plus the row-major cell.
        weights: [E] float32 > 0. A row sums to 1, or to less where the softmax ran over whole frames.
        offsets: [N + 1] int64, offsets[0] = 0, offsets[N] = E.
        num_context: context frames the indices refer to.
    """

    indices: "Tensor"
    weights: "Tensor"
    offsets: "Tensor"
    num_context: int

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
        for number, own in enumerate(num_context):
            offsets = self.offsets[number * size : (number + 1) * size + 1]
            first, last = int(offsets[0]), int(offsets[-1])
            parts.append(
                SparseAffinity(
                    indices=self.indices[first:last],
                    weights=self.weights[first:last],
                    offsets=offsets - first,
                    num_context=own,
                )
            )
        return parts


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
    return functional.embedding_bag(
        affinity.indices,
        labels.reshape(-1, labels.shape[2]),
        affinity.offsets,
        mode="sum",
        per_sample_weights=affinity.weights,
        include_last_offset=True,
    )


def from_entries(
    rows: "Tensor", indices: "Tensor", weights: "Tensor", num_cells: int, num_context: int
) -> SparseAffinity:
    """Compresses entries given in any order; each of rows, indices, weights is [E]."""
    order = torch.argsort(rows * (num_context * num_cells) + indices)
    offsets = torch.zeros(num_cells + 1, dtype=torch.int64, device=rows.device)
    torch.cumsum(torch.bincount(rows, minlength=num_cells), 0, out=offsets[1:])
    return SparseAffinity(indices=indices[order], weights=weights[order], offsets=offsets, num_context=num_context)
