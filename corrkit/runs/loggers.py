"""Numbers by step for the programs that people watch runs with: TensorBoard, Weights & Biases, Trackio.

They come beside the run's own CSV files, and never end a run. Their packages are the extra `loggers`.
"""

import contextlib
import secrets
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from corrkit.errors import UsageError
from corrkit.files.atomic import write_atomic
from corrkit.files.jsontext import Json
from corrkit.listening import Listener

PROJECT = "corrkit"


class Logger:
    """A run in one of the programs.

    Args:
        name: of the program.
        log: takes a step and its numbers.
        finish: ends the run there.
    """

    def __init__(
        self, name: str, log: Callable[[int, Mapping[str, float]], object], finish: Callable[[], object]
    ) -> None:
        self._listener, self._log, self._finish = Listener(name), log, finish

    @property
    def works(self) -> bool:
        """Whether nothing has gone wrong there."""
        return self._listener.works

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        """Numbers of a step, a copy. What goes wrong there is said once, and nothing more is sent."""
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for the path of the checkpoint
            self._listener.tell(lambda: self._log(step, dict(numbers)))

    def close(self) -> None:
        """Ends the run there; what is still on its way is sent."""
        with contextlib.redirect_stdout(sys.stderr):
            self._listener.tell(self._finish)


def open_logger(name: str, out: Path, settings: Mapping[str, Json], first: int) -> Logger:
    """A run's logger; a run that goes on goes on there.

    Args:
        name: a key of `PROGRAMS`.
        out: the run's folder.
        settings: what the run is, shown beside it.
        first: step that it goes on from.

    Raises:
        UsageError: the package isn't installed, or doesn't start (no login, no network).
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return PROGRAMS[name](out, settings, first)
    except ImportError as error:
        raise UsageError(
            f"--log {name} needs a package that isn't installed ({error}).", "pip install 'corrkit[loggers]'"
        ) from None
    except Exception as error:  # as above
        raise UsageError(f"--log {name} doesn't start ({error}).", _REMEDIES[name]) from None


def _tensorboard(out: Path, settings: Mapping[str, Json], first: int) -> Logger:
    from torch.utils.tensorboard import SummaryWriter

    # Steps from `first` on that a killed process has written are hidden.
    writer: Any = SummaryWriter(str(out / "tensorboard"), purge_step=first + 1, flush_secs=30)

    def log(step: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            writer.add_scalar(name, value, step)

    return Logger("tensorboard", log, writer.close)


def _wandb(out: Path, settings: Mapping[str, Json], first: int) -> Logger:
    import wandb

    identity = _identity(out)
    run: Any = wandb.init(
        project=PROJECT, name=out.name, id=identity, resume="allow", dir=str(out), config=dict(settings)
    )
    run.define_metric("*", step_metric="step")  # its own count only grows, a run that goes on repeats some steps
    return Logger("wandb", lambda step, numbers: run.log({"step": step, **numbers}), run.finish)


def _trackio(out: Path, settings: Mapping[str, Json], first: int) -> Logger:
    import trackio

    name = f"{out.name}-{_identity(out)}"  # by which a run is found again
    trackio.init(project=PROJECT, name=name, resume="allow", config=dict(settings))
    return Logger("trackio", lambda step, numbers: trackio.log(dict(numbers), step=step), trackio.finish)


def _identity(out: Path) -> str:
    """By which a program knows the run of a folder, and no other of the same name."""
    file = out / "logger.txt"
    if not file.is_file():
        write_atomic(file, f"{secrets.token_hex(4)}\n")
    return file.read_text(encoding="utf-8").strip()


PROGRAMS: Mapping[str, Callable[[Path, Mapping[str, Json], int], Logger]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "trackio": _trackio,
}
_REMEDIES = {
    "tensorboard": "Check the run's folder.",
    "wandb": "Log in with `wandb login`, or set WANDB_MODE=offline.",
    "trackio": "Check TRACKIO_DIR and the package's version.",
}
