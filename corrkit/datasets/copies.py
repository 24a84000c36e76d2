"""Where each task's clips lie in a copy, and what their annotations must be. The layouts are those of the readers."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Protocol

import numpy as np

from corrkit.datasets.faults import Fault, FaultGroup
from corrkit.datasets.joint_faults import joint_faults
from corrkit.datasets.manifest import ManifestClip, official_clips, official_splits
from corrkit.datasets.mask_faults import DavisIds, VipIds, mask_faults, missing_masks
from corrkit.frames.files import numbered_files
from corrkit.metrics.region_contour import VOID, count_objects
from corrkit.tasks import davis_layout, jhmdb_layout, vip_layout
from corrkit.tasks.jhmdb_layout import ClipFiles
from corrkit.tasks.joint_positions import read_joint_positions
from corrkit.tasks.masks import read_mask
from corrkit.tasks.roots import list_lines, shown_name


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFrames:
    """The frames of one clip. stems: that should be there, else that are; size: (height, width), None if unreadable."""

    stems: Sequence[str]
    size: tuple[int, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotations:
    """Annotation files of one clip in order, how many frames they annotate, and objects or classes of the first."""

    paths: Sequence[Path]
    num_annotations: int
    num_objects: int | None


class Copy(Protocol):
    """A copy of one task's data in its layout; opening one raises DataError where the layout isn't there.

    Attributes:
        tree: the layout, a line each; {split} stands for the split.
        root: its folder; faults name files below it.
        notes: how the root was found.
        has_official_sizes: whether the frames are the version that the manifest describes.
    """

    tree: ClassVar[tuple[str, ...]]
    root: Path
    notes: tuple[str, ...]
    has_official_sizes: bool

    def listed(self, split: str) -> Mapping[str, ClipFiles]:
        """The clips that the copy's own lists name. Raises DataError where they name none."""
        ...

    def files(self, folder: str) -> ClipFiles:
        """Where the clip with a manifest's `folder` should lie."""
        ...

    def folder(self, files: ClipFiles) -> str:
        """The reverse of `files`."""
        ...

    def surplus_clips(self) -> Iterator[Path]:
        """Folders of clips that no list names."""
        ...

    def annotation_faults(
        self, files: ClipFiles, frames: FoundFrames, expected: ManifestClip | None
    ) -> Iterator[Fault]:
        """Everything wrong with one clip's annotations."""
        ...

    def annotations(self, files: ClipFiles) -> Annotations:
        """A sound clip's annotations. Raises DataError."""
        ...


class DavisCopy:
    """DAVIS layout: a mask per frame, ids from 1 on, all of them in the first mask."""

    tree: ClassVar[tuple[str, ...]] = (
        "ImageSets/2017/{split}.txt",
        "JPEGImages/480p/CLIP/00000.jpg, 00001.jpg, ...",
        "Annotations/480p/CLIP/00000.png, 00001.png, ... (test-dev: 00000.png only)",
    )

    def __init__(self, root: Path) -> None:
        self._layout = davis_layout.find_layout(root)
        self.root, self.notes = self._layout.root, self._layout.notes
        self.has_official_sizes = self._layout.masks.name == "480p"

    def listed(self, split: str) -> Mapping[str, ClipFiles]:
        """The clips of ImageSets."""
        return {shown_name(name): self.files(name) for name in self._layout.clip_names(split)[0]}

    def files(self, folder: str) -> ClipFiles:
        """JPEGImages/480p/CLIP and Annotations/480p/CLIP."""
        return ClipFiles(shown_name(folder), self._layout.frames / folder, self._layout.masks / folder)

    def folder(self, files: ClipFiles) -> str:
        """CLIP."""
        return files.name

    def surplus_clips(self) -> Iterator[Path]:
        """Folders that neither data_manifests nor a list names; none where there is no list."""
        lists = self._layout.lists.values()
        known = {clip.clip for split in official_splits("davis") for clip in official_clips("davis", split)}
        known.update(part for path in lists for line in list_lines(path) for part in re.split(r"[/\s]+", line))
        if lists:
            for parent in (self._layout.frames, self._layout.masks):
                yield from (folder for folder in subfolders(parent) if folder.name not in known)

    def annotation_faults(
        self, files: ClipFiles, frames: FoundFrames, expected: ManifestClip | None
    ) -> Iterator[Fault]:
        """Masks: of every frame (test sets: of the first), decodable, of the frames' size, with the first one's ids."""
        masks = numbered(files.annotation, (".png",))
        only_first = len(masks) <= 1 if expected is None else expected.num_annotations == 1
        needed = frames.stems[:1] if only_first else frames.stems
        yield from missing_masks(masks, needed, frames.stems, files, self.root)
        yield from mask_faults(masks, frames.size, DavisIds(expected), files.name, self.root)

    def annotations(self, files: ClipFiles) -> Annotations:
        """The masks; objects are the largest id of the first."""
        paths = numbered(files.annotation, (".png",))
        return Annotations(
            paths=paths, num_annotations=len(paths), num_objects=count_objects(read_mask(paths[0])) if paths else None
        )


