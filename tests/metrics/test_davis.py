import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corrkit.metrics.davis import (
    METRICS,
    clip_sums,
    frame_statistics,
    metrics_of_sums,
    object_statistics,
    scored_frames,
    table_metrics,
)

EXACT = 1e-12  # golden/metrics/README.md


@pytest.fixture(scope="module")
def official(golden) -> dict:
    return json.loads(golden("metrics/expected/official_full_precision.json").read_text())


def official_statistics(golden, sequence: str) -> np.ndarray:
    """Statistics [K, 6] of one sequence from the official J and F of its scored frames."""
    expected = np.load(golden(f"metrics/expected/{sequence}.npz"))
    frames = scored_frames(expected["J"].shape[1], "first-last")
    ours = object_statistics(expected["J"][:, frames], expected["F"][:, frames], decay="uint8")
    theirs = np.concatenate([expected["stats_J"], expected["stats_F"]], axis=1)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=EXACT)
    return ours


@pytest.mark.golden
@pytest.mark.parametrize(("rows", "sequences"), [("core_global", "core_sequences"), ("global_", None)])
def test_table_equals_the_official_tool(golden, official, rows, sequences):
    names = golden("metrics/davis/ImageSets/2017/val.txt").read_text().split()
    if sequences:
        names = official[sequences]
    table = table_metrics([official_statistics(golden, name) for name in names])
    assert list(table) == list(METRICS)
    for metric, value in official[rows].items():
        np.testing.assert_allclose(table[metric], value, rtol=0, atol=EXACT, err_msg=metric)


@pytest.mark.golden
def test_global_decay_is_nan_only_under_the_official_wrap(golden, official):
    assert math.isnan(official["global_"]["J-Decay"])
    long = np.load(golden("metrics/expected/e21_T300.npz"))
    exact = object_statistics(long["J"][:, 1:-1], long["F"][:, 1:-1], decay="exact")
    assert np.isfinite(exact).all()
    # 298 frames cut at 1, 75.25, 149.5, 223.75, 298, rounded: the first bin has 75 frames, the last 224..298.
    np.testing.assert_allclose(
        exact[0, 2], long["J"][0, 1:76].mean() - long["J"][0, 224:299].mean(), rtol=0, atol=EXACT
    )


@pytest.mark.golden
def test_statistics_of_any_length_equal_the_official_tool(golden):
    expected = np.load(golden("metrics/expected/db_statistics.npz"))
    keys = [key[1:] for key in expected.files if key.startswith("v")]
    assert {"1", "2", "3", "255", "256", "257", "600", "_nan", "_half"} <= set(keys)
    for key in keys:
        ours = frame_statistics(expected["v" + key], decay="uint8")
        np.testing.assert_allclose(ours, expected["s" + key], rtol=0, atol=EXACT, err_msg=key)
        if len(expected["v" + key]) < 256:
            np.testing.assert_array_equal(frame_statistics(expected["v" + key], decay="exact"), ours, err_msg=key)


def test_statistics_by_hand():
    # Five frames, cuts at 1..5: the first bin is frames 1-2, the last frames 4-5. Recall: 0.5 itself is not above 0.5.
    mean, recall, decay = frame_statistics([1.0, 0.8, 0.5, 0.4, 0.3], decay="exact")
    assert mean == pytest.approx(0.6)
    assert recall == 2 / 5
    assert decay == pytest.approx(0.9 - 0.35)


@pytest.mark.parametrize(("num_annotated", "scored"), [(0, []), (1, []), (2, []), (3, [1]), (5, [1, 2, 3])])
def test_first_and_last_frame_are_not_scored(num_annotated, scored):
    assert list(scored_frames(num_annotated, "first-last")) == scored


def test_clip_without_scored_frames_is_nan_and_left_out_of_the_means():
    nothing = object_statistics(np.zeros((2, 0)), np.zeros((2, 0)), decay="exact")
    assert nothing.shape == (2, 6)
    assert np.isnan(nothing).all()
    one = object_statistics([[0.25]], [[0.75]], decay="exact")
    assert table_metrics([nothing, one]) == table_metrics([one])
    assert table_metrics([one])["J&F-Mean"] == 0.5
    assert all(math.isnan(value) for value in table_metrics([nothing]).values())
    assert all(math.isnan(value) for value in table_metrics([]).values())


def test_clip_without_objects_adds_nothing():
    assert object_statistics(np.zeros((0, 4)), np.zeros((0, 4)), decay="exact").shape == (0, 6)
    np.testing.assert_array_equal(clip_sums(np.zeros((0, 6))), np.zeros(7))


def test_every_object_weighs_the_same():
    # Two objects of J 1 in one clip, one of J 0 in another: 2/3, not the mean over clips 1/2.
    two = object_statistics(np.ones((2, 3)), np.ones((2, 3)), decay="exact")
    one = object_statistics(np.zeros((1, 9)), np.zeros((1, 9)), decay="exact")
    assert table_metrics([two, one])["J-Mean"] == pytest.approx(2 / 3)


def test_sums_in_a_batch_equal_each_alone():
    sums = np.random.default_rng(0).random((4, 5, 7))
    batch = metrics_of_sums(sums)
    assert batch.shape == (4, 5, 7)
    np.testing.assert_array_equal(batch[2, 3], metrics_of_sums(sums[2, 3]))


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=700))
def test_statistics_are_bounded(values):
    mean, recall, decay = frame_statistics(values, decay="exact")
    assert 0 <= mean <= 1 + EXACT
    assert 0 <= recall <= 1
    assert -1 - EXACT <= decay <= 1 + EXACT


@settings(deadline=None)
@given(st.integers(1, 2000))
def test_constant_values_don_t_decay(num_frames):
    assert frame_statistics(np.full(num_frames, 0.5), decay="exact") == (0.5, 0.0, 0.0)


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="objects, frames"):
        object_statistics(np.zeros((1, 3)), np.zeros((1, 4)), decay="exact")
