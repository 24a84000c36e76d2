"""The index of a folder, list or shard: which clips and images there are, their frames, and what can't be opened.

Files are opened in parallel, each once for all runs: what was found of a file is kept in the user's cache until its
size or time changes.
"""

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from corrkit.errors import DataError, RunError
from corrkit.files.atomic import write_atomic
from corrkit.files.jsontext import from_json
from corrkit.files.reading import numbered_files, regular_text, require_regular
from corrkit.frames import shards
from corrkit.frames.pictures import SUFFIXES as IMAGES
from corrkit.frames.pictures import read_image
from corrkit.frames.shards import Member
from corrkit.frames.video import SUFFIXES as VIDEOS
from corrkit.frames.video import VideoFile
from corrkit.text import one_line

_COUNT = re.compile("-?[0-9]{1,12}")
_SAVE_EVERY = 30.0  # seconds: what a killed indexing loses at most


@dataclass(frozen=True, slots=True)
class Entry:
    """A clip or image: its path relative to the root, kind ("folder", "video", "image", ...) and frames.

    Of a shard's, also the shard (relative to the root) and the places of its files there.
    """

    path: str
    kind: str
    frames: int
    shard: str = ""
    members: tuple[Member, ...] = ()


@dataclass(frozen=True, slots=True)
class Index:
    """What a data folder holds; `broken` lists files that can't be decoded, with the reason."""

    root: str
    entries: tuple[Entry, ...]
    broken: tuple[tuple[str, str], ...] = ()

    @property
    def digest(self) -> str:
        """Sha256 of paths and durations, the identity of the data for resuming."""
        rows = [{"path": entry.path, "kind": entry.kind, "frames": entry.frames} for entry in self.entries]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    @property
    def summary(self) -> str:
        """One line: "240,000 clips of 72,000,000 frames, 3 left out"."""
        clips = [entry.frames for entry in self.entries if entry.kind != "image"]
        counts = [(len(clips), f"clips of {sum(clips):,} frames"), (len(self.entries) - len(clips), "images")]
        found = " and ".join(f"{count:,} {word}" for count, word in counts if count)
        return found + (f", {len(self.broken):,} left out" if self.broken else "")

    @property
    def unmoving(self) -> str:
        """What follows the summary where clips are needed and single pictures stand for some of them."""
        count = sum(entry.frames == 1 for entry in self.entries)
        return f" ({count:,} single pictures, which are repeated, without motion)" if count else ""


@dataclass(frozen=True, slots=True)
class Found:
    """What a name stands for: a clip or image, or those of a shard; and what of it can't be opened, with the reason.

    signature: size and time of the file.
    """

    signature: list[int]
    entries: list[Entry]
    broken: list[tuple[str, str]]


Share = tuple[int, int]
Gather = Callable[[Mapping[str, Found]], list[Mapping[str, Found]]]
"""From what one rank has found to what all have."""


def read_index(
    data: str | Path,
    stored: Path,
    *,
    share: Share = (0, 1),
    gather: Gather = lambda found: [found],
) -> Index:
    """The index that is stored, where there is one of this folder, else a new one, which is stored.

    Args:
        data: a folder: each folder below it that holds images is a clip (frames in order), each video file a clip,
            images directly in it are images, and a tar holds what `shards.items_of` says; a tar; or a list file with a
            path and, where known, its number of frames a line.
        stored: its file, which the first rank writes.
        share: (rank, number of ranks); each opens its share of the files.
        gather: brings together what the ranks have found.

    Raises:
        DataError: no such folder or list, nothing in it that can be decoded, or a damaged index.
    """
    root = Path(data)
    listed = _listed(root)
    if stored.is_file():
        index = _read(stored)
        if index is not None and index.root == str(root):
            if share[0] == 0:
                _say_changes(index, listed, stored)
            return index
    found = _opened(root, listed, share, gather)
    entries = [entry for one in found.values() for entry in one.entries]
    broken = [fault for one in found.values() for fault in one.broken]
    if not entries:
        reasons = "".join(f" {path}: {why}" for path, why in broken[:3])
        raise DataError(f"{root} holds no video and no image that can be decoded.{reasons}", "Check the folder.")
    index = Index(str(root), tuple(entries), tuple(broken))
    if share[0] == 0:
        rows = [_row(entry) for entry in entries]
        write_atomic(stored, json.dumps({"root": str(root), "entries": rows, "broken": broken}, indent=0))
    return index


