"""Anybody's video: every frame in order, or where decoding stopped; never fewer frames in silence."""

import itertools
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from clip_video import moving_square, write_video
from PIL import Image

from corrkit.errors import DataError
from corrkit.frames.containers import read_container
from corrkit.frames.footage import open_footage

KINDS = (".mp4", ".avi", ".mkv", ".webm", ".gif", ".webp")
FRAMES = moving_square(8)
VIDEOS = Path(__file__).parent / "videos"


def place_of_square(frame: np.ndarray) -> float:
    """The left side of the red square."""
    return float(np.flatnonzero(frame[24, :, 0] > 130)[0])


@pytest.mark.parametrize("suffix", KINDS)
def test_every_frame_comes_once_and_in_order(suffix: str, tmp_path: Path):
    footage = open_footage(write_video(tmp_path / f"clip{suffix}", FRAMES, rate=10))
    found = list(footage)
    assert len(found) == 8 == footage.stated
    assert footage.rate == pytest.approx(10)
    assert [time for time, _ in found] == pytest.approx([index / 10 for index in range(8)], abs=0.02)
    assert all(frame.dtype == np.uint8 and frame.shape == (48, 64, 3) for _, frame in found)
    assert [place_of_square(frame) for _, frame in found] == pytest.approx([4 + 2 * n for n in range(8)], abs=1)
    assert footage.notes == []


def test_the_content_tells_the_kind_not_the_name(tmp_path: Path):
    path = shutil.copy(write_video(tmp_path / "clip.webm", FRAMES), tmp_path / "clip.mp4")
    assert len(list(open_footage(Path(path)))) == 8
    path = shutil.copy(write_video(tmp_path / "clip.gif", FRAMES), tmp_path / "clip.avi")
    assert len(list(open_footage(Path(path)))) == 8


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize("share", [0.9, 0.5, 0.02])
def test_a_cut_off_file_never_passes_for_a_shorter_video(suffix: str, share: float, tmp_path: Path):
    whole = write_video(tmp_path / f"clip{suffix}", moving_square(24, size=(96, 128))).read_bytes()
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(whole[: int(len(whole) * share)])
    found: list[object] = []
    with pytest.raises(DataError, match=str(path)):
        found.extend(iter(open_footage(path)))
    assert len(found) < 24 or suffix == ".avi"  # the index stands at an AVI's end


def test_the_frame_where_decoding_stopped_is_named(shared: Path):
    for name, count, stated, why in (
        ("truncated_midway.mp4", 23, 36, "cut off, 43,570 bytes of it are missing"),
        ("decord_corrupted.mp4", 28, 50, "what follows is damaged"),
    ):
        footage = open_footage(shared / "data/videos_bad" / name)
        found: list[object] = []
        with pytest.raises(DataError, match=rf"stopped at frame {count} of {stated} \(.*{why}"):
            found.extend(iter(footage))
        assert len(found) == count


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"this is no video\n", "holds text"),
        (b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n", "holds text"),  # nothing is fetched
        (b"ffconcat version 1.0\nfile other.mp4\n", "holds text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git-LFS pointer"),
        (b"\x89PNG\r\n\x1a\n" + bytes(20), "is a PNG picture"),
        (b"\xff\xd8\xff\xe0" + bytes(20), "is a JPEG picture"),
        (bytes(1000), "no video in a form"),
        (b"\0\0\0\x20ftypisom" + bytes(300), "can't be decoded"),
    ],
)
def test_what_is_no_video_is_named(content: bytes, said: str, tmp_path: Path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said) as refused:
        list(open_footage(path))
    assert str(path) in refused.value.problem
    assert refused.value.remedy


