import itertools
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corrkit.metrics.confusion import class_areas, class_iou, joint_counts, mean_iou
from corrkit.metrics.davis import METRICS, clip_sums, metrics_of_sums
from corrkit.metrics.intervals import (
    bootstrap_intervals,
    compare_paired,
    detectable_difference,
    holm,
    sum_clusters,
)
from corrkit.metrics.keypoints import mean_pck, pck_of_counts


def ratio(sums: np.ndarray) -> np.ndarray:
    """Sums [..., 2] of value and count to their ratio [..., 1]."""
    return sums[..., :1] / sums[..., 1:]


def clips_of(values) -> np.ndarray:
    """One object a clip: [clips, 2] of value and 1."""
    return np.stack([np.asarray(values, float), np.ones(len(values))], axis=1)


def slow_bootstrap(statistics, estimator, resamples: int, seed: int) -> np.ndarray:
    """Draws clips with replacement, one resample at a time."""
    generator = np.random.default_rng(seed)
    drawn = [statistics[generator.integers(0, len(statistics), len(statistics))] for _ in range(resamples)]
    return np.array([estimator(sample.sum(axis=0)) for sample in drawn])


def test_interval_agrees_with_drawing_clip_by_clip():
    generator = np.random.default_rng(3)
    counts = generator.integers(1, 5, 30)
    statistics = np.stack([counts * generator.random(30), counts], axis=1)
    (interval,) = bootstrap_intervals(statistics, ratio)
    slow = np.quantile(slow_bootstrap(statistics, ratio, 4000, seed=1)[:, 0], [0.025, 0.975])
    # Two independent sets of resamples: their quantiles have a standard error of about 0.02 interval widths.
    np.testing.assert_allclose(interval, slow, atol=0.1 * (slow[1] - slow[0]))
    assert interval[0] < ratio(statistics.sum(axis=0))[0] < interval[1]


def test_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        (interval,) = bootstrap_intervals(clips_of(generator.normal(0.5, 0.1, 25)), ratio, resamples=500)
        covered += interval[0] <= 0.5 <= interval[1]
    assert 0.88 <= covered / 300 <= 0.98  # percentile intervals of 25 clips: 0.93, standard error 0.015


def test_same_seed_gives_the_same_interval_and_clip_order_is_no_matter_for_constants():
    statistics = clips_of(np.random.default_rng(0).random(12))
    assert bootstrap_intervals(statistics, ratio) == bootstrap_intervals(statistics, ratio)
    assert bootstrap_intervals(statistics, ratio, seed=1) != bootstrap_intervals(statistics, ratio)
    assert bootstrap_intervals(clips_of([0.5] * 4), ratio) == [(0.5, 0.5)]


@pytest.mark.parametrize("num_clips", [1, 2])
def test_no_interval_below_three_clips(num_clips):
    statistics = clips_of(np.arange(num_clips))
    assert bootstrap_intervals(statistics, ratio) == [None]
    (difference,) = compare_paired(statistics + 1, statistics, ratio)
    assert difference.interval is None
    assert difference.detectable is None


def test_metric_that_is_nan_has_no_interval_and_resamples_without_a_class_don_t_count():
    # The second metric is only defined where clip 0 is drawn, the third never.
    statistics = np.array([[1.0, 1, 0.4, 1, 0, 0], *[[0.5, 1, 0, 0, 0, 0]] * 3])

    def three(sums: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return sums[..., ::2] / sums[..., 1::2]

    first, second, third = bootstrap_intervals(statistics, three)
    assert first[0] < first[1]
    assert second == pytest.approx((0.4, 0.4))
    assert third is None


def test_davis_weighs_objects_not_clips():
    one, many = np.full((1, 6), 0.2), np.full((9, 6), 0.8)
    statistics = [clip_sums(clip) for clip in (one, many, many)]
    intervals = dict(zip(METRICS, bootstrap_intervals(statistics, metrics_of_sums), strict=True))
    low, high = intervals["J-Mean"]
    assert low <= (0.2 + 18 * 0.8) / 19 <= high == pytest.approx(0.8)


def test_vip_sums_resampled_areas():
    generator = np.random.default_rng(0)
    areas = []
    for _ in range(5):
        truth, noise = generator.integers(0, 4, (2, 20, 20)).astype(np.uint8)
        prediction = np.where(generator.random(truth.shape) < 0.7, truth, noise).astype(np.uint8)
        areas.append(class_areas(joint_counts(truth, prediction), rule="confusion"))

    def miou(sums: np.ndarray) -> np.ndarray:
        return mean_iou(class_iou(sums), background=True)[..., None]

    (interval,) = bootstrap_intervals(areas, miou)
    assert interval[0] < miou(np.sum(areas, axis=0))[0] < interval[1]


def test_jhmdb_clusters_are_drawn_whole():
    generator = np.random.default_rng(0)
    counts = generator.integers(0, 10, (6, 6, 15))
    counts[:, -1] = 10
    # The same clip three times from each of two videos: two clusters, so no interval.
    clusters = sum_clusters(np.repeat(counts[:2], 3, axis=0), ["a", "a", "a", "b", "b", "b"])
    np.testing.assert_array_equal(clusters, 3 * counts[:2])

    def pck(sums: np.ndarray) -> np.ndarray:
        return mean_pck(pck_of_counts(sums))

    assert bootstrap_intervals(clusters, pck) == [None] * 5
    assert all(low <= high for low, high in bootstrap_intervals(counts, pck))


def test_clusters_keep_their_order_of_appearance():
    sums = sum_clusters(np.arange(4)[:, None], ["b", "a", "b", "c"])
    np.testing.assert_array_equal(sums, [[0 + 2], [1], [3]])


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=1, max_size=8))
def test_sign_flip_equals_trying_every_sign(pairs):
    first, second = (clips_of([pair[side] / 100 for pair in pairs]) for side in range(2))
    (result,) = compare_paired(first, second, ratio, resamples=50)
    differences = np.array([a - b for a, b in pairs])  # integers: exact
    signs = np.array(list(itertools.product([1, -1], repeat=len(pairs))))
    expected = np.mean(np.abs(signs @ differences) >= abs(differences.sum()))
    assert result.p == expected
    assert result.difference == pytest.approx(differences.sum() / 100 / len(pairs))


