"""Finding JHMDB on disk: Rename_Images, joint_positions, splits, and the list files of published code."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import ClassVar

from corrkit.errors import DataError, closest
from corrkit.files.reading import entries, is_folder, is_plain_name
from corrkit.tasks.clips import ClipFiles
from corrkit.tasks.roots import (
    clip_folders,
    find_root,
    list_file,
    list_lines,
    shown_name,
    unlisted_folders,
    unreadable_line,
)

_EXPECTED = (
    "ROOT/Rename_Images/ACTION/CLIP/00001.png, ROOT/joint_positions/ACTION/CLIP/joint_positions.mat, "
    "ROOT/splits/ACTION_test_split1.txt"
)
_TEST = "2"
"""The column of splits/*.txt: 1 is training, 2 is test, 0 is neither."""


@dataclass(frozen=True, slots=True)
class JhmdbLayout:
    """root holds Rename_Images and joint_positions, and often splits; notes say how the root was found."""

    tree: ClassVar[tuple[str, ...]] = (
        "splits/ACTION_test_{split}.txt",
        "Rename_Images/ACTION/CLIP/00001.png, 00002.png, ...",
        "joint_positions/ACTION/CLIP/joint_positions.mat",
    )
    has_official_sizes: ClassVar[bool] = True

    root: Path
    notes: tuple[str, ...] = ()

    @property
    def frames(self) -> Path:
        """Folder of actions of clips of frames."""
        return self.root / "Rename_Images"

    @property
    def annotations(self) -> Path:
        """Folder of actions of clips of joint_positions.mat."""
        return self.root / "joint_positions"

    def clips(self, split: str) -> tuple[tuple[ClipFiles, ...], list[str]]:
        """The clips of a split, in order, and notes.

        Args:
            split: "split1" to "split3" for the test clips of splits/*.txt, sorted by action; "all"; or a list file.

        Raises:
            DataError: for an unknown or empty split, or clips that share a name.
        """
        listed = list_file(self.root, split)
        if listed is not None:
            clips = self._from_list(listed)
        elif split == "all":
            clips = self._everything()
        else:
            clips = self._from_splits(split)
        if not clips:
            raise DataError(f"Split {split!r} of {self.root} names no clip.", "Choose another --split, e.g. all.")
        _require_unique(clips)
        if not any(is_folder(clip.frames) for clip in clips):
            raise DataError(
                f"Split {split!r} names {len(clips)} clips, none of which is in {self.frames}, e.g. {clips[0].name}.",
                "Point --data to the folder that holds Rename_Images and joint_positions.",
            )
        notes = self._left_out() if split == "all" else []
        return tuple(replace(clip, number=number) for number, clip in enumerate(clips)), notes

    def files(self, folder: str) -> ClipFiles:
        """Rename_Images/ACTION/CLIP and joint_positions/ACTION/CLIP/joint_positions.mat."""
        return self._clip(*folder.split("/", 1))

    def folder(self, files: ClipFiles) -> str:
        """ACTION/CLIP."""
        return f"{files.frames.parent.name}/{files.name}"

    def unlisted(self) -> Iterator[Path]:
        """Folders that no line of splits/*.txt names (the official files name all of JHMDB); none without splits."""
        lists = [path for path in entries(self.root / "splits") if path.suffix == ".txt"]
        if lists:
            known = {name for path in lists for name, _ in split_entries(path)}
            for parent in (self.frames, self.annotations):
                yield from unlisted_folders(unlisted_folders([parent], ()), known)

    def _clip(self, action: str, name: str) -> ClipFiles:
        annotation = self.annotations / action / name / "joint_positions.mat"
        return ClipFiles(shown_name(name), self.frames / action / name, annotation)

    def _everything(self) -> tuple[ClipFiles, ...]:
        return tuple(self._clip(action.name, name) for action in self._actions() for name in self._folders(action)[0])

    def _left_out(self) -> list[str]:
        """Notes on folders that are no clips, where all clips are taken."""
        return [note for action in self._actions() for note in self._folders(action)[1]]

    def _actions(self) -> list[Path]:
        return sorted(entries(self.annotations), key=lambda path: path.name)

    def _folders(self, action: Path) -> tuple[list[str], list[str]]:
        return clip_folders(action, self.frames / action.name)

    def _from_splits(self, split: str) -> tuple[ClipFiles, ...]:
        folder = self.root / "splits"
        if not is_folder(folder):
            raise DataError(
                f"{self.root} has no folder splits, so split {split!r} is unknown.",
                "Restore it, name a list file with --split FILE.txt, or take every clip with --split all.",
            )
        known: dict[str, list[tuple[str, Path]]] = {}
        for path in entries(folder):
            match = re.fullmatch(r"(.+)_test_(split\d)", path.stem)
            if match and path.suffix == ".txt":
                known.setdefault(match[2], []).append((match[1], path))
        if split not in known:
            raise DataError(f"{folder} has no split {split!r}.", closest(split, {*known, "all"}))
        return tuple(
            self._clip(action, name)
            for action, path in sorted(known[split])
            for name, part in split_entries(path)
            if part == _TEST
        )

    def _from_list(self, path: Path) -> tuple[ClipFiles, ...]:
        return tuple(self._from_line(line, path) for line in list_lines(path))

    def _from_line(self, line: str, path: Path) -> ClipFiles:
        """Both orders are published: FRAMES MAT (ajabri/videowalk) and MAT FRAMES (CropMAE, UVC, Spa-then-Temp)."""
        columns = sorted(line.split(), key=lambda column: column.endswith(".mat"))
        if len(columns) != 2 or not columns[1].endswith(".mat") or columns[0].endswith(".mat"):
            raise unreadable_line(path, line, "a frame folder and a .mat file, in either order")
        frames, annotation = self._below(columns[0], self.frames), self._below(columns[1], self.annotations)
        if frames is None or annotation is None:
            raise unreadable_line(path, line, "a frame folder and a .mat file below the data root")
        return ClipFiles(shown_name(frames.name), frames, annotation)

    def _below(self, entry: str, folder: Path) -> Path | None:
        """The file that a list names: lists carry the author's own prefix, the rest counts from `folder`'s name on.

        None where it leads out of the root.
        """
        parts = PurePosixPath(entry).parts
        start = self.root
        if folder.name in parts:
            parts, start = parts[parts.index(folder.name) + 1 :], folder
        inside = all(map(is_plain_name, parts))
        return start / "/".join(parts) if parts and inside else None


def find_layout(root: Path) -> JhmdbLayout:
    """The JHMDB layout at `root` or one folder below it. Raises DataError with the expected tree."""
    found, notes = find_root(root, task="JHMDB", is_root=_is_root, expected=_EXPECTED)
    return JhmdbLayout(found, notes)


def split_entries(path: Path) -> list[tuple[str, str]]:
    """Clip and part ("0", "1" or "2") of each line of a splits/*.txt. Raises DataError quoting another line."""
    found = []
    for line in list_lines(path):
        name, *part = line.rsplit(maxsplit=1)
        if part not in (["0"], ["1"], ["2"]) or not is_plain_name(name):
            raise unreadable_line(path, line, "a clip and 0, 1 or 2")
        found.append((name.removesuffix(".avi"), part[0]))
    return found


def _is_root(folder: Path) -> bool:
    return is_folder(folder / "Rename_Images") and is_folder(folder / "joint_positions")


def _require_unique(clips: Iterable[ClipFiles]) -> None:
    seen: dict[str, Path] = {}
    for clip in clips:
        if clip.name in seen:
            raise DataError(
                f"{clip.frames} and {seen[clip.name]} have one clip name.", "List each clip once, under its own name."
            )
        seen[clip.name] = clip.frames
