"""The steps around propagation against the published code, one by one (golden/davis/stages)."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from corrkit.backbones.contract import IMAGENET_STD
from corrkit.frames.pictures import read_image
from corrkit.frames.preparation import FramePreparation, network_size
from corrkit.protocols import load_protocol, override
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
def test_frames_are_read_resized_and_normalised_as_published(shared, stages, size, short_side, parity):
    key = f"dino/frame/{size}/{short_side}"
    expected = stages[key]
    height, width = map(int, size.split("x"))
    network = network_size((height, width), dino_frames(short_side), multiple=1)
    assert network == expected.shape[1:]
    prepare = FramePreparation(network, DINO.frames, MEAN, DINO.features.std)
    frame = read_image(image_of(shared, size, "img"))
    ours = prepare(frame).numpy()
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    parity("davis/dino", "frames", np.abs(ours - expected).max(), expected.size)


@pytest.mark.parametrize("size", SIZES)
def test_network_size_follows_the_published_rule(stages, size):
    height, width = map(int, size.split("x"))
    assert network_size((height, width), DINO.frames, 1) == tuple(stages[f"dino/frame_shape480/{size}"][1:])
    for short_side in (64, 128, 256):
        expected = tuple(stages[f"dino/frame_shape/{size}/{short_side}"][1:])
        assert network_size((height, width), dino_frames(short_side), 1) == expected


@pytest.mark.parametrize("size", [size for size in SIZES if size != "100x100"])
@pytest.mark.parametrize(("short_side", "patch"), [(64, 8), (64, 16), (128, 8), (128, 16), (256, 8), (256, 16)])
def test_labels_on_the_grid_equal_the_published_ones(shared, stages, size, short_side, patch, parity):
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
    parity("davis/dino", "labels", (one_hot.argmax(-1).numpy() != expected).sum(), expected.size, "cells")


def test_square_video_keeps_labels_on_the_feature_grid(stages):
    # Published code gives frames of 480x448 and label grids of 448x480: transposed, silently (reference quirk 25).
    assert network_size((100, 100), DINO.frames, 16) == (480, 448)


READOUTS = {"dino": "dino_x16", "crw": "crw", "vfs": "vfs", "dinov3-notebook": "dinov3nb"}


@pytest.mark.parametrize("case", ["a", "b", "c", "d"])
@pytest.mark.parametrize("name", READOUTS)
def test_readout_equals_the_published_one(stages, case, name, parity):
    soft = torch.from_numpy(stages[f"readout/{case}/soft"]).permute(1, 2, 0).contiguous()  # [h, w, L]
    expected = stages[f"readout/{case}/{READOUTS[name]}"]
    original: Any = tuple(map(int, stages[f"readout/{case}/size"]))
    at_cells = (soft.shape[0] * 16, soft.shape[1] * 16)
    geometry = Geometry(
        original=original,
        network=at_cells if name == "dino" else original,
        grid=(soft.shape[0], soft.shape[1]),
        stride=16,
    )
    protocol = load_protocol(name, "davis")
    labels = dataclasses.replace(protocol.labels, classes="original-max")  # channels are the ids up to the largest
    every_id = np.full(original, soft.shape[2] - 1, np.uint8)
    decoded = MaskCodec(every_id, geometry, labels, protocol.readout).decode(soft)
    # README: at least 99.9 % of pixels; equality is what this arithmetic reaches.
    np.testing.assert_array_equal(decoded, expected)
    parity(f"davis/{name}", "read-out", (decoded != expected).sum(), expected.size, "pixels")


@dataclasses.dataclass(frozen=True)
class Stage:
    """How a published code base was run on the pictures: its protocol with sizes of the golden's own."""

    key: str
    protocol: str
    side: str
    stride: int
    patch: int = 1
    changes: dict = dataclasses.field(default_factory=dict)
    mean: tuple = MEAN
    std: tuple = IMAGENET_STD

    def constants(self):
        return override(load_protocol(self.protocol, "davis"), self.changes)

    def network(self, original):
        return network_size(original, self.constants().frames, self.patch)


