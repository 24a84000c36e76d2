"""How sure a number is: bootstrap intervals over clips, and paired comparisons of two runs on the same clips.

Every metric of the three benchmarks is a function of a sum over clips: DAVIS a ratio of sums over objects, VIP the IoU
of summed areas, JHMDB hits over instances. So a resample is a vector of how often each clip was drawn, its sum one row
of a matrix product, and the metric's own function turns all the sums into numbers at once. Clips are the unit, as the
objects and frames of one clip are not independent; clips of one source video form one cluster.

B. Efron, R. Tibshirani, An Introduction to the Bootstrap, 1993, chapters 7 (ratios), 13 (percentiles).
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 10_000
SEED = 0
LEVEL = 0.95
POWER = 0.8
MINIMUM_CLIPS = 3
"""Below this many clips (or clusters) there is no interval."""

Array = NDArray[np.float64]
Interval = tuple[float, float]
Estimator = Callable[[Array], Array]
"""Summed statistics [..., *S] to metrics [..., M], for any leading shape."""

_BLOCK_ELEMENTS = 1 << 21
_EXACT_CLIPS = 12
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """One metric of run A less that of run B on the same clips.

    difference: of the metric over all clips. interval: its 95 % bootstrap interval, None below 3 clips.
    p: two-sided sign-flip permutation p, between 0 (exclusive) and 1; None where the metric is NaN.
    detectable: the smallest true difference that a set of these clips would show at the 5 % level four times in
        five, None below 3 clips.
    """

    difference: float
    interval: Interval | None
    p: float | None
    detectable: float | None


def sum_clusters(statistics: ArrayLike, clusters: Sequence[Hashable]) -> Array:
    """Sums the statistics [clips, *S] of the clips of each cluster: [clusters, *S], in order of appearance.

    clusters: a label for each clip, such as the source video of a JHMDB clip.
    """
    values = np.asarray(statistics, np.float64)
    order = {label: position for position, label in enumerate(dict.fromkeys(clusters))}
    sums = np.zeros((len(order), *values.shape[1:]))
    np.add.at(sums, [order[label] for label in clusters], values)
    return sums


def bootstrap_intervals(
    statistics: ArrayLike, estimator: Estimator, *, resamples: int = RESAMPLES, seed: int = SEED
) -> list[Interval | None]:
    """95 % percentile intervals of metrics of summed statistics.

    Args:
        statistics: [clips, *S], what each clip (or cluster) adds to the sums.
        estimator: sums to M metrics; see `Estimator`.
        resamples: number of resampled sets.
        seed: of the generator; the same input gives the same intervals.

    Returns:
        M pairs (low, high). None below 3 clips, and for a metric that is NaN in the set itself. Resamples in which it
        is NaN (a class or joint that was not drawn) don't count.
    """
    values = np.asarray(statistics, np.float64)
    observed = estimator(values.sum(axis=0))
    if len(values) < MINIMUM_CLIPS:
        return [None] * len(observed)
    drawn = np.concatenate([estimator(_sums(w, values)) for w in _draws(len(values), resamples, seed)])
    return _percentiles(drawn, observed)


def compare_paired(
    first: ArrayLike,
    second: ArrayLike,
    estimator: Estimator,
    *,
    second_estimator: Estimator | None = None,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> list[PairedDifference]:
    """Metrics of run A less those of run B, with what can be said about the difference.

    Args:
        first: [clips, *S] of run A.
        second: the same of run B, the same clips (or clusters) in the same order.
        estimator: sums to M metrics.
        second_estimator: of run B, where it is scored by another rule; the runs are then not exchangeable, and p is
            None.
        resamples: number of resampled sets, and of permutations where not all are tried.
        seed: of the generator.

    Returns:
        One `PairedDifference` for each metric.

    Raises:
        ValueError: the two runs don't have the same number of clips or statistics.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.shape != b.shape or not len(a):
        raise ValueError(f"paired runs need the same clips: statistics of shape {a.shape} and {b.shape}")

    def difference(sums: tuple[Array, Array]) -> Array:
        return estimator(sums[0]) - (second_estimator or estimator)(sums[1])

    observed = difference((a.sum(axis=0), b.sum(axis=0)))
    is_exchangeable = second_estimator is None
    p_values = _sign_flip(a, b, difference, observed, resamples, seed) if is_exchangeable else [None] * len(observed)
    if len(a) < MINIMUM_CLIPS:
        return [
            PairedDifference(difference=float(d), interval=None, p=p, detectable=None)
            for d, p in zip(observed, p_values, strict=True)
        ]
    drawn = np.concatenate([difference((_sums(w, a), _sums(w, b))) for w in _draws(len(a), resamples, seed)])
    intervals = _percentiles(drawn, observed)
    return [
        PairedDifference(
            difference=float(observed[m]),
            interval=intervals[m],
            p=p_values[m],
            detectable=None if intervals[m] is None else detectable_difference(float(np.nanstd(drawn[:, m], ddof=1))),
        )
        for m in range(len(observed))
    ]


