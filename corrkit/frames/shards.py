"""Tar shards in WebDataset's layout: the clips and images that they hold, read at their places, nothing unpacked.

A member's key is its path up to the first dot of its name (`base_plus_ext` of webdataset's tariterators.py). A video is
a clip, and so is a folder of images, as outside of shards. Images at a shard's top with a number between key and suffix
(`walk.000.jpg`, `walk.001.jpg`) are the frames of their key's clip; those with nothing there are images. What else
belongs to a key (`walk.json`, `walk.seg.png`) is left alone.
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple, cast

from corrkit.errors import DataError
from corrkit.files.archive import COMPRESSED_TARS, ArchivePath, TarArchive, TarPart, open_root
from corrkit.files.reading import natural_order
from corrkit.frames.pictures import SUFFIXES as IMAGES
from corrkit.frames.video import SUFFIXES as VIDEOS

SUFFIXES = (".tar", *COMPRESSED_TARS)
"""Compressed ones are refused by name, not passed over."""


class Member(NamedTuple):
    """A file in a shard: its path there, and where its bytes lie."""

    name: str
    start: int
    size: int


class Item(NamedTuple):
    """A clip or image of a shard: its path there, kind ("folder", "video" or "image") and files in order."""

    name: str
    kind: str
    members: tuple[Member, ...]


def items_of(shard: Path) -> list[Item]:
    """What a shard holds, in its order. Raises DataError where it is compressed, damaged, cut off or holds neither."""
    archive = getattr(open_root(shard), "archive", None)
    if not isinstance(archive, TarArchive):
        raise DataError(f"{shard} is no tar.", "Name an uncompressed .tar.")
    grouped: dict[tuple[str, str], list[PurePosixPath]] = {}
    for name in map(PurePosixPath, archive.places):
        if (key := _key(name)) is not None:
            grouped.setdefault(key, []).append(name)
    if not grouped:
        raise DataError(f"{shard} holds no video and no image.", "Take it out of the data.")
    return [
        Item(name, kind, tuple(Member(str(file), *archive.places[str(file)]) for file in sorted(files, key=_by_number)))
        for (name, kind), files in grouped.items()
    ]


def files_of(shard: Path, members: Sequence[Member]) -> list[Path]:
    """Members as read-only paths; the shard's headers are not read again."""
    part = TarPart(shard, {member.name: (member.start, member.size) for member in members})
    # The readers of frames call nothing of Path that ArchivePath lacks.
    return [cast(Path, ArchivePath(part, member.name)) for member in members]


def _key(name: PurePosixPath) -> tuple[str, str] | None:
    """Name and kind of the item that a member belongs to; None of a member that is no frame."""
    suffix = name.suffix.lower()
    if name.name.startswith(".") or suffix not in (*IMAGES, *VIDEOS):
        return None
    if suffix in VIDEOS:
        return str(name), "video"
    if len(name.parts) > 1:
        return str(name.parent), "folder"
    key, _, between = name.stem.partition(".")
    if not between:
        return str(name), "image"
    return (key, "folder") if between.isdecimal() else None


def _by_number(file: PurePosixPath) -> tuple[object, str]:
    return natural_order(file.stem), file.name
