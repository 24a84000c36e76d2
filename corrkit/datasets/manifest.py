"""What a data set's clips are, clip by clip: read from data_manifests or a manifest of one's own, written from a copy."""

import csv
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from corrkit.errors import DataError
from corrkit.manifests import manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestClip:
    """One clip as a manifest describes it; None where it is not known.

    folder: path of the clip's folder below that of all frames ("ACTION/CLIP" in JHMDB). num_annotations: masks, label
    maps, or frames with joints. num_objects: objects (DAVIS), or classes of the first label (VIP). width, height: of
    the first frame, in pixels. The digests are those of `digest_of_files`.
    """

    split: str
    clip: str
    folder: str
    num_frames: int | None = None
    num_annotations: int | None = None
    num_objects: int | None = None
    width: int | None = None
    height: int | None = None
    frames_sha256: str | None = None
    annotations_sha256: str | None = None


COLUMNS = tuple(column.name for column in fields(ManifestClip))
_COUNTS = ("num_frames", "num_annotations", "num_objects", "width", "height")
_REQUIRED = ("split", "clip", "folder")


def official_clips(task: str, split: str) -> tuple[ManifestClip, ...]:
    """The benchmark's own clips of a split from data_manifests; empty for a split that is not known there."""
    return tuple(clip for clip in _OFFICIAL[task]() if clip.split == split)


def official_splits(task: str) -> tuple[str, ...]:
    """The splits that data_manifests knows."""
    return tuple(dict.fromkeys(clip.split for clip in _OFFICIAL[task]()))


def read_manifest(path: Path) -> tuple[ManifestClip, ...]:
    """The clips of a manifest written by `manifest_text`. Raises DataError naming line and column of what is wrong."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} can't be read as a manifest ({error}).", "Write one with corrkit data manifest.") from None
    missing = [column for column in _REQUIRED if not rows or column not in rows[0]]
    if missing:
        raise DataError(
            f"{path} is no manifest: {'it has no row' if not rows else 'it lacks the column ' + missing[0]}.",
            f"Write one with corrkit data manifest; its columns are {', '.join(COLUMNS)}.",
        )
    return tuple(_clip_of_row(row, f"{path} line {line}") for line, row in enumerate(rows, start=2))


def manifest_text(clips: Iterable[ManifestClip]) -> str:
    """A manifest as CSV; an empty cell where something is not known."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(clip) for clip in clips)
    return text.getvalue()


def describe(task: str, root: Path, *, split: str | None) -> Iterator[ManifestClip]:
    """A manifest's rows from a copy, clip by clip.

    Args:
        task: davis, vip or jhmdb.
        root: data root, see `archive.open_root`.
        split: None for the task's default.

    Raises:
        DataError: at the first clip that can't be read: a manifest describes a sound copy.
    """
    from corrkit.tasks import load_task

    opener = load_task(task)
    data = opener.open(root, split=split or opener.default_split, dataset_name=None)
    for clip in data.clips:
        paths = clip.frames.paths
        height, width = clip.frames.size
        first = clip.annotation(0)
        yield ManifestClip(
            split=data.split,
            clip=clip.name,
            folder=f"{paths[0].parent.parent.name}/{clip.name}" if task == "jhmdb" else clip.name,
            num_frames=len(paths),
            num_annotations=_num_annotations(clip),
            num_objects=None if task == "jhmdb" else _num_ids(task, first),
            width=width,
            height=height,
            frames_sha256=digest_of_files(paths),
            annotations_sha256=digest_of_files(clip.annotation_files),
        )


def digest_of_files(paths: Sequence[Path]) -> str:
    """sha256 hex over one line "NAME SHA256-OF-CONTENT" per file, in order."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _num_annotations(clip: Any) -> int:
    return clip.num_annotated if hasattr(clip, "num_annotated") else len(clip.annotation_files)


def _num_ids(task: str, first: Any) -> int:
    import numpy as np

    return int(first.max()) if task == "davis" else len(np.unique(first[first > 0]))


def _clip_of_row(row: Mapping[str, str], where: str) -> ManifestClip:
    values: dict[str, Any] = {column: row.get(column) or None for column in COLUMNS}
    for column in _REQUIRED:
        if values[column] is None:
            raise DataError(f"{where} has no {column}.", "Correct the manifest.")
    for column in _COUNTS:
        if values[column] is not None:
            if not values[column].isdecimal():
                raise DataError(f"{where}: {column} is {values[column]!r}, not a number.", "Correct the manifest.")
            values[column] = int(values[column])
    return ManifestClip(**values)


def _rows(name: str) -> list[dict[str, str]]:
    with manifest(name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _davis() -> list[ManifestClip]:
    return [
        ManifestClip(
            split=row["set"],
            clip=row["name"],
            folder=row["name"],
            num_frames=int(row["num_frames"]),
            num_annotations=1 if row["set"].startswith("test") else int(row["num_frames"]),
            num_objects=int(row["num_objects"]),
            width=int(row["width_480p"]),
            height=int(row["height_480p"]),
        )
        for row in _rows("davis2017.csv")
    ]


def _vip() -> list[ManifestClip]:
    return [ManifestClip(split="val", clip=row["clip"], folder=row["clip"]) for row in _rows("vip_val.csv")]


def _jhmdb() -> list[ManifestClip]:
    return [
        ManifestClip(
            split="split1",
            clip=row["clip"],
            folder=f"{row['action']}/{row['clip']}",
            num_frames=int(row["num_frames"]),
            num_annotations=int(row["num_frames"]),
        )
        for row in _rows("jhmdb_split1_test.csv")
    ]


_OFFICIAL = MappingProxyType({"davis": _davis, "vip": _vip, "jhmdb": _jhmdb})
