"""What a run says while it trains: on screen, in its logs, and as pictures."""

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from corrkit.runs.drawing import draw_columns, draw_curves
from corrkit.runs.loggers import Logger
from corrkit.runs.logs import Log, Row, duration
from corrkit.task_table import task_facts, task_names
from corrkit.text import one_line
from corrkit.training.data.views import unit_range

FILLED = ("pictures",)
"""Folders of a training that many files are written to."""
EMA = "ema/"
"""Before the names of scores of the encoder's average."""


class Report:
    """The logs of a run's folder. Times stand in one of their own: a resumed run repeats log.csv to the byte.

    Args:
        out: the run's folder.
        first: step that this process goes on from.
        total: steps of the training.
        quiet: of ranks that only measure.

    Attributes:
        logger: gets the same numbers, where there is one.
    """

    def __init__(self, out: Path, first: int, total: int, *, quiet: bool) -> None:
        self.out, self.first, self.total, self.quiet = out, first, total, quiet
        self.logger: Logger | None = None
        self.samples, self.seconds = 0, {"training": 0.0, "waiting": 0.0}
        if not quiet:
            self.log, self.speed = (Log(out / name, first) for name in ("log.csv", "speed.csv"))
            self.scores = Log(out / "scores.csv", first or -1)
            for file in (self.log, self.speed, self.scores):
                file.write()

    def say(self, *lines: str) -> None:
        """On stderr."""
        if lines and not self.quiet:
            print(*map(one_line, lines), sep="\n", file=sys.stderr)

    @contextlib.contextmanager
    def timed(self, what: Literal["training", "waiting"]) -> Iterator[None]:
        """Around what counts as training (not evaluation, drawing and saving) and, within that, waiting for data."""
        started = time.perf_counter()
        yield
        self.seconds[what] += time.perf_counter() - started

    def step(self, done: int, numbers: Mapping[str, float]) -> None:
        """A row of what a resumed run repeats, and one of times."""
        if self.quiet:
            return
        seconds = max(self.seconds["training"], 1e-9)
        left, speed = (self.total - done) * seconds / (done - self.first), self.samples / seconds
        self.log.add({"step": done, **numbers})
        waiting = self.seconds["waiting"] / seconds
        times = {"samples_per_second": speed, "share_waiting_for_data": waiting, "seconds_left": left}
        self.speed.add({"step": done, **times})
        self._track(done, {**numbers, **times})
        self.say(
            f"step {done} of {self.total}, loss {numbers['loss']:.4f}, rate {numbers['rate']:.2e}, "
            f"{speed:.1f} samples/s, {waiting:.0%} of the time waiting for data, {duration(left)} left"
        )

    def scored(self, scores: Row) -> None:
        """A row of scores."""
        if not self.quiet:
            self.scores.add(scores)
            self._track(int(scores["step"]), {name: value for name, value in scores.items() if name != "step"})
            self.say(words(scores))

    def draw(self, done: int, pictures: Mapping[str, Tensor]) -> None:
        """The curves so far, and pictures of this step if there are any."""
        if self.quiet:
            return
        panels = {}
        for title, rows in (("loss", self.log.rows), ("correspondence", self.scores.rows)):
            if names := [name for name in (rows[0] if rows else ()) if name.startswith("loss") or _is_shown(name)]:
                panels[title] = ([row["step"] for row in rows], {name: [row[name] for row in rows] for name in names})
        draw_curves(self.out / "curve.png", panels)
        if pictures:
            columns = {name: bytes_of(images) for name, images in pictures.items()}
            draw_columns(self.out / "pictures" / f"step-{done:08d}.png", columns)

    def flush(self) -> None:
        """All rows to the disk."""
        for file in (self.log, self.speed, self.scores):
            file.flush()

    def close(self) -> None:
        """Ends the run where it is tracked."""
        if self.logger is not None:
            self.logger.close()

    def _track(self, done: int, numbers: Mapping[str, float]) -> None:
        if self.logger is not None:
            self.logger.add(done, numbers)


def bytes_of(images: Tensor) -> NDArray[np.uint8]:
    """The first four of normalised pictures [N, 3, H, W] as uint8 RGB [N, H, W, 3]."""
    shown = unit_range(images[:4].detach().float().cpu()).clamp(0, 1).mul(255).round().byte()
    return np.asarray(shown.permute(0, 2, 3, 1).numpy(), np.uint8)


def words(values: Mapping[str, float]) -> str:
    """Names and values in one line, of scores the most important."""
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items() if "/" not in name or _is_shown(name))


def _is_shown(name: str) -> bool:
    return name.removeprefix(EMA) in {f"{task}/{one.name}" for task in task_names() for one in task_facts(task).shown}
