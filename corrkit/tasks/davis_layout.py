"""Finding DAVIS data on disk: the 2017 and 2016 layouts, a root one folder too high, split lists."""

from dataclasses import dataclass
from pathlib import Path

from corrkit.errors import DataError, closest
from corrkit.frames.files import entries, is_folder
from corrkit.tasks.roots import clip_folders, clips_of_list, find_root

_EXPECTED = "ROOT/JPEGImages/480p/CLIP/00000.jpg, ROOT/Annotations/480p/CLIP/00000.png, ROOT/ImageSets/2017/val.txt."
_RESOLUTIONS = ("480p", "Full-Resolution")


@dataclass(frozen=True, slots=True)
class DavisLayout:
    """root holds JPEGImages and Annotations; frames and masks are their folders of clips; lists maps split to file.

    notes: how the root was found.
    """

    root: Path
    frames: Path
    masks: Path
    lists: dict[str, Path]
    notes: tuple[str, ...] = ()

    def clip_names(self, split: str) -> tuple[list[str], list[str]]:
        """Names of the split's clips in the list's order, and notes. Raises DataError for an unknown or empty split."""
        if not self.lists:
            names, litter = clip_folders(self.masks, self.frames)
            if not names:
                raise DataError(f"{self.masks} holds no clip.", "Point --data to a folder in DAVIS layout.")
            note = f"{self.root} has no ImageSets: all {len(names)} clips are taken as split {split!r}."
            return names, [*litter, note]
        if split not in self.lists:
            raise DataError(f"{self.root} has no split {split!r}.", closest(split, self.lists))
        names = clips_of_list(self.lists[split])
        if not any(is_folder(self.masks / name) for name in names):
            raise DataError(
                f"{self.lists[split]} names {len(names)} clips, none of which is in {self.masks}.",
                "Point --data to the folder that holds JPEGImages and Annotations.",
            )
        return names, []


def find_layout(root: Path) -> DavisLayout:
    """The DAVIS layout at `root` or one folder below it. Raises DataError with the expected tree.

    JPEGImages may be missing: masks alone are enough to score predictions.
    """
    found, notes = find_root(root, task="DAVIS", is_root=_is_root, expected=_EXPECTED)
    frames, masks = _resolution(found)
    return DavisLayout(found, frames, masks, _split_lists(found), notes)


def _is_root(folder: Path) -> bool:
    return is_folder(folder / "Annotations")


def _resolution(root: Path) -> tuple[Path, Path]:
    frames, masks = root / "JPEGImages", root / "Annotations"
    for name in _RESOLUTIONS:
        if (masks / name).is_dir():
            return frames / name, masks / name
    return frames, masks


def _split_lists(root: Path) -> dict[str, Path]:
    """Split name to list file: ImageSets/2017 first, then 2016 and 480p, then ImageSets itself."""
    folders = [root / "ImageSets" / name for name in ("2017", "2016", "480p")] + [root / "ImageSets"]
    for folder in folders:
        lists = {path.stem: path for path in entries(folder) if path.suffix == ".txt"}
        if lists:
            return lists
    return {}
