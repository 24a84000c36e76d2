"""The whole program, started twice at once into one new folder; folders that others change while they are read."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from davis_folder import make_clip

import corrkit
from corrkit.errors import RunError
from corrkit.files.atomic import TEMPORARY, remove_abandoned
from corrkit.files.reading import files_below

RACES = Path(__file__).parents[1] / "support" / "races.py"


def races(data: Path, folder: Path, rounds: int) -> list[dict]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(RACES), str(data), str(folder), str(rounds)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def alone(folder: Path, name: str) -> tuple[str, list]:
    """What a run has that nobody disturbs: its checkpoint, and J of each clip."""
    records = [json.loads(path.read_text())["record"] for path in sorted((folder / name / "clips").iterdir())]
    fingerprint = json.loads((folder / name / "run.json").read_text())["fingerprint"]
    return fingerprint["checkpoint"], [record["statistics"]["J"] for record in records]


@pytest.mark.parametrize("rounds", [3, pytest.param(200, marks=pytest.mark.slow)])
def test_of_two_evaluations_started_at_once_one_wins_and_the_folder_is_its_own(rounds: int, tmp_path: Path):
    for name in ("walk", "run", "rest"):
        make_clip(tmp_path / "data", name, frames=5)
    folder = tmp_path / "runs"
    folder.mkdir()
    found = races(tmp_path / "data", folder, rounds)
    assert len(found) == rounds
    winners: Counter[str] = Counter()
    for race in found:
        assert sorted(race["codes"].values()) == [0, 2], race
        winner, loser = sorted(race["codes"], key=race["codes"].__getitem__)
        assert (race["owner"], race["records"]) == alone(folder, winner)
        assert "made by" in race["messages"][loser]
        winners[winner] += 1
    print(f"{rounds} pairs: {dict(winners)}")


class Vanishing:
    """A folder's entries, of which one is removed by another process once they are listed."""

    def __init__(self, entries: list[os.DirEntry[str]]) -> None:
        self._entries = iter(entries)

    def __enter__(self) -> "Vanishing":
        return self

    def __exit__(self, *error: object) -> None: ...

    def __iter__(self) -> "Vanishing":
        return self

    def __next__(self) -> os.DirEntry[str]:
        return next(self._entries)


def lost_in_a_leaderboard(folder: Path) -> None:
    with pytest.raises(RunError, match="holds a finished run"):
        corrkit.leaderboard(folder)


@pytest.mark.parametrize(
    "walk",
    [
        remove_abandoned,
        pytest.param(lambda folder: [*files_below(folder)], id="files_below"),
        lost_in_a_leaderboard,
    ],
)
def test_what_another_process_removes_meanwhile_is_passed_over(
    walk: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    stage = tmp_path / "run/predictions" / f"{TEMPORARY}dead"
    stage.parent.mkdir(parents=True)
    scandir = os.scandir

    def listed(path: str | Path | int) -> object:
        if not str(path).endswith("predictions"):
            return scandir(path)
        (stage / "inside").mkdir(parents=True)
        with scandir(path) as found:
            entries = list(found)
        shutil.rmtree(stage)
        return Vanishing(entries)

    monkeypatch.setattr(os, "scandir", listed)
    walk(tmp_path)
    assert not stage.exists()
