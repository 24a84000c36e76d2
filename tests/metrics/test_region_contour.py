import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from corrkit.errors import DataError
from corrkit.metrics.region_contour import (
    Outline,
    boundary_radius,
    count_objects,
    disk_half_widths,
    outline_objects,
    region_contour,
)

EXACT = 1e-12  # golden/metrics/README.md; the numbers are ratios of integers

HAND_MADE = (
    *("e01_identical", "e02_void", "e03_emptygt", "e04_emptypred", "e05_vanish", "e07_fewerids", "e08_idgap"),
    *("e09_lateobject", "e10_onepixel", "e11_border", "e12_thin", "e13_tiny5x7", "e14_odd37x53", "e16_480x854"),
    *("e17_854x480", "e18_ten", "e19_T3", "e20_half", "e21_T300"),
)
RESULT_SETS = ("r_car-shadow", "r_gold-fish", "r_india", "r_judo", "r_kite-surf")


def read_ids(folder: Path) -> list[np.ndarray]:
    maps = []
    for file in sorted(folder.glob("*.png")):
        with Image.open(file) as image:
            maps.append(np.array(image))
    return maps


@pytest.mark.golden
@pytest.mark.parametrize("sequence", HAND_MADE + RESULT_SETS)
def test_j_and_f_equal_the_official_tool(golden, sequence):
    expected = np.load(golden(f"metrics/expected/{sequence}.npz"))
    if "gt" in expected:
        annotations, predictions = list(expected["gt"]), list(expected["pred"])
    else:
        annotations = read_ids(golden(f"metrics/davis/Annotations/480p/{sequence}"))
        predictions = read_ids(golden(f"metrics/pred/{sequence}"))
    num_objects = count_objects(annotations[0])
    assert expected["J"].shape == (num_objects, len(annotations)) == (num_objects, len(predictions))
    for t, (annotation, prediction) in enumerate(zip(annotations, predictions, strict=True)):
        truth = outline_objects(annotation, num_objects)
        if prediction.max() > num_objects:  # only in frames that are not scored
            assert t in (0, len(annotations) - 1)
            prediction = np.where(prediction > num_objects, 0, prediction)
        J, F = region_contour(prediction, truth)
        np.testing.assert_allclose(J, expected["J"][:, t], rtol=0, atol=EXACT)
        np.testing.assert_allclose(F, expected["F"][:, t], rtol=0, atol=EXACT)
        if "bmap_gt" in expected:
            for k, outline in enumerate(truth.objects):
                np.testing.assert_array_equal(contour_map(outline, annotation.shape), expected["bmap_gt"][k, t])


@pytest.mark.golden
def test_radius_and_disk_equal_the_official_tool(golden):
    expected = json.loads(golden("metrics/expected/boundary_radius_and_disk.json").read_text())
    for size, radius in expected["radius"].items():
        height, width = map(int, size.split("x"))
        assert boundary_radius(height, width) == radius, size
    for radius, half_widths in expected["disk_row_halfwidths"].items():
        lower = disk_half_widths(int(radius))
        assert lower[:0:-1] + lower == half_widths


