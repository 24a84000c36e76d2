"""What a data set's clips are, clip by clip: data_manifests, or a manifest of one's own."""

import csv
import hashlib
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from corrkit.errors import DataError
from corrkit.files.reading import file_sha256, is_plain_name, regular_text
from corrkit.manifests import manifest
from corrkit.text import from_spreadsheet_cell, spreadsheet_cell


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestClip:
    """One clip as a manifest describes it; None where it is not known.

    folder: path of the clip's folder below that of all frames ("ACTION/CLIP" in JHMDB). first_frame, last_frame: names
    without suffix. num_annotations: masks, label maps, or frames with joints. num_objects: objects (DAVIS), or classes
    of the first label (VIP). width, height: of the first frame, in pixels. The digests are those of `digest_of_files`;
    hash_source: whose copy they were computed from, where that was not this manifest's own.
    """

    split: str
    clip: str
    folder: str
    num_frames: int | None = None
    first_frame: str | None = None
    last_frame: str | None = None
    num_annotations: int | None = None
    num_objects: int | None = None
    width: int | None = None
    height: int | None = None
    frames_sha256: str | None = None
    annotations_sha256: str | None = None
    hash_source: str | None = None

    def stems(self) -> tuple[str, ...] | None:
        """Names of all frames without suffix, where they follow from first, last and number; else None."""
        first, last = self.first_frame or "", self.last_frame or ""
        if not (first.isdecimal() and last.isdecimal()) or max(len(first), len(last)) > _LONGEST_NUMBER:
            return None
        if int(last) - int(first) + 1 != self.num_frames:
            return None
        return tuple(f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1))


COLUMNS = tuple(column.name for column in fields(ManifestClip))
_COUNTS = ("num_frames", "num_annotations", "num_objects", "width", "height")
_REQUIRED = ("split", "clip", "folder")
_LONGEST_NUMBER = 255  # digits: no file has a longer name
_DIGITS = 6  # of a count: the names of a clip's frames are all made
_SHOWN = 30  # characters of a cell in a message
_WRITE_ONE = "Write one with corrkit data manifest."


def official_clips(task: str, split: str) -> tuple[ManifestClip, ...]:
    """The benchmark's own clips of a split from data_manifests; empty for a task or split that is not known there."""
    return tuple(clip for clip in _OFFICIAL.get(task, list)() if clip.split == split)


def official_splits(task: str) -> tuple[str, ...]:
    """The splits that data_manifests knows."""
    return tuple(dict.fromkeys(clip.split for clip in _OFFICIAL.get(task, list)()))


def read_manifest(path: Path) -> tuple[ManifestClip, ...]:
    """The clips of a manifest written by `manifest_text`. Raises DataError naming line and column of what is wrong."""
    try:
        rows = list(csv.DictReader(io.StringIO(regular_text(path, encoding="utf-8-sig"), newline="")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} can't be read as a manifest ({error}).", _WRITE_ONE) from None
    missing = [column for column in _REQUIRED if not rows or column not in rows[0]]
    if missing:
        raise DataError(
            f"{path} is no manifest: {'it has no row' if not rows else 'it lacks the column ' + missing[0]}.",
            f"{_WRITE_ONE} Its columns are {', '.join(COLUMNS)}.",
        )
    return tuple(_clip_of_row(row, f"{path} line {line}") for line, row in enumerate(rows, start=2))


def manifest_text(clips: Iterable[ManifestClip]) -> str:
    """A manifest as CSV; an empty cell where something is not known."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for clip in clips:
        cells = asdict(clip).items()
        writer.writerow({name: spreadsheet_cell(cell) if isinstance(cell, str) else cell for name, cell in cells})
    return text.getvalue()


def digest_of_files(paths: Sequence[Path]) -> str:
    """sha256 hex over one line "NAME SHA256-OF-CONTENT" per file, in order."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(b"%s %s\n" % (os.fsencode(path.name), file_sha256(path).encode()))
    return digest.hexdigest()


def _clip_of_row(row: Mapping[str, str], where: str) -> ManifestClip:
    values: dict[str, Any] = {column: from_spreadsheet_cell(row.get(column) or "") or None for column in COLUMNS}
    for column in _REQUIRED:
        if values[column] is None:
            raise DataError(f"{where} has no {column}.", "Correct the manifest.")
    for column in _COUNTS:
        if values[column] is not None:
            digits = values[column].lstrip("0") or "0"
            if not digits.isdecimal() or len(digits) > _DIGITS:
                shown = f"{values[column][:_SHOWN]!r}"
                raise DataError(f"{where}: {column} is {shown}, not a number of a clip.", "Correct the manifest.")
            values[column] = int(values[column])
    for column in ("clip", "folder"):
        if not all(map(is_plain_name, values[column].split("/") if column == "folder" else [values[column]])):
            shown = f"{values[column][:_SHOWN]!r}"
            raise DataError(f"{where}: {column} is {shown}, which leads out of the data.", "Correct the manifest.")
    return ManifestClip(**values)


def _rows(name: str) -> list[dict[str, str]]:
    with manifest(name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _davis() -> list[ManifestClip]:
    clips = [
        ManifestClip(
            split=row["set"],
            clip=row["name"],
            folder=row["name"],
            num_frames=int(row["num_frames"]),
            first_frame="00000",
            last_frame=f"{int(row['num_frames']) - 1:05d}",
            num_annotations=1 if row["set"].startswith("test") else int(row["num_frames"]),
            num_objects=int(row["num_objects"]),
            width=int(row["width_480p"]),
            height=int(row["height_480p"]),
        )
        for row in _rows("davis2017.csv")
    ]
    hashes = {row["clip"]: row for row in _rows("hashes.csv") if row["task"] == "davis"}
    return [_with_hashes(clip, hashes[clip.clip]) if clip.clip in hashes else clip for clip in clips]


def _with_hashes(clip: ManifestClip, row: Mapping[str, str]) -> ManifestClip:
    frames, annotations = row["frames_sha256"] or None, row["annotations_sha256"] or None
    return replace(clip, frames_sha256=frames, annotations_sha256=annotations, hash_source=row["source"])


def _vip() -> list[ManifestClip]:
    return [ManifestClip(split="val", clip=row["clip"], folder=row["clip"]) for row in _rows("vip_val.csv")]


def _jhmdb() -> list[ManifestClip]:
    return [
        ManifestClip(
            split="split1",
            clip=row["clip"],
            folder=f"{row['action']}/{row['clip']}",
            num_frames=int(row["num_frames"]),
            first_frame="00001",
            last_frame=f"{int(row['num_frames']):05d}",
            num_annotations=int(row["num_frames"]),
            width=320,  # all of JHMDB
            height=240,
        )
        for row in _rows("jhmdb_split1_test.csv")
    ]


_OFFICIAL = MappingProxyType({"davis": _davis, "vip": _vip, "jhmdb": _jhmdb})
