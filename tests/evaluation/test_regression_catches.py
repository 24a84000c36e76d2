"""`corrkit regress` on the embedded clips, all three benchmarks: what it catches when a part is broken on purpose."""

from pathlib import Path

import numpy as np
import pytest
import torch

from corrkit import regression
from corrkit.metrics.region_contour import region_contour
from corrkit.propagation import propagator
from corrkit.propagation.affinity import transport
from corrkit.tasks import davis

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def baseline() -> regression.Baseline:
    return regression.measure("rgb", device="cpu")


def dropped(measured: regression.Baseline, baseline: regression.Baseline) -> set[str]:
    rows = regression.compare(measured, baseline)
    print("\n".join(regression.describe(row) for row in rows))
    return {row.task for row in rows if row.dropped}


def test_nothing_drops_when_nothing_is_broken(baseline: regression.Baseline):
    assert dropped(regression.measure("rgb", device="cpu"), baseline) == set()


def test_an_affinity_that_is_off_by_one_cell_is_caught_on_every_task(baseline: regression.Baseline, monkeypatch):
    monkeypatch.setattr(propagator, "transport", lambda labels, affinity: transport(labels.roll(1, 1), affinity))
    assert dropped(regression.measure("rgb", device="cpu"), baseline) == {"davis", "vip", "jhmdb"}


def test_a_metric_that_is_off_by_four_pixels_is_caught_on_its_task(baseline: regression.Baseline, monkeypatch):
    monkeypatch.setattr(
        davis,
        "region_contour",
        lambda prediction, truth, name: region_contour(np.roll(prediction, 4, 1), truth, name=name),
    )
    assert dropped(regression.measure("rgb", device="cpu"), baseline) == {"davis"}


def test_a_half_random_checkpoint_is_reported(golden, tmp_path: Path):
    """Every second tensor of the probe network drawn again, its patch projection among them."""
    source = golden("davis/models/probe_vit64_dino.pth")
    state = torch.load(source, weights_only=True)
    generator = torch.Generator().manual_seed(0)
    names = [name for name in state["teacher"] if state["teacher"][name].is_floating_point()]
    redrawn = {name for name in names if "patch_embed.proj" in name} | set(names[::2])
    for name in redrawn:
        tensor = state["teacher"][name]
        state["teacher"][name] = torch.randn(tensor.shape, generator=generator) * max(
            float(tensor.std(correction=0)), 0.02
        )
    torch.save(state, tmp_path / "half_random.pth")
    whole = regression.measure(str(source), heads=4, device="cpu")
    half = regression.measure(str(tmp_path / "half_random.pth"), heads=4, device="cpu")
    assert dropped(half, whole), "no metric dropped"