def files_of(index: Index, entry: Entry) -> list[Path]:
    """The video, the image or the frames of an entry in order. Raises DataError where its folder can't be read."""
    root = Path(index.root)
    folder = root if root.is_dir() else root.parent
    if entry.shard:
        return shards.files_of(folder / entry.shard, entry.members)
    if entry.kind != "folder":
        return [folder / entry.path]
    try:
        return numbered_files(folder / entry.path, IMAGES)
    except OSError as error:
        raise DataError(f"{folder / entry.path} can't be read ({error.strerror}).", "Restore it.") from None


def _row(entry: Entry) -> list[object]:
    """An entry as JSON holds it."""
    row: list[object] = [entry.path, entry.kind, entry.frames]
    return [*row, entry.shard, entry.members] if entry.shard else row


def _entry(row: list[Any]) -> Entry:
    """Raises ValueError or TypeError where a row is none of `_row`."""
    path, kind, frames, *of_shard = row
    if not of_shard:
        return Entry(str(path), str(kind), int(frames))
    shard, members = of_shard
    places = tuple(Member(str(name), int(start), int(size)) for name, start, size in members)
    if min((0, *(number for place in places for number in place[1:]))) < 0:
        raise ValueError(f"{path} lies before its shard")
    return Entry(str(path), str(kind), int(frames), str(shard), places)


