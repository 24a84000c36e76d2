"""The ladder that the embedded clips were calibrated for: identity < rgb < hog."""

import pytest

import corrkit
from corrkit.metrics.intervals import PairedDifference
from corrkit.runs.comparable import read_runs
from corrkit.runs.pairing import compare_runs
from corrkit.task_table import task_facts

SMALLEST_STEP = 0.05
HIGHEST_HOG = 0.85


@pytest.mark.slow
@pytest.mark.parametrize("task", ["davis", "vip", "jhmdb"])
def test_each_rung_is_at_least_five_points_above_the_last(task, tmp_path):
    runs = []
    for spec in ("identity", "rgb", "hog"):
        corrkit.evaluate(task, spec, out=tmp_path / spec, device="cpu")
        (run,), _ = read_runs([tmp_path / spec])
        runs.append(run)
    for run, below in zip(runs[1:], runs, strict=False):
        found = compare_runs(run, below)
        assert isinstance(found, PairedDifference), found
        assert found.difference >= SMALLEST_STEP
        assert found.interval[0] > 0
    assert runs[-1].summary["metrics"][task_facts(task).leading.name] <= HIGHEST_HOG
