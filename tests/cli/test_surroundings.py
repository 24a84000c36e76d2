"""What surrounds a process: folders for temporary files, homes, a working directory that is gone, clocks."""

import ctypes
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from davis_folder import make_clips
from run_files import run_files

from corrkit.cli import main

SMALL = ["--set", "size=[32]", "--set", "multiple=8", "--device", "cpu", "--quiet"]
PLACES = ("absent", "file", "/proc", "/dev/null", "")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clips(tmp_path_factory.mktemp("surroundings") / "DAVIS", frames=3)


def evaluation(data: Path, out: str, *further: str) -> list[str]:
    return ["eval", "davis", "--ckpt", "rgb", "--data", str(data), "--out", out, *SMALL, *further]


def training(data: Path, *further: str) -> list[str]:
    folder = str(data / "JPEGImages/480p")
    sizes = ["--scale", "tiny", "--steps", "1", "--batch", "1", "--device", "cpu"]
    return ["pretrain", "siammae", "--data", folder, "--out", "trained", *sizes, *further]


def run(words: list[str], folder: Path, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """Variables that are None are unset."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        [sys.executable, "-m", "corrkit", *words],
        cwd=folder,
        env={name: value for name, value in variables.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def place_named(name: str, folder: Path) -> str:
    (folder / "file").touch()
    return name if name.startswith("/") or not name else str(folder / name)


# --- folders for temporary files --------------------------------------------------------------------------------------


def test_an_evaluation_needs_no_folder_for_temporary_files(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "absent"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    monkeypatch.chdir(tmp_path)
    assert main(evaluation(data, "run", "--workers", "1")) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", PLACES)
def test_processes_that_evaluate_need_no_folder_for_temporary_files(name: str, data: Path, tmp_path: Path):
    done = run(evaluation(data, "run", "--workers", "2"), tmp_path, TMPDIR=place_named(name, tmp_path))
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "run/clips").iterdir())) == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", PLACES)
def test_processes_that_decode_need_no_folder_for_temporary_files(name: str, data: Path, tmp_path: Path):
    done = run(training(data, "--workers", "1"), tmp_path, TMPDIR=place_named(name, tmp_path))
    assert done.returncode == 0, done.stderr


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB; skipped where none may be mounted."""
    place = tmp_path / "mounted"
    place.mkdir()
    system = ctypes.CDLL(None, use_errno=True)
    if system.mount(b"none", os.fsencode(place), b"tmpfs", 0, b"size=64k") != 0:
        pytest.skip("needs the right to mount a file system")
    yield place
    assert system.umount2(os.fsencode(place), 2) == 0


@pytest.mark.slow
@pytest.mark.parametrize("is_full", [True, False])
def test_a_full_folder_for_temporary_files_costs_nothing(is_full: bool, data: Path, tmp_path: Path, mounted: Path):
    if is_full:
        with pytest.raises(OSError, match="No space left"):
            (mounted / "filled").write_bytes(bytes(100_000))
    else:
        assert ctypes.CDLL(None).mount(b"none", os.fsencode(mounted), None, 1 | 32, None) == 0  # read-only, again
    for words in (evaluation(data, "run", "--workers", "2"), training(data, "--workers", "1")):
        done = run(words, tmp_path, TMPDIR=str(mounted))
        assert done.returncode == 0, done.stderr


# --- homes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["file", "/proc", "/dev/null"])
def test_a_home_that_takes_no_file_is_a_sentence_where_one_is_needed(
    name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The embedded clips are kept there; data of one's own need it for nothing."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", place_named(name, tmp_path))
    monkeypatch.chdir(tmp_path)
    assert main(evaluation(data, "run", "--workers", "1")) == 0
    capsys.readouterr()
    assert main(["eval", "davis", "--ckpt", "identity", "--out", "embedded"]) == 2
    said = capsys.readouterr().err
    assert "The embedded clips can't be written to" in said
    assert "XDG_CACHE_HOME" in said


@pytest.mark.parametrize("name", ["file", "/proc"])
def test_training_keeps_no_cache_where_the_home_takes_none(
    name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("XDG_CACHE_HOME", place_named(name, tmp_path))
    monkeypatch.chdir(tmp_path)
    assert main(training(data, "--workers", "0")) == 0
    assert "is not kept for other runs" in capsys.readouterr().err


@pytest.mark.slow
def test_no_home_is_that_of_the_user(data: Path, tmp_path: Path):
    for words in (evaluation(data, "run", "--workers", "2"), ["doctor"], ["inspect", "demo"]):
        done = run(words, tmp_path, HOME=None, XDG_CACHE_HOME=None)
        assert done.returncode == 0, done.stderr


# --- a working directory that is gone ---------------------------------------------------------------------------------

IN_NONE = [
    "eval davis --ckpt rgb",
    "inspect demo",
    "clips export c",
    "track x.mp4 --boxes 1,2,3,4 --ckpt rgb --out y.mp4",
]


@pytest.mark.parametrize("words", [IN_NONE[0], *(pytest.param(one, marks=pytest.mark.slow) for one in IN_NONE[1:])])
def test_a_working_directory_that_is_gone_is_a_sentence(words: str, tmp_path: Path):
    """Without it MKL ends the process by a message of its own, when torch is imported."""
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f"rmdir {gone}; exec {sys.executable} -m corrkit {words}"
    done = subprocess.run(["bash", "-c", script], cwd=gone, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("corrkit: the working directory is gone")
    assert "MKL" not in done.stderr


def test_help_needs_no_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert main(["--help"]) == 0
    with pytest.raises(SystemExit) as ended:
        main(["eval", "--help"])
    assert ended.value.code == 0
    assert main(["docs"]) == 2


# --- clocks -----------------------------------------------------------------------------------------------------------


def test_a_clock_that_goes_back_changes_no_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Between records, between runs, and between files and now: years back, and ahead."""
    monkeypatch.chdir(tmp_path)
    assert main(evaluation(data, "sound", "--workers", "1")) == 0
    shown = capsys.readouterr().out
    later = iter(range(4_000_000_000, 0, -100_000_000))
    monkeypatch.setattr(time, "time", lambda: float(next(later)))
    assert main(evaluation(data, "run", "--workers", "1", "--clips", "a")) == 0
    for number, path in enumerate(path for path in (tmp_path / "run").rglob("*") if path.is_file()):
        os.utime(path, (number % 2 * 4_000_000_000,) * 2)
    os.utime(data / "JPEGImages/480p/b/00001.jpg", (4_000_000_000,) * 2)
    capsys.readouterr()
    assert main(evaluation(data, "whole", "--workers", "1")) == 0
    assert capsys.readouterr().out == shown
    for path in (path for path in (tmp_path / "whole").rglob("*") if path.is_file()):
        os.utime(path, (4_000_000_000,) * 2)
    (tmp_path / "whole/summary.json").unlink()
    assert main(evaluation(data, "whole", "--workers", "1")) == 0
    assert capsys.readouterr().out == shown
    assert run_files(tmp_path / "whole") == run_files(tmp_path / "sound")
    assert main(["leaderboard", "sound", "whole"]) == 0
    assert main(["card", "whole", "--out", "card"]) == 0
