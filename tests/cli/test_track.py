"""`corrkit track` as its user meets it: from a video and a first mask to files, and every kind of broken input."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from clip_video import moving_square, square_mask, write_video

from corrkit.cli import main
from corrkit.clips import embedded_root
from corrkit.frames.footage import open_footage
from corrkit.metrics.region_contour import outline_objects, region_contour
from corrkit.tasks.davis import DavisTask
from corrkit.tasks.masks import read_mask, write_mask

FAST = ["--ckpt", "rgb", "--set", "size=64"]


@pytest.fixture
def first(tmp_path: Path) -> Path:
    write_mask(tmp_path / "first.png", square_mask())
    return tmp_path / "first.png"


def test_from_an_embedded_clip_to_an_overlay(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The masks follow the objects far better than the first mask repeated."""
    clip = DavisTask().open(embedded_root("davis"), split="val", dataset_name="mine").clips[0]
    frames = [clip.frames[index] for index in range(8)]
    video = write_video(tmp_path / "clip.mp4", frames)
    write_mask(tmp_path / "first.png", clip.annotation(0))
    command = ["track", str(video), "--mask", str(tmp_path / "first.png"), "--ckpt", "hog", "--set", "size=120"]
    assert main([*command, "--out", str(tmp_path / "out.mp4")]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [str(tmp_path / "out.mp4"), str(tmp_path / "out-masks")]
    assert f"{len(frames)} frames in" in captured.err
    assert "frames/s" in captured.err
    overlay = [frame.shape for _, frame in open_footage(tmp_path / "out.mp4")]
    assert overlay == [frames[0].shape] * len(frames)
    followed, repeated = [], []
    for index in range(1, len(frames)):
        truth = outline_objects(clip.annotation(index), int(clip.annotation(0).max()))
        mask = read_mask(tmp_path / f"out-masks/{index:05d}.png")
        followed.append(np.mean(region_contour(mask, truth, name="followed")[0]))
        repeated.append(np.mean(region_contour(clip.annotation(0), truth, name="repeated")[0]))
    assert np.mean(followed) > np.mean(repeated) + 0.05


@pytest.mark.parametrize("name", ["protocol", "device", "model", "points"])
def test_an_override_never_meets_an_option(name: str, first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    video = write_video(tmp_path / "clip.mp4", moving_square(3))
    command = ["track", str(video), "--mask", str(first), "--out", str(tmp_path / "out.mp4")]
    assert main([*command, "--ckpt", "rgb", "--set", f"{name}=cpu"]) == 2
    assert f"has no constant named {name!r}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("decord_corrupted", marks=pytest.mark.slow),  # 1280x720
        *("empty", "text_named", "truncated_midway", "truncated_no_moov"),
    ],
)
def test_every_broken_video_is_a_sentence(name: str, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    video = shared / f"data/videos_bad/{name}.mp4"
    out = tmp_path / "out.mp4"
    assert main(["track", str(video), "--boxes", "10,10,60,60", *FAST, "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert str(video) in said
    kept = {"decord_corrupted": 28, "truncated_midway": 23}.get(name, 0)
    assert (f"{kept} frames are kept" in said) == bool(kept)
    assert (f"stopped at frame {kept}" in said) == bool(kept)
    assert sum(1 for _ in open_footage(out)) == kept if kept else list(tmp_path.iterdir()) == []


def test_what_a_newcomer_mistakes(first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    video = write_video(tmp_path / "clip.mp4", moving_square(3))
    write_mask(tmp_path / "other.png", square_mask(size=(64, 96)))
    (tmp_path / "frames").mkdir()
    out = ["--out", str(tmp_path / "out.mp4")]
    for given, said in (
        ([str(tmp_path / "no.mp4"), "--mask", str(first), *FAST, *out], "no.mp4 is missing"),
        ([str(first), "--mask", str(first), *FAST, *out], "is a PNG picture, no video"),
        ([str(tmp_path / "frames"), "--mask", str(first), *FAST, *out], "holds no frame"),
        ([str(video), "--mask", str(tmp_path / "no.png"), *FAST, *out], "no.png is missing"),
        ([str(video), "--mask", str(tmp_path / "other.png"), *FAST, *out], "other.png is 96x64, the frames of"),
        ([str(video), "--mask", str(video), *FAST, *out], "clip.mp4 can't be decoded"),
        ([str(video), "--mask", str(first), "--ckpt", "identity", *out], "no features to match"),
        ([str(video), "--mask", str(first), "--ckpt", "no.pth", *out], "no.pth"),
        (
            [str(video), "--mask", str(first), "--ckpt", "rgb", *out, "--protocol", "jhmdb/crw"],
            "carries points, not masks",
        ),
        ([str(video), "--mask", str(first), *FAST, *out, "--set", "radios=3"], "Did you mean 'radius'"),
        ([str(video), "--mask", str(first), *FAST, "--out", str(video)], "is the video itself"),
    ):
        assert main(["track", *given]) == 2, given
        assert said in capsys.readouterr().err, given
        assert not (tmp_path / "out.mp4").exists()
    for given in (["--ckpt", "rgb", *out], ["--mask", str(first), "--boxes", "1,1,2,2", *FAST, *out]):
        with pytest.raises(SystemExit, match="2"):
            main(["track", str(video), *given])


def test_a_mask_among_the_frames_is_no_frame(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "frames"
    folder.mkdir()
    write_mask(folder / "first.png", square_mask())
    given = ["--mask", str(folder / "first.png"), *FAST, "--out", str(tmp_path / "out.mp4")]
    assert main(["track", str(folder), *given]) == 2
    assert "first.png lies among the frames" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["eval", "davis", "--ckpt", "rgb", "--data"],
        ["score", "davis", "--pred", "x", "--data"],
        ["data", "check", "davis", "--data"],
        ["data", "manifest"],
    ],
)
def test_a_video_as_data_points_here(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    video = write_video(tmp_path / "clip.mp4", moving_square(2))
    assert main([*command, str(video)]) == 2
    said = capsys.readouterr().err
    assert "clip.mp4 is a video" in said
    assert f"corrkit track {video}" in said


@pytest.mark.slow
def test_an_interrupt_keeps_what_was_done(first: Path, tmp_path: Path):
    """As a process: the signal comes while it works."""
    video = write_video(tmp_path / "clip.avi", moving_square(12) * 200)
    program = [sys.executable, "-m", "corrkit", "track", str(video), "--mask", str(first), *FAST]
    with subprocess.Popen(
        [*program, "--out", str(tmp_path / "out.mp4")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as child:
        assert child.stderr
        for line in child.stderr:
            if line.startswith("frame "):
                child.send_signal(signal.SIGINT)
                break
        said = child.stderr.read()
    assert "what is done is kept" in said
    assert "corrkit: interrupted." in said
    assert child.returncode == 130
    kept = sum(1 for _ in open_footage(tmp_path / "out.mp4"))
    assert 0 < kept < 2400
    assert len(list((tmp_path / "out-masks").iterdir())) == kept
