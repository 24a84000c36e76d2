"""Finding VIP on disk: Images, labels in one of three places, and lists of clips."""

from dataclasses import dataclass
from pathlib import Path

from corrkit.errors import DataError, closest
from corrkit.tasks.roots import find_root, list_file, list_lines

_EXPECTED = (
    "ROOT/Images/CLIP/000000000001.jpg, ROOT/Annotations/Category_ids/CLIP/000000000001.png (or Category_ids, or "
    "Annotations/CLIP, under ROOT), ROOT/lists/val_videos.txt"
)


@dataclass(frozen=True, slots=True)
class VipLayout:
    """root holds Images; labels is the folder of clips of label PNGs."""

    root: Path
    labels: Path

    @property
    def frames(self) -> Path:
        """Folder of clips of frames."""
        return self.root / "Images"

    def clip_names(self, split: str) -> tuple[list[str], list[str]]:
        """Names of the split's clips in the list's order, and notes.

        Args:
            split: "val" for lists/val_videos.txt, or a list file: one clip a line, or FRAMES LABELS folders.

        Raises:
            DataError: for an unknown or empty split.
        """
        listed = list_file(self.root, split)
        if listed is None:
            return self._everything(split)
        names = list(dict.fromkeys(_clip_name(line) for line in list_lines(listed)))
        if not names:
            raise DataError(f"{listed} names no clip.", "Choose another --split or restore the list.")
        if not any((self.labels / name).is_dir() for name in names):
            raise DataError(
                f"{listed} names {len(names)} clips, none of which is in {self.labels}, e.g. {names[0]}.",
                "Point --data to the folder that holds Images.",
            )
        return names, []

    def _everything(self, split: str) -> tuple[list[str], list[str]]:
        lists = _split_lists(self.root)
        if lists:
            raise DataError(f"{self.root} has no split {split!r}.", closest(split, lists))
        names = sorted(folder.name for folder in self.labels.iterdir() if folder.is_dir())
        if not names:
            raise DataError(f"{self.labels} holds no clip.", "Point --data to a folder in VIP layout.")
        return names, [f"{self.root} has no lists: all {len(names)} clips are taken as split {split!r}."]


def find_layout(root: Path) -> VipLayout:
    """The VIP layout at `root`, one folder below it, or above it. Raises DataError with the expected tree."""
    found = find_root(root, task="VIP", is_root=lambda folder: _labels(folder) is not None, expected=_EXPECTED)
    labels = _labels(found)
    assert labels is not None
    return VipLayout(found, labels)


def _labels(root: Path) -> Path | None:
    """Where the labels lie: CropMAE and UVC, ATEN's own, Spa-then-Temp."""
    if not (root / "Images").is_dir():
        return None
    places = (root / "Annotations" / "Category_ids", root / "Category_ids", root / "Annotations")
    return next((place for place in places if place.is_dir()), None)


def _split_lists(root: Path) -> list[str]:
    folder = root / "lists"
    files = folder.iterdir() if folder.is_dir() else ()
    return [path.stem.removesuffix("_videos") for path in files if path.suffix == ".txt"]


def _clip_name(line: str) -> str:
    """A clip's name, with or without folders before it; of FRAMES LABELS (CropMAE's vip_vallist.txt) the first."""
    first = line.split()[0] if "/" in line else line
    return first.rstrip("/").rpartition("/")[2]
