"""Which channel a pixel belongs to: channel by channel against torch's maximum, NaN and ties included."""

import itertools

import pytest
import torch

from corrkit.tasks.masks import largest_channel, minmax_where_positive

VALUES = (0.0, -0.0, 0.25, 1.0, float("nan"), float("inf"), -float("inf"))


@pytest.mark.parametrize("with_nan", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_largest_is_found_as_by_torch(count: int, with_nan: bool):
    values = [value for value in VALUES if with_nan or value == value]
    maps = torch.tensor(list(itertools.product(values, repeat=count))).T.reshape(count, 1, -1)
    assert torch.equal(largest_channel(maps), maps.max(dim=0).indices.to(torch.uint8))


@pytest.mark.parametrize("guard", [0.0, 1e-12])
def test_maps_are_stretched_as_published_code_does_step_by_step(guard: float):
    """Also an empty map, one without a positive value, and a constant one, which becomes NaN and wins, or 0."""
    maps = torch.rand(6, 5, 7, generator=torch.Generator().manual_seed(0))
    maps[1], maps[2], maps[3], maps[4] = 0, maps[2] - 2, 0.5, maps[4] * 1e-30
    expected = maps.clone()
    for channel in expected:
        if channel.max() > 0:
            channel -= channel.min()
            channel /= channel.max() + guard
    assert torch.equal(minmax_where_positive(maps.clone(), guard=guard).nan_to_num(9), expected.nan_to_num(9))
