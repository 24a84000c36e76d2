"""Ids of masks: the one that is nobody's, and the colour of each in a palette file."""

import numpy as np
from numpy.typing import NDArray

VOID = 255
"""Pixels of an annotation that are nobody's: the score of each task says what they count as."""


def voc_palette() -> NDArray[np.uint8]:
    """256 RGB colours [256, 3]: the bits of an id, three at a time, fill the channels from the highest bit down."""
    ids = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (((ids >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return colours