class VipCopy:
    """VIP layout: labels of some frames, of the first at least; class ids 0 to 19."""

    tree: ClassVar[tuple[str, ...]] = (
        "lists/{split}_videos.txt",
        "Images/CLIP/000000000001.jpg, ... (numbers may be left out)",  # HCPLab-SYSU/ATEN issue 5
        "Annotations/Category_ids/CLIP/000000000001.png, ... (or Category_ids/CLIP, or Annotations/CLIP)",
    )
    has_official_sizes = True

    def __init__(self, root: Path) -> None:
        self._layout = vip_layout.find_layout(root)
        self.root, self.notes = self._layout.root, self._layout.notes

    def listed(self, split: str) -> Mapping[str, ClipFiles]:
        """The clips of lists/*.txt."""
        return {shown_name(name): self.files(name) for name in self._layout.clip_names(split)[0]}

    def files(self, folder: str) -> ClipFiles:
        """Images/CLIP and the labels' CLIP."""
        return ClipFiles(shown_name(folder), self._layout.frames / folder, self._layout.labels / folder)

    def folder(self, files: ClipFiles) -> str:
        """CLIP."""
        return files.name

    def surplus_clips(self) -> Iterator[Path]:
        """Folders neither called videosN, as all of VIP's, nor named by a list; none where there is no list."""
        lists = [path for path in _files_of(self.root / "lists") if path.suffix == ".txt"]
        known = {part for path in lists for line in list_lines(path) for part in re.split(r"[/\s]+", line)}
        if lists:
            for parent in (self._layout.frames, self._layout.labels):
                for folder in subfolders(parent):
                    if folder.name not in known and not re.fullmatch(r"videos\d+", folder.name):
                        yield folder

    def annotation_faults(
        self, files: ClipFiles, frames: FoundFrames, expected: ManifestClip | None
    ) -> Iterator[Fault]:
        """Labels: of the first frame at least, decodable, of the frames' size, ids of the 20 classes or void."""
        labels = numbered(files.annotation, (".png",))
        yield from missing_masks(labels, frames.stems[:1], frames.stems, files, self.root)
        yield from mask_faults(labels, frames.size, VipIds(), files.name, self.root)

    def annotations(self, files: ClipFiles) -> Annotations:
        """The labels; objects are the classes of the first, background and void left out."""
        paths = numbered(files.annotation, (".png",))
        ids = np.unique(read_mask(paths[0])) if paths else np.zeros(0)
        return Annotations(paths=paths, num_annotations=len(paths), num_objects=len(set(ids.tolist()) - {0, VOID}))


class JhmdbCopy:
    """JHMDB layout: one joint_positions.mat per clip, 15 joints per frame."""

    tree: ClassVar[tuple[str, ...]] = (
        "splits/ACTION_test_{split}.txt",
        "Rename_Images/ACTION/CLIP/00001.png, 00002.png, ...",
        "joint_positions/ACTION/CLIP/joint_positions.mat",
    )
    has_official_sizes = True

    def __init__(self, root: Path) -> None:
        self._layout = jhmdb_layout.find_layout(root)
        self.root, self.notes = self._layout.root, self._layout.notes

    def listed(self, split: str) -> Mapping[str, ClipFiles]:
        """The clips of splits/*.txt or of a list file."""
        return {clip.name: clip for clip in self._layout.clips(split)}

    def files(self, folder: str) -> ClipFiles:
        """Rename_Images/ACTION/CLIP and joint_positions/ACTION/CLIP/joint_positions.mat."""
        annotation = self._layout.annotations / folder / "joint_positions.mat"
        return ClipFiles(folder.rpartition("/")[2], self._layout.frames / folder, annotation)

    def folder(self, files: ClipFiles) -> str:
        """ACTION/CLIP."""
        return f"{files.frames.parent.name}/{files.name}"

    def surplus_clips(self) -> Iterator[Path]:
        """Folders that no line of splits/*.txt names (the official files name all of JHMDB); none without splits."""
        lists = [path for path in _files_of(self.root / "splits") if path.suffix == ".txt"]
        known = {name for path in lists for name, _ in jhmdb_layout.split_entries(path)}
        if lists:
            for parent in (self._layout.frames, self._layout.annotations):
                for action in subfolders(parent):
                    yield from (folder for folder in subfolders(action) if folder.name not in known)

    def annotation_faults(
        self, files: ClipFiles, frames: FoundFrames, expected: ManifestClip | None
    ) -> Iterator[Fault]:
        """The .mat: readable, finite, joints of as many frames as there are pictures; and no gap in their numbers."""
        gaps = FaultGroup("missing", files.name, "frame missing", "Joints belong to frames by order.", self.root)
        yield from gaps.extend([files.frames / f"{stem}.png" for stem in _gaps(frames.stems)]).faults()
        yield from joint_faults(files, len(frames.stems), self.root)

    def annotations(self, files: ClipFiles) -> Annotations:
        """The .mat; the number of objects is not told by it."""
        joints = read_joint_positions(files.annotation)
        return Annotations(paths=(files.annotation,), num_annotations=len(joints), num_objects=None)


COPIES: Mapping[str, type[DavisCopy] | type[VipCopy] | type[JhmdbCopy]] = MappingProxyType(
    {"davis": DavisCopy, "vip": VipCopy, "jhmdb": JhmdbCopy}
)


def numbered(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """`numbered_files` of a folder, links to nothing left out; empty where there is no folder."""
    return [path for path in numbered_files(folder, suffixes) if path.is_file()]


def subfolders(folder: Path) -> list[Path]:
    """Folders in a folder, by name, hidden ones left out; empty where there is no folder."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return sorted(found, key=lambda path: path.name)


def _gaps(stems: Sequence[str]) -> list[str]:
    """Numbers that are left out, with the digits of the first stem; none where stems are no numbers."""
    if not stems or not all(stem.isdecimal() for stem in stems):
        return []
    numbers = {int(stem) for stem in stems}
    missing = sorted(set(range(min(numbers), max(numbers))) - numbers)
    return [f"{number:0{len(stems[0])}d}" for number in missing]


def _files_of(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