def detectable_difference(standard_error: float) -> float:
    """The smallest true difference found at the 5 % level (two-sided) with a power of 80 %: 2.8 standard errors."""
    normal = NormalDist()
    return (normal.inv_cdf(0.5 + LEVEL / 2) + normal.inv_cdf(POWER)) * standard_error


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusts p values for their number by Holm's step-down rule; None stays None and counts for nothing.

    S. Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    adjusted: list[float | None] = [None] * len(p_values)
    ordered = sorted((p, row) for row, p in enumerate(p_values) if p is not None)
    largest = 0.0
    for rank, (p, row) in enumerate(ordered):
        largest = max(largest, min(1.0, (len(ordered) - rank) * p))
        adjusted[row] = largest
    return adjusted


def _draws(num_clips: int, resamples: int, seed: int) -> Iterator[Array]:
    """How often each clip is drawn in each resample, in blocks [rows, clips] of bounded size."""
    generator = np.random.default_rng(seed)
    chances = np.full(num_clips, 1 / num_clips)
    for rows in _blocks(resamples, num_clips):
        yield generator.multinomial(num_clips, chances, size=rows).astype(np.float64)


def _blocks(total: int, width: int) -> Iterator[int]:
    rows = max(_BLOCK_ELEMENTS // width, 1)
    while total > 0:
        yield min(rows, total)
        total -= rows


def _sums(weights: Array, statistics: Array) -> Array:
    """[rows, clips] and [clips, *S] to weighted sums [rows, *S]."""
    return np.tensordot(weights, statistics, axes=1)


def _percentiles(drawn: Array, observed: Array) -> list[Interval | None]:
    """The middle 95 % of each metric [resamples, M]; None where the metric itself is NaN."""
    tail = (1 - LEVEL) / 2
    intervals: list[Interval | None] = []
    for value, column in zip(observed, drawn.T, strict=True):
        valid = column[~np.isnan(column)]
        if np.isnan(value) or not valid.size:
            intervals.append(None)
        else:
            low, high = np.quantile(valid, [tail, 1 - tail])
            intervals.append((float(low), float(high)))
    return intervals


def _sign_flip(
    a: Array,
    b: Array,
    difference: Callable[[tuple[Array, Array]], Array],
    observed: Array,
    resamples: int,
    seed: int,
) -> list[float | None]:
    """Two-sided p of each difference if the runs were exchangeable within each clip.

    Swapping a clip's statistics between the runs flips the sign of its difference. All 2^clips swaps are tried for up
    to 12 clips, else `resamples` random ones beside the observed one.
    """
    total_a, total_b, swap = a.sum(axis=0), b.sum(axis=0), b - a
    at_least, valid = np.zeros(len(observed)), np.zeros(len(observed))
    for flips in _flips(len(a), resamples, seed):
        moved = _sums(flips, swap)
        swapped = difference((total_a + moved, total_b - moved))
        at_least += (np.abs(swapped) >= np.abs(observed) - _ROUNDING).sum(axis=0)
        valid += (~np.isnan(swapped)).sum(axis=0)
    return [None if np.isnan(d) else float(n / v) for d, n, v in zip(observed, at_least, valid, strict=True)]


def _flips(num_clips: int, resamples: int, seed: int) -> Iterator[Array]:
    """Which clips are swapped, 0 or 1, in blocks [rows, clips]; the first row of all swaps none."""
    if num_clips <= _EXACT_CLIPS:
        yield (np.arange(1 << num_clips)[:, None] >> np.arange(num_clips) & 1).astype(np.float64)
        return
    yield np.zeros((1, num_clips))
    generator = np.random.default_rng(seed)
    for rows in _blocks(resamples, num_clips):
        yield generator.integers(0, 2, (rows, num_clips)).astype(np.float64)
