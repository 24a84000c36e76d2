"""One of two ranks is killed while it writes: the other ends with a sentence, and the repeat leaves equal bytes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from davis_folder import make_clip
from run_files import run_files

SUPPORT = Path(__file__).resolve().parents[1] / "support"
POINTS = ("before-open-1", "half-write-1", "after-mkdir-1", "after-replace-1", "before-fsync-4", "half-write-2")
LATER = ("after-replace-4", "before-mkdir-5", "half-write-3", "after-fsync-9", "before-replace-6")
OF_THE_SUM = ("half-write-5", "before-replace-11", "after-replace-12")
"""Write points of rank 0, after the last meeting but one."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["", ":SIGTERM"])
def test_a_rank_that_is_killed_ends_the_other_and_the_repeat_leaves_the_same_files(kind: str, tmp_path: Path):
    for name, frames in (("a", 3), ("b b", 4), ("c", 3), ("d", 3)):
        make_clip(tmp_path / "data", name, frames, (48, 64))
    cases = ["1@never", *(f"{rank}@{point}{kind}" for rank in (0, 1) for point in (*POINTS, *LATER))]
    cases += [f"0@{point}{kind}" for point in OF_THE_SUM]
    done = subprocess.run(
        [sys.executable, SUPPORT / "killed_ranks.py", tmp_path / "data", tmp_path, *cases],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{SUPPORT.parents[1]}{os.pathsep}{SUPPORT}"},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)
    assert outcomes.pop("1@never")["codes"] == [0, 0]
    expected, killed = run_files(tmp_path / "run0"), 0
    for number, (case, found) in enumerate(outcomes.items(), start=1):
        rank = int(case[0])
        lost, other = found["codes"][rank], found["codes"][1 - rank]
        killed += lost in (-9, -15)
        assert (lost, other) == (0, 0) or lost in (-9, -15), (case, found)
        if lost:
            assert other in (0, 2), (case, found)
            assert other == 0 or "Another rank ended before all were done" in found["said"][1 - rank], (case, found)
        assert found["again"] == [0, 0], (case, found)
        assert run_files(tmp_path / f"run{number}") == expected, case
    print(f"{len(outcomes)} points, {killed} killed")
    assert killed > len(outcomes) / 2
