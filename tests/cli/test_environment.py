"""What surrounds a command: full devices, FIFOs where files are named, documents that no parser can take."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from corrkit.cli import main

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
}


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """A FIFO that is read waits forever."""
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(60)
    yield
    signal.alarm(0)


@pytest.mark.parametrize("what", NAMING)
def test_a_fifo_is_refused_wherever_a_file_is_named(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    fifo = tmp_path / "fifo.toml"
    os.mkfifo(fifo)
    assert main([part.format(fifo) for part in NAMING[what]]) == 2
    assert str(fifo) in capsys.readouterr().err


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


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize("command", ["--version", "--help", "systems", "protocols davis", "inspect demo --json"])
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
