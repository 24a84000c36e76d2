"""Finished runs with one file changed: whichever command reads them ends with 0, 1 or 2 and shows no other numbers."""

import csv
import json
import random
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import davis_folder
import jhmdb_folder
import pytest
import vip_folder
from mutated_files import mutate_one
from run_files import run_files

from corrkit.cli import main

SIZE = {"davis": ["size=[64]", "multiple=8"], "vip": ["size=[64]", "multiple=8"], "jhmdb": ["size=[64,64]"]}
SECONDS = 20
SCORED = re.compile(r"^(J|F|mIoU|PCK|IoU)")
LABELS = ("protocol", "data", "origin", "modified", "partial", "precision", "tuned_on", "layer")
Said = Callable[..., tuple[int, str, str]]


def evaluation(task: str, data: Path, out: Path, network: str = "rgb") -> list[str]:
    settings = [word for setting in SIZE[task] for word in ("--set", setting)]
    options = ["--dataset-name", "x", "--quiet", "--device", "cpu", "--workers", "1", *settings]
    return ["eval", task, "--ckpt", network, "--data", str(data), "--out", str(out), *options]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/TASK with three clips each; runs of two networks of each; predictions, a baseline and a manifest."""
    place = tmp_path_factory.mktemp("sound")
    for clip, size in (("a", (48, 64)), ("b b", (48, 80)), ("c@d", (64, 64))):
        davis_folder.make_clip(place / "data/davis", clip, 3, size)
        vip_folder.make_clip(place / "data/vip", clip, frames=3, size=size)
        jhmdb_folder.make_clip(place / "data/jhmdb", f"{clip[0] * size[1]}_jump_0", frames=3, size=size)
    for task in SIZE:
        for network in ("rgb", "hog"):
            words = evaluation(task, place / "data" / task, place / "runs" / network / task, network)
            assert main(words) == 0
    return place


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """Runs a command: its exit code, stdout and stderr; never 70, in time, and nothing that steers a terminal."""

    def run(*words: object) -> tuple[int, str, str]:
        started = time.perf_counter()
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        assert code in {0, 1, 2}, (words, err)
        assert time.perf_counter() - started < SECONDS, words
        assert "Traceback" not in err
        assert all(line.isprintable() for line in (out + err).split("\n")), words
        return code, out, err

    return run


def rows(board: Path) -> dict[str, dict[str, str]]:
    """Of a leaderboard's CSV, by their runs: scores, intervals and labels."""
    found = csv.DictReader(board.read_text().splitlines())
    return {
        row["runs"]: {name: cell for name, cell in row.items() if SCORED.match(name) or name in LABELS} for row in found
    }


def board(said: Said, place: Path, task: str) -> tuple[int, Any]:
    """With a sound run of another network beside the changed one: that one is always there."""
    runs = [f"runs/{network}/{task}" for network in ("rgb", "hog")]
    code, _, err = said("leaderboard", *runs, "--out", "board.csv", "--wide")
    assert code == 0, err
    found = rows(Path("board.csv"))
    assert set(found) | {run for run in runs if run in err} == set(runs), err
    assert runs[1] in found
    return code, found.get(runs[0])


def comparison(said: Said, place: Path, task: str) -> tuple[int, Any]:
    code, out, err = said("compare", f"runs/hog/{task}", f"runs/rgb/{task}", "--json")
    assert code == 0 or f"runs/rgb/{task}" in err, err
    return code, json.loads(out)["metrics"] if code == 0 else None


def card(said: Said, place: Path, task: str) -> tuple[int, Any]:
    code, out, err = said("card", f"runs/rgb/{task}")
    assert code == 0 or f"runs/rgb/{task}" in err, err
    return code, re.findall(r"value: .*", out) if code == 0 else None


def report(said: Said, place: Path, task: str) -> tuple[int, Any]:
    code, _, err = said("report", f"runs/rgb/{task}", "--out", "report.html", "--no-features", "-q")
    assert code == 0 or f"runs/rgb/{task}" in err, err
    return code, re.findall(r"\d+\.\d \[\d+\.\d, \d+\.\d\]", Path("report.html").read_text()) if code == 0 else None


def resumption(said: Said, place: Path, task: str) -> tuple[int, Any]:
    code, _, err = said(*evaluation(task, Path("data") / task, Path("runs/rgb") / task))
    assert code == 0 or f"runs/rgb/{task}" in err, err
    found = Path("runs/rgb") / task
    return code, run_files(found) if code == 0 else None


COMMANDS: dict[str, Callable[[Said, Path, str], tuple[int, Any]]] = {
    "leaderboard": board,
    "compare": comparison,
    "card": card,
    "report": report,
    "eval": resumption,
}


def check(sound: Path, work: Path, said: Said, number: int, seed: int) -> Counter[tuple[str, str]]:
    """Counts of (command, outcome)."""
    rng = random.Random(seed)
    outcomes: Counter[tuple[str, str]] = Counter()
    expected = {}
    for index in range(number):
        task, name = rng.choice(sorted(SIZE)), rng.choice([*COMMANDS])
        shutil.rmtree("runs", ignore_errors=True)
        for network in ("rgb", "hog"):
            shutil.copytree(sound / "runs" / network / task, Path("runs") / network / task, symlinks=True)
        if (task, name) not in expected:
            expected[task, name] = COMMANDS[name](said, work, task)
            assert expected[task, name][0] == 0
        kind, path = mutate_one(Path("runs/rgb") / task, rng)
        try:
            _, found = COMMANDS[name](said, work, task)
            if found is not None:
                assert found == expected[task, name][1]
        except Exception as error:
            error.add_note(f"{name} {task}, seed {seed}, number {index}: {kind} of {path}")
            raise
        outcomes[name, "left out or refused" if found is None else "as it was"] += 1
    return outcomes


@pytest.fixture
def work(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(sound / "data")
    return tmp_path


def test_changed_runs_show_no_other_numbers(sound: Path, work: Path, said: Said):
    outcomes = check(sound, work, said, 60, seed=0)
    assert {outcome for _, outcome in outcomes} == {"left out or refused", "as it was"}
