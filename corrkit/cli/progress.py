"""Progress on stderr: a bar on a terminal, one plain line per clip elsewhere; says how to go on when interrupted."""

import functools
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self

from tqdm import tqdm

from corrkit.cli.talk import say
from corrkit.text import one_line

if TYPE_CHECKING:
    from corrkit.processes.remaining import Standing


_EVERY = 5.0
"""Seconds from one line on a video to the next, where stderr is no terminal."""


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


class FrameProgress:
    """Called after every frame of one video with the frames done and, as far as it is known, how many there are.

    An interrupt is raised there, between two frames; a second one at once.

    Args:
        quiet: shows nothing.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: tqdm[NoReturn] | None = None
        self._started = self._said = time.perf_counter()
        self._done, self._is_interrupted = 0, False
        self._restore: Callable[[], object] = lambda: None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._restore = functools.partial(
                signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, self._interrupt)
            )
        return self

    def _interrupt(self, *_: object) -> None:
        if self._is_interrupted:
            raise KeyboardInterrupt
        self._is_interrupted = True
        say("interrupted: what is done is kept as soon as this frame is.")

    def __call__(self, done: int, total: int | None) -> None:
        """Takes one finished frame."""
        self._done = done
        if not self._quiet:
            self._show(done, total)
        if self._is_interrupted:
            raise KeyboardInterrupt

    def _show(self, done: int, total: int | None) -> None:
        if sys.stderr.isatty():
            if self._bar is None:
                self._bar = tqdm(total=total, unit="frame", leave=False, dynamic_ncols=True, file=sys.stderr)
            self._bar.update()
            return
        now = time.perf_counter()
        if now - self._said >= _EVERY:
            self._said = now
            rate = done / max(now - self._started, 1e-9)
            left = f", {_duration((total - done) / rate)} left" if total and total > done else ""
            say(f"frame {done}{f' of {total}' if total else ''}, {rate:.1f} frames/s{left}")

    def __exit__(self, *_: object) -> None:
        self._restore()
        if self._bar is not None:
            self._bar.close()
        if self._done and not self._quiet:
            seconds = time.perf_counter() - self._started
            say(f"{self._done} frames in {_duration(seconds)}, {self._done / max(seconds, 1e-9):.1f} frames/s")


def _duration(seconds: float) -> str:
    """The largest unit that fits: "50 s", "4 min", "2 h 10 min"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
