"""Run folders that somebody else made, to hurt: whichever command reads them ends with a sentence, and in time."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corrkit.cli import main
from corrkit.errors import RunError
from corrkit.files.atomic import only_process, write_atomic
from corrkit.files.jsontext import from_json
from corrkit.runs.folder import Run, _record_digest, clip_file_name, kept_predictions

HOSTILE_TEXT = "\n".join(
    (
        "\x1b[2J",
        "---",
        "fine: nothing wrong",
        "# <script>alert(1)</script> \ud800 \u202e `",
        "```",
        "| a | \\write18{x}",
    )
)
AS_TEXT = {".csv", ".tex", ".json", ".jsonl", ".yaml"}
"""Files in which markup of HTML is none."""
Finished = Callable[..., Path]
Change = Callable[[Any], object]


def every_text(value: Any, place: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """The places of all texts in a document."""
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [one for key, item in items for one in every_text(item, (*place, key))]
    return [*found, *([place] if isinstance(value, str) else [])]


def put(document: Any, place: tuple[object, ...], value: object) -> None:
    *way, last = place
    for key in way:
        document = document[key]
    document[last] = value


def changed(path: Path, place: tuple[object, ...], value: object) -> None:
    document = json.loads(path.read_text())
    put(document, place, value)
    path.write_text(json.dumps(document))


def commands(run: Path, out: Path) -> list[list[str]]:
    board = [["leaderboard", str(run)]]
    board += [["leaderboard", str(run), "--out", f"{out}/board.{suffix}"] for suffix in ("csv", "html", "md", "tex")]
    report = ["report", str(run), "--out", f"{out}/report.html", "--no-features", "--quiet"]
    return [
        *board,
        ["compare", str(run), str(run)],
        report,
        ["card", str(run)],
        ["card", str(run), "--out", f"{out}/c"],
    ]


def check(run: Path, out: Path, capsys: pytest.CaptureFixture[str], only: tuple[str, ...]) -> list[int]:
    codes = []
    for words in (words for words in commands(run, out) if words[0] in only):
        codes.append(main(words))
        told, said = capsys.readouterr()
        assert codes[-1] in {0, 1, 2}, (words, said)
        for line in (told + said).split("\n"):
            assert line.isprintable(), (words, line)
            assert not line.startswith(("fine: nothing wrong", "# <script>")), words
    for path in (path for path in out.rglob("*") if path.is_file()):
        lines = path.read_text(encoding="utf-8").split("\n")
        assert [line for line in lines if not line.isprintable()] == [], path
        assert not any(line.startswith(("fine: nothing wrong", "# <script>")) for line in lines), path
        shown = re.sub(r"^(---|```).*?^\1$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)  # of a card
        assert path.suffix in AS_TEXT or not re.search(r"(?<!\\)<script>alert", shown), path
        assert "\\write18{" not in path.read_text() or path.suffix != ".tex"
    return codes


def test_no_text_of_a_summary_steers_a_reader(finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """All texts of summary.json that are free, at once: names of networks, data, clips, versions, overrides."""
    run = finished("davis", "a.pth", 0.6)
    document = json.loads((run / "summary.json").read_text())
    fixed = {("task",), ("protocol",), ("data", "origin"), ("precision",)}
    for place in every_text(document):
        if place not in fixed:
            put(document, place, HOSTILE_TEXT)
    document["checkpoint"]["mode"] = "framewise"
    document["versions"] = {HOSTILE_TEXT: HOSTILE_TEXT, "corrkit": HOSTILE_TEXT}
    document["unreleased"] = [HOSTILE_TEXT]
    (run / "summary.json").write_text(json.dumps(document))
    for spec in (f"hf:a/{HOSTILE_TEXT}", HOSTILE_TEXT):
        told = {"fingerprint": {}, "recorded": {"model": {"spec": spec}, "data": HOSTILE_TEXT}}
        (run / "run.json").write_text(json.dumps(told))
        (tmp_path / "out").mkdir(exist_ok=True)
        codes = check(run, tmp_path / "out", capsys, ("leaderboard", "compare", "report", "card"))
        assert set(codes[:5]) == {0}
        assert set(codes[-2:]) == {0}


NUMBERS = ("1e999", "-1e999", "1" + "0" * 400, "9" * 5000)


@pytest.mark.parametrize("number", NUMBERS, ids=("large", "low", "wide", "endless"))
@pytest.mark.parametrize("place", [("parameters",), ("per_clip", "clip1", "J&F-Mean"), ("modified",), ("clips",)])
def test_numbers_that_nothing_holds_cost_their_run(
    number: str, place: tuple[object, ...], finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run, other = finished("davis", "a.pth", 0.6), finished("davis", "b.pth", 0.7)
    changed(run / "summary.json", place, {"affinity.topk": "@"} if place == ("modified",) else "@")
    path = run / "summary.json"
    path.write_text(path.read_text().replace('"@"', number))
    with pytest.raises(ValueError, match=r"."):
        from_json(path.read_text())
    assert main(["leaderboard", str(run), str(other)]) == 0
    assert main(["leaderboard", str(run)]) == 2
    assert "Traceback" not in capsys.readouterr().err


def forged(run: Path, change: Change) -> None:
    """A record with another content and the digest that belongs to it."""
    path = min((run / "clips").glob("*.json"))
    document = json.loads(path.read_text())
    change(document["record"])
    document["sha256"] = _record_digest(from_json(json.dumps(document["record"])))
    path.write_text(json.dumps(document))


FORGED: dict[str, Change] = {
    "no_statistics": lambda record: record.update(statistics={}),
    "texts": lambda record: record.update(statistics={"J": "abc", "F": "abc"}),
    "deep": lambda record: record["statistics"].update(J=[[[[1]]]]),
    "empty": lambda record: record["statistics"].update(J=[], F=[]),
    "ragged": lambda record: record["statistics"].update(J=[[1], [1, 0]]),
    "none": lambda record: record["statistics"].update(J=[[None] * 8]),
    "far": lambda record: record["statistics"].update(J=[[1e300] * 8]),
    "notes": lambda record: record["statistics"].update(notes=[[HOSTILE_TEXT, HOSTILE_TEXT]]),
    "notes_kind": lambda record: record["statistics"].update(notes=7),
    "frames": lambda record: record.update(frames=-5),
    "predictions": lambda record: record.update(predictions={"../../../../etc/passwd": "0" * 64, "/dev/zero": ""}),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_record_costs_its_run(
    name: str, finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = finished("davis", "a.pth", 0.6)
    forged(run, FORGED[name])
    (tmp_path / "out").mkdir()
    codes = check(run, tmp_path / "out", capsys, ("compare", "report", "card"))
    assert codes[0] in {0, 2}


def fifo(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


KINDS: dict[str, Callable[[Path], object]] = {
    "fifo": fifo,
    "device": lambda path: (path.unlink(missing_ok=True), path.symlink_to("/dev/zero")),
    "loop": lambda path: (path.unlink(missing_ok=True), path.symlink_to(path.name)),
    "nowhere": lambda path: (path.unlink(missing_ok=True), path.symlink_to("/nowhere/at/all")),
    "folder": lambda path: (path.unlink(missing_ok=True), path.mkdir()),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("file", ["run.json", "summary.json", "clips/clip1.json"])
def test_what_is_no_file_is_not_waited_for(
    kind: str, file: str, finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = finished("davis", "a.pth", 0.6)
    KINDS[kind](run / file)
    assert main(["compare", str(run), str(run)]) in {0, 2}
    assert "Traceback" not in capsys.readouterr().err
    try:
        opened = Run.open(run, {"folder": run.name}, {})
    except RunError:
        assert kind == "folder"
        return
    assert len(opened.finished) == (5 if file.startswith("clips") else 6)
    assert opened.resumed
    assert json.loads((run / "run.json").read_text())["fingerprint"] == {"folder": run.name}


def test_predictions_are_looked_for_in_their_folder_only(finished: Finished, tmp_path: Path):
    run = Run.open(finished("davis", "a.pth", 0.6), {"folder": "run0"}, {})
    (tmp_path / "secret").write_bytes(b"")
    nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    run.predictions.mkdir()
    fifo(run.predictions / "waits")
    for name in ("../../secret", str(tmp_path / "secret"), "waits", "/dev/zero", "a\0b"):
        assert kept_predictions(run.predictions, {name: nothing}) != "whole", name
    (run.predictions / "sound").write_bytes(b"")
    assert kept_predictions(run.predictions, {"sound": nothing}) == "whole"


@pytest.mark.parametrize("kind", ["fifo", "device", "loop", "folder"])
def test_a_lock_is_a_file_of_its_own(kind: str, tmp_path: Path):
    KINDS[kind](tmp_path / ".lock")
    with pytest.raises(RunError, match=r"\.lock"), only_process(tmp_path):
        pass


def test_a_lock_never_writes_over_another_file(tmp_path: Path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(RunError, match=r"\.lock"), only_process(tmp_path / "run"):
        pass
    assert (tmp_path / "precious").read_text() == "mine"


def test_half_a_character_is_written_as_its_escape(tmp_path: Path):
    write_atomic(tmp_path / "a.csv", "name\nhalf \ud800\n")
    assert (tmp_path / "a.csv").read_text() == "name\nhalf \\ud800\n"


def test_a_card_is_not_looked_for_in_a_fifo(finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    fifo(tmp_path / "README.md")
    assert main(["card", str(finished("davis", "a.pth", 0.6)), "--out", str(tmp_path)]) == 2
    assert "somebody's own" in capsys.readouterr().err


def test_names_of_records_stay_what_they_are():
    assert clip_file_name("../a") == "%2E.%2Fa.json"
