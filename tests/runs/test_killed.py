"""SIGKILL at named write points: the repeated command ends with the bytes of an undisturbed run, timing aside."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from davis_folder import make_clip

from corrkit.files.atomic import TEMPORARY

SUPPORT = Path(__file__).resolve().parents[1] / "support"
PACKAGE_PARENT = Path(importlib.util.find_spec("corrkit").origin).parent.parent
# The files of killed_run.py in the order in which they are written: the n-th is the n-th open and write, the first is
# linked to its place (it may not replace another), the others replace.
FILES = (
    "run.json",
    "clips/dog.json",
    "clips/bike@2%2Fleft.json",
    "clips/K%C3%A4se%201.json",
    "clips/empty.json",
    "global_results-val.csv",
    "per-sequence_results-val.csv",
    "summary.csv",
    "summary.json",
)
POINTS = [
    *("before-mkdir-1", "after-mkdir-1", "before-mkdir-2", "after-mkdir-2", "after-fsync-1", "before-fsync-4"),
    *(f"before-open-{n}" for n in (1, 3, 6, 9)),
    *(f"after-open-{n}" for n in (1, 2, 5, 9)),
    *(f"half-write-{n}" for n in range(1, 10)),
    *(f"before-fsync-{n}" for n in (2, 7, 9, 16)),
    *(f"after-fsync-{n}" for n in (2, 8, 12)),
    *("before-link-1", "after-link-1", "after-unlink-1"),
    *(f"before-replace-{n}" for n in range(1, 9)),
    *(f"after-replace-{n}" for n in range(1, 9)),
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    outcome = drive(folder, "never")
    return content(folder), json.loads(outcome.stdout)


def test_the_points_cover_every_file_and_operation(undisturbed):
    files, report = undisturbed
    assert set(files) == set(FILES)
    operations = report["operations"]
    assert operations["open"] == operations["write"] == operations["replace"] + operations["link"] == len(FILES)
    assert operations["mkdir"] == 2
    assert operations["fsync"] == 2 * len(FILES) + 2  # the file and its folder, and the parents of the new folders
    assert len(POINTS) >= 30


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_run_repeated_ends_with_the_same_bytes(point, undisturbed, tmp_path):
    expected, _ = undisturbed
    folder = tmp_path / "run"
    killed = drive(folder, point)
    assert killed.returncode == -signal.SIGKILL
    finished_before = [name for name in FILES[1:5] if (folder / name).exists()]
    repeated = drive(folder, "never")
    assert repeated.returncode == 0, repeated.stderr
    report = json.loads(repeated.stdout)
    assert content(folder) == expected
    assert len(report["computed"]) == 4 - len(finished_before)
    assert report["notes"] == []


def test_killed_again_and_again_it_still_ends_with_the_same_bytes(undisturbed, tmp_path):
    expected, _ = undisturbed
    folder = tmp_path / "run"
    for point in ("half-write-1", "before-replace-2", "half-write-2", "after-replace-2", "before-fsync-3"):
        assert drive(folder, point).returncode == -signal.SIGKILL
    assert drive(folder, "never").returncode == 0
    assert content(folder) == expected


def test_two_processes_in_one_folder_end_with_the_same_bytes(undisturbed, tmp_path):
    expected, _ = undisturbed
    folder = tmp_path / "run"
    processes = [start(folder, "never") for _ in range(3)]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert content(folder) == expected


EVALUATION_POINTS = [
    *(f"frame-{n}" for n in range(1, 12, 2)),
    *("before-mkdir-1", "after-mkdir-2", "before-mkdir-3", "after-mkdir-4"),
    *(f"half-write-{n}" for n in range(1, 9)),
    *(f"before-replace-{n}" for n in range(1, 9)),
    *(f"after-replace-{n}" for n in range(1, 9)),
    *(f"after-fsync-{n}" for n in (2, 5, 8)),
    *("before-link-1", "after-link-1"),
]


@pytest.mark.parametrize("points", [EVALUATION_POINTS[::5], pytest.param(EVALUATION_POINTS, marks=pytest.mark.slow)])
def test_a_killed_evaluation_repeated_ends_with_the_same_bytes(points, tmp_path):
    """The whole pipeline, predictions included."""
    for name in ("walk", "run", "a@b c"):
        make_clip(tmp_path / "data", name)
    process = launch("killed_evaluation.py", tmp_path / "data", tmp_path / "runs", "undisturbed", *points)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    statuses = json.loads(output)
    assert statuses.pop("undisturbed") == [0, 0]
    assert statuses == {point: [-signal.SIGKILL, 0] for point in points}, errors
    expected = content(tmp_path / "runs/undisturbed")
    assert sum(name.endswith(".png") for name in expected) == 12
    assert {"run.json", "summary.json", "summary.csv", "clips/a@b%20c.json", "global_results-val.csv"} <= set(expected)
    for point in points:
        assert content(tmp_path / "runs" / point) == expected, point


def start(folder, point):
    return launch("killed_run.py", folder, point)


def launch(script, *arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PACKAGE_PARENT), str(SUPPORT)])}
    command = [sys.executable, str(SUPPORT / script), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def drive(folder, point):
    process = start(folder, point)
    output, errors = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def content(folder):
    """Path to bytes, the timing of clip records taken out; temporary files must be gone."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            assert not path.name.startswith(TEMPORARY)
            data = path.read_bytes()
            if path.parent.name == "clips":
                document = json.loads(data)
                timing = document["record"].pop("timing")
                data = data.replace(json.dumps(timing["seconds"]).encode(), b"SECONDS")
            found[path.relative_to(folder).as_posix()] = data
    return found
