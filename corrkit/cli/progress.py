"""Progress on stderr: a bar on a terminal, one plain line per clip elsewhere; says how to go on when interrupted."""

import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self

from tqdm import tqdm

from corrkit.cli.talk import say
from corrkit.text import one_line

if TYPE_CHECKING:
    from corrkit.processes.remaining import Standing


class ClipProgress:
    """Called after every frame (see `corrkit.passes.Progress`); a context manager around one or more evaluations.

    Args:
        quiet: shows nothing.
        folders: of the runs, named when the work is interrupted; empty where nothing is kept.
    """

    def __init__(self, *, quiet: bool, folders: Sequence[Path] = ()) -> None:
        self._quiet, self._folders = quiet, folders
        self._bar: tqdm[NoReturn] | None = None
        self._standing: Standing | None = None
        self._began: dict[str, float] = {}
        self._ended: tuple[str, int, float] | None = None
        self._started, self._frames = time.perf_counter(), 0

    def __enter__(self) -> Self:
        return self

    def __call__(self, clip: str, done: int, total: int) -> None:
        """Takes one finished frame; clips may be under way at the same time."""
        now = time.perf_counter()
        began = self._began.setdefault(clip, now)
        self._frames += 1
        if self._bar is not None:
            self._bar.set_description_str(self._place(clip), refresh=False)
            self._bar.update()
        elif not self._quiet and self._standing is None and sys.stderr.isatty():
            self._bar = self._new_bar(clip, total)
            self._bar.update()
        if done == total:
            self._began.pop(clip)
            self._ended = clip, total, now - began
            if self._standing is None:  # nobody says how far the whole is
                self._close_bar()
                self._say_clip("")

    def watch(self, standing: "Standing") -> None:
        """Takes how far the evaluation is (see `corrkit.processes.remaining.Watch`)."""
        is_first = standing.done == standing.taken_over
        if is_first:
            self._started, self._frames = time.perf_counter(), 0
        self._standing = standing
        score = "" if math.isnan(standing.score) else f", {standing.metric} {100 * standing.score:.1f} so far"
        if is_first and standing.taken_over and not self._quiet:
            say(f"taken over: {standing.taken_over} of {standing.total} clips{score}")
        if self._quiet:
            return
        if is_first and standing.frames_left and sys.stderr.isatty():
            self._close_bar()
            self._bar = self._new_bar("", standing.frames_left)
        if not is_first:
            self._say_clip(f"; clip {standing.done} of {standing.total}{score}{self._time_left()}")
        if not standing.frames_left:
            self._close_bar()

    def _new_bar(self, clip: str, frames: int) -> "tqdm[NoReturn]":
        return tqdm(
            total=frames, desc=self._place(clip), unit="frame", leave=False, dynamic_ncols=True, file=sys.stderr
        )

    def _place(self, clip: str) -> str:
        """What stands before the bar: which clip of how many, and its name."""
        standing = self._standing
        if standing is None:
            return one_line(clip)
        return f"clip {min(standing.done + 1, standing.total)} of {standing.total} {one_line(clip)}".rstrip()

    def _say_clip(self, further: str) -> None:
        """One line on the clip that has just ended; a clip that failed before its end has none of its own."""
        if self._ended is None or self._quiet:
            return
        clip, frames, seconds = self._ended
        self._ended = None
        rate = f", {frames / seconds:.1f} frames/s" if seconds > 0 else ""
        with tqdm.external_write_mode(file=sys.stderr):
            say(f"{clip}: {frames} frames{rate}{further}")

    def _time_left(self) -> str:
        """Of the whole, at the speed so far."""
        if self._standing is None or not self._standing.frames_left or not self._frames:
            return ""
        seconds = (time.perf_counter() - self._started) / self._frames * self._standing.frames_left
        return f", {_duration(seconds)} left"

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close_bar()
        if kind is KeyboardInterrupt:
            for folder in self._folders:
                kept = len(list((folder / "clips").glob("*.json")))
                say(f"{kept} finished clip(s) are kept in {folder}. Repeat the command to go on.")


def _duration(seconds: float) -> str:
    """The largest unit that fits: "50 s", "4 min", "2 h 10 min"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
