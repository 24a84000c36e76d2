"""What surrounds a command: full devices, FIFOs where files are named, documents that no parser can take."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from davis_folder import make_clip

from corrkit.cli import COMMANDS, main

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
