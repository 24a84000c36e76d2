"""Finding VIP on disk: Images, labels in one of three places, and lists of clips."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from corrkit.errors import DataError, closest
from corrkit.files.reading import entries, is_folder
from corrkit.tasks.clips import ClipFiles
from corrkit.tasks.roots import (
    clip_folders,
    clips_of_list,
    find_root,
    list_file,
    named_in_lists,
    shown_name,
    unlisted_folders,
)

_EXPECTED = (
    "ROOT/Images/CLIP/000000000001.jpg, ROOT/Annotations/Category_ids/CLIP/000000000001.png (or Category_ids, or "
    "Annotations/CLIP, under ROOT), ROOT/lists/val_videos.txt"
)


@dataclass(frozen=True, slots=True)
class VipLayout:
    """root holds Images; labels is the folder of clips of label PNGs; notes say how the root was found."""

    tree: ClassVar[tuple[str, ...]] = (
        "lists/{split}_videos.txt",
        "Images/CLIP/000000000001.jpg, ... (numbers may be left out)",  # HCPLab-SYSU/ATEN issue 5
        "Annotations/Category_ids/CLIP/000000000001.png, ... (or Category_ids/CLIP, or Annotations/CLIP)",
    )
    has_official_sizes: ClassVar[bool] = True

    root: Path
    labels: Path
    notes: tuple[str, ...] = ()

    @property
    def frames(self) -> Path:
        """Folder of clips of frames."""
        return self.root / "Images"

    def clips(self, split: str) -> tuple[tuple[ClipFiles, ...], list[str]]:
        """The split's clips in the list's order, and notes.

        Args:
            split: "val" for lists/val_videos.txt, or a list file: one clip a line, or FRAMES LABELS folders.

        Raises:
            DataError: for an unknown or empty split.
        """
        names, notes = self._clip_names(split)
        return tuple(map(self.files, names)), notes

    def files(self, folder: str) -> ClipFiles:
        """Images/CLIP and the labels' CLIP."""
        return ClipFiles(shown_name(folder), self.frames / folder, self.labels / folder)

    def folder(self, files: ClipFiles) -> str:
        """CLIP."""
        return files.name

    def unlisted(self) -> Iterator[Path]:
        """Folders neither called videosN, as all of VIP's, nor named by a list; none where there is no list."""
        lists = [path for path in entries(self.root / "lists") if path.suffix == ".txt"]
        if lists:
            for folder in unlisted_folders((self.frames, self.labels), named_in_lists(lists)):
                if not re.fullmatch(r"videos\d+", folder.name):
                    yield folder

    def _clip_names(self, split: str) -> tuple[list[str], list[str]]:
        listed = list_file(self.root, split)
        if listed is None:
            return self._everything(split)
        names = clips_of_list(listed)
        if not any(is_folder(self.labels / name) for name in names):
            raise DataError(
                f"{listed} names {len(names)} clips, none of which is in {self.labels}, e.g. {names[0]}.",
                "Point --data to the folder that holds Images.",
            )
        return names, []

    def _everything(self, split: str) -> tuple[list[str], list[str]]:
        lists = _split_lists(self.root)
        if lists:
            raise DataError(f"{self.root} has no split {split!r}.", closest(split, lists))
        names, litter = clip_folders(self.labels, self.frames)
        if not names:
            raise DataError(f"{self.labels} holds no clip.", "Point --data to a folder in VIP layout.")
        return names, [*litter, f"{self.root} has no lists: all {len(names)} clips are taken as split {split!r}."]


def find_layout(root: Path) -> VipLayout:
    """The VIP layout at `root` or one folder below it. Raises DataError with the expected tree."""
    found, notes = find_root(root, task="VIP", is_root=lambda folder: _labels(folder) is not None, expected=_EXPECTED)
    labels = _labels(found)
    assert labels is not None
    return VipLayout(found, labels, notes)


def _labels(root: Path) -> Path | None:
    """Where the labels lie: CropMAE and UVC, ATEN's own, Spa-then-Temp."""
    if not is_folder(root / "Images"):
        return None
    places = (root / "Annotations" / "Category_ids", root / "Category_ids", root / "Annotations")
    return next((place for place in places if is_folder(place)), None)


def _split_lists(root: Path) -> list[str]:
    return [path.stem.removesuffix("_videos") for path in entries(root / "lists") if path.suffix == ".txt"]
