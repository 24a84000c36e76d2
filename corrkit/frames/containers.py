"""What a video file says of itself: its container, whether it is whole, how many frames its tables list.

Decoders return what they can and say nothing of the rest, so the length is asked of the container's own tables.
Sources: ISO/IEC 14496-12 (boxes, sample tables, edit lists), RIFF/AVI, RFC 9559 and RFC 8794 (Matroska, EBML), GIF89a.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from corrkit.errors import DataError
from corrkit.files.reading import beginning

_LARGEST_GIF = 1 << 28
_LARGEST_HEAD = 32  # bytes of a box of fixed size that say anything here
_LARGEST_LIST = 1 << 20  # bytes of a list of edits: most have one
_BEGINNINGS: tuple[tuple[int, bytes, str], ...] = (
    (4, b"ftyp", "MP4"), (4, b"moov", "MP4"), (4, b"mdat", "MP4"), (4, b"wide", "MP4"), (4, b"free", "MP4"),
    (4, b"skip", "MP4"), (4, b"pnot", "MP4"), (8, b"AVI ", "AVI"), (8, b"WEBP", "WebP"), (0, b"GIF8", "GIF"),
    (0, b"\x1a\x45\xdf\xa3", "Matroska"), (0, b"\0\0\1\xba", "MPEG"), (0, b"\0\0\1\xb3", "MPEG"), (0, b"FLV\1", "FLV"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "ASF"), (0, b"OggS", "Ogg"),
)  # fmt: skip
_PICTURES = ((b"\xff\xd8\xff", "JPEG"), (b"\x89PNG", "PNG"), (b"BM", "BMP"), (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"))
_PARENTS = {b"mdia": b"trak", b"minf": b"mdia", b"stbl": b"minf", b"edts": b"trak"}
"""Boxes that hold boxes to the one that they stand in: nothing nests deeper, whatever a file does."""
_TRANSPORT_PACKET = 188
BEGINNING = 2 * _TRANSPORT_PACKET
"""Bytes by which a container is known."""
_SEGMENT = 0x18538067


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """kind: "MP4", "AVI", "Matroska", "GIF", ... missing: bytes that it announces beyond the file's end.

    frames: how many its tables list; None where they list none. is_exact: whether each of them is shown.
    """

    kind: str
    missing: int = 0
    frames: int | None = None
    is_exact: bool = False


def read_container(path: Path) -> Container:
    """What a video file says of itself; no frame is decoded.

    Raises:
        DataError: missing, empty, a picture, or no video in a form that is read; UnreadableError where reading fails.
    """
    kind = require_video(beginning(path, BEGINNING), path)
    size = path.stat().st_size
    with path.open("rb") as file:
        if kind == "MP4":
            frames, is_exact = _listed(file, size)
            missing = _beyond(_boxes(file, 0, size), size)
            return Container(kind=kind, missing=missing, frames=frames, is_exact=is_exact)
        if kind in {"AVI", "WebP"}:
            return Container(kind=kind, missing=_beyond(_chunks(file, size), size))
        if kind == "Matroska":
            return Container(kind=kind, missing=_beyond(_elements(file), size))
        if kind == "GIF":
            frames, is_whole = _pictures(file.read(_LARGEST_GIF))
            return Container(kind=kind, missing=int(not is_whole), frames=frames, is_exact=True)
    return Container(kind=kind)


def require_video(start: bytes, path: Path) -> str:
    """The kind of container that begins so, looked at before FFmpeg is: a text makes it open other files, or a network.

    Args:
        start: the first `BEGINNING` bytes.
        path: for the message.

    Raises:
        DataError: for what is no video, naming what it is.
    """
    kind = next((name for place, mark, name in _BEGINNINGS if start[place:].startswith(mark)), None)
    if kind is None and start[:1] == b"G" and start[_TRANSPORT_PACKET : _TRANSPORT_PACKET + 1] == b"G":
        kind = "MPEG-TS"
    if kind is None:
        raise DataError(f"{path} {_described(start)}.", "Name a video file, or the folder that holds its frames.")
    return kind


def _described(start: bytes) -> str:
    if not start:
        return "is empty (0 bytes)"
    picture = next((name for mark, name in _PICTURES if start.startswith(mark)), None)
    if picture:
        return f"is a {picture} picture, no video"
    is_text = all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in start)
    return (
        f"is no video{': it holds text' if is_text else ' in a form that is read (MP4, MOV, AVI, MKV, WebM, GIF, ...)'}"
    )


def _beyond(ends: Iterator[tuple[bytes, int, int]], size: int) -> int:
    """By how much the last part (name, start, end) ends behind the file."""
    return max((0, *(end - size for _, _, end in ends)))


def _boxes(file: BinaryIO, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, start of content, end) of each ISO box; ends where something else begins."""
    while start + 8 <= stop:
        file.seek(start)
        head = file.read(16)
        length, name, content = int.from_bytes(head[:4], "big"), head[4:8], 8
        if length == 1:
            length, content = int.from_bytes(head[8:16], "big"), 16
        elif length == 0:
            length = stop - start
        if length < content or not all(32 <= byte < 127 or byte == 0xA9 for byte in name):
            return
        yield name, start + content, start + length
        start += length


