"""Joints to label maps and back: golden/jhmdb, the rule written out plainly, and its properties."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from corrkit.protocols import load_protocol
from corrkit.tasks.contract import Geometry
from corrkit.tasks.jhmdb_points import JOINTS, PointCodec, draw_gaussians, read_peaks
from corrkit.tasks.masks import resize_bilinear

UNIQUE = 1e-5  # golden/jhmdb/README.md: float32 sums, where no tie decides


def codec(protocol: str, *, original, network, grid, stride, **changes) -> PointCodec:
    constants = load_protocol(protocol, "jhmdb")
    labels = dataclasses.replace(constants.labels, **changes)
    geometry = Geometry(original=original, network=network, grid=grid, stride=stride)
    return PointCodec(geometry, labels, constants.readout)


def sizes(arrays, case: str, *names: str) -> list[Any]:
    return [tuple(map(int, arrays[f"{case}/{name}"])) for name in names]


@pytest.mark.golden
@pytest.mark.parametrize(
    ("case", "protocol"),
    [
        ("cropmae_320_s16", "cropmae"),
        ("cropmae_160x224_s16", "cropmae"),
        ("crw_320_s8", "crw"),
        ("crw_240_s8_native_tall", "crw"),
    ],
)
def test_label_maps_of_the_crw_family_equal_the_published_ones(golden, case, protocol, parity):
    arrays = np.load(golden("jhmdb/labelmaps.npz"))
    original, network, scale = sizes(arrays, case, "frame_hw", "input_hw", "map_scale")
    expected = arrays[f"{case}/labels"]
    points = codec(protocol, original=original, network=network, grid=expected.shape[1:3], stride=scale[0])
    joints = arrays[f"{case}/pos_img"].transpose(2, 1, 0) - 1
    maps = np.stack([points.encode(frame).numpy() for frame in joints])
    np.testing.assert_array_equal(maps, expected)
    parity(f"jhmdb/{protocol}", "labels", np.abs(maps - expected).max(), expected.size)


@pytest.mark.golden
@pytest.mark.parametrize("case", ["vfs_sigma4_sq", "vfs_sigma4_wide"])
def test_label_maps_drawn_in_pixels_equal_the_published_ones(golden, case, parity):
    arrays = np.load(golden("jhmdb/labelmaps.npz"))
    original, network, grid = sizes(arrays, case, "frame_hw", "input_hw", "grid_hw")
    points = codec("spa-then-temp", original=original, network=network, grid=grid, stride=8)
    joints = arrays[f"{case}/pos_img"].transpose(2, 1, 0) - 1
    drawn = np.stack([draw_gaussians(frame, original, 4.0) for frame in joints])
    np.testing.assert_array_equal(drawn.astype(np.float32), arrays[f"{case}/pose_map"].transpose(0, 3, 1, 2))
    maps = np.stack([points.encode(frame).permute(2, 0, 1).numpy() for frame in joints])
    np.testing.assert_array_equal(maps, arrays[f"{case}/labels_grid"])
    parity("jhmdb/spa-then-temp", "labels", np.abs(maps - arrays[f"{case}/labels_grid"]).max(), maps.size)


@pytest.mark.golden
@pytest.mark.parametrize("case", ["vfs_sigma4_sq", "vfs_sigma4_wide"])
def test_first_prediction_of_spa_then_temp_reads_the_published_map(golden, case):
    arrays = np.load(golden("jhmdb/labelmaps.npz"))
    original, network, grid = sizes(arrays, case, "frame_hw", "input_hw", "grid_hw")
    points = codec("spa-then-temp", original=original, network=network, grid=grid, stride=8)
    published = torch.from_numpy(arrays[f"{case}/frame0_prediction"][0])
    first = points.first_prediction(arrays[f"{case}/pos_img"][..., 0].T - 1)
    np.testing.assert_allclose(first, read_peaks(published, 5), atol=UNIQUE)


@pytest.mark.golden
@pytest.mark.parametrize("case", ["20x20", "10x14", "40x40"])
@pytest.mark.parametrize(("name", "count"), [("crw_top3", 3), ("cropmae_top5", 5)])
def test_read_out_on_the_grid_equals_the_published_one(golden, case, name, count, parity):
    arrays = np.load(golden("jhmdb/readout.npz"))
    maps = torch.from_numpy(arrays[f"{case}/maps"][..., 1:]).permute(0, 3, 1, 2)
    cells = np.stack([np.nan_to_num(read_peaks(frame, count), nan=-1) for frame in maps])
    is_unique = arrays[f"{case}/{name}_unique"]
    theirs = arrays[f"{case}/{name}"].transpose(0, 2, 1)[is_unique]
    np.testing.assert_allclose(cells[is_unique], theirs, atol=UNIQUE)
    parity(f"jhmdb/{name.partition('_')[0]}", "read-out", np.abs(cells[is_unique] - theirs).max(), theirs.size)


@pytest.mark.golden
@pytest.mark.parametrize("case", ["vfs", "vfs_up"])
def test_read_out_at_frame_size_equals_the_published_one(golden, case, parity):
    arrays = np.load(golden("jhmdb/readout.npz"))
    if case == "vfs":
        maps = list(torch.from_numpy(arrays["vfs/maps"]))
    else:
        (size,) = sizes(arrays, case, "frame_hw")
        maps = [resize_bilinear(frame, size) for frame in torch.from_numpy(arrays["vfs_up/grid_maps"])]
    pixels = np.stack([np.nan_to_num(read_peaks(frame, 5), nan=-1) for frame in maps])
    is_unique = arrays[f"{case}/coords_unique"].T
    theirs = arrays[f"{case}/coords"].transpose(2, 1, 0)[is_unique]
    np.testing.assert_allclose(pixels[is_unique], theirs, atol=UNIQUE)
    parity("jhmdb/spa-then-temp", "read-out", np.abs(pixels[is_unique] - theirs).max(), theirs.size)


def draw_plainly(x: float, y: float, height: int, width: int, sigma: float) -> np.ndarray:
    """The published border rule for one joint, cell by cell; a surplus cell of a too wide window stays 0."""
    drawn = np.zeros((height, width))
    left, top = int(x - 3 * sigma), int(y - 3 * sigma)
    right, bottom = int(x + 3 * sigma + 1), int(y + 3 * sigma + 1)
    size = len(np.arange(0, 6 * sigma + 1, 1))
    centre = (6 * sigma + 1) // 2
    for j in range(max(top, 0), min(bottom, top + size, height)):
        for i in range(max(left, 0), min(right, left + size, width)):
            drawn[j, i] = np.exp(-((i - left - centre) ** 2 + (j - top - centre) ** 2) / (2 * sigma**2))
    return drawn


@settings(max_examples=150, deadline=None)
@given(
    x=st.floats(-12, 40),
    y=st.floats(-12, 40),
    sigma=st.sampled_from([0.5, 0.7, 1.0, 1.25, 4.0]),
    size=st.tuples(st.integers(1, 30), st.integers(1, 30)),
)
def test_drawing_equals_the_rule_written_out(x: float, y: float, sigma: float, size: tuple[int, int]):
    drawn = draw_gaussians(np.array([[x, y]]), size, sigma)
    np.testing.assert_allclose(drawn[0], draw_plainly(x, y, *size, sigma), atol=1e-15)


def test_sigma_half_draws_four_by_four_cells_around_the_nearest_cell():
    drawn = draw_gaussians(np.array([[5.2, 4.0]]), (10, 12), 0.5)[0]
    rows, columns = np.nonzero(drawn)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 5, 3, 6)
    assert drawn[4, 5] == 1.0
    np.testing.assert_allclose(drawn[4, 3:7], [np.exp(-8), np.exp(-2), 1, np.exp(-2)])


@pytest.mark.parametrize(
    ("x", "peak"), [(-1.4, 0), (-0.6, 0), (-0.4, 1), (0.4, 1), (0.6, 2), (1.4, 2), (1.6, 2), (2.6, 3)]
)
def test_truncation_moves_peaks_inwards_at_the_left_border(x, peak):
    drawn = draw_gaussians(np.array([[x, 5.0]]), (10, 12), 0.5)[0]
    assert drawn[5, peak] == 1.0


@pytest.mark.parametrize(("x", "peak"), [(0.4, 0), (0.6, 1), (1.4, 1), (1.6, 2)])
def test_floor_keeps_peaks_where_the_joints_are(x, peak):
    assert draw_gaussians(np.array([[x, 5.0]]), (10, 12), 0.5, floor=True)[0][5, peak] == 1.0


def test_a_joint_beyond_the_right_border_leaves_only_a_tail():
    drawn = draw_gaussians(np.array([[12.4, 5.0]]), (10, 12), 0.5)[0]
    assert drawn.max() == pytest.approx(np.exp(-2))


def test_a_window_that_rounding_makes_too_wide_keeps_its_width():
    """122.99999999999999 - 12 truncates to 110, 122.99999999999999 + 12 + 1 rounds to 136: 26 cells, the kernel has 25.

    The published function raises ValueError here (a joint of a real clip has this x).
    """
    x = 122.99999999999999
    assert int(x + 3 * 4 + 1) - int(x - 3 * 4) == 26
    drawn = draw_gaussians(np.array([[x, 60.0]]), (120, 160), 4.0)[0]
    columns = np.flatnonzero(drawn[60])
    assert (columns.min(), columns.max()) == (110, 134)
    assert drawn[60].argmax() == 122


def test_joints_far_outside_have_an_empty_map_and_no_position():
    points = codec("cropmae", original=(240, 320), network=(320, 320), grid=(20, 20), stride=16)
    joints = np.full((len(JOINTS), 2), -1000.0)
    joints[3] = (100.0, 90.0)
    maps = points.encode(joints)
    assert maps[..., 0].sum() == 20 * 20 - 16  # the background is 1 but for the sixteen cells of joint 3
    read = points.decode(maps)
    assert np.isnan(np.delete(read, 3, axis=0)).all()
    assert np.abs(read[3] - joints[3]).max() < 16


def test_a_frame_without_any_visible_joint_reads_as_nan():
    points = codec("cropmae", original=(240, 320), network=(320, 320), grid=(20, 20), stride=16)
    assert np.isnan(points.decode(torch.zeros(20, 20, 16))).all()


def test_back_projection_by_corner_and_by_centre():
    """Peak at cell (3, 2) of a 4 x 8 grid over 64 x 80 pixels: corner 3 / 8 * 80 = 30, centre 3.5 / 8 * 80 - 0.5."""
    maps = torch.zeros(4, 8, 16)
    maps[2, 3, 1:] = 1
    constants = load_protocol("cropmae", "jhmdb")
    geometry = Geometry(original=(64, 80), network=(64, 128), grid=(4, 8), stride=16)
    expected = {"corner": (30.0, 32.0), "centre": (34.5, 39.5)}
    for origin, point in expected.items():
        readout = dataclasses.replace(constants.readout, peak_cells=1, cell_origin=origin)
        read = PointCodec(geometry, constants.labels, readout).decode(maps)
        np.testing.assert_array_equal(read, np.tile(point, (len(JOINTS), 1)))


@settings(max_examples=40, deadline=None)
@given(data=st.data(), count=st.integers(1, 6))
def test_read_out_is_a_weighted_mean_of_the_largest_cells(data, count):
    values = data.draw(st.lists(st.integers(1, 10**6), min_size=30, max_size=30, unique=True))
    maps = torch.tensor(values, dtype=torch.float64).view(1, 5, 6)
    order = sorted(range(30), key=lambda cell: -values[cell])[:count]
    total = sum(values[cell] for cell in order)
    x = sum(cell % 6 * values[cell] for cell in order) / total
    y = sum(cell // 6 * values[cell] for cell in order) / total
    np.testing.assert_allclose(read_peaks(maps, count)[0], [x, y])


def test_more_peak_cells_than_cells_takes_them_all():
    np.testing.assert_allclose(read_peaks(torch.ones(1, 2, 2), 9)[0], [0.5, 0.5])


def test_scaling_a_map_does_not_move_its_joint():
    maps = torch.rand(15, 8, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    np.testing.assert_allclose(read_peaks(maps, 5), read_peaks(maps * 7.5, 5))
