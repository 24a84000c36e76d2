"""Numbers for TensorBoard, Weights & Biases and Trackio: the real libraries where they are installed, off line."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from corrkit.errors import UsageError
from corrkit.runs import loggers
from corrkit.runs.loggers import Logger, open_logger

SETTINGS: Any = {"recipe": {"name": "siammae"}, "steps": 6}


def twice(name: str, out: Path) -> None:
    """Three steps; then, from the second on, as a run that was killed and goes on."""
    for first, steps in ((0, (1, 2, 3)), (2, (3, 4))):
        logger = open_logger(name, out, SETTINGS, first)
        for step in steps:
            logger.add(step, {"loss": 1 / step + first, "davis/J&F-Mean": 50.0})
        logger.close()
        assert logger.works


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_has_each_step_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra `loggers`")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    twice("tensorboard", tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    found = {event.step: event.value for event in events.Scalars("loss")}
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4]
    assert found[3] == pytest.approx(1 / 3 + 2)  # of the run that went on
    assert "davis/J&F-Mean" in events.Tags()["scalars"]


@pytest.mark.filterwarnings("ignore")
def test_wandb_gets_steps_of_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="needs the extra `loggers`")
    for name, value in {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    twice("wandb", tmp_path)
    identity = (tmp_path / "logger.txt").read_text().strip()
    folders = sorted((tmp_path / "wandb").glob(f"offline-run-*-{identity}"))
    assert len(folders) >= 1
    stored = b"".join(file.read_bytes() for folder in folders for file in folder.glob("*.wandb"))
    assert b"davis/J&F-Mean" in stored
    assert b"siammae" in stored


@pytest.mark.filterwarnings("ignore")
def test_trackio_has_the_steps_of_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio", reason="needs the extra `loggers`")
    from trackio.sqlite_storage import SQLiteStorage

    twice("trackio", tmp_path)
    assert capsys.readouterr().out == ""  # stdout is the checkpoint's path alone
    name = f"{tmp_path.name}-{(tmp_path / 'logger.txt').read_text().strip()}"
    assert SQLiteStorage.get_runs(loggers.PROJECT) == [name]
    rows = SQLiteStorage.get_logs(loggers.PROJECT, name)
    assert [row["step"] for row in rows] == [1, 2, 3, 3, 4]
    assert rows[0]["loss"] == 1


@pytest.mark.parametrize("name", loggers.PROGRAMS)
def test_a_missing_package_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    for module in [module for module in sys.modules if module.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(UsageError, match=f"--log {name} needs a package") as caught:
        open_logger(name, tmp_path, SETTINGS, 0)
    assert "corrkit[loggers]" in caught.value.remedy


def test_a_program_that_does_not_start_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> Logger:
        raise RuntimeError("no login")

    monkeypatch.setattr(loggers, "PROGRAMS", {"wandb": refused})
    with pytest.raises(UsageError, match="no login") as caught:
        open_logger("wandb", tmp_path, SETTINGS, 0)
    assert "wandb login" in caught.value.remedy


def test_a_logger_that_fails_ends_no_run_and_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    def fails(step: int, numbers: Any) -> None:
        print(json.dumps({"step": step}))
        raise ConnectionError("no network")

    logger = Logger("wandb", fails, lambda: fails(0, {}))
    for step in (1, 2):
        logger.add(step, {"loss": 1.0})
    logger.close()
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("no network") == 1
    assert said.err.count('"step"') == 1


def test_a_logger_that_changes_its_numbers_changes_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    numbers = {"loss": 1.0}
    logger = Logger("wandb", lambda step, given: given.clear(), lambda: None)  # type: ignore[attr-defined]
    logger.add(1, numbers)
    assert logger.works
    assert numbers == {"loss": 1.0}
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("log", [None, "wandb", lambda: None, lambda step, numbers: sys.exit(1)])
def test_a_logger_of_another_kind_or_that_ends_the_program_ends_no_run(log: Any, capsys: Any) -> None:
    logger = Logger("wandb", log, log)
    logger.add(1, {"loss": 1.0})
    logger.close()
    assert capsys.readouterr().err.count("wandb is told no more") == 1


def test_an_interrupt_passes_through_a_logger() -> None:
    def blocked(step: int, numbers: Any) -> None:
        raise KeyboardInterrupt

    logger = Logger("wandb", blocked, lambda: None)
    with pytest.raises(KeyboardInterrupt):
        logger.add(1, {"loss": 1.0})
    assert sys.stdout is sys.__stdout__ or sys.stdout is not sys.stderr
