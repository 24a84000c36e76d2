"""Frames by PyAV are OpenCV's to the last bit, or left to it."""

import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corrkit.frames import pyav, shards
from corrkit.frames.video import VideoFile, ffmpeg_address

pytestmark = pytest.mark.skipif(
    not pyav.decodes_alike(), reason="needs PyAV, the extra `video`, of the FFmpeg that OpenCV is built on"
)

WANTED = ((0,), (39,), (3, 20), (13,), (25, 26, 39))


def encoded(path: Path, pixels: str = "yuv420p", codec: str = "libx264", colours: tuple[int, int, int] = (2, 2, 2),
            **options: str) -> Path:  # fmt: skip
    """Forty frames with B-frames and a key frame every twelve."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"g": "12", "bf": "3", **options})
        stream.width, stream.height, stream.pix_fmt = 66, 50, pixels
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc = colours
        coarse = np.random.default_rng(0).integers(0, 255, (25, 33, 3), dtype=np.uint8).repeat(2, 0).repeat(2, 1)
        for number in range(40):
            frame = np.ascontiguousarray(np.roll(coarse, 3 * number, 1))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


TAKEN: dict[str, dict[str, Any]] = {
    "plain.mp4": {}, "plain.mkv": {}, "bt709.mp4": {"colours": (1, 1, 1)}, "full.mp4": {"pixels": "yuvj420p"},
    "444.mp4": {"pixels": "yuv444p"}, "422.mkv": {"pixels": "yuv422p"}, "grey.mp4": {"pixels": "gray"},
    "open.mp4": {"x264-params": "open-gop=1:keyint=12"}, "no-b.mp4": {"bf": "0"},
}  # fmt: skip
LEFT: dict[str, dict[str, Any]] = {
    "10bit.mp4": {"pixels": "yuv420p10le"}, "bt2020.mp4": {"colours": (9, 9, 14)}, "hevc.mp4": {"codec": "libx265"},
    "mpeg4.avi": {"codec": "mpeg4"}, "h264.avi": {},
}  # fmt: skip


@pytest.mark.parametrize("name", TAKEN)
def test_frames_are_opencv_s_to_the_last_bit(name: str, tmp_path: Path) -> None:
    video = VideoFile(encoded(tmp_path / name, **TAKEN[name]))
    in_order = video._by_opencv(range(40))
    for wanted in WANTED:
        found = pyav.read_frames(str(video.path), wanted, 40)
        assert found is not None
        np.testing.assert_array_equal(found, [in_order[number] for number in wanted])
    np.testing.assert_array_equal(video.read((20, 3, 20)), [in_order[number] for number in (20, 3, 20)])


@pytest.mark.parametrize("name", LEFT)
def test_what_opencv_converts_or_numbers_differently_is_left_to_it(name: str, tmp_path: Path) -> None:
    video = VideoFile(encoded(tmp_path / name, **LEFT[name]))
    assert pyav.read_frames(str(video.path), (3, 20), len(video)) is None
    assert len(video.read((3, 20))) == 2


def test_another_number_of_frames_or_damage_is_left_to_opencv(tmp_path: Path) -> None:
    path = encoded(tmp_path / "plain.mp4")
    assert pyav.read_frames(str(path), (3,), 41) is None
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    path.write_bytes(data)
    assert pyav.read_frames(str(path), (20, 39), 40) is None
    path.write_bytes(b"no video")
    assert pyav.read_frames(str(path), (3,), 40) is None


def test_only_what_is_wanted_and_what_it_refers_to_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encoded(tmp_path / "plain.mp4")
    taken: list[int] = []
    decoded = pyav._decoded
    monkeypatch.setattr(pyav, "_decoded", lambda *of: taken.append(len(of[2])) or decoded(*of))
    assert pyav.read_frames(str(path), (13, 14, 38), 40) is not None
    assert taken == [2, 1]  # from two key frames


@pytest.mark.parametrize("library", ["libavcodec", "libswscale"])
def test_another_ffmpeg_than_opencv_s_is_not_used(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import av

    path = encoded(tmp_path / "plain.mp4")
    monkeypatch.setattr(av, "library_versions", {**av.library_versions, library: (1, 0, 0)})
    monkeypatch.setattr(pyav, "decodes_alike", pyav.decodes_alike.__wrapped__)
    assert pyav.read_frames(str(path), (3,), 40) is None


def test_a_video_in_a_tar_is_read_where_it_lies(tmp_path: Path) -> None:
    path = encoded(tmp_path / "plain.mp4")
    shard = tmp_path / "0.tar"
    with tarfile.open(shard, "w") as archive:
        archive.add(path, "plain.mp4")
    (item,) = shards.items_of(shard)
    (member,) = shards.files_of(shard, item.members)
    found = pyav.read_frames(ffmpeg_address(member), (20,), 40)
    assert found is not None
    np.testing.assert_array_equal(found[0], VideoFile(path)._by_opencv([20])[20])


def test_real_videos_have_opencv_s_frames(shared: Path) -> None:
    taken = []
    for path in sorted((shared / "data" / "videos").iterdir()):
        video = VideoFile(path)
        wanted = [number for number in (1, 40) if number < video.count_decodable()]
        found = pyav.read_frames(str(path), wanted, len(video))
        if found is not None:
            taken.append(path.name)
            np.testing.assert_array_equal(found, list(video._by_opencv(wanted).values()))
    assert {"cockatoo.mp4", "flipping_a_pancake.mkv", "vfs_test.mp4"} <= set(taken)
    assert not {"decord_rot90.mov", "vfs_test.avi"} & set(taken)
