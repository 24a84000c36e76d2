"""Progress on stderr: a bar on a terminal, one plain line per clip elsewhere; says how to go on when interrupted."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

from corrkit.cli.talk import say
from corrkit.text import one_line


class ClipProgress:
    """Called after every frame (see `corrkit.passes.Progress`); a context manager around one or more evaluations.

    Args:
        quiet: shows nothing.
        folders: of the runs, named when the work is interrupted; empty where nothing is kept.
    """

    def __init__(self, *, quiet: bool, folders: Sequence[Path] = ()) -> None:
        self._quiet, self._folders = quiet, folders
        self._bar: tqdm[Any] | None = None
        self._started = time.perf_counter()

    def __enter__(self) -> Self:
        return self

    def __call__(self, clip: str, done: int, total: int) -> None:
        """Takes one finished frame."""
        if done == 1:
            self._started = time.perf_counter()
            if not self._quiet and sys.stderr.isatty():
                self._bar = tqdm(
                    total=total, desc=one_line(clip), unit="frame", leave=False, dynamic_ncols=True, file=sys.stderr
                )
        if self._bar is not None:
            self._bar.update()
        if done == total:
            self._end_of_clip(clip, total)

    def _end_of_clip(self, clip: str, total: int) -> None:
        seconds = time.perf_counter() - self._started
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if not self._quiet:
            rate = f", {total / seconds:.1f} frames/s" if seconds > 0 else ""
            say(f"{clip}: {total} frames{rate}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        if kind is KeyboardInterrupt:
            for folder in self._folders:
                kept = len(list((folder / "clips").glob("*.json")))
                say(f"{kept} finished clip(s) are kept in {folder}. Repeat the command to go on.")
