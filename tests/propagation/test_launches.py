"""How often the thread that feeds a GPU launches something and waits for it, counted here; benchmarks/launches.py."""

from dataclasses import replace

import pytest
import torch
from launches import BLOCK, Counted, Read, Setting, of_a_frame

import corrkit
from corrkit.propagation import scoring, tiling

SMALL = {
    "dino": Setting("small", "davis/dino", (12, 20), 7),
    "cropmae": Setting("frame 0 free", "davis/cropmae", (12, 20), 20),
}
WAITS = 6
"""Of a block: which features are finite, which rows tie, how many entries there are, whether a product overflowed, and
where each query frame's entries end; one to spare."""
LAUNCHES = 200
"""Of a frame; see benchmarks/README.md for what it was when this was set."""


@pytest.mark.parametrize("name", SMALL)
def test_a_block_of_frames_waits_for_the_device_a_few_times(name: str):
    launches, waits = of_a_frame(SMALL[name])
    assert waits * BLOCK <= WAITS
    assert launches <= LAUNCHES


def test_waits_do_not_grow_with_the_number_of_tiles(monkeypatch: pytest.MonkeyPatch):
    """As many groups of tiles as on a larger grid: there is memory for few similarities at a time."""
    launches, waits = of_a_frame(SMALL["dino"])
    monkeypatch.setattr(tiling, "ACCELERATOR", replace(tiling.ACCELERATOR, memory=100_000))
    more_launches, as_many_waits = of_a_frame(SMALL["dino"])
    assert more_launches > 3 * launches
    assert as_many_waits == waits


@pytest.mark.parametrize("protocol", ["davis/dino", "davis/crw"])
@pytest.mark.parametrize("levels", [1, 3])
def test_ties_that_are_asked_about_together_are_decided_as_one_by_one(
    protocol: str, levels: int, monkeypatch: pytest.MonkeyPatch
):
    """Several groups of tiles, each with ties; their similarities are worked out again."""
    generator = torch.Generator().manual_seed(levels)
    features = torch.randint(0, levels + 1, (8, 12, 20, 4), generator=generator).float() + 0.5
    labels = torch.nn.functional.one_hot(torch.randint(0, 3, (12, 20), generator=generator), 3).float()
    found = []
    for together in (1, 3, 1000):
        costs = replace(tiling.CPU, memory=100_000, groups_per_question=together)
        monkeypatch.setattr(scoring, "costs_of", lambda _, costs=costs: costs)
        found.append(torch.stack(list(corrkit.propagate(features, labels, protocol=protocol))))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_what_makes_the_host_wait_is_counted():
    values = torch.arange(6.0)
    counted = Counted()
    with counted, Read(counted):
        values.sum().item()
        bool(values[0] > 0)
        values[values > 2]
        values.nonzero()
        values.tolist()
        values.cpu()
        values[2:].view(2, 2)
    assert counted.waited.total() == 6
    assert counted.launched.total() < 12
