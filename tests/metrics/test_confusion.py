import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from corrkit.metrics.confusion import class_areas, class_iou, confusion_matrix, joint_counts, mean_iou

EXACT = 1e-12  # golden/vip/README.md; areas are exact

CASES = ("all_classes_same_size", "absent_classes", "sizes_differ", "ignore_255", "gt_value_21", "pred_value_20")


def golden_counts(file, case: str) -> np.ndarray:
    """Joint counts of a golden case; predictions of another size are resized as the published scripts do."""
    counts = np.zeros((22, 22), np.int64)
    for i in range(int(file[f"{case}/n"])):
        truth, prediction = file[f"{case}/gt_{i}"], file[f"{case}/pred_{i}"]
        if truth.shape != prediction.shape:
            resized = Image.fromarray(prediction).resize(truth.shape[::-1], Image.Resampling.NEAREST)
            prediction = np.array(resized)
        counts += joint_counts(truth, prediction)
    return counts


@pytest.mark.golden
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("script", ["crw_L", "cropmae_L"])
def test_confusion_rule_equals_the_published_scripts(golden, case, script):
    file = np.load(golden("vip/metric.npz"))
    counts = golden_counts(file, case)
    np.testing.assert_array_equal(confusion_matrix(counts), file[f"{case}/{script}/hist"])
    iou = class_iou(class_areas(counts, rule="confusion"))
    np.testing.assert_allclose(iou, file[f"{case}/{script}/iou"], rtol=0, atol=EXACT)
    np.testing.assert_allclose(mean_iou(iou, background=True), file[f"{case}/{script}/mean_iou"], rtol=0, atol=EXACT)


@pytest.mark.golden
@pytest.mark.parametrize("case", [case for case in CASES if case != "sizes_differ"])
def test_histogram_rule_equals_vfs(golden, case):
    file = np.load(golden("vip/metric.npz"))
    areas = class_areas(golden_counts(file, case), rule="histogram")
    for row, name in enumerate(["area_intersect", "area_pred", "area_label"]):
        np.testing.assert_array_equal(areas[row], file[f"{case}/vfs/{name}"], err_msg=name)
    iou = class_iou(areas)
    np.testing.assert_allclose(iou, file[f"{case}/vfs/iou"], rtol=0, atol=EXACT)
    np.testing.assert_allclose(mean_iou(iou, background=True), file[f"{case}/vfs/mean_iou"], rtol=0, atol=EXACT)


@pytest.mark.golden
def test_the_two_rules_differ_where_the_truth_has_other_ids(golden):
    file = np.load(golden("vip/metric.npz"))
    counts = golden_counts(file, "gt_value_21")
    means = {r: mean_iou(class_iou(class_areas(counts, rule=r)), background=True) for r in ("confusion", "histogram")}
    assert means["confusion"] - means["histogram"] > 0.01


def slow_joint_counts(truth, prediction, num_classes) -> np.ndarray:
    counts = np.zeros((num_classes + 2, num_classes + 2), np.int64)
    for true, predicted in zip(truth.ravel().tolist(), prediction.ravel().tolist(), strict=True):
        if true != 255:
            counts[min(true, num_classes + 1), min(predicted, num_classes + 1)] += 1
    return counts


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 25), st.integers(1, 12), st.integers(1, 12))
def test_equals_counting_pixel_by_pixel(seed, num_classes, height, width):
    generator = np.random.default_rng(seed)
    ids = np.array([*range(num_classes + 3), 254, 255], np.uint8)
    truth, prediction = generator.choice(ids, (2, height, width))
    counts = joint_counts(truth, prediction, num_classes=num_classes)
    np.testing.assert_array_equal(counts, slow_joint_counts(truth, prediction, num_classes))


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_both_rules_agree_where_all_ids_are_classes(seed):
    truth, prediction = np.random.default_rng(seed).integers(0, 20, (2, 9, 9)).astype(np.uint8)
    counts = joint_counts(truth, prediction)
    np.testing.assert_array_equal(class_areas(counts, rule="confusion"), class_areas(counts, rule="histogram"))
    np.testing.assert_array_equal(confusion_matrix(counts), counts[:20, :20])


def test_iou_by_hand():
    # Class 0: both 1, predicted 2, true 1: 1/2. Class 1: both 1, predicted 1, true 2: 1/2. Class 2: only predicted: 0.
    truth = np.array([[0, 1, 1, 255]], np.uint8)
    prediction = np.array([[0, 0, 1, 2]], np.uint8)
    counts = joint_counts(truth, prediction) + joint_counts(np.array([[5]], np.uint8), np.array([[2]], np.uint8))
    iou = class_iou(class_areas(counts, rule="confusion"))
    np.testing.assert_array_equal(iou[:3], [0.5, 0.5, 0])
    assert iou[5] == 0
    assert np.isnan(iou[[3, 4, *range(6, 20)]]).all()
    assert mean_iou(iou, background=True) == 0.25
    assert mean_iou(iou, background=False) == pytest.approx(0.5 / 3)


def test_nothing_counted_gives_nan():
    counts = joint_counts(np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8))
    assert counts.sum() == 0
    assert np.isnan(mean_iou(class_iou(class_areas(counts, rule="histogram")), background=True))


def test_prediction_of_id_twenty_follows_the_published_rules():
    counts = joint_counts(np.array([[3, 19, 20]], np.uint8), np.array([[20, 20, 20]], np.uint8))
    spilled = confusion_matrix(counts)
    assert spilled[4, 0] == 1  # 3 * 20 + 20 = 4 * 20 + 0
    assert spilled.sum() == 1
    intersection, prediction, truth = class_areas(counts, rule="histogram")
    assert (intersection[19], prediction[19], truth[19], truth[3]) == (1, 3, 2, 1)


def test_counts_above_two_to_the_twenty_four_are_exact():
    truth = np.zeros((4100, 4100), np.uint8)  # 16.81 million pixels; float32 stops counting at 16.78 million
    counts = joint_counts(truth, truth)
    assert counts[0, 0] == counts.sum() == 4100 * 4100


def test_any_memory_order():
    truth, prediction = np.random.default_rng(1).integers(0, 22, (2, 8, 6)).astype(np.uint8)
    expected = joint_counts(truth, prediction)
    np.testing.assert_array_equal(joint_counts(np.asfortranarray(truth), prediction), expected)
    np.testing.assert_array_equal(joint_counts(truth[::-1], prediction[::-1]), expected)


@pytest.mark.parametrize(
    ("truth", "prediction"),
    [
        (np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8)),
        (np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3, 3), np.uint8)),
        (np.zeros((2, 3), np.int64), np.zeros((2, 3), np.uint8)),
    ],
)
def test_other_shapes_and_types_are_refused(truth, prediction):
    with pytest.raises(ValueError, match="id maps must be"):
        joint_counts(truth, prediction)
