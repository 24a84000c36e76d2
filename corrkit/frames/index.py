"""The index of a folder or list: which clips and images there are, with how many frames, and what can't be opened.

Files are opened in parallel, each once for all runs: what was found of a file is kept in the user's cache until its
size or time changes.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from corrkit.errors import DataError
from corrkit.files.atomic import write_atomic
from corrkit.files.reading import numbered_files, require_regular
from corrkit.frames.pictures import SUFFIXES as IMAGES
from corrkit.frames.pictures import read_image
from corrkit.frames.video import SUFFIXES as VIDEOS
from corrkit.frames.video import VideoFile
from corrkit.text import one_line

_SAVE_EVERY = 30.0  # seconds: what a killed indexing loses at most


@dataclass(frozen=True, slots=True)
class Entry:
    """A clip or image: its path relative to the root, kind ("folder", "video", "image", ...) and frames."""

    path: str
    kind: str
    frames: int


@dataclass(frozen=True, slots=True)
class Index:
    """What a data folder holds; `broken` lists files that can't be decoded, with the reason."""

    root: str
    entries: tuple[Entry, ...]
    broken: tuple[tuple[str, str], ...] = ()

    @property
    def digest(self) -> str:
        """Sha256 of paths and durations, the identity of the data for resuming."""
        return hashlib.sha256(json.dumps([asdict(entry) for entry in self.entries]).encode()).hexdigest()

    @property
    def summary(self) -> str:
        """One line: "240,000 clips, 3 left out"."""
        images = sum(entry.kind == "image" for entry in self.entries)
        counts = [(len(self.entries) - images, "clips"), (images, "images")]
        found = " and ".join(f"{count:,} {word}" for count, word in counts if count)
        return found + (f", {len(self.broken):,} left out" if self.broken else "")


Share = tuple[int, int]
Found = tuple[list[int], str, int, str]
"""Signature, kind, frames, why it is left out."""
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
        data: a folder: each folder below it that holds images is a clip (frames in order), each video file a clip, and
            images directly in it are images; or a list file with a path and, where known, its number of frames a line.
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
    entries = [Entry(name, kind, frames) for name, (_, kind, frames, why) in found.items() if not why]
    broken = [(name, why) for name, (*_, why) in found.items() if why]
    if not entries:
        reasons = "".join(f" {path}: {why}" for path, why in broken[:3])
        raise DataError(f"{root} holds no video and no image that can be decoded.{reasons}", "Check the folder.")
    index = Index(str(root), tuple(entries), tuple(broken))
    if share[0] == 0:
        rows = [[entry.path, entry.kind, entry.frames] for entry in entries]
        write_atomic(stored, json.dumps({"root": str(root), "entries": rows, "broken": broken}, indent=0))
    return index


def folder_of(index: Index) -> Path:
    """What the paths of an index's entries are relative to."""
    root = Path(index.root)
    return root if root.is_dir() else root.parent


def _read(stored: Path) -> Index | None:
    try:
        content = json.loads(stored.read_text(encoding="utf-8"))
        entries = tuple(Entry(str(path), str(kind), int(frames)) for path, kind, frames in content["entries"])
        return Index(str(content["root"]), entries, tuple((path, why) for path, why in content["broken"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{stored} is damaged ({error}).", "Remove it: it is made again from the data.") from None


def _say_changes(index: Index, listed: Mapping[str, int], stored: Path) -> None:
    known = {entry.path for entry in index.entries} | {path for path, _ in index.broken}
    gone, new = sorted(known - set(listed)), sorted(set(listed) - known)
    for names, what in ((gone, "gone: others take their place"), (new, "new: this run leaves them out")):
        if names:
            shown = f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
            said = f"since {stored} was made {len(names):,} of its files are {what} ({shown})"
            print(one_line(said), file=sys.stderr)


def _listed(root: Path) -> dict[str, int]:
    """Name of each clip or image that is there, to its frames where a list says so, else 0; nothing is opened."""
    if root.is_file():
        return dict(_lines(root))
    if not root.is_dir():
        raise DataError(f"{root} is no folder.", "Name a folder of videos, of frame folders or of images, or a list.")
    found = [file.name for file in numbered_files(root, IMAGES)]
    for folder, _, files in sorted(os.walk(root)):
        name = Path(folder).relative_to(root)
        visible = [file for file in files if not file.startswith(".")]
        if name.parts and any(file.lower().endswith(IMAGES) for file in visible):
            found.append(name.as_posix())
        found += sorted((name / file).as_posix() for file in visible if file.lower().endswith(VIDEOS))
    return dict.fromkeys(found, 0)


def _lines(path: Path) -> Iterator[tuple[str, int]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} can't be read as a list ({error}).", "Give a folder, or lines of: PATH FRAMES"
        ) from None
    for number, line in enumerate(lines, 1):
        parts = [part.strip() for part in (line.split(",") if "," in line else line.split())]
        if not line.strip() or parts[0] in ("path", "#"):
            continue
        if len(parts) > 3 or not all(part.lstrip("-").isdecimal() for part in parts[1:]):
            raise DataError(f"{path}, line {number}: {line!r} is not a path and a number.", "Write: PATH FRAMES")
        yield parts[0], int(parts[1]) if len(parts) > 1 else 0


def _opened(root: Path, listed: Mapping[str, int], share: Share, gather: Gather) -> dict[str, Found]:
    """What was found of each name, in the order of the list."""
    folder = root if root.is_dir() else root.parent
    rank, ranks = share
    cache = _cache_file(root, rank, ranks)
    known = {name: row for file in cache.parent.glob(f"{cache.stem.split('-')[0]}-*.json") for name, row in _rows(file)}
    mine = list(listed)[rank::ranks]
    found = {name: row for name in mine if (row := known.get(name)) and row[0] == _signature(folder / name)}
    waiting = [name for name in mine if name not in found]
    pool = ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // ranks))
    rows = pool.map(lambda name: _row(folder / name, listed[name]), waiting)
    saved = time.monotonic()
    try:
        for name in tqdm(waiting, "index", disable=None if rank == 0 else True):
            found[name] = next(rows)
            if time.monotonic() - saved > _SAVE_EVERY:
                write_atomic(cache, json.dumps(found))
                saved = time.monotonic()
    finally:  # an interrupted indexing goes on where it was
        pool.shutdown(cancel_futures=True)
        if waiting:
            write_atomic(cache, json.dumps(found))
    together = {name: row for part in gather(found) for name, row in part.items()}
    return {name: together[name] for name in listed}


def _rows(file: Path) -> list[tuple[str, Found]]:
    """What a cache file holds; nothing of a damaged one."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        rows = [(name, row) for name, row in content.items() if len(row) == 4]
        return [
            (name, ([int(number) for number in signature], str(kind), int(frames), str(why)))
            for name, (signature, kind, frames, why) in rows
        ]
    except (OSError, ValueError, AttributeError, TypeError):
        return []


def _row(path: Path, frames: int) -> Found:
    kind = "folder" if path.is_dir() else "video" if path.suffix.lower() in VIDEOS else "image"
    signature = _signature(path)
    try:
        if kind == "folder":
            files = numbered_files(path, IMAGES)
            _require_one_readable(files)
            return signature, kind, len(files), ""
        require_regular(path)
        if kind == "video":
            video = VideoFile(path, frames if frames > 1 else None)
            video.read((0,))
            return signature, kind, video.count_decodable(), ""
        _require_one_readable([path])
        return signature, kind, 1, ""
    except (DataError, OSError) as error:
        return signature, kind, 0, getattr(error, "problem", str(error))


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
