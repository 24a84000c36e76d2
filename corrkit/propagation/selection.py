"""From similarities to kept cells and weights: exact top-k in two stages, ties, copies, temperature."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from corrkit.errors import CorrkitError
from corrkit.protocols.schema import Affinity

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """The best distinct context cells of M queries, in falling order of similarity; -inf where there are fewer.

    values: [M, c] float32. indices: [M, c] int64, context number times N plus cell. copies: [M, c] int64, how often
    the cell stands in the context.
    """

    values: "Tensor"
    indices: "Tensor"
    copies: "Tensor"

    def of(self, rows: "Tensor") -> "Candidates":
        """Those of some of the queries."""
        return Candidates(values=self.values[rows], indices=self.indices[rows], copies=self.copies[rows])

    def first(self, count: int) -> "Candidates":
        """The best `count` of each query. As contiguous rows, whose sums don't depend on what was cut off."""
        if self.values.shape[1] <= count:
            return self
        return Candidates(
            values=self.values[:, :count].contiguous(),
            indices=self.indices[:, :count].contiguous(),
            copies=self.copies[:, :count].contiguous(),
        )

    def have_ties(self) -> "Tensor":
        """[] bool: whether any query has two candidates of equal similarity."""
        following = self.values[:, 1:]
        return ((self.values[:, :-1] == following) & (following > -torch.inf)).any()

    @staticmethod
    def below(parts: "Sequence[Candidates]") -> "Candidates":
        """Those of several sets of queries, one below the other."""
        return Candidates(
            values=torch.cat([part.values for part in parts]),
            indices=torch.cat([part.indices for part in parts]),
            copies=torch.cat([part.copies for part in parts]),
        )

    @staticmethod
    def best(parts: "Sequence[Candidates]", count: int) -> "Candidates":
        """The best `count` of several sets of candidates of the same queries."""
        values = torch.cat([part.values for part in parts], 1)
        indices = torch.cat([part.indices for part in parts], 1)
        copies = torch.cat([part.copies for part in parts], 1)
        chosen = values.topk(min(count, values.shape[1]), dim=1)
        return Candidates(
            values=chosen.values, indices=indices.gather(1, chosen.indices), copies=copies.gather(1, chosen.indices)
        )


def best_positions(values: "Tensor", count: int) -> "Tensor":
    """Positions of the `count` largest values of each row, exact up to ties: torch.topk in two stages.

    The count largest elements lie in the count groups of largest maxima. `torch.topk` is fast only while a row holds at
    least 64 * count elements, which bounds the number of groups from below.

    Args:
        values: [M, P].
        count: at most P.

    Returns:
        [M, count] int64, in falling order of value.
    """
    rows, width = values.shape
    members = width // (64 * count)
    if members < 2:
        return values.topk(count, dim=1).indices
    groups = width // members
    grouped = values[:, : members * groups].view(rows, members, groups)
    best_groups = grouped.amax(1).topk(count, dim=1).indices  # [M, count]
    inside = (best_groups.unsqueeze(1) + groups * _steps(members, values).view(1, -1, 1)).view(rows, -1)
    rest = (members * groups + _steps(width - members * groups, values)).expand(rows, -1)
    positions = torch.cat([inside, rest], 1)
    chosen = values.gather(1, positions).topk(count, dim=1).indices
    return positions.gather(1, chosen)


def _steps(count: int, like: "Tensor") -> "Tensor":
    return torch.arange(count, device=like.device)


def copies_taken(candidates: Candidates, affinity: Affinity) -> tuple["Tensor", "Tensor", "Tensor"]:
    """How many copies of each candidate count among the k nearest.

    Returns:
        taken: [M, c] int64. threshold: [M, 1], the k-th similarity (the smallest one if there are fewer). undecided:
        [M] bool, rows in which cells compete for the last places with equal similarities, so that the tie rule has to
        see the whole row.
    """
    values, copies = candidates.values, torch.where(candidates.values > -torch.inf, candidates.copies, 0)
    before = copies.cumsum(1) - copies
    is_among = (before < affinity.topk) & (copies > 0)
    taken = copies * is_among if affinity.ties == "keep" else (affinity.topk - before).clamp(min=0).minimum(copies)
    last = (is_among.sum(1, keepdim=True) - 1).clamp(min=0)
    threshold = values.gather(1, last)
    following = (last + 1).clamp(max=values.shape[1] - 1)
    previous = (last - 1).clamp(min=0)
    is_beyond = (following > last) & (values.gather(1, following) == threshold)
    is_shared = (previous < last) & (values.gather(1, previous) == threshold)
    is_cut = taken.gather(1, last) < copies.gather(1, last)
    undecided = (is_beyond | (is_shared & is_cut)) & (threshold > -torch.inf)
    return taken, threshold, undecided.squeeze(1)