def _read(stored: Path) -> Index | None:
    try:
        content: Any = from_json(stored.read_text(encoding="utf-8"))
        entries = tuple(map(_entry, content["entries"]))
        return Index(str(content["root"]), entries, tuple((str(path), str(why)) for path, why in content["broken"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{stored} is damaged ({error}).", "Remove it: it is made again from the data.") from None


def _say_changes(index: Index, listed: Mapping[str, int], stored: Path) -> None:
    known = {entry.shard or entry.path for entry in index.entries}
    known |= {path if path in listed else _shard_of(path) for path, _ in index.broken}
    gone, new = sorted(known - set(listed)), sorted(set(listed) - known)
    for names, what in ((gone, "gone: others take their place"), (new, "new: this run leaves them out")):
        if names:
            shown = f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
            said = f"since {stored} was made {len(names):,} of its files are {what} ({shown})"
            print(one_line(said), file=sys.stderr)


def _shard_of(path: str) -> str:
    """The shard that a path leads into; the path itself where it leads into none."""
    parts = Path(path).parts
    end = next((end for end, part in enumerate(parts, 1) if part.lower().endswith(shards.SUFFIXES)), len(parts))
    return "/".join(parts[:end])


def _listed(root: Path) -> dict[str, int]:
    """Name of each clip, image or shard that is there, to its frames where a list says so, else 0; opens nothing."""
    if root.is_file():
        return {root.name: 0} if root.name.lower().endswith(shards.SUFFIXES) else dict(_lines(root))
    if not root.is_dir():
        raise DataError(f"{root} is no folder.", "Name a folder of videos, of frame folders or of images, or a list.")
    found = [file.name for file in numbered_files(root, IMAGES)]
    for folder, _, files in sorted(os.walk(root)):
        name = Path(folder).relative_to(root)
        visible = [file for file in files if not file.startswith(".")]
        if name.parts and any(file.lower().endswith(IMAGES) for file in visible):
            found.append(name.as_posix())
        whole = (*VIDEOS, *shards.SUFFIXES)
        found += sorted((name / file).as_posix() for file in visible if file.lower().endswith(whole))
    return dict.fromkeys(found, 0)


def _lines(path: Path) -> Iterator[tuple[str, int]]:
    try:
        lines = regular_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} can't be read as a list ({error}).", "Give a folder, or lines of: PATH FRAMES"
        ) from None
    for number, line in enumerate(lines, 1):
        parts = [part.strip() for part in (line.split(",") if "," in line else line.split())]
        if not line.strip() or parts[0] in ("path", "#"):
            continue
        if "\0" in parts[0] or len(parts) > 3 or not all(map(_COUNT.fullmatch, parts[1:])):
            shown = line if len(line) <= 100 else f"{line[:100]}..."
            raise DataError(f"{path}, line {number}: {shown!r} is not a path and a number.", "Write: PATH FRAMES")
        yield parts[0], int(parts[1]) if len(parts) > 1 else 0


def _opened(root: Path, listed: Mapping[str, int], share: Share, gather: Gather) -> dict[str, Found]:
    """What was found of each name, in the order of the list."""
    folder = root if root.is_dir() else root.parent
    rank, ranks = share
    cache = _cache_file(root, rank, ranks)
    known = {name: one for file in cache.parent.glob(f"{cache.stem.split('-')[0]}-*.json") for name, one in _kept(file)}
    mine = list(listed)[rank::ranks]
    found = {name: one for name in mine if (one := known.get(name)) and one.signature == _signature(folder / name)}
    waiting = [name for name in mine if name not in found]
    pool = ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // ranks))
    opened = pool.map(lambda name: _open(folder, name, listed[name]), waiting)
    saved = time.monotonic()
    try:
        for name in tqdm(waiting, "index", disable=None if rank == 0 else True):
            found[name] = next(opened)
            if time.monotonic() - saved > _SAVE_EVERY:
                _keep(cache, found)
                saved = time.monotonic()
    finally:  # an interrupted indexing goes on where it was
        pool.shutdown(cancel_futures=True)
        if waiting:
            _keep(cache, found)
    together = {name: one for part in gather(found) for name, one in part.items()}
    return {name: together[name] for name in listed}


def _keep(file: Path, found: Mapping[str, Found]) -> None:
    rows = {name: [one.signature, list(map(_row, one.entries)), one.broken] for name, one in found.items()}
    try:
        write_atomic(file, json.dumps(rows))
    except RunError as error:  # a cache alone: without it the files are opened again
        print(one_line(f"what was found in the data is not kept for other runs: {error.problem}"), file=sys.stderr)


def _kept(file: Path) -> list[tuple[str, Found]]:
    """What a cache file holds; nothing of a damaged one, or of an earlier version's."""
    try:
        content: Any = from_json(file.read_text(encoding="utf-8"))
        return [
            (
                name,
                Found([int(n) for n in signature], list(map(_entry, rows)), [(str(p), str(why)) for p, why in broken]),
            )
            for name, (signature, rows, broken) in content.items()
        ]
    except (OSError, ValueError, AttributeError, TypeError):
        return []


def _open(folder: Path, name: str, frames: int) -> Found:
    """What a name stands for; `frames` of a video, where a list says so."""
    path, found = folder / name, Found(_signature(folder / name), [], [])
    try:
        if path.is_file() and name.lower().endswith(shards.SUFFIXES):
            for item in shards.items_of(path):
                inside = f"{name}/{item.name}"
                _add(found, Entry(inside, item.kind, 0, name, item.members), shards.files_of(path, item.members))
            return found
        kind = "folder" if path.is_dir() else "video" if path.suffix.lower() in VIDEOS else "image"
        files = numbered_files(path, IMAGES) if kind == "folder" else [path]
    except (DataError, OSError) as error:
        found.broken.append((name, getattr(error, "problem", str(error))))
        return found
    _add(found, Entry(name, kind, frames), files)
    return found


def _add(found: Found, entry: Entry, files: list[Path]) -> None:
    """Adds an entry with the frames that it has, or why it has none; entry.frames is what a list says of a video."""
    try:
        if entry.kind == "video":
            require_regular(files[0])
            video = VideoFile(files[0], entry.frames if entry.frames > 1 else None)
            video.read((0,))
            count = video.count_decodable()
        else:
            _require_one_readable(files)
            count = len(files)
    except (DataError, OSError) as error:
        found.broken.append((entry.path, getattr(error, "problem", str(error))))
    else:
        found.entries.append(replace(entry, frames=count))


def _require_one_readable(files: list[Path]) -> None:
    """Raises the first file's DataError where no picture can be decoded."""
    first: DataError | None = None
    for file in files:
        try:
            read_image(file)
            return
        except DataError as error:
            first = first or error
    raise first or DataError("It holds no image.", "")


def _signature(path: Path) -> list[int]:
    try:
        status = path.stat()
    except OSError:
        return [0, 0]
    return [status.st_size, status.st_mtime_ns]


def _cache_file(root: Path, rank: int, ranks: int) -> Path:
    from corrkit.clips.embedded import cache_folder

    name = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
    return cache_folder() / "index" / f"{name}-{rank}of{ranks}.json"
