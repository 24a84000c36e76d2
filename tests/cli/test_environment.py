"""What surrounds a command: full devices, FIFOs where files are named, documents that no parser can take."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from davis_folder import make_clip

from corrkit.cli import COMMANDS, main
from corrkit.errors import RunError
from corrkit.runs.logs import Log

FULL = Path("/dev/full")
DOCUMENTS = {
    "deep": "a = " + "[" * 20_000 + "]" * 20_000,
    "digits": "a = " + "9" * 100_000,
    "text": "a = \x00",
}
NAMING = {
    "checkpoint": ["inspect", "{}"],
    "to convert": ["convert", "{}", "never.safetensors"],
    "layout": ["inspect", "demo", "--layout", "{}"],
    "protocol": ["eval", "davis", "--ckpt", "rgb", "--protocol", "{}"],
    "baseline": ["regress", "--ckpt", "rgb", "--baseline", "{}"],
    "predictions": ["score", "davis", "--pred", "{}"],
    "run": ["leaderboard", "{}"],
    "recipe": ["pretrain", "{}", "--data", "none", "--out", "never"],
    "network": ["eval", "davis", "--ckpt", "{}"],
    "network of a branch": ["eval", "davis", "--ckpt", "{}", "--ckpt-key", "teacher"],
    "protocol to show": ["protocols", "show", "{}"],
    "run to compare with": ["eval", "davis", "--ckpt", "rgb", "--against", "{}"],
    "runs to compare": ["compare", "{}", "{}"],
    "run to report": ["report", "{}", "--out", "never.html"],
    "manifest": ["data", "check", "davis", "--manifest", "{}", "--data", "data"],
    "sources": ["data", "get", "davis", "--sources", "{}", "--print"],
    "data": ["eval", "davis", "--ckpt", "rgb", "--data", "{}"],
    "data to describe": ["data", "manifest", "{}"],
    "videos": ["pretrain", "siammae", "--scale", "tiny", "--data", "{}", "--out", "never"],
    "weights to start from": [
        "pretrain",
        "siammae",
        "--scale",
        "tiny",
        "--init",
        "{}",
        "--data",
        "data",
        "--out",
        "never",
    ],
}


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """A FIFO that is read waits forever."""
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(60)
    yield
    signal.alarm(0)


@pytest.mark.parametrize("what", NAMING)
def test_a_fifo_is_refused_wherever_a_file_is_named(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "data", "a", frames=3, size=(48, 64))
    fifo = tmp_path / "fifo.toml"
    os.mkfifo(fifo)
    assert main([part.format(fifo) for part in NAMING[what]]) == 2
    assert str(fifo) in capsys.readouterr().err


def test_a_fifo_in_place_of_data_is_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    os.mkfifo(tmp_path / "fifo")
    assert main(["data", "check", "davis", "--data", str(tmp_path / "fifo")]) == 1
    assert str(tmp_path / "fifo") in capsys.readouterr().out


def test_a_fifo_within_a_folder_of_weights_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    os.mkfifo(tmp_path / "model.safetensors")
    assert main(["inspect", str(tmp_path)]) == 2
    assert "FIFO" in capsys.readouterr().err


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize("what", ["layout", "protocol", "recipe"])
def test_a_document_that_no_parser_takes_is_named(
    what: str, document: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "own.toml").write_text(DOCUMENTS[document])
    assert main([part.format(tmp_path / "own.toml") for part in NAMING[what]]) == 2
    assert "own.toml" in capsys.readouterr().err


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """No file grows: a write ends as it would on a full disk, within an open file, too."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


WRITING = {
    "p/.lock": ["pretrain", "siammae", "--scale", "tiny", "--data", "data", "--out", "p", "--device", "cpu"],
    "run/run.json": ["eval", "davis", "--ckpt", "rgb", "--data", "data", "--out", "run"],
    "new.safetensors": ["convert", "demo", "new.safetensors"],
    "clips": ["clips", "export", "clips", "--task", "davis"],
    "own.toml": ["inspect", "demo", "--suggest", "own.toml"],
    "m.csv": ["data", "manifest", "data", "--out", "m.csv"],
}


@pytest.mark.parametrize("target", WRITING)
def test_a_full_disk_is_a_sentence_that_names_the_file(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "data", "a", frames=3, size=(48, 64))
    with full_disk():
        assert main(WRITING[target]) == 2
    said = capsys.readouterr().err
    assert f"{target} can't be written" in said or f"can't be written to {target}" in said
    assert len(said.splitlines()) < 8
    assert "[(" not in said


def test_a_full_disk_behind_a_log_names_it(tmp_path: Path):
    log = Log(tmp_path / "log.csv", 0)
    log.add({"step": 1, "loss": 0.5})
    with full_disk(), pytest.raises(RunError, match=r"log\.csv can't be written"):
        log.add({"step": 2, "loss": 0.25})


HELP = ["--help", *(f"{name} --help" for name in COMMANDS), "data check --help", "clips export --help"]
RESULTS = ["--version", "systems", "protocols davis", "inspect demo --json", "verify", "published", "pretrain list"]

LONG = [pytest.param(command, marks=pytest.mark.slow) for command in (*HELP[3:], *RESULTS[4:])]


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize("command", [*HELP[:3], *RESULTS[:4], *LONG])
def test_a_full_device_behind_stdout_is_a_sentence(command: str):
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "corrkit", *command.split()],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 2, done.stderr
    assert "stdout can't be written: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_was_closed_leads_nowhere(closed: str):
    done = subprocess.run(["bash", "-c", f"{sys.executable} -m corrkit --version {closed}"], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