def _listed(file: BinaryIO, size: int) -> tuple[int | None, bool]:
    """Frames of an MP4's video track, and whether that is exact: an edit list may show a part. None in fragments."""
    top = {name: (start, end) for name, start, end in _boxes(file, 0, size)}
    if b"moov" not in top or b"moof" in top or top[b"moov"][1] > size:
        return None, False
    movie = {name: place for name, *place in _boxes(file, *top[b"moov"])}
    for name, start, end in _boxes(file, *top[b"moov"]):
        if name != b"trak":
            continue
        parts = _parts(file, start, end)
        if _read(file, parts, b"hdlr")[8:12] == b"vide":
            movie_scale = _clock(_read(file, {b"mvhd": tuple(movie.get(b"mvhd", (0, 0)))}, b"mvhd"))[0]
            scale, duration = _clock(_read(file, parts, b"mdhd"))
            count = int.from_bytes(_read(file, parts, b"stsz")[8:12], "big")
            shown = _edited(_read(file, parts, b"elst", _LARGEST_LIST))
            if not (count and scale and movie_scale and duration) or shown is None:
                return count or None, bool(count)
            edited = round(count * (shown / movie_scale) / (duration / scale))
            return edited, edited == count
    return None, False


def _parts(file: BinaryIO, start: int, stop: int, within: bytes = b"trak") -> dict[bytes, tuple[int, ...]]:
    """Name to place of the boxes below a track, those in boxes of boxes too."""
    found: dict[bytes, tuple[int, ...]] = {}
    for name, first, end in _boxes(file, start, stop):
        found[name] = (first, min(end, stop))
        if _PARENTS.get(name) == within:
            found = {**_parts(file, first, min(end, stop), name), **found}
    return found


def _read(file: BinaryIO, parts: dict[bytes, tuple[int, ...]], name: bytes, most: int = _LARGEST_HEAD) -> bytes:
    start, end = parts.get(name, (0, 0))
    file.seek(start)
    return file.read(max(0, min(end - start, most)))


def _clock(head: bytes) -> tuple[int, int]:
    """Ticks per second, and duration in ticks, of an mvhd or mdhd box."""
    if head[:1] == b"\1":
        return int.from_bytes(head[20:24], "big"), int.from_bytes(head[24:32], "big")
    return int.from_bytes(head[12:16], "big"), int.from_bytes(head[16:20], "big")


def _edited(table: bytes) -> int | None:
    """Duration, in the movie's ticks, of what an edit list shows; None without one, or where it shows all."""
    wide = table[:1] == b"\1"
    step = 20 if wide else 12
    shown = 0
    for place in range(8, min(8 + step * int.from_bytes(table[4:8], "big"), len(table)), step):
        entry = table[place : place + step]
        duration, media = (entry[:8], entry[8:16]) if wide else (entry[:4], entry[4:8])
        if int.from_bytes(media, "big", signed=True) >= 0:  # else nothing is shown meanwhile
            shown += int.from_bytes(duration, "big")
    return shown or None


def _chunks(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, start of content, end) of each RIFF chunk; a stream that was never closed has none of a length."""
    start = 0
    while start + 8 <= size:
        file.seek(start)
        head = file.read(8)
        length = int.from_bytes(head[4:], "little")
        if head[:4] != b"RIFF" or length in (0, 0xFFFFFFFF):
            return
        yield head[:4], start + 8, start + 8 + length
        start += 8 + length + length % 2


def _elements(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """(id, start of content, end) of the EBML head and the segment; nothing of one whose length isn't told."""
    file.seek(0)
    while True:
        name, _ = _number(file, keep_mark=True)
        length, is_told = _number(file, keep_mark=False)
        if name == 0 or name >= 1 << 32 or not is_told:  # names have four bytes at most
            return
        start = file.tell()
        yield name.to_bytes(4, "big"), start, start + length
        if name == _SEGMENT:
            return
        file.seek(start + length)


def _number(file: BinaryIO, *, keep_mark: bool) -> tuple[int, bool]:
    """A number of EBML's variable length, and whether it is told (not all ones)."""
    first = file.read(1)
    if not first or first == b"\0":
        return 0, False
    width = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(width - 1), "big")
    bare = value & ((1 << 7 * width) - 1)
    return (value if keep_mark else bare), bare != (1 << 7 * width) - 1


def _pictures(data: bytes) -> tuple[int, bool]:
    """How many pictures a GIF holds whole, and whether it comes to its end."""
    place, count = 13 + _table(data[10:11]), 0
    while data[place : place + 1] in (b"!", b","):
        is_picture = data[place] == 0x2C
        # A picture's head has ten bytes; a byte with the width of its codes follows the table.
        place += 10 + _table(data[place + 9 : place + 10]) + 1 if is_picture else 2
        while place < len(data) and data[place]:
            place += 1 + data[place]
        if place >= len(data):
            return count, False
        place += 1
        count += is_picture
    return count, data[place : place + 1] == b";"


def _table(flags: bytes) -> int:
    """Bytes of the colour table that follows."""
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0
