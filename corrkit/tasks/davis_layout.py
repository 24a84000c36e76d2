"""Finding DAVIS data on disk: the 2017 and 2016 layouts, a root one folder too high or too low, split lists."""

from dataclasses import dataclass
from pathlib import Path

from corrkit.errors import DataError, closest
from corrkit.tasks.roots import find_root, list_lines

_EXPECTED = "ROOT/JPEGImages/480p/CLIP/00000.jpg, ROOT/Annotations/480p/CLIP/00000.png, ROOT/ImageSets/2017/val.txt."
_RESOLUTIONS = ("480p", "Full-Resolution")


@dataclass(frozen=True, slots=True)
class DavisLayout:
    """root holds JPEGImages and Annotations; frames and masks are their folders of clips; lists maps split to file."""

    root: Path
    frames: Path
    masks: Path
    lists: dict[str, Path]

    def clip_names(self, split: str) -> tuple[list[str], list[str]]:
        """Names of the split's clips in the list's order, and notes. Raises DataError for an unknown or empty split."""
        if not self.lists:
            names = sorted(folder.name for folder in self.masks.iterdir() if folder.is_dir())
            if not names:
                raise DataError(f"{self.masks} holds no clip.", "Point --data to a folder in DAVIS layout.")
            return names, [f"{self.root} has no ImageSets: all {len(names)} clips are taken as split {split!r}."]
        if split not in self.lists:
            raise DataError(f"{self.root} has no split {split!r}.", closest(split, self.lists))
        names = list(dict.fromkeys(_clip_name(line) for line in list_lines(self.lists[split])))
        if not names:
            raise DataError(f"{self.lists[split]} names no clip.", "Choose another --split or restore the list.")
        if not any((self.masks / name).is_dir() for name in names):
            raise DataError(
                f"{self.lists[split]} names {len(names)} clips, none of which is in {self.masks}.",
                "Point --data to the folder that holds JPEGImages and Annotations.",
            )
        return names, []


def find_layout(root: Path) -> DavisLayout:
    """The DAVIS layout at `root`, one folder below it, or above it. Raises DataError with the expected tree.

    JPEGImages may be missing: masks alone are enough to score predictions.
    """
    found = find_root(root, task="DAVIS", is_root=lambda folder: (folder / "Annotations").is_dir(), expected=_EXPECTED)
    frames, masks = _resolution(found)
    return DavisLayout(found, frames, masks, _split_lists(found))


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
        if folder.is_dir():
            lists = {path.stem: path for path in folder.iterdir() if path.suffix == ".txt"}
            if lists:
                return lists
    return {}


def _clip_name(line: str) -> str:
    """2017 lists name clips; 2016 lists name pairs of files: /JPEGImages/480p/CLIP/00000.jpg /Annotations/..."""
    first = line.split()[0] if line.startswith("/") else line
    return Path(first).parent.name if "/" in first else first
