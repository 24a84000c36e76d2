"""Finding JHMDB on disk: Rename_Images, joint_positions, splits, and the list files of published code."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from corrkit.errors import DataError, closest
from corrkit.tasks.clips import ClipFiles
from corrkit.tasks.roots import find_root, list_file, list_lines

_EXPECTED = (
    "ROOT/Rename_Images/ACTION/CLIP/00001.png, ROOT/joint_positions/ACTION/CLIP/joint_positions.mat, "
    "ROOT/splits/ACTION_test_split1.txt"
)
_TEST = "2"
"""The column of splits/*.txt: 1 is training, 2 is test, 0 is neither."""


@dataclass(frozen=True, slots=True)
class JhmdbLayout:
    """root holds Rename_Images and joint_positions, and often splits."""

    root: Path

    @property
    def frames(self) -> Path:
        """Folder of actions of clips of frames."""
        return self.root / "Rename_Images"

    @property
    def annotations(self) -> Path:
        """Folder of actions of clips of joint_positions.mat."""
        return self.root / "joint_positions"

    def clips(self, split: str) -> tuple[ClipFiles, ...]:
        """The clips of a split, in order.

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
        if not any(clip.frames.is_dir() for clip in clips):
            raise DataError(
                f"Split {split!r} names {len(clips)} clips, none of which is in {self.frames}, e.g. {clips[0].name}.",
                "Point --data to the folder that holds Rename_Images and joint_positions.",
            )
        return clips

    def _clip(self, action: str, name: str) -> ClipFiles:
        return ClipFiles(name, self.frames / action / name, self.annotations / action / name / "joint_positions.mat")

    def _everything(self) -> tuple[ClipFiles, ...]:
        return tuple(
            self._clip(action.name, clip.name) for action in _folders(self.annotations) for clip in _folders(action)
        )

    def _from_splits(self, split: str) -> tuple[ClipFiles, ...]:
        folder = self.root / "splits"
        if not folder.is_dir():
            raise DataError(
                f"{self.root} has no folder splits, so split {split!r} is unknown.",
                "Restore it, name a list file with --split FILE.txt, or take every clip with --split all.",
            )
        known: dict[str, list[tuple[str, Path]]] = {}
        for path in folder.iterdir():
            match = re.fullmatch(r"(.+)_test_(split\d)", path.stem)
            if match and path.suffix == ".txt":
                known.setdefault(match[2], []).append((match[1], path))
        if split not in known:
            raise DataError(f"{folder} has no split {split!r}.", closest(split, {*known, "all"}))
        return tuple(
            self._clip(action, name.removesuffix(".avi"))
            for action, path in sorted(known[split])
            for line in list_lines(path)
            for name, _, part in [line.rpartition(" ")]
            if part == _TEST
        )

    def _from_list(self, path: Path) -> tuple[ClipFiles, ...]:
        return tuple(self._from_line(line, path) for line in list_lines(path))

    def _from_line(self, line: str, path: Path) -> ClipFiles:
        """Both orders are published: FRAMES MAT (ajabri/videowalk) and MAT FRAMES (CropMAE, UVC, Spa-then-Temp)."""
        columns = sorted(line.split(), key=lambda column: column.endswith(".mat"))
        if len(columns) != 2 or not columns[1].endswith(".mat") or columns[0].endswith(".mat"):
            raise DataError(
                f"{path} has the line {line!r}, not a frame folder and a .mat file.", "Give both, in either order."
            )
        frames = self._below(columns[0], self.frames)
        return ClipFiles(frames.name, frames, self._below(columns[1], self.annotations))

    def _below(self, entry: str, folder: Path) -> Path:
        """The file that a list names: lists carry the author's own prefix, the rest counts from `folder`'s name on."""
        parts = PurePosixPath(entry).parts
        if folder.name in parts:
            parts = parts[parts.index(folder.name) + 1 :]
            return folder / "/".join(parts)
        return self.root / "/".join(parts)


def find_layout(root: Path) -> JhmdbLayout:
    """The JHMDB layout at `root`, one folder below it, or above it. Raises DataError with the expected tree."""
    found = find_root(root, task="JHMDB", is_root=_is_root, expected=_EXPECTED)
    return JhmdbLayout(found)


def _is_root(folder: Path) -> bool:
    return (folder / "Rename_Images").is_dir() and (folder / "joint_positions").is_dir()


def _folders(folder: Path) -> list[Path]:
    return sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.name)


def _require_unique(clips: Iterable[ClipFiles]) -> None:
    seen: dict[str, Path] = {}
    for clip in clips:
        if clip.name in seen:
            raise DataError(
                f"{clip.frames} and {seen[clip.name]} have one clip name.", "List each clip once, under its own name."
            )
        seen[clip.name] = clip.frames
