"""Label maps of the frames that later frames read: whose memory they lie in."""

from functools import partial
from operator import le

import torch

from corrkit.propagation.label_maps import LabelMaps


def a_map(value: float, channels: int = 2) -> torch.Tensor:
    return torch.full((6, channels), value)


def test_places_are_taken_a_few_times_in_a_clip():
    maps = LabelMaps()
    memory, places = set(), set()
    for frame in range(100):
        maps.drop(partial(le, frame - 20))
        maps.keep(frame, a_map(frame))
        memory.add(maps[frame].untyped_storage().data_ptr())
        places.add(maps[frame].data_ptr())
    assert len(memory) <= 6  # of 1, 1, 2, 4, 8 and 16 places
    assert len(places) <= 21
    for frame in range(79, 100):
        assert torch.equal(maps[frame], a_map(frame))


def test_a_map_is_a_copy():
    maps, labels = LabelMaps(), a_map(1)
    maps.keep(3, labels)
    labels.zero_()
    assert torch.equal(maps[3], a_map(1))


def test_wider_maps_have_empty_channels_behind():
    maps = LabelMaps()
    for frame in (1, 2, 5):
        maps.keep(frame, a_map(frame))
    maps.widen(4)
    maps.keep(6, a_map(6, 4))
    for frame in (1, 2, 5):
        assert torch.equal(maps[frame], torch.cat([a_map(frame), torch.zeros(6, 2)], 1))
    assert torch.equal(maps[6], a_map(6, 4))


def test_stacked_maps_share_one_piece_of_memory_that_rarely_grows():
    maps, memory = LabelMaps(), set()
    for count in range(1, 30):
        stacked = maps.stacked([a_map(frame) for frame in range(count)], torch.device("cpu"))
        assert torch.equal(stacked, torch.stack([a_map(frame) for frame in range(count)]))
        memory.add(stacked.untyped_storage().nbytes())
    assert len(memory) <= 5


def test_inference_mode_may_come_and_go():
    maps = LabelMaps()
    for frame in range(8):
        with torch.inference_mode(mode=frame % 3 == 0):
            maps.drop(partial(le, frame - 2))
            maps.keep(frame, a_map(frame))
            stacked = maps.stacked([maps[frame], a_map(9)], torch.device("cpu"))
            assert torch.equal(stacked[0], a_map(frame))
