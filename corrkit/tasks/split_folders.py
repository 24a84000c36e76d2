"""Data sets that keep each split in a folder of its own, as YouTube-VOS and MOSE do: ROOT/valid/Annotations/CLIP."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from corrkit.errors import DataError, closest
from corrkit.files.reading import is_folder
from corrkit.tasks.clips import ClipFiles
from corrkit.tasks.davis_layout import DavisLayout
from corrkit.tasks.roots import clips_of_list, own_list

_SPLITS = ("train", "val", "valid", "test")
_ALL_FRAMES = "_all_frames"


def find_splits(root: Path) -> "SplitFolders | None":
    """The folders of splits in `root`, where there are any."""
    found = [name for name in _SPLITS if is_folder(root / name / "Annotations")]
    return SplitFolders(root, tuple(found)) if found else None


@dataclass(frozen=True)
class SplitFolders:
    """See `corrkit.tasks.contract.Layout`.

    root: holds the folders. names: of those that hold masks. YouTube-VOS's SPLIT_all_frames, which hold every frame of
    the same clips and no masks, are splits, too: `valid_all_frames`.
    """

    root: Path
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    has_official_sizes = False

    @cached_property
    def _layouts(self) -> dict[str, DavisLayout]:
        """Split to its layout."""
        found = {}
        for name in self.names:
            folder = self.root / name
            found[name] = DavisLayout(folder, folder / "JPEGImages", folder / "Annotations", {})
            every = self.root / f"{name}{_ALL_FRAMES}" / "JPEGImages"
            if is_folder(every):
                found[f"{name}{_ALL_FRAMES}"] = replace(found[name], frames=every, leads_in=True)
        return found

    def clips(self, split: str) -> tuple[tuple[ClipFiles, ...], list[str]]:
        """The clips of the split's folder: those of its meta.json, else all. Raises DataError for an unknown split.

        A split may be the path of a list of one's own, of clips in any of the folders.
        """
        known, notes = self._layouts, list[str]()
        listed = own_list(self.root, split)
        if listed is not None:
            return tuple(self._found(name, listed) for name in clips_of_list(listed)), notes
        if split == "val" and "val" not in known and "valid" in known:
            split, notes = "valid", [f"Split val is the folder {self.root / 'valid'}."]
        if split not in known:
            raise DataError(f"{self.root} has no split {split!r}.", closest(split, known))
        files, more = known[split].clips(split)
        return files, [*notes, *more]

    def _found(self, clip: str, listed: Path) -> ClipFiles:
        """Where a clip of a list lies. Raises DataError where no folder has it."""
        for name in self.names:
            if is_folder(self._layouts[name].masks / clip):
                return self._layouts[name].files(clip)
        folders = ", ".join(str(self.root / name) for name in self.names)
        raise DataError(f"{listed} names the clip {clip}, which none of {folders} holds.", "Correct the list.")

    def files(self, folder: str) -> ClipFiles:
        """SPLIT/CLIP."""
        split, _, clip = folder.partition("/")
        if split not in self._layouts:
            return ClipFiles(folder, self.root / folder, self.root / folder)
        return self._layouts[split].files(clip)

    def folder(self, files: ClipFiles) -> str:
        """SPLIT/CLIP."""
        return f"{files.frames.relative_to(self.root).parts[0]}/{files.name}"

    def unlisted(self) -> Iterator[Path]:
        """None: a folder's clips are the split's."""
        yield from ()
