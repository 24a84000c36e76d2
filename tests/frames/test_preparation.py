"""The size that a frame has for the network, worked out from the published scripts' own lines."""

from fractions import Fraction

import pytest

from corrkit.frames.preparation import network_size
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
