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
from mutated_files import STRAY, mutate, mutate_one
from run_files import run_files
from small_evaluation import evaluation_words

import corrkit.regression
from corrkit.cli import main
from corrkit.files.jsontext import from_json
from corrkit.runs.folder import _record_digest

TASKS = ("davis", "jhmdb", "vip")
SIDE = 64
SECONDS = 20
BASELINE = Path(__file__).resolve().parents[1] / "baselines/rgb.json"
SCORED = re.compile(r"^(J|F|mIoU|PCK|IoU)")
LABELS = ("protocol", "data", "origin", "modified", "partial", "precision", "tuned_on", "layer")
Said = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/TASK with three clips each; runs of two networks of each; predictions, a baseline and a manifest."""
    place = tmp_path_factory.mktemp("sound")
    for clip, size in (("a", (48, 64)), ("b b", (48, 80)), ("c@d", (64, 64))):
        davis_folder.make_clip(place / "data/davis", clip, 3, size)
        vip_folder.make_clip(place / "data/vip", clip, frames=3, size=size)
        jhmdb_folder.make_clip(place / "data/jhmdb", f"{clip[0] * size[1]}_jump_0", frames=3, size=size)
    for task in TASKS:
        for network in ("rgb", "hog"):
            words = evaluation_words(task, network, place / "data" / task, place / "runs" / network / task, SIDE)
            assert main(words) == 0
    assert main(["data", "manifest", str(place / "data/davis"), "--out", str(place / "manifest.csv")]) == 0
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
    code, _, err = said(*evaluation_words(task, "rgb", Path("data") / task, Path("runs/rgb") / task, SIDE))
    assert code == 0 or f"runs/rgb/{task}" in err, err
    for name in STRAY:
        (Path("runs/rgb") / task / "clips" / name).unlink(missing_ok=True)
    return code, run_files(Path("runs/rgb") / task) if code == 0 else None


COMMANDS: dict[str, Callable[[Said, Path, str], tuple[int, Any]]] = {
    "leaderboard": board,
    "compare": comparison,
    "card": card,
    "report": report,
    "eval": resumption,
}


def forge(path: Path) -> bool:
    """Gives a clip's record, whatever it holds by now, the digest that belongs to it."""
    try:
        document = json.loads(path.read_text())
        document["sha256"] = _record_digest(from_json(json.dumps(document["record"])))
        path.write_text(json.dumps(document))
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return False
    return True


def check(sound: Path, work: Path, said: Said, number: int, seed: int) -> Counter[tuple[str, str]]:
    """Counts of (command, outcome)."""
    rng = random.Random(seed)
    outcomes: Counter[tuple[str, str]] = Counter()
    expected, wrong = {}, []
    for index in range(number):
        task, name = rng.choice(TASKS), rng.choice([*COMMANDS])
        shutil.rmtree("runs", ignore_errors=True)
        for network in ("rgb", "hog"):
            shutil.copytree(sound / "runs" / network / task, Path("runs") / network / task, symlinks=True)
        if (task, name) not in expected:
            expected[task, name] = COMMANDS[name](said, work, task)
            assert expected[task, name][0] == 0
        kind, path = mutate_one(Path("runs/rgb") / task, rng)
        is_forged = rng.random() < 0.5 and forge(path)
        try:
            _, found = COMMANDS[name](said, work, task)
            wanted = expected[task, name][1]
            if kind == "gone" and name == "eval" and found:  # to save space, where all of a clip's are gone
                wanted = {key: value for key, value in wanted.items() if key in found or "predictions/" not in key}
            if name == "eval" and is_forged:  # nothing tells it from what was evaluated
                outcomes[name, "forged"] += 1
                continue
            assert found in (None, wanted)
        except Exception as error:
            wrong.append(f"{name} {task}, seed {seed}, number {index}: {kind} of {path}: {str(error)[:300]}")
            continue
        outcomes[name, "left out or refused" if found is None else "as it was"] += 1
    print(f"{number} changed files:", *(f"{name} {what} {count}," for (name, what), count in sorted(outcomes.items())))
    assert wrong == [], "\n".join(wrong)
    return outcomes


def check_files(sound: Path, said: Said, number: int, seed: int) -> None:
    """Of a baseline and a manifest, which users edit, only this is known: a sentence, or a comparison."""
    rng = random.Random(seed)
    codes: Counter[tuple[str, int]] = Counter()
    for index in range(number):
        shutil.copy(BASELINE, "baseline.json")
        shutil.copy(sound / "manifest.csv", "manifest.csv")
        name = rng.choice(["baseline.json", "baseline.json", "baseline.json", "manifest.csv"])
        kind = mutate(Path(name), rng)
        words = ["regress", "--ckpt", "rgb", "--baseline", name, *rng.choice([[], [], ["--update"]])]
        if name == "manifest.csv":
            words = ["data", "check", "davis", "--data", "data/davis", "--manifest", name]
        try:
            code, out, err = said(*words)
        except AssertionError as error:
            error.add_note(f"seed {seed}, number {index}: {kind}")
            raise
        assert code != 2 or name in err, err
        assert code == 2 or out
        codes[name, code] += 1
        for path in Path.cwd().glob("*.[jc]s*"):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    print(f"{number} changed files:", *(f"{name} {code}: {count}," for (name, code), count in sorted(codes.items())))
    assert codes["baseline.json", 2] > number / 4
    assert codes["baseline.json", 0] * codes["manifest.csv", 0] * codes["manifest.csv", 2] > 0


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The measurement that the baseline was made of, without its seconds."""
    found = corrkit.regression.read_baseline(BASELINE)
    monkeypatch.setattr(corrkit.regression, "measure", lambda *words, **options: found)


@pytest.mark.usefixtures("measured", "work")
def test_changed_baselines_and_manifests_are_compared_or_refused(sound: Path, said: Said):
    check_files(sound, said, 150, seed=0)


@pytest.mark.slow
@pytest.mark.usefixtures("measured", "work")
def test_many_changed_baselines_and_manifests_are_compared_or_refused(sound: Path, said: Said):
    check_files(sound, said, 10_000, seed=1)


@pytest.fixture
def work(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(sound / "data")
    return tmp_path


def test_changed_runs_show_no_other_numbers(sound: Path, work: Path, said: Said):
    outcomes = check(sound, work, said, 24, seed=0)
    assert {outcome for _, outcome in outcomes} == {"left out or refused", "as it was", "forged"}


@pytest.mark.slow
def test_many_changed_runs_show_no_other_numbers(sound: Path, work: Path, said: Said):
    check(sound, work, said, 10_000, seed=1)