def test_sign_flip_of_many_clips_is_close_to_the_normal_answer():
    generator = np.random.default_rng(1)
    base = generator.random(60)
    noise = generator.normal(0, 0.1, 60)
    noise -= noise.mean()
    second = clips_of(base)
    (result,) = compare_paired(clips_of(base + noise + 0.025), second, ratio)
    # z = 0.025 / (sd of the flipped mean) = 0.025 / sqrt(mean(d^2) / 60)
    z = 0.025 / np.sqrt(np.mean((noise + 0.025) ** 2) / 60)
    assert result.p == pytest.approx(2 * NormalDist().cdf(-z), abs=0.02)
    assert result.p > 0


def test_equal_runs_have_no_difference_and_p_one():
    statistics = clips_of(np.random.default_rng(0).random(20))
    (result,) = compare_paired(statistics, statistics, ratio)
    assert (result.difference, result.interval, result.p, result.detectable) == (0, (0, 0), 1, 0)


def test_a_clear_difference_is_seen_and_antisymmetric():
    generator = np.random.default_rng(0)
    worse = generator.random(20)
    first, second = clips_of(worse + 0.1 + generator.normal(0, 0.01, 20)), clips_of(worse)
    (forth,) = compare_paired(first, second, ratio)
    (back,) = compare_paired(second, first, ratio)
    assert forth.interval[0] > 0.05
    assert forth.p < 0.001
    assert forth.detectable < 0.02
    assert back.difference == -forth.difference
    assert back.p == forth.p
    np.testing.assert_allclose(back.interval, [-forth.interval[1], -forth.interval[0]])


def test_pairing_narrows_the_interval():
    generator = np.random.default_rng(0)
    base = generator.random(20)  # clips differ far more than the runs do
    first, second = clips_of(base + generator.normal(0, 0.01, 20)), clips_of(base)
    (paired,) = compare_paired(first, second, ratio)
    (alone,) = bootstrap_intervals(first, ratio)
    assert paired.interval[1] - paired.interval[0] < 0.2 * (alone[1] - alone[0])


def test_detectable_difference_is_two_point_eight_standard_errors():
    assert detectable_difference(1.0) == pytest.approx(1.959964 + 0.841621, abs=1e-6)


def test_nan_metric_has_no_p():
    with np.errstate(invalid="ignore"):
        (result,) = compare_paired(np.zeros((4, 2)), np.zeros((4, 2)), ratio)
    assert result.p is None
    assert result.interval is None


def test_runs_of_other_clips_are_refused():
    with pytest.raises(ValueError, match="same clips"):
        compare_paired(clips_of([1, 2, 3]), clips_of([1, 2]), ratio)
    with pytest.raises(ValueError, match="same clips"):
        compare_paired(np.zeros((0, 2)), np.zeros((0, 2)), ratio)


def test_holm_by_hand():
    # Ordered .01 .02 .03 .04 times 4 3 2 1: .04 .06 .06 .04, made monotone: .04 .06 .06 .06.
    assert holm([0.04, 0.01, None, 0.03, 0.02]) == pytest.approx([0.06, 0.04, None, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
