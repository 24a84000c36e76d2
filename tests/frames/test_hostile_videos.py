"""Videos made to hurt: texts that FFmpeg would follow, tables that nest, overlap or claim what no file holds."""

import struct
import time
from pathlib import Path

import pytest
from clip_video import moving_square, write_video

from corrkit.errors import DataError
from corrkit.files.reading import natural_order
from corrkit.frames.containers import read_container
from corrkit.frames.footage import open_footage
from corrkit.frames.index import read_index
from corrkit.frames.items import read_frames
from corrkit.frames.video import VideoFile


def box(name: bytes, content: bytes = b"", *, claims: int | None = None) -> bytes:
    return struct.pack(">I", len(content) + 8 if claims is None else claims) + name + content


def movie(*, edits: bytes = b"", count: int = 10, timing: bytes | None = None, handler: bytes = b"vide") -> bytes:
    """As much of an MP4 as its reader looks at."""
    clock = bytes(12) + struct.pack(">II", 1000, 1000)
    times = timing or clock
    sizes = box(b"stbl", box(b"stsz", bytes(8) + struct.pack(">I", count)))
    media = box(b"mdia", box(b"mdhd", times) + box(b"hdlr", bytes(8) + handler + bytes(12)) + box(b"minf", sizes))
    track = box(b"trak", (box(b"edts", box(b"elst", edits)) if edits else b"") + media)
    return box(b"ftyp", b"isomisom") + box(b"moov", box(b"mvhd", clock) + track)


def edit_list(entries: int, *told: tuple[int, int]) -> bytes:
    return bytes(4) + struct.pack(">I", entries) + b"".join(struct.pack(">IiI", *one, 1 << 16) for one in told)


def nested(depth: int) -> bytes:
    inner = b""
    for _ in range(depth):
        inner = box(b"mdia", inner)
    return box(b"ftyp", b"isomisom") + box(b"moov", box(b"trak", inner))


HOSTILE = {
    "edits": movie(edits=edit_list(0xFFFFFFFF, (500, 0))),
    "nested": nested(5_000),
    "wide_edit": movie(edits=b"\1" + bytes(3) + struct.pack(">IQqI", 1, (1 << 64) - 1, 0, 1 << 16), count=0xFFFFFFFF),
    "overlapping": box(b"ftyp", b"isomisom")
    + box(b"moov", b"".join(box(b"trak", box(b"hdlr", claims=0x7FFFFFFF)) for _ in range(20_000))),
    "ebml_name": b"\x1a\x45\xdf\xa3\x80" + b"\x01" + bytes(7) + b"\x80",
    "ebml_zeros": b"\x1a\x45\xdf\xa3\x80" + b"\x81\x80" * 50_000,
    "ebml_far": b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x01" + b"\xff" * 6 + b"\xfe",
    "avi_zero": b"RIFF\0\0\0\0AVI " + bytes(64),
    "gif_endless": b"GIF89a" + bytes(7) + b"!\xff" + b"\1a" * 30_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_tables_are_read_in_time_and_refused_in_a_sentence(name: str, tmp_path: Path):
    path = tmp_path / "a.mp4"
    path.write_bytes(HOSTILE[name])
    started = time.perf_counter()
    container = read_container(path)
    assert time.perf_counter() - started < 2
    assert container.kind in {"MP4", "Matroska", "AVI", "GIF"}
    with pytest.raises(DataError, match=r"a\.mp4"):
        list(open_footage(path))


def test_an_edit_list_is_still_obeyed(tmp_path: Path):
    path = tmp_path / "a.mp4"
    path.write_bytes(movie(edits=edit_list(1, (500, 0))))
    assert (read_container(path).frames, read_container(path).is_exact) == (5, False)
    path.write_bytes(movie())
    assert (read_container(path).frames, read_container(path).is_exact) == (10, True)


FOLLOWED = {
    "concat": "ffconcat version 1.0\nfile real.mp4\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:9,\nreal.mp4\n#EXT-X-ENDLIST\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "address": "http://127.0.0.1/a.mp4\n",
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_a_text_that_names_a_video_is_none(name: str, tmp_path: Path):
    """FFmpeg opens the file that a concat script names; training data are told by content, as track's video is."""
    write_video(tmp_path / "real.mp4", moving_square(4))
    (tmp_path / "data").mkdir()
    (tmp_path / "data/text.mp4").write_text(FOLLOWED[name].replace("real", f"{tmp_path}/real"))
    (tmp_path / "text.mp4").write_text(FOLLOWED[name])
    with pytest.raises(DataError, match="it holds text"):
        VideoFile(tmp_path / "text.mp4").read((0,))
    with pytest.raises(DataError, match="it holds text"):
        read_index(tmp_path / "data", tmp_path / "index.json")


LINES = {
    "null": "real.mp4\0 4",
    "digits": f"real.mp4 {'9' * 5000}",
    "minus": "real.mp4 --4",
    "long": "x" * 70_000,
}


@pytest.mark.parametrize("name", LINES)
def test_a_list_of_training_data_is_refused_by_its_line(name: str, tmp_path: Path):
    write_video(tmp_path / "real.mp4", moving_square(4))
    (tmp_path / "list.txt").write_text(f"{LINES[name]}\n")
    with pytest.raises(DataError) as caught:
        read_index(tmp_path / "list.txt", tmp_path / "index.json")
    assert len(caught.value.problem) < 5_000


@pytest.mark.parametrize(
    "stored",
    [
        "[" * 50_000,
        '{"root": "%s", "entries": [["real.mp4", "video", 1e999]], "broken": []}',
        '{"root": "%s", "entries": [["a", "folder", 1, "s.tar", [["a.jpg", -9, 9]]]], "broken": []}',
        '{"root": "%s", "entries": 3, "broken": []}',
    ],
)
def test_a_damaged_index_is_named(stored: str, tmp_path: Path):
    write_video(tmp_path / "real.mp4", moving_square(4))
    (tmp_path / "index.json").write_text(stored.replace("%s", str(tmp_path)))
    with pytest.raises(DataError, match=r"index\.json is damaged"):
        read_index(tmp_path, tmp_path / "index.json")


def test_a_header_may_claim_any_number_of_frames(tmp_path: Path):
    video = write_video(tmp_path / "real.mp4", moving_square(4))
    assert len(VideoFile(video, 1 << 80)) < 1 << 60
    index = read_index(video.parent, tmp_path / "index.json")
    assert len(read_frames(index, 0, (0, 3))) == 2


def test_numbers_of_any_length_are_put_in_order():
    names = [f"a{'9' * 6000}", "a2", f"a{'1' * 9000}", "a10"]
    assert sorted(names, key=natural_order) == ["a2", "a10", f"a{'9' * 6000}", f"a{'1' * 9000}"]
