"""Which channel a pixel belongs to: against torch's maximum, NaN and ties included, and by blocks against that."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from corrkit.protocols import load_protocol, protocol_names
from corrkit.tasks.contract import Geometry
from corrkit.tasks.largest_channel import (
    Axis,
    largest_channel,
    largest_channel_by_blocks,
    stretch_of,
)
from corrkit.tasks.masks import MaskCodec, resize_bilinear

VALUES = (0.0, -0.0, 0.25, 1.0, float("nan"), float("inf"), -float("inf"))


@pytest.mark.parametrize("with_nan", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_largest_is_found_as_by_torch(count: int, with_nan: bool):
    values = [value for value in VALUES if with_nan or value == value]
    maps = torch.tensor(list(itertools.product(values, repeat=count))).T.reshape(count, 1, -1)
    assert torch.equal(largest_channel(maps), maps.max(dim=0).indices.to(torch.uint8))


@pytest.mark.parametrize(("minmax", "guard"), [("positive", 0.0), ("positive-guarded", 1e-12)])
def test_maps_are_stretched_as_published_code_does_step_by_step(minmax: str, guard: float):
    """Also an empty map, one without a positive value, and a constant one, which becomes NaN and wins, or 0."""
    maps = torch.rand(6, 5, 7, generator=torch.Generator().manual_seed(0))
    maps[1], maps[2], maps[3], maps[4] = 0, maps[2] - 2, 0.5, maps[4] * 1e-30
    expected = maps.clone()
    for channel in expected:
        if channel.max() > 0:
            channel -= channel.min()
            channel /= channel.max() + guard
    assert torch.equal(stretch_of(maps, minmax)(maps.clone()).nan_to_num(9), expected.nan_to_num(9))


def labels_like(seed: int, count: int, grid: tuple[int, int], *, kind: str = "smooth") -> torch.Tensor:
    """Soft maps [L, h, w] that add up to 1: a background, and objects somewhere in it."""
    generator = torch.Generator().manual_seed(seed)
    height, width = grid
    noise = torch.rand(count, -(-height // 4), -(-width // 4), generator=generator)
    maps = resize_bilinear(noise, grid) if kind != "noise" else torch.rand(count, height, width, generator=generator)
    maps = (maps - 0.55).clamp(min=0)
    maps[0] += 1e-3
    maps = maps / maps.sum(0)
    return (maps * 4).round() / 4 if kind == "ties" else maps


def pixel_by_pixel(soft: torch.Tensor, size: tuple[int, int], minmax: str, *, corners: bool) -> torch.Tensor:
    maps = resize_bilinear(soft, size, align_corners=corners)
    return largest_channel(stretch_of(maps, minmax)(maps))


def by_blocks(
    soft: torch.Tensor, size: tuple[int, int], minmax: str = "positive", *, corners: bool = False
) -> tuple[np.ndarray | None, int]:
    """Channels, and how many pixels were left to rounding."""
    left: set[tuple[int, int]] = set()  # a short run of pixels repeats its last

    def enlarged(maps: torch.Tensor, to: tuple[int, int]) -> torch.Tensor:
        return resize_bilinear(maps, to, align_corners=corners)

    def exactly(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        left.update(zip(rows.tolist(), columns.tolist(), strict=True))
        return pixel_by_pixel(soft, size, minmax, corners=corners).numpy()[rows, columns]

    rows, columns = (Axis.of(*side, enlarged) for side in zip(soft.shape[1:], size, strict=True))
    assert rows is not None
    assert columns is not None
    return largest_channel_by_blocks(soft, rows, columns, exactly, stretches=minmax != "none"), len(left)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    count=st.integers(1, 7),
    grid=st.tuples(st.integers(1, 17), st.integers(1, 17)),
    times=st.tuples(st.floats(3, 17), st.floats(3, 17)),
    kind=st.sampled_from(["smooth", "noise", "ties"]),
    minmax=st.sampled_from(["none", "positive", "positive-guarded", "nan-to-zero"]),
    corners=st.booleans(),
)
def test_blocks_give_what_every_pixel_gives(seed, count, grid, times, kind, minmax, corners):
    soft = labels_like(seed, count, grid, kind=kind)
    size = (round(grid[0] * times[0]), round(grid[1] * times[1]))
    found, _ = by_blocks(soft, size, minmax, corners=corners)
    if found is not None:
        np.testing.assert_array_equal(found, pixel_by_pixel(soft, size, minmax, corners=corners).numpy())


@pytest.mark.parametrize("minmax", ["none", "positive", "nan-to-zero"])
@pytest.mark.parametrize("count", [2, 3, 4, 9])
def test_hardly_a_pixel_is_left_to_rounding(count: int, minmax: str):
    size, total = (160, 237), 0
    for seed in range(20):
        soft = labels_like(seed, count, (10, 15))
        found, left = by_blocks(soft, size, minmax)
        assert found is not None
        np.testing.assert_array_equal(found, pixel_by_pixel(soft, size, minmax, corners=False).numpy())
        assert len(np.unique(found)) > 1
        total += left
    assert total < 20 * 160 * 237 / 500


def a_map(**changes: float) -> torch.Tensor:
    soft = labels_like(3, 3, (6, 7))
    for change in changes.values():
        soft[1, 2, 3] = change
    return soft


RISING = torch.linspace(0, 1, 42).view(6, 7)


@pytest.mark.parametrize(
    "soft",
    [
        a_map(below=-1e-9),
        a_map(nan=float("nan")),
        a_map(infinite=float("inf")),
        torch.full((2, 6, 7), 0.5),  # constant: NaN, as published
        torch.stack([RISING, torch.linspace(1, 1.0001, 42).view(6, 7)]),
    ],
)
def test_what_has_no_bounds_or_no_contrast_is_left_to_the_pixels(soft: torch.Tensor):
    assert by_blocks(soft, (60, 70)) == (None, 0)


@pytest.mark.parametrize("other", [RISING, RISING * (1 + 1e-7), RISING.where(RISING > 0.5, RISING / 2)])
def test_pixels_whose_values_are_as_good_as_equal_are_left_to_rounding(other: torch.Tensor):
    soft = torch.stack([RISING, other])
    found, left = by_blocks(soft, (60, 70), "none")
    np.testing.assert_array_equal(found, pixel_by_pixel(soft, (60, 70), "none", corners=False).numpy())
    assert left > 1000


def test_a_value_just_beside_another_is_left_to_rounding_too():
    """Two maps that cross in the middle of a pixel: whoever rounds otherwise may see the other on top."""
    rising = torch.linspace(0, 1, 5).expand(4, 5)
    assert by_blocks(torch.stack([rising, 1 - rising]), (32, 40), "none")[1] == 0
    # An odd number of pixels to a cell: a column of them lies where they cross.
    assert by_blocks(torch.stack([rising, 1 - rising]), (36, 45), "none")[1] == 36


@pytest.mark.parametrize("name", [f"{task}/{name}" for task in ("davis", "vip") for name in protocol_names(task)])
def test_masks_are_the_same_by_blocks_and_pixel_by_pixel(name: str, monkeypatch):
    protocol = load_protocol(name)
    grid, network, original = (11, 17), (88, 136), (97, 141)
    geometry = Geometry(original=original, network=network, grid=grid, stride=8)
    first = np.zeros(original, np.uint8)
    first[20:60, 30:90], first[50:80, 80:130] = 1, 2
    codec = MaskCodec(first, geometry, protocol.labels, protocol.readout)
    softs = [labels_like(seed, len(codec.ids), grid).permute(1, 2, 0).contiguous() for seed in range(5)]
    masks = [codec.decode(soft) for soft in softs]
    monkeypatch.setattr("corrkit.tasks.masks.largest_channel_by_blocks", lambda *_, **__: None)
    for soft, found in zip(softs, masks, strict=True):
        np.testing.assert_array_equal(found, codec.decode(soft))
