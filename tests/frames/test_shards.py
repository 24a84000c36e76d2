"""Tar shards in WebDataset's layout as training data: what they hold, and that it is what the same files hold."""

import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from corrkit.frames import index as frames_index
from corrkit.frames.index import Index
from corrkit.frames.items import build_index, read_frames


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def png(level: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 24), (level,) * 3).save(buffer, "PNG")
    return buffer.getvalue()


def movie(folder: Path, frames: int = 9) -> bytes:
    path = folder / "movie.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (32, 24))
    for frame in range(frames):
        writer.write(np.full((24, 32, 3), 25 * frame, np.uint8))
    writer.release()
    return path.read_bytes()


def packed(path: Path, members: dict[str, bytes], mode: Any = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def members(tmp_path: Path) -> dict[str, bytes]:
    """Samples as people pack them; frame f of a clip is grey 10 f, and their numbers have no zeros before them."""
    return {
        "photo.png": png(200),
        "photo.json": b"{}",
        "photo.seg.png": png(1),
        **{f"walk.{frame}.png": png(10 * frame) for frame in range(12)},
        "walk.cls": b"3",
        **{f"./run/{frame}.png": png(10 * frame) for frame in range(3)},
        "movie.avi": movie(tmp_path),
        ".hidden.png": png(0),
    }


def levels(index: Index, path: str, numbers: tuple[int, ...]) -> list[int]:
    item = next(number for number, entry in enumerate(index.entries) if entry.path == path)
    return [round(frame.mean()) for frame in read_frames(index, item, numbers)]


def test_a_shard_s_samples_are_clips_and_images(members: dict[str, bytes], tmp_path: Path) -> None:
    packed(tmp_path / "data" / "train" / "000.tar", members)
    index = build_index(tmp_path / "data", tmp_path / "index.json")
    found = [(entry.path.removeprefix("train/000.tar/"), entry.kind, entry.frames) for entry in index.entries]
    assert found == [("photo.png", "image", 1), ("walk", "folder", 12), ("run", "folder", 3), ("movie.avi", "video", 9)]
    assert index.summary == "3 clips of 24 frames and 1 images"
    assert not index.broken
    for again in (index, build_index(tmp_path / "data", tmp_path / "index.json"), pickle.loads(pickle.dumps(index))):
        assert again == index
        assert levels(again, "train/000.tar/photo.png", (0,)) == [200]
        assert levels(again, "train/000.tar/walk", (2, 11)) == [20, 110]
        assert levels(again, "train/000.tar/run", (2, 0)) == [20, 0]
        assert levels(again, "train/000.tar/movie.avi", (8, 1)) == pytest.approx([200, 25], abs=2)


def test_a_video_in_a_shard_has_the_frames_of_the_file(shared: Path, tmp_path: Path) -> None:
    videos = [shared / "data" / "videos" / name for name in ("cotracker_cat.mp4", "decord_rot90.mov")]
    packed(tmp_path / "data" / "0.tar", {path.name: path.read_bytes() for path in videos})
    index = build_index(tmp_path / "data" / "0.tar", tmp_path / "index.json")
    files = build_index(shared / "data" / "videos", tmp_path / "files.json")
    for item, entry in enumerate(index.entries):
        other = next(n for n, e in enumerate(files.entries) if entry.path.endswith(e.path))
        assert files.entries[other].frames == entry.frames
        wanted = (1, entry.frames - 1)
        np.testing.assert_array_equal(read_frames(index, item, wanted), read_frames(files, other, wanted))


@pytest.mark.parametrize("data", ["data", "data/0.tar", "data/list.txt"])
def test_shards_are_named_by_folder_by_themselves_or_in_a_list(data: str, tmp_path: Path) -> None:
    packed(tmp_path / "data" / "0.tar", {"a.png": png(7)})
    (tmp_path / "data" / "list.txt").write_text("0.tar\n")
    index = build_index(tmp_path / data, tmp_path / "index.json")
    assert levels(index, "0.tar/a.png", (0,)) == [7]


def test_a_number_beside_a_shard_in_a_list_is_of_none_of_its_videos(tmp_path: Path) -> None:
    packed(tmp_path / "0.tar", {"movie.avi": movie(tmp_path)})
    (tmp_path / "list.txt").write_text("0.tar 5\n")
    assert build_index(tmp_path / "list.txt", tmp_path / "index.json").entries[0].frames == 9


def test_what_is_damaged_in_a_shard_is_left_out_by_name(tmp_path: Path) -> None:
    packed(tmp_path / "data" / "0.tar", {"a.png": png(7), "b.png": png(7)[:60], "c.avi": b"no video"})
    cut = packed(tmp_path / "data" / "1.tar", {"a.png": png(7), "b.png": png(9)})
    cut.write_bytes(cut.read_bytes()[:1300])
    packed(tmp_path / "data" / "2.tar.gz", {"a.png": png(7)}, "w:gz")
    packed(tmp_path / "data" / "3.tar", {"a.txt": b"words"})
    index = build_index(tmp_path / "data", tmp_path / "index.json")
    assert [entry.path for entry in index.entries] == ["0.tar/a.png"]
    reasons = dict(index.broken)
    assert sorted(reasons) == ["0.tar/b.png", "0.tar/c.avi", "1.tar", "2.tar.gz", "3.tar"]
    assert "0.tar/b.png" in reasons["0.tar/b.png"]
    assert "compressed" in reasons["2.tar.gz"]
    assert "no video and no image" in reasons["3.tar"]


def test_a_shard_that_is_gone_is_said_and_an_unchanged_one_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "01":
        packed(tmp_path / "data" / f"{name}.tar", {"a.png": png(7), "b.png": b"damaged"})
    for said in ("", "", "0.tar"):
        if said:
            (tmp_path / "data" / said).unlink()
        index = build_index(tmp_path / "data", tmp_path / "index.json")
        assert ("gone" in capsys.readouterr().err) == bool(said)
        assert len(index.entries) == 2


def test_shards_are_opened_once_for_all_runs(
    members: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed(tmp_path / "data" / "0.tar", members)
    first = build_index(tmp_path / "data", tmp_path / "0.json")
    monkeypatch.setattr(frames_index, "_open", None)
    assert build_index(tmp_path / "data", tmp_path / "1.json") == first
