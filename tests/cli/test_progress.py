"""What an evaluation says of itself while it runs."""

import fcntl
import os
import pty
import re
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from davis_folder import make_clip
from scripted import Scripted

from corrkit.cli.progress import ClipProgress, FrameProgress
from corrkit.evaluation import evaluate_together
from corrkit.processes.remaining import Standing
from corrkit.subject import open_subject

SHOWN = """
import time
from corrkit.cli.progress import ClipProgress
from corrkit.processes.remaining import Standing
with ClipProgress(quiet=False) as progress:
    for done in range(3):
        progress.watch(Standing(done=done, total=2, taken_over=0, frames_left=8 - 4 * done, metric="J&F", score=0.5))
        for frame in range(4 if done < 2 else 0):
            time.sleep(0.15)
            progress(f"clip{done}", frame + 1, 4)
"""


def standing(done: int, frames_left: int, *, taken_over: int = 0, score: float = 0.612) -> Standing:
    return Standing(done=done, total=4, taken_over=taken_over, frames_left=frames_left, metric="J&F", score=score)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """clock(2.0) lets two seconds pass."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def passes(seconds: float) -> None:
        now[0] += seconds

    return passes


def test_a_video_says_which_frame_of_how_many_how_fast_and_how_long(clock, capsys: pytest.CaptureFixture[str]):
    """A frame a second; nobody knows how many there are until the twelfth."""
    with FrameProgress(quiet=False) as progress:
        for frame in range(1, 21):
            clock(1.0)
            progress(frame, 40 if frame >= 12 else None)
    assert capsys.readouterr().err.splitlines() == [
        "frame 5, 1.0 frames/s",
        "frame 10, 1.0 frames/s",
        "frame 15 of 40, 1.0 frames/s, 25 s left",
        "frame 20 of 40, 1.0 frames/s, 20 s left",
        "20 frames in 20 s, 1.0 frames/s",
    ]
    with FrameProgress(quiet=True) as progress:
        progress(1, 2)
    assert capsys.readouterr().err == ""


def test_an_interrupt_waits_for_the_end_of_a_frame_and_a_second_does_not(capsys: pytest.CaptureFixture[str]):
    before = signal.getsignal(signal.SIGINT)
    with FrameProgress(quiet=True) as progress:
        progress(1, 3)
        signal.raise_signal(signal.SIGINT)
        assert "kept as soon as this frame is" in capsys.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            progress(2, 3)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_clip_is_one_line_with_place_score_and_time_left(clock, capsys: pytest.CaptureFixture[str]):
    """Two frames a second; 20 and then 10 frames are left."""
    with ClipProgress(quiet=False) as progress:
        progress.watch(standing(0, 30, score=float("nan")))
        for frame in range(10):
            progress("bike", frame + 1, 10)
            clock(5 / 10)
        progress.watch(standing(1, 20))
        for frame in range(10):
            progress("dog", frame + 1, 10)
            clock(50 / 10)
        progress.watch(standing(2, 2400))
    assert capsys.readouterr().err.splitlines() == [
        "bike: 10 frames, 2.2 frames/s; clip 1 of 4, J&F 61.2 so far, 10 s left",
        "dog: 10 frames, 0.2 frames/s; clip 2 of 4, J&F 61.2 so far, 1 h 50 min left",
    ]


def test_a_resumed_run_says_what_it_took_over(clock, capsys: pytest.CaptureFixture[str]):
    with ClipProgress(quiet=False) as progress:
        progress.watch(standing(3, 10, taken_over=3))
    assert capsys.readouterr().err == "taken over: 3 of 4 clips, J&F 61.2 so far\n"
    with ClipProgress(quiet=True) as progress:
        progress.watch(standing(3, 10, taken_over=3))
        progress("bike", 1, 1)
        progress.watch(standing(4, 0, taken_over=3))
    assert capsys.readouterr().err == ""


def test_on_a_terminal_a_bar_counts_the_frames_of_all_clips():
    child, terminal = pty.fork()
    if child == 0:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        os.execv(sys.executable, [sys.executable, "-c", SHOWN])
    seen = b""
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:
            break
        if not part:
            break
        seen += part
    os.waitpid(child, 0)
    text = seen.decode()
    assert re.search(r"clip 1 of 2 clip0: +\d+%.*\d/8 \[", text)
    assert re.search(r"clip 2 of 2 clip1: +\d+%.*\d/8 \[", text)
    assert "clip1: 4 frames" in text


def test_an_evaluation_tells_how_far_it_is(tmp_path: Path):
    """At first nothing is known; of a run that is resumed, what was finished is."""
    for name in ("a", "b", "c"):
        make_clip(tmp_path / "data", name, frames=5)
    subject = open_subject("davis", data=tmp_path / "data")
    lane = (Scripted("truth"), subject.protocol)
    some = open_subject("davis", data=tmp_path / "data", clips=["a", "b"])
    told: list[Standing] = []
    evaluate_together(some, [lane], outs=[tmp_path / "run"], watch=told.append)
    assert [(one.done, one.taken_over, one.frames_left) for one in told] == [(0, 0, 10), (1, 0, 5), (2, 0, 0)]
    assert [one.score for one in told[1:]] == [1.0, 1.0]
    assert told[0].score != told[0].score  # nothing is known yet
    (tmp_path / "run/clips/b.json").unlink()
    told.clear()
    evaluate_together(some, [lane], outs=[tmp_path / "run"], watch=told.append)
    assert [(one.done, one.total, one.taken_over) for one in told] == [(1, 2, 1), (2, 2, 1)]
    assert told[0].metric == "J&F"