def copies_above(candidates: Candidates, threshold: "Tensor") -> "Tensor":
    """[M, c] int64: copies of the candidates that are more similar than the k-th one; these are all such cells."""
    return torch.where(candidates.values > threshold, candidates.copies, 0)


def copies_taken_with_ties(
    values: Sequence["Tensor"],
    copies: Sequence["Tensor"],
    threshold: "Tensor",
    above: "Tensor",
    affinity: Affinity,
) -> "Tensor":
    """As `copies_taken` for whole rows, one [R, W] entry of each list per context frame, in their order.

    "keep" takes everything at the threshold. "exact" goes through the cells at the threshold context frame by context
    frame, within one copy by copy, within that from low to high cell, until k are taken.

    Args:
        values: similarities.
        copies: how often the cells are there; of shape [1, 1] or [R, 1] where that is the same for several.
        threshold: [R, 1], the k-th similarity.
        above: [R, c], see `copies_above`.
        affinity: topk and ties.

    Returns:
        [R, sum of W], of a small integer type.
    """
    most = max(int(c.max()) for c in copies)
    copies = [c.to(torch.uint8 if most < 256 else torch.int32) for c in copies]
    if affinity.ties == "keep":
        return torch.cat([torch.where(v >= threshold, c, 0) for v, c in zip(values, copies, strict=True)], 1)
    taken = [torch.where(v > threshold, c, 0) for v, c in zip(values, copies, strict=True)]
    left = affinity.topk - above.sum(1, keepdim=True)
    for own, v, c in zip(taken, values, copies, strict=True):
        for copy in range(int(c.max())):
            if not bool(left.any()):
                return torch.cat(taken, 1)
            is_open = (v == threshold) & (c > copy)
            is_taken = is_open & (is_open.cumsum(1) <= left)
            own += is_taken
            left = left - is_taken.sum(1, keepdim=True)
    return torch.cat(taken, 1)


def widened(values: "Tensor") -> "Tensor":
    """As float64, so that no temperature overflows or merges scores; float32 on MPS, which has nothing wider."""
    return values if values.device.type == "mps" else values.double()


def weigh(values: "Tensor", taken: "Tensor", temperature: float, log_total: "Tensor | None") -> "Tensor":
    """Softmax of similarity / temperature over the taken copies, or over `log_total` where that is given.

    Args:
        values: [M, c] similarities.
        taken: [M, c] copies.
        temperature: divisor.
        log_total: [M, 1] logsumexp of similarity / temperature over a whole frame; None: over what was taken.

    Returns:
        [M, c] float32, 0 where nothing was taken.

    Raises:
        CorrkitError: if a similarity overflowed.
    """
    scaled = torch.where(taken > 0, widened(values) / temperature, -torch.inf)
    if bool((scaled == torch.inf).any()):
        raise CorrkitError(
            "Similarities overflow float32: the features are too large to be multiplied.",
            "Normalise the features (features.l2 = true), or scale them down.",
        )
    shift = scaled.amax(1, keepdim=True) if log_total is None else log_total
    weights = taken * (scaled - shift).exp()
    if log_total is None:
        weights = weights / weights.sum(1, keepdim=True)
    return weights.float()


def weigh_with_ties(
    values: "Tensor",
    taken: "Tensor",
    threshold: "Tensor",
    above: "Tensor",
    candidates: Candidates,
    temperature: float,
    log_total: "Tensor | None",
) -> tuple["Tensor", tuple["Tensor", "Tensor", "Tensor"]]:
    """As `weigh` for whole rows [R, W]: what is taken at the threshold weighs alike, and few cells are above it.

    Args:
        values: see `weigh`, as taken, temperature and log_total.
        taken: see values.
        threshold: [R, 1], the k-th similarity.
        above: [R, c], see `copies_above`.
        candidates: of the rows.
        temperature: see values.
        log_total: see values.

    Returns:
        [R, 1] of `widened`, the weight of one copy at the threshold; and row, column and weight (float32) of what is
        above it.
    """
    shift = widened(candidates.values[:, :1]) / temperature if log_total is None else log_total
    at = (widened(threshold) / temperature - shift).exp()
    total = torch.ones_like(at)
    if log_total is None:
        num_at = taken.sum(1, keepdim=True) - above.sum(1, keepdim=True)
        shares = above * (widened(candidates.values) / temperature - shift).exp()
        total = shares.sum(1, keepdim=True) + num_at * at
    places = (values > threshold).nonzero() if bool(above.any()) else taken.new_empty((0, 2), dtype=torch.int64)
    row, column = places.unbind(1)
    weights = taken[row, column] * (widened(values[row, column]) / temperature - shift[row, 0]).exp() / total[row, 0]
    return at / total, (row, column, weights.float())
