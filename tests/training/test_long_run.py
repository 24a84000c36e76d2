"""benchmarks/long_run.py in small: damaged files, deaths, a full disk, and other numbers of ranks."""

import errno
import os
import sys
from pathlib import Path

import long_run
import pytest

from corrkit.errors import RunError
from corrkit.runs.logs import read_log
from corrkit.training.loop import pretrain
from corrkit.training.options import Options
from tests.training.test_loop import KilledError, siammae, stopped_before

OPTIONS = Options(batch=2, steps=60, log_every=1, picture_every=0, save_every=5, keep=2, damaged=1.0)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def full_disk_from(step: int, out: Path, patch: pytest.MonkeyPatch) -> None:
    """No file of the run reaches the disk any more, as soon as its log has a step."""
    fsync = os.fsync

    def full(descriptor: int) -> None:
        if len(read_log(out / "log.csv")) >= step:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    patch.setattr(os, "fsync", full)


def test_a_run_that_everything_happens_to_is_the_undisturbed_one(tmp_path: Path) -> None:
    data = long_run.make_data(tmp_path / "data")
    recipe = siammae(**{"encoder.dim": 32})
    pretrain(recipe, data, tmp_path / "undisturbed", OPTIONS)
    out = tmp_path / "disturbed"
    for step in (7, 19, 42):
        with pytest.raises(KilledError):
            stopped_before(step, recipe, data, out, OPTIONS)
    with pytest.MonkeyPatch.context() as patch:
        full_disk_from(50, out, patch)
        with pytest.raises(RunError, match=r"full|No space"):
            pretrain(recipe, data, out, OPTIONS)
    pretrain(recipe, data, out, OPTIONS)
    for name in ("log.csv", "checkpoint.pth", "run.json"):
        assert (out / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes(), name
    rows = read_log(out / "log.csv")
    assert [row["step"] for row in rows] == list(range(1, 61))
    assert rows[-1]["replaced"] > 3


@pytest.mark.slow
def test_processes_are_killed_and_ranks_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["long_run.py", str(tmp_path), "--steps", "600", "--every", "250"])
    long_run.main()
    said = capsys.readouterr().out
    assert "killed a process that is decoding" in said
    assert "steps with the same samples replaced: 600" in said
    one, other = (read_log(tmp_path / name / "log.csv") for name in ("undisturbed", "disturbed"))
    assert [row["step"] for row in other] == list(range(1, 601))
    assert [row["replaced"] for row in other] == [row["replaced"] for row in one]
    assert [row["loss"] for row in other] == pytest.approx([row["loss"] for row in one], rel=1e-5)