def contour_map(outline: Outline, shape: tuple[int, int]) -> np.ndarray:
    """The contour as a bool array of the picture's size."""
    height, width = shape
    rows, words = 130, 2  # margins, as a cut may leave the picture
    picture = np.zeros((height + 2 * rows, (width // 64 + 1 + 2 * words) * 64), bool)
    bits = np.unpackbits(np.ascontiguousarray(outline.planes[0]).view(np.uint8), axis=1, bitorder="little")
    picture[rows + outline.top :, 64 * (words + outline.left) :][: bits.shape[0], : bits.shape[1]] = bits
    inside = picture[rows : rows + height, words * 64 : words * 64 + width]
    assert inside.sum() == picture.sum()
    return inside


def slow_region_contour(prediction: np.ndarray, annotation: np.ndarray, num_objects: int) -> tuple[list, list]:
    """The rule pixel by pixel: a contour pixel matches if any pixel of the other contour is near enough."""
    height, width = annotation.shape
    radius = math.ceil(0.008 * math.sqrt(height**2 + width**2))
    J, F = [], []
    for k in range(1, num_objects + 1):
        union = int(((prediction == k) | (annotation == k)).sum())
        J.append(int(((prediction == k) & (annotation == k)).sum()) / union if union else 1.0)
        found, true = slow_contour(prediction == k), slow_contour(annotation == k)
        if not len(found) or not len(true):
            F.append(float(len(found) == len(true)))
            continue
        near = ((found[:, None] - true[None]) ** 2).sum(axis=-1) <= radius**2
        precision, recall = int(near.any(axis=1).sum()) / len(found), int(near.any(axis=0).sum()) / len(true)
        F.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    return J, F


def slow_contour(mask: np.ndarray) -> np.ndarray:
    """Contour pixels [n, 2]: those that differ from a right, lower or lower right neighbour.

    In the last row only the right neighbour counts, in the last column only the lower one.
    """
    height, width = mask.shape
    points = []
    for y in range(height):
        for x in range(width):
            neighbours = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            inside = [mask[v, u] for v, u in neighbours if v < height and u < width]
            if any(value != mask[y, x] for value in inside):
                points.append((y, x))
    return np.array(points, int).reshape(-1, 2)


@st.composite
def id_maps(draw) -> tuple[np.ndarray, np.ndarray, int]:
    """Two id maps of one size with up to three objects: boxes that may touch or leave the picture, and speckle."""
    height, width = draw(st.integers(1, 24)), draw(st.sampled_from([1, 2, 7, 63, 64, 65, 127, 128, 129, 200, 400]))
    num_objects = draw(st.integers(1, 3))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    maps = []
    for _ in range(2):
        ids = np.zeros((height, width), np.uint8)
        for k in range(1, num_objects + 1):
            top, left = generator.integers(-3, height), generator.integers(-20, width)
            rows, columns = generator.integers(0, height + 3), generator.integers(0, width + 20)
            ids[max(top, 0) : max(top + rows, 0), max(left, 0) : max(left + columns, 0)] = k
        if draw(st.booleans()):
            ids[generator.random(ids.shape) < 0.03] = generator.integers(0, num_objects + 1)
        maps.append(ids)
    return maps[0], maps[1], num_objects


@settings(max_examples=60, deadline=None)
@given(id_maps())
def test_equals_the_rule_pixel_by_pixel(case):
    prediction, annotation, num_objects = case
    J, F = region_contour(prediction, outline_objects(annotation, num_objects))
    assert (J.tolist(), F.tolist()) == slow_region_contour(prediction, annotation, num_objects)


@settings(max_examples=60, deadline=None)
@given(id_maps())
def test_symmetric_bounded_and_one_on_equal_masks(case):
    first, second, num_objects = case
    one, other = outline_objects(first, num_objects), outline_objects(second, num_objects)
    forth, back = region_contour(first, other), region_contour(second, one)
    np.testing.assert_array_equal(forth, back)
    assert np.min(forth) >= 0
    assert np.max(forth) <= 1
    np.testing.assert_array_equal(region_contour(first, one), np.ones((2, num_objects)))


@settings(max_examples=30, deadline=None)
@given(id_maps())
def test_mirroring_changes_j_not_at_all(case):
    prediction, annotation, num_objects = case
    J, _ = region_contour(prediction, outline_objects(annotation, num_objects))
    mirrored, _ = region_contour(prediction[::-1, ::-1], outline_objects(annotation[::-1, ::-1], num_objects))
    np.testing.assert_array_equal(J, mirrored)


@pytest.mark.parametrize("width", [9000, 16300])
def test_radius_beyond_a_word_stays_exact(width):
    generator = np.random.default_rng(width)
    annotation, prediction = np.zeros((2, 3, width), np.uint8)
    assert boundary_radius(3, width) > 64
    for ids in (annotation, prediction):
        for start in generator.integers(0, width, 40):
            ids[:, start : start + generator.integers(1, 90)] = 1
    J, F = region_contour(prediction, outline_objects(annotation, 1))
    assert (J.tolist(), F.tolist()) == slow_region_contour(prediction, annotation, 1)
    assert 0 < F[0] < 1


def test_j_by_hand():
    # Object 1: truth 4 pixels, prediction 3, both 2: J = 2 / 5. Object 2: disjoint, J = 0. Object 3 nowhere: 1.
    truth = np.array([[1, 1, 0], [1, 1, 2]], np.uint8)
    prediction = np.array([[1, 1, 1], [2, 0, 0]], np.uint8)
    J, F = region_contour(prediction, outline_objects(truth, 3))
    np.testing.assert_array_equal(J, [2 / 5, 0, 1])
    assert F[2] == 1


def test_contour_of_a_pixel_is_itself_and_its_upper_left_neighbours():
    ids = np.zeros((4, 5), np.uint8)
    ids[2, 2] = 1
    expected = np.zeros((4, 5), bool)
    expected[1:3, 1:3] = True
    np.testing.assert_array_equal(contour_map(outline_objects(ids, 1).objects[0], ids.shape), expected)


def test_corner_pixel_is_never_contour():
    ids = np.zeros((3, 4), np.uint8)
    ids[2, 3] = 1
    expected = np.zeros((3, 4), bool)
    expected[1, 2] = expected[1, 3] = expected[2, 2] = True
    np.testing.assert_array_equal(contour_map(outline_objects(ids, 1).objects[0], ids.shape), expected)


def test_full_frame_object_against_nothing_has_f_one():
    full, empty = np.ones((6, 8), np.uint8), np.zeros((6, 8), np.uint8)
    J, F = region_contour(empty, outline_objects(full, 1))
    assert (J.tolist(), F.tolist()) == ([0.0], [1.0])


def test_shift_within_the_radius_keeps_f_at_one():
    annotation, prediction = np.zeros((2, 480, 854), np.uint8)
    annotation[100:200, 300:500] = 1
    prediction[100:200, 308:508] = 1  # 8 pixels: the radius at 480x854
    _, F = region_contour(prediction, outline_objects(annotation, 1))
    assert F[0] == 1.0
    prediction = np.roll(prediction, 1, axis=1)
    _, F = region_contour(prediction, outline_objects(annotation, 1))
    assert F[0] < 1.0


def test_void_is_background():
    annotation = np.array([[255, 1, 1, 255]], np.uint8)
    J, _ = region_contour(np.ones((1, 4), np.uint8), outline_objects(annotation, count_objects(annotation)))
    assert J.tolist() == [0.5]


def test_objects_are_counted_up_to_the_largest_id():
    assert count_objects(np.array([[0, 3, 255]], np.uint8)) == 3
    assert count_objects(np.array([[0, 255]], np.uint8)) == 0
    J, F = region_contour(np.zeros((1, 2), np.uint8), outline_objects(np.zeros((1, 2), np.uint8), 0))
    assert J.shape == F.shape == (0,)


def test_prepared_truth_serves_many_predictions():
    generator = np.random.default_rng(0)
    annotation, first, second = generator.integers(0, 3, (3, 30, 90)).astype(np.uint8)
    truth = outline_objects(annotation, 2)
    before = region_contour(first, truth)
    region_contour(second, truth)
    np.testing.assert_array_equal(before, region_contour(first, truth))


def test_memory_of_a_prepared_frame_is_a_few_bits_a_pixel():
    ids = np.ones((480, 854), np.uint8)
    assert outline_objects(ids, 1).objects[0].planes.nbytes < ids.size / 2


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
def test_any_integer_type_and_memory_order(dtype):
    annotation = np.asfortranarray(np.arange(70 * 5).reshape(5, 70) // 60, dtype=dtype)
    J, F = region_contour(annotation.astype(np.uint8), outline_objects(annotation, 5))
    np.testing.assert_array_equal([J, F], np.ones((2, 5)))


@pytest.mark.parametrize("extra", [3, 255])
def test_id_above_the_objects_is_named(extra):
    truth = outline_objects(np.array([[1, 2]], np.uint8), 2)
    with pytest.raises(DataError, match=rf"dog/00003\.png holds id {extra}, .* up to 2"):
        region_contour(np.array([[1, extra]], np.uint8), truth, name="dog/00003.png")


def test_other_size_is_named():
    truth = outline_objects(np.ones((4, 6), np.uint8), 1)
    with pytest.raises(DataError, match=r"dog/00003\.png is 6 x 4, the annotation 4 x 6"):
        region_contour(np.ones((6, 4), np.uint8), truth, name="dog/00003.png")


@pytest.mark.parametrize("shape", [(4,), (4, 6, 3), (0, 6)])
def test_something_that_is_no_id_map_is_refused(shape):
    with pytest.raises(ValueError, match="id map"):
        outline_objects(np.ones(shape, np.uint8), 1)
