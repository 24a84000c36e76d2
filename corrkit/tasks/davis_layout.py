"""Finding DAVIS data on disk: the 2017 and 2016 layouts, a root one folder too high, split lists."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from corrkit.errors import DataError, closest
from corrkit.files.reading import entries, is_folder, is_plain_name, ordered, read_file
from corrkit.manifests.clips import official_clips, official_splits
from corrkit.tasks.clips import ClipFiles
from corrkit.tasks.roots import (
    clip_folders,
    clips_of_list,
    find_root,
    named_in_lists,
    own_list,
    shown_name,
    unlisted_folders,
)

_EXPECTED = "ROOT/JPEGImages/480p/CLIP/00000.jpg, ROOT/Annotations/480p/CLIP/00000.png, ROOT/ImageSets/2017/val.txt"
_LARGEST_DESCRIPTION = 1 << 28
_RESOLUTIONS = ("480p", "Full-Resolution")


@dataclass(frozen=True, slots=True)
class DavisLayout:
    """root holds JPEGImages and Annotations; frames and masks are their folders of clips; lists maps split to file.

    notes: how the root was found. leads_in: whether there may be frames before the first annotated one.
    """

    tree: ClassVar[tuple[str, ...]] = (
        "ImageSets/2017/{split}.txt",
        "JPEGImages/480p/CLIP/00000.jpg, 00001.jpg, ...",
        "Annotations/480p/CLIP/00000.png, 00001.png, ... (test-dev: 00000.png only)",
    )

    root: Path
    frames: Path
    masks: Path
    lists: dict[str, Path]
    notes: tuple[str, ...] = ()
    leads_in: bool = False

    @property
    def has_official_sizes(self) -> bool:
        """Whether these are the 480p frames that the benchmark is scored on."""
        return self.masks.name == "480p"

    def clips(self, split: str) -> tuple[tuple[ClipFiles, ...], list[str]]:
        """The split's clips in the list's order, and notes. Raises DataError for an unknown or empty split.

        A split may be the path of a list of one's own, too.
        """
        names, notes = self._clip_names(split)
        return tuple(map(self.files, names)), notes

    def files(self, folder: str) -> ClipFiles:
        """JPEGImages/480p/CLIP and Annotations/480p/CLIP."""
        return ClipFiles(shown_name(folder), self.frames / folder, self.masks / folder, leads_in=self.leads_in)

    def folder(self, files: ClipFiles) -> str:
        """CLIP."""
        return files.name

    def unlisted(self) -> Iterator[Path]:
        """Folders that neither data_manifests nor a list names; none where there is no list."""
        if self.lists:
            official = {clip.clip for split in official_splits("davis") for clip in official_clips("davis", split)}
            known = official | named_in_lists(self.lists.values())
            yield from unlisted_folders((self.frames, self.masks), known)

    def _clip_names(self, split: str) -> tuple[list[str], list[str]]:
        listed = own_list(self.root, split)
        if listed is None and not self.lists:
            described = self.root / "meta.json"
            if described.is_file():
                names = _described_clips(described)
                return names, [f"{self.root} has no ImageSets: the {len(names)} clips of meta.json are taken."]
            names, litter = clip_folders(self.masks, self.frames)
            if not names:
                raise DataError(f"{self.masks} holds no clip.", "Point --data to a folder in DAVIS layout.")
            note = f"{self.root} has no ImageSets: all {len(names)} clips are taken as split {split!r}."
            return names, [*litter, note]
        if listed is None and split not in self.lists:
            raise DataError(f"{self.root} has no split {split!r}.", closest(split, self.lists))
        listed = listed or self.lists[split]
        names = clips_of_list(listed)
        if not any(is_folder(self.masks / name) for name in names):
            raise DataError(
                f"{listed} names {len(names)} clips, none of which is in {self.masks}.",
                "Point --data to the folder that holds JPEGImages and Annotations.",
            )
        return names, []


def find_layout(root: Path) -> DavisLayout:
    """The DAVIS layout at `root` or one folder below it. Raises DataError with the expected tree.

    JPEGImages may be missing: masks alone are enough to score predictions.
    """
    found, notes = find_root(root, task="DAVIS", is_root=_is_root, expected=_EXPECTED)
    there = [name for name in _RESOLUTIONS if is_folder(found / "Annotations" / name)]
    if len(there) > 1:
        notes = (*notes, f"{found} holds {' and '.join(there)}: {there[0]} is taken.")
    frames, masks = (found / name / "/".join(there[:1]) for name in ("JPEGImages", "Annotations"))
    return DavisLayout(found, frames, masks, _split_lists(found), notes)


def _is_root(folder: Path) -> bool:
    return is_folder(folder / "Annotations")


def _split_lists(root: Path) -> dict[str, Path]:
    """Split name to list file: ImageSets/2017 first, then 2016 and 480p, then ImageSets itself, then other folders."""
    top = root / "ImageSets"
    years = [top / name for name in ("2017", "2016", "480p")]
    for folder in (*years, top, *(folder for folder in ordered(entries(top)) if folder not in years)):
        lists = {path.stem: path for path in entries(folder) if path.suffix.lower() == ".txt"}
        if lists:
            return lists
    return {}


def _described_clips(path: Path) -> list[str]:
    """The clips of YouTube-VOS's meta.json: {"videos": {CLIP: ...}}. Raises DataError."""
    try:
        clips = list(json.loads(read_file(path, largest=_LARGEST_DESCRIPTION))["videos"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path} names no clips ({error!r}).", 'Expected {"videos": {"CLIP": ...}}.') from None
    if not clips or not all(map(is_plain_name, clips)):
        raise DataError(f"{path} names no clips.", 'Expected {"videos": {"CLIP": ...}}.')
    return clips