def test_places_that_hold_no_video(tmp_path: Path):
    with pytest.raises(DataError, match=r"clip.mp4 is missing"):
        open_footage(tmp_path / "clip.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(DataError, match="is a FIFO"):
        open_footage(tmp_path / "pipe.mp4")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no frame \(it is empty"):
        open_footage(tmp_path / "empty")
    write_video(tmp_path / "videos/clip.mp4", FRAMES)
    with pytest.raises(DataError, match=r"holds no frame \(it holds 'clip.mp4'"):
        open_footage(tmp_path / "videos")
    Image.fromarray(FRAMES[0]).save(tmp_path / "still.webp")
    with pytest.raises(DataError, match="still WebP picture"):
        open_footage(tmp_path / "still.webp")
    odd = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    shutil.copy(tmp_path / "videos/clip.mp4", odd)
    with pytest.raises(DataError, match="name that OpenCV can't open"):
        open_footage(odd)


def test_a_folder_in_the_order_of_its_numbers_keeps_names_and_orientation(tmp_path: Path):
    turned = Image.Exif()
    turned[0x0112] = 6  # EXIF: to be turned by 90 degrees
    for number in (10, 9, 2):
        picture = Image.fromarray(np.full((8, 12, 3), number, np.uint8))
        picture.save(tmp_path / f"im{number}.jpg", exif=turned)
    footage = open_footage(tmp_path)
    assert [footage.name_of(index) for index in range(3)] == ["im2", "im9", "im10"]
    assert [frame.shape for _, frame in footage] == [(12, 8, 3)] * 3
    assert [int(frame.mean()) for _, frame in footage] == [2, 9, 10]
    Image.new("RGB", (12, 8)).save(tmp_path / "im9.png")
    with pytest.raises(DataError, match=r"two files of one frame: im9.jpg and im9.png"):
        open_footage(tmp_path)


def test_a_damaged_picture_of_a_folder_ends_it_by_name(tmp_path: Path):
    for index in range(3):
        Image.fromarray(FRAMES[index]).save(tmp_path / f"{index}.png")
    whole = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(whole[: len(whole) // 2])
    frames = iter(open_footage(tmp_path))
    next(frames)
    with pytest.raises(DataError, match=r"1\.png can't be decoded"):
        next(frames)


def test_what_is_transparent_in_an_animation_is_white(tmp_path: Path):
    pictures = [Image.new("RGBA", (16, 8), (255, 0, 0, 0)) for _ in range(2)]
    for index, picture in enumerate(pictures):
        picture.paste((0, 0, 200, 255), (index * 4, 0, index * 4 + 4, 8))
    for suffix in ("gif", "webp"):
        path = tmp_path / f"clip.{suffix}"
        pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=[50, 150], lossless=True, disposal=2)
        footage = open_footage(path)
        (_, first), (time, second) = footage
        assert (first[4, 12] == 255).all(), suffix
        assert (second[4, 1] == 255).all(), suffix
        assert tuple(second[4, 5]) == (0, 0, 200)
        assert time == pytest.approx(0.05)
        assert "varies (50 to 150 ms a frame)" in footage.notes[0]


def test_videos_as_cameras_and_tools_write_them():
    """See videos/README.md: sixteen levels of grey, one a frame, in the upper left quarter."""
    expected = {
        "ten_bits.mp4": (48, 64), "rotated.mp4": (64, 48), "alpha.webm": (48, 64), "odd.mp4": (47, 63),
        "varying.mp4": (48, 64), "trimmed.mp4": (48, 64), "bursts.mkv": (48, 64),
    }  # fmt: skip
    for name, size in expected.items():
        footage = open_footage(VIDEOS / name)
        found = [frame for _, frame in footage]
        assert {frame.shape[:2] for frame in found} == {size}, name
        levels = [int(frame[4:16, 4:16].mean()) for frame in found]
        wanted = range(4, 12) if name == "trimmed.mp4" else range(16)
        assert len(levels) == len(wanted), name
        if name != "rotated.mp4":
            assert np.abs(np.array(levels) - [40 + 10 * n for n in wanted]).max() <= 8, (name, levels)
        assert ("varies" in " ".join(footage.notes)) == (name in ("varying.mp4", "bursts.mkv")), footage.notes


def test_rotation_flags_are_obeyed(shared: Path):
    for turned, size in ((0, (320, 568)), (90, (568, 320)), (180, (320, 568)), (270, (568, 320))):
        footage = open_footage(shared / f"data/videos/decord_rot{turned}.mov")
        assert {frame.shape[:2] for _, frame in footage} == {size}


def test_real_videos_have_the_frames_that_are_known(shared: Path):
    """The headers of JHMDB's AVIs say a sixth too many frames, and that of the mkv one: notes say so."""
    counts = {"videos/realshort.mp4": 36, "videos/cockatoo_mjpg.avi": 48, "videos/cockatoo_vp8.webm": 48}
    counts["videos/vfs_test.avi"] = 164
    counts["JHMDB/ReCompress_Videos/catch/Frisbee_catch_f_cm_np1_ri_med_0.avi"] = 37
    for name, count in counts.items():
        footage = open_footage(shared / "data" / name)
        times = [time for time, _ in footage]
        assert len(times) == count
        assert all(time > before for before, time in itertools.pairwise(times))
        assert bool(footage.notes) == (count == 37)


def test_a_file_of_parts_whose_length_was_never_written_is_read(tmp_path: Path):
    """Live streams leave lengths open: nothing says how long they are, and nothing is missed."""
    whole = bytearray(write_video(tmp_path / "clip.mkv", FRAMES).read_bytes())
    segment = whole.index(b"\x18\x53\x80\x67") + 4
    assert whole[segment] == 1  # a length of eight bytes
    whole[segment + 1 : segment + 8] = b"\xff" * 7
    path = tmp_path / "open.mkv"
    path.write_bytes(whole)
    assert read_container(path).missing == 0
    assert len(list(open_footage(path))) == 8