STAGES = [
    Stage("crw", "crw", "", 8),
    Stage("cropmae", "cropmae", "", 16, changes={"size": [96, 176]}),
    Stage("cropmae1", "cropmae", "", 16, changes={"resize": "long-side", "size": [128], "multiple": 64}),
    Stage("dift", "dift", "/96", 8, changes={"size": [96]}, mean=(0.5,) * 3, std=(0.5,) * 3),
    Stage("dinov3nb", "dinov3-notebook", "/100", 16, patch=16, changes={"size": [100]}),
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.key)
def test_frames_of_the_other_code_bases(shared, stages, size, stage, parity):
    expected = stages[f"{stage.key}/frame/{size}{stage.side}"]
    frame = read_image(image_of(shared, size, "img"))
    network = stage.network(frame.shape[:2])
    assert network == expected.shape[1:]
    prepare = FramePreparation(network, stage.constants().frames, stage.mean, stage.std)
    ours = prepare(frame).numpy()
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    parity(f"davis/{stage.protocol}", "frames", np.abs(ours - expected).max(), expected.size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.key)
def test_labels_of_the_other_code_bases(shared, stages, size, stage, parity):
    path = image_of(shared, size, "lab")
    mask = read_mask(path)
    network = stage.network(mask.shape)
    grid = (-(-network[0] // stage.stride), -(-network[1] // stage.stride))
    geometry = Geometry(original=mask.shape, network=network, grid=grid, stride=stage.stride)
    constants = stage.constants()
    codec = MaskCodec(mask, geometry, constants.labels, constants.readout)
    soft = codec.encode(mask).numpy()
    if f"{stage.key}/seg/{size}{stage.side}" in stages or f"{stage.key}/seg/{size}{stage.side}/8" in stages:
        suffix = "/8" if stage.key == "dift" else ""
        expected = stages[f"{stage.key}/seg/{size}{stage.side}{suffix}"]
        np.testing.assert_array_equal(codec.ids[soft.argmax(-1)], expected)
        parity(
            f"davis/{stage.protocol}", "labels", (codec.ids[soft.argmax(-1)] != expected).sum(), expected.size, "cells"
        )
        return
    colours = np.array(Image.open(path).getpalette(), np.uint8).reshape(-1, 3)[codec.ids, ::-1]  # BGR, of each channel
    order = [colours.tolist().index(colour) for colour in stages[f"{stage.key}/colours_bgr/{size}"].tolist()]
    assert len(order) == len(codec.ids)
    expected = stages[f"{stage.key}/seg_soft/{size}"]
    np.testing.assert_allclose(soft[..., order], expected, atol=1e-6)
    parity(f"davis/{stage.protocol}", "labels", np.abs(soft[..., order] - expected).max(), expected.size)


@pytest.mark.parametrize("size", ["120x213", "213x120"])
def test_colours_of_lab_and_grey_networks(shared, stages, size, parity):
    frame = read_image(image_of(shared, size, "img"))
    lab = FramePreparation(frame.shape[:2], load_protocol("davis/crw").frames, (50, 0, 0), (50, 127, 127), "lab")
    np.testing.assert_allclose(lab(frame).numpy(), stages[f"mast/frame/{size}"], atol=1e-5)
    uvc = override(load_protocol("davis/uvc"), {"size": [128]})
    expected = stages[f"uvc/lab_uint8/{size}/128"]
    network = network_size(frame.shape[:2], uvc.frames, 1)
    assert network == expected.shape[:2]
    grey = FramePreparation(network, uvc.frames, (0, 0, 0), (1, 1, 1), "grey")
    ours, theirs = (grey(frame) * 256).numpy().round(), np.repeat(expected[None, ..., 0], 3, 0)
    np.testing.assert_array_equal(ours, theirs)
    parity("davis/uvc", "frames", np.abs(ours - theirs).max(), theirs.size)


def test_nearest_rounding_takes_each_side_by_itself():
    def size(protocol, patch, **changes):
        return network_size((480, 854), override(load_protocol(protocol, "davis"), changes).frames, patch)

    assert size("dinov3-M", 16) == (960, 1712)  # arXiv 2508.10104 appendix D.5 by its rule
    assert size("dinov3-M", 14) == (966, 1708)  # the paper's own example
    assert size("dinov3-S", 16) == (480, 848)
    assert size("dinov3-notebook", 16, size=[480]) == (480, 864)
    assert size("dino", 16) == (480, 832)


def test_patch_14_floors_both_sides_so_that_cells_and_labels_stay_aligned():
    assert network_size((480, 854), DINO.frames, 14) == (476, 826)
    cropped = dataclasses.replace(DINO.frames, indivisible="crop")
    assert network_size((480, 854), cropped, 14) == (480, 832)


def test_nearest_samples_at_pixel_centres():
    # 864 -> 854 by OpenCV's plain nearest would differ (it samples at corners).
    row = np.arange(8, dtype=np.uint8)[None].repeat(2, 0)
    assert resize_nearest(row, (1, 4)).tolist() == [[1, 3, 5, 7]]
    assert np.array(Image.fromarray(row).resize((4, 1), Image.Resampling.NEAREST)).tolist() == [[1, 3, 5, 7]]
