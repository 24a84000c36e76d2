"""Paths that no file system takes, that lead to themselves, or that wait for ever: a sentence and 2, wherever given."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from corrkit.cli import main

PLACES: dict[str, list[str]] = {
    "ckpt": ["eval", "davis", "--ckpt", "@"],
    "data": ["eval", "davis", "--ckpt", "rgb", "--data", "@"],
    "out": ["eval", "davis", "--ckpt", "identity", "--out", "@/run"],
    "own protocol": ["eval", "davis", "--ckpt", "rgb", "--protocol", "@.toml"],
    "layout": ["eval", "davis", "--ckpt", "demo", "--layout", "@.toml"],
    "split": ["eval", "davis", "--ckpt", "rgb", "--data", ".", "--split", "@.txt"],
    "predictions": ["score", "davis", "--pred", "@"],
    "inspect": ["inspect", "@"],
    "suggest": ["inspect", "demo", "--suggest", "@.toml"],
    "convert": ["convert", "demo", "@"],
    "leaderboard": ["leaderboard", "@"],
    "board": ["leaderboard", "@", "--out", "@.csv"],
    "compare": ["compare", "@", "@"],
    "report": ["report", "@", "--out", "r.html"],
    "card": ["card", "@"],
    "sweep": ["sweep", "davis", "--ckpt", "@", "--topk", "5,7"],
    "video": ["track", "@", "--boxes", "1,1,5,5", "--ckpt", "rgb", "--out", "o.mp4"],
    "mask": ["track", "@", "--mask", "@", "--ckpt", "rgb", "--out", "o.mp4"],
    "points": ["track", "@", "--points", "@", "--ckpt", "rgb", "--out", "o.mp4"],
    "overlay": ["track", "v.mp4", "--boxes", "1,1,5,5", "--ckpt", "rgb", "--out", "@.mp4"],
    "training data": ["pretrain", "siammae", "--data", "@", "--out", "run"],
    "recipe": ["pretrain", "@.toml", "--show"],
    "manifest": ["data", "check", "davis", "--data", ".", "--manifest", "@"],
    "checked data": ["data", "check", "davis", "--data", "@"],
    "protocol shown": ["protocols", "show", "@.toml"],
}


def loop(path: Path) -> str:
    for suffix in ("", ".toml", ".csv", ".mp4", ".txt"):
        Path(f"{path}{suffix}").symlink_to(f"{path.name}{suffix}")
    return str(path)


def waiting(path: Path) -> str:
    for suffix in ("", ".toml", ".csv", ".mp4", ".txt"):
        os.mkfifo(f"{path}{suffix}")
    return str(path)


KINDS: dict[str, Callable[[Path], str]] = {"long": lambda path: "x" * 5_000, "loop": loop, "fifo": waiting}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", PLACES)
def test_a_path_that_leads_nowhere_is_a_sentence(
    place: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    path = KINDS[kind](tmp_path / "bad")
    words = [word.replace("@", path) for word in PLACES[place]]
    before = sorted(tmp_path.iterdir())
    code = main(words)
    said = capsys.readouterr().err
    assert code in {0, 1, 2}, said
    assert all(os.path.lexists(path) for path in before)
