"""The size that a frame has for the network, worked out from the published scripts' own lines."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from davis_folder import make_clip

import corrkit
from corrkit.errors import DataError
from corrkit.frames.preparation import FramePreparation, network_size
from corrkit.protocols import load_protocol, override


def sizes(protocol: str, original: tuple[int, int], **changes) -> tuple[int, int]:
    return network_size(original, override(load_protocol(protocol), changes).frames, 16)


@pytest.mark.parametrize(
    ("protocol", "original", "expected"),
    [
        # facebookresearch/dino 7c446df eval_video_segmentation.py:204-214: of a square the height is 480.
        ("davis/dino", (100, 100), (480, 448)),
        ("davis/dino", (100, 101), (480, 448)),
        ("davis/dino", (101, 100), (448, 480)),
        # alexandre-eymael/CropMAE 5d0dab2 src/data/vos.py:138-146: of a square the height is 880, too.
        ("vip/cropmae", (100, 100), (880, 832)),
        ("vip/cropmae", (100, 101), (832, 880)),
        ("vip/cropmae", (101, 100), (880, 832)),
    ],
)
def test_of_a_square_frame_the_height_is_the_given_side(protocol, original, expected):
    assert sizes(protocol, original) == expected


@pytest.mark.parametrize("rounding", ["down", "up", "nearest"])
def test_sides_that_come_out_whole_are_kept(rounding):
    """201x126 at a short side of 1260 is 2010 wide; its ratio as a float, times 1260, is a little more."""
    for height, width in [(126, 201), (168, 268), (252, 403), (480, 854), (240, 427), (360, 640)]:
        for side in (240, 480, 960, 1260):
            exact = Fraction(side * width, height)
            if exact.denominator == 1:
                found = sizes("davis/dino", (height, width), size=[side], side_rounding=rounding, multiple=1)
                assert found == (side // 16 * 16, int(exact) // 16 * 16)


@pytest.mark.parametrize("model", ["hog", "rgb", "random:vit_tiny_patch16_224"])
def test_what_a_patch_does_not_divide_is_cropped_for_every_backbone(tmp_path, model):
    """The rest at the right and bottom, as a patch projection leaves it out; labels cover the whole picture."""
    make_clip(tmp_path, frames=3, size=(50, 70))
    options = {"protocol": "rvm", "size": [50, 70], "data": tmp_path}
    found = corrkit.evaluate("davis", model, **options)
    assert found.failures == {}
    resized = corrkit.evaluate("davis", model, **options, indivisible="resize")
    assert found.summary["metrics"] != resized.summary["metrics"]


def test_a_network_that_crops_by_itself_sees_the_same():
    backbone = corrkit.load_backbone("random:vit_tiny_patch16_224")
    rule = override(load_protocol("davis/rvm"), {"size": [50, 70]}).frames
    frame = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    whole, cropped = (
        FramePreparation((50, 70), rule, backbone.mean, backbone.std, multiple=multiple)(frame) for multiple in (1, 16)
    )
    assert cropped.shape == (3, 48, 64)
    with torch.no_grad():
        torch.testing.assert_close(backbone(whole[None]), backbone(cropped[None]), atol=1e-6, rtol=0)


def test_a_picture_smaller_than_a_patch_leaves_nothing_after_cropping():
    with pytest.raises(DataError, match="too small"):
        sizes("davis/rvm", (50, 70), size=[50, 15])


@pytest.mark.parametrize(
    ("protocol", "original", "expected"),
    [
        # mmcv 1.x rescale_size, which VFS and Spa-then-Temp call: int(side * scale + 0.5)
        ("davis/vfs", (359, 640), (480, 856)),  # 855.7
        ("davis/vfs", (360, 640), (480, 853)),  # 853.3
        ("davis/spa-then-temp", (960, 1709), (480, 855)),  # 854.5
        # arXiv 2508.10104 appendix D.5: 480x854 at 960 becomes 960x1712 for patch 16
        ("davis/dinov3-M", (480, 854), (960, 1712)),
        ("davis/dinov3-S", (480, 872), (480, 880)),  # 54.5 cells
    ],
)
def test_nearest_is_a_half_up(protocol, original, expected):
    patch = 16 if protocol.startswith("davis/dinov3") else 1
    assert network_size(original, load_protocol(protocol).frames, patch) == expected
