"""The steps around propagation against the published code, one by one (golden/davis/stages)."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from corrkit.frames.pictures import read_image
from corrkit.frames.preparation import FramePreparation, network_size
from corrkit.protocols import load_protocol
from corrkit.tasks.contract import Geometry
from corrkit.tasks.masks import MaskCodec, read_mask, resize_nearest

pytestmark = pytest.mark.golden

DINO = load_protocol("davis/dino")
SIZES = ["120x213", "213x120", "100x100", "90x130", "61x77"]
MEAN = (0.485, 0.456, 0.406)


@pytest.fixture(scope="module")
def stages(golden):
    return np.load(golden("davis/stages/stages.npz"))


def dino_frames(short_side: int):
    return dataclasses.replace(DINO.frames, size=(short_side,))


def image_of(shared: Path, size: str, kind: str) -> Path:
    folder = shared / "golden/davis/stages/images"
    found = [path for path in folder.iterdir() if size in path.name and kind in path.name]
    assert len(found) == 1, sorted(path.name for path in folder.iterdir())
    return found[0]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("short_side", [64, 128])
def test_frames_are_read_resized_and_normalised_as_published(shared, stages, size, short_side):
    key = f"dino/frame/{size}/{short_side}"
    expected = stages[key]
    height, width = map(int, size.split("x"))
    network = network_size((height, width), dino_frames(short_side), multiple=1)
    assert network == expected.shape[1:]
    prepare = FramePreparation(network, DINO.frames, MEAN, DINO.features.std)
    frame = read_image(image_of(shared, size, "img"))
    np.testing.assert_allclose(prepare(frame).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_network_size_follows_the_published_rule(stages, size):
    height, width = map(int, size.split("x"))
    assert network_size((height, width), DINO.frames, 1) == tuple(stages[f"dino/frame_shape480/{size}"][1:])
    for short_side in (64, 128, 256):
        expected = tuple(stages[f"dino/frame_shape/{size}/{short_side}"][1:])
        assert network_size((height, width), dino_frames(short_side), 1) == expected


@pytest.mark.parametrize("size", [size for size in SIZES if size != "100x100"])
@pytest.mark.parametrize(("short_side", "patch"), [(64, 8), (64, 16), (128, 8), (128, 16), (256, 8), (256, 16)])
def test_labels_on_the_grid_equal_the_published_ones(shared, stages, size, short_side, patch):
    key = f"{size}/{short_side}/{patch}"
    expected = stages[f"dino/seg/{key}"]
    mask = read_mask(image_of(shared, size, "lab"))
    network = network_size(mask.shape, dino_frames(short_side), patch)
    grid = (network[0] // patch, network[1] // patch)
    codec = MaskCodec(
        mask, Geometry(original=mask.shape, network=network, grid=grid, stride=patch), DINO.labels, DINO.readout
    )
    one_hot = codec.encode(mask)
    assert one_hot.shape == (*expected.shape, int(stages[f"dino/seg_classes/{key}"]))
    np.testing.assert_array_equal(one_hot.argmax(-1).numpy(), expected)
    assert torch.equal(one_hot.sum(-1), torch.ones(grid))


def test_square_video_keeps_labels_on_the_feature_grid(stages):
    # Published code gives frames of 480x448 and label grids of 448x480: transposed, silently (reference quirk 25).
    assert network_size((100, 100), DINO.frames, 16) == (480, 448)


@pytest.mark.parametrize("case", ["a", "b", "c", "d"])
def test_readout_equals_the_published_one(golden, stages, case):
    soft = torch.from_numpy(stages[f"readout/{case}/soft"]).permute(1, 2, 0).contiguous()  # [h, w, L]
    expected = stages[f"readout/{case}/dino_x16"]
    geometry = Geometry(
        original=tuple(map(int, stages[f"readout/{case}/size"])),
        network=(soft.shape[0] * 16, soft.shape[1] * 16),
        grid=(soft.shape[0], soft.shape[1]),
        stride=16,
    )
    every_id = np.full(geometry.grid, soft.shape[2] - 1, np.uint8)  # channels are the ids up to the largest
    codec = MaskCodec(every_id, geometry, DINO.labels, DINO.readout)
    decoded = codec.decode(soft)
    assert decoded.shape == expected.shape
    # README: at least 99.9 % of pixels; equality is what this arithmetic reaches.
    np.testing.assert_array_equal(decoded, expected)


def test_patch_14_floors_both_sides_so_that_cells_and_labels_stay_aligned():
    assert network_size((480, 854), DINO.frames, 14) == (476, 826)
    cropped = dataclasses.replace(DINO.frames, indivisible="crop")
    assert network_size((480, 854), cropped, 14) == (480, 832)


def test_nearest_samples_at_pixel_centres():
    # 864 -> 854 by OpenCV's plain nearest would differ (it samples at corners).
    row = np.arange(8, dtype=np.uint8)[None].repeat(2, 0)
    assert resize_nearest(row, (1, 4)).tolist() == [[1, 3, 5, 7]]
    assert np.array(Image.fromarray(row).resize((4, 1), Image.Resampling.NEAREST)).tolist() == [[1, 3, 5, 7]]
