"""Id masks between the sizes of frame and network, against the calls that published scripts make."""

import cv2
import numpy as np
import pytest
import torch

from corrkit.protocols import load_protocol
from corrkit.tasks.contract import Geometry
from corrkit.tasks.masks import MaskCodec


@pytest.mark.parametrize(("name", "corner"), [("timecycle", True), ("crw", True), ("cropmae", True), ("dino", False)])
def test_masks_of_the_networks_size_reach_the_frame_by_the_published_nearest(name, corner):
    """convert_davis.py of CRW, CropMAE and TimeCycle calls OpenCV's nearest; DINO's script Pillow's."""
    protocol = load_protocol(name, "davis")
    mask = np.zeros((9, 12), np.uint8)
    mask[4:, 5:] = 1
    geometry = Geometry(original=(9, 12), network=(4, 4), grid=(4, 4), stride=1)
    soft = torch.eye(2)[torch.tensor(cv2.resize(mask, (4, 4), interpolation=cv2.INTER_NEAREST)).long()]
    decoded = MaskCodec(mask, geometry, protocol.labels, protocol.readout).decode(soft)
    rows, columns = (np.arange(side) + (0 if corner else 0.5) for side in (9, 12))
    at = np.ix_((rows * 4 / 9).astype(int), (columns * 4 / 12).astype(int))
    np.testing.assert_array_equal(decoded, soft.argmax(-1).numpy()[at])


def test_timecycles_labels_reach_the_networks_size_by_pillows_nearest():
    """xiaolonw/TimeCycle 16d33ac models/dataset/davis_test.py: scipy.misc.imresize, which was Pillow's."""
    mask = np.arange(54, dtype=np.uint8).reshape(6, 9)
    protocol = load_protocol("davis/timecycle")
    geometry = Geometry(original=(6, 9), network=(4, 4), grid=(4, 4), stride=1)
    resized = MaskCodec(mask, geometry, protocol.labels, protocol.readout).to_network(mask)
    rows, columns = (((np.arange(4) + 0.5) * side / 4).astype(int) for side in (6, 9))
    np.testing.assert_array_equal(resized, mask[np.ix_(rows, columns)])
