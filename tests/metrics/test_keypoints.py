from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corrkit.metrics.keypoints import (
    THRESHOLDS,
    figure_size,
    mean_pck,
    pck_counts,
    pck_of_counts,
    visible_joints,
)
from corrkit.report.failures import joint_distances
from corrkit.tasks.first_frame import joint_notes
from corrkit.tasks.jhmdb_predictions import from_cells

EXACT = 1e-12  # golden/jhmdb/README.md, of per cent
CRW: dict[str, Any] = {"visibility": "non-negative", "floor": "always", "score_first": False}
VFS: dict[str, Any] = {"visibility": "positive", "floor": "invisible", "score_first": True}
CASES = ("ordinary", "outside_and_invisible", "degenerate", "on_threshold")
CRW_VARIANTS = ("crw_res20x20_float32", "crw_res40x40_float64", "crw_res14x10_float32")


@pytest.fixture(scope="module")
def published(golden):
    return np.load(golden("jhmdb/pck.npz"))


def clips(file, case: str, variant: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """(prediction in pixels, truth) [T, 15, 2] of each clip."""
    pairs = []
    for i in range(int(file[f"{case}/n_clips"])):
        truth = file[f"{case}/pos_img_{i}"].transpose(2, 1, 0) - 1  # 1-based
        if variant == "vfs":
            prediction = file[f"{case}/vfs/pred_px_{i}"].transpose(2, 1, 0)
        else:
            width, height = map(int, variant.split("_")[1].removeprefix("res").split("x"))
            frame = tuple(file[f"{case}/sizes_hw"][i].tolist())
            cells = file[f"{case}/{variant}/pred_{i}"]
            prediction = from_cells(cells, Path(f"{i}.dat"), frame, (width, height))
        pairs.append((prediction, truth))
    return pairs


def total(pairs, rule) -> np.ndarray:
    return np.sum([pck_counts(prediction, truth, **rule) for prediction, truth in pairs], axis=0)


@pytest.mark.golden
@pytest.mark.parametrize("variant", [*CRW_VARIANTS, "vfs"])
@pytest.mark.parametrize("case", CASES)
def test_pck_equals_the_published_code(published, case, variant):
    counts = total(clips(published, case, variant), VFS if variant == "vfs" else CRW)
    per_joint = 100 * pck_of_counts(counts)
    compared = 0
    for name, ours in {
        "cropmae_mean": 100 * mean_pck(pck_of_counts(counts)),
        "mean": 100 * mean_pck(pck_of_counts(counts)),
        "per_joint": per_joint,
        "counts": counts[-1],
    }.items():
        if (key := f"{case}/{variant}/out_{name}") in published:
            np.testing.assert_allclose(ours, published[key], rtol=0, atol=100 * EXACT, err_msg=name)
            compared += 1
    assert compared >= 1


@pytest.mark.golden
@pytest.mark.parametrize("variant", CRW_VARIANTS[:2])
@pytest.mark.parametrize("case", CASES)
def test_visibility_and_size_equal_the_published_code(published, case, variant):
    for i, (prediction, truth) in enumerate(clips(published, case, variant)):
        visible = visible_joints(prediction, visibility="non-negative")
        np.testing.assert_array_equal(visible.T, published[f"{case}/{variant}/out_visible_{i}"])
        size = figure_size(truth, visible, floor="always")
        np.testing.assert_allclose(size, published[f"{case}/{variant}/out_box_{i}"], rtol=EXACT, atol=EXACT)


@pytest.mark.golden
@pytest.mark.parametrize("variant", [*CRW_VARIANTS, "vfs"])
def test_joint_that_is_never_visible_is_nan_and_leaves_the_others_alone(published, variant):
    assert published[f"joint_never_visible/{variant}/out_raises"] == "ZeroDivisionError"
    counts = total(clips(published, "joint_never_visible", variant), VFS if variant == "vfs" else CRW)
    per_joint = pck_of_counts(counts)
    never = counts[-1] == 0
    assert never.sum() == 1
    assert np.isnan(per_joint[:, never]).all()
    np.testing.assert_allclose(mean_pck(per_joint), per_joint[:, ~never].mean(axis=1), rtol=0, atol=EXACT)


def slow_pck_counts(prediction, truth, *, visibility, floor, score_first) -> np.ndarray:
    """The rule joint by joint."""
    num_joints = truth.shape[1]
    counts = np.zeros((len(THRESHOLDS) + 1, num_joints), np.int64)
    for t in range(0 if score_first else 1, len(truth)):
        x = prediction[t, :, 0]
        visible = [bool(v > 0 if visibility == "positive" else v >= 0) for v in x]
        shown = [truth[t, j] for j in range(num_joints) if visible[j]]
        with_floor = floor == "always" or not all(visible)
        extent = []
        for axis in range(2):
            largest = max([p[axis] for p in shown] + ([-1.0] if with_floor else []))
            smallest = min([p[axis] for p in shown] + [1e6])
            extent.append(largest - smallest)
        size = 0.6 * float(np.hypot(*extent))
        for j in range(num_joints):
            if visible[j]:
                distance = float(np.hypot(*(prediction[t, j].astype(float) - truth[t, j])))
                counts[-1, j] += 1
                for row, threshold in enumerate(THRESHOLDS):
                    counts[row, j] += size > 0 and distance / size <= threshold
    return counts


def random_clip(seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    truth = generator.uniform(-40, 300, (generator.integers(1, 6), 15, 2))
    prediction = truth + generator.normal(0, 30, truth.shape)
    prediction[generator.random(truth.shape[:2]) < 0.1] = np.nan
    prediction[generator.random(truth.shape[:2]) < 0.1] = -1
    return prediction, truth


@settings(deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.sampled_from(["non-negative", "positive"]), st.sampled_from(["always", "invisible"])
)
def test_equals_the_rule_joint_by_joint(seed, visibility, floor):
    prediction, truth = random_clip(seed)
    for score_first in (False, True):
        rule = {"visibility": visibility, "floor": floor, "score_first": score_first}
        np.testing.assert_array_equal(pck_counts(prediction, truth, **rule), slow_pck_counts(prediction, truth, **rule))


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_monotone_in_the_threshold_and_unchanged_by_scaling(seed):
    prediction, truth = random_clip(seed)
    truth = np.abs(truth)
    counts = pck_counts(prediction, truth, **VFS)
    assert (np.diff(counts[:-1], axis=0) >= 0).all()
    assert (counts[:-1] <= counts[-1]).all()
    np.testing.assert_array_equal(pck_counts(2 * prediction, 2 * truth, **VFS), counts)


def test_pck_by_hand():
    # One frame, joints (0, 0) and (30, 40): diagonal 50, size 30. Errors 3 (0.1 of 30) and 6 (0.2 of 30).
    truth = np.array([[[0, 0], [30, 40]]], float)
    prediction = np.array([[[3, 0], [30, 46]]], float)
    counts = pck_counts(prediction, truth, **VFS)
    np.testing.assert_array_equal(counts, [[1, 0], [1, 1], [1, 1], [1, 1], [1, 1], [1, 1]])
    np.testing.assert_array_equal(mean_pck(pck_of_counts(counts)), [0.5, 1, 1, 1, 1])
    assert pck_counts(prediction, truth, **CRW).sum() == 0  # frame 0 only


def test_not_found_joints_are_not_scored():
    truth = np.array([[[0, 0], [30, 40], [10, 10]]], float)
    prediction = truth.copy()
    prediction[0, 1] = np.nan
    prediction[0, 2] = -1
    np.testing.assert_array_equal(pck_counts(prediction, truth, **{**CRW, "score_first": True})[-1], [1, 0, 0])
    np.testing.assert_array_equal(pck_counts(prediction, truth, **VFS)[-1], [0, 0, 0])  # x = 0 is not > 0


def test_figure_without_extent_has_no_hits():
    truth = np.full((1, 2, 2), 7.0)
    counts = pck_counts(truth, truth, **VFS)
    np.testing.assert_array_equal(counts[-1], [1, 1])
    assert counts[:-1].sum() == 0


def test_no_visible_joint_at_all_gives_nan():
    counts = pck_counts(np.full((2, 15, 2), np.nan), np.zeros((2, 15, 2)), **CRW)
    assert counts.sum() == 0
    assert np.isnan(mean_pck(pck_of_counts(counts))).all()


def test_batch_of_counts_equals_each_alone():
    counts = np.random.default_rng(0).integers(1, 9, (4, 6, 15))
    np.testing.assert_array_equal(mean_pck(pck_of_counts(counts))[2], mean_pck(pck_of_counts(counts[2])))


@pytest.mark.parametrize("shape", [(2, 15), (2, 15, 3), (15, 2)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="frames, joints, 2"):
        pck_counts(np.zeros(shape), np.zeros(shape), **CRW)
    with pytest.raises(ValueError, match="frames, joints, 2"):
        pck_counts(np.zeros((3, 15, 2)), np.zeros((2, 15, 2)), **CRW)


def test_a_joint_farther_away_than_floats_reach_is_no_hit():
    truth = 5 + np.tile(np.arange(30.0).reshape(15, 2), (3, 1, 1))
    prediction = truth.copy()
    prediction[1, 3] = 1e200
    lost = pck_counts(truth, truth, **VFS) - pck_counts(prediction, truth, **VFS)
    assert lost[:5, 3].tolist() == [1] * 5
    assert lost.sum() == 5
    assert joint_distances(truth, prediction)[1, 3].tolist() == [np.inf] * 15
    assert joint_notes(prediction[1], truth[1]) == []
    assert joint_notes(np.full((15, 2), 1e300), truth[1]) != []
