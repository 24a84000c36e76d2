"""Progress on stderr: a bar on a terminal, one plain line per clip elsewhere; says how to go on when interrupted."""

import sys
import time
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm


class ClipProgress:
    """Called after every frame (see `corrkit.evaluation.Progress`); a context manager around one or more evaluations.

    Args:
        quiet: shows nothing.
        folder: the run folder, named when the work is interrupted; "" where nothing is kept.
    """

    def __init__(self, *, quiet: bool, folder: str = "") -> None:
        self._quiet, self._folder = quiet, folder
        self._finished = 0
        self._bar: tqdm[Any] | None = None
        self._started = time.perf_counter()

    def __enter__(self) -> Self:
        return self

    def __call__(self, clip: str, done: int, total: int) -> None:
        """Takes one finished frame."""
        if done == 1:
            self._started = time.perf_counter()
            if not self._quiet and sys.stderr.isatty():
                self._bar = tqdm(total=total, desc=clip, unit="frame", leave=False, dynamic_ncols=True, file=sys.stderr)
        if self._bar is not None:
            self._bar.update()
        if done == total:
            self._end_of_clip(clip, total)

    def _end_of_clip(self, clip: str, total: int) -> None:
        self._finished += 1
        seconds = time.perf_counter() - self._started
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if not self._quiet:
            rate = f", {total / seconds:.1f} frames/s" if seconds > 0 else ""
            print(f"{clip}: {total} frames{rate}", file=sys.stderr)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        if kind is KeyboardInterrupt and self._folder:
            print(
                f"{self._finished} clip(s) done and kept in {self._folder}. Repeat the command to go on.",
                file=sys.stderr,
            )
