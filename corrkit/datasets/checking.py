"""Checks a copy of a data set: what is missing, damaged or surplus, in one pass over its files, clip by clip."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from corrkit.datasets.archive import ignored_members
from corrkit.datasets.copies import COPIES, Copy, FoundFrames, numbered
from corrkit.datasets.faults import RESTORE, Fault, FaultGroup
from corrkit.datasets.frame_faults import frame_size_faults, number_faults, read_sizes, surplus_files
from corrkit.datasets.manifest import ManifestClip, digest_of_files
from corrkit.errors import DataError
from corrkit.frames.pictures import SUFFIXES
from corrkit.tasks.jhmdb_layout import ClipFiles

Progress = Callable[[str, int, int], None]
"""Called with a clip's name, how many clips are done, and of how many."""


def expected_tree(task: str, split: str, expected: Sequence[ManifestClip]) -> str:
    """The layout of a task's data, and how much of it the manifest expects, as lines."""
    counts = [f"{len(expected)} clips"] if expected else []
    for noun, values in (
        ("frames", [clip.num_frames for clip in expected]),
        ("annotated frames", [clip.num_annotations for clip in expected]),
        ("objects", [clip.num_objects for clip in expected]),
    ):
        known = [value for value in values if value is not None]
        if known and len(known) == len(values):
            counts.append(f"{sum(known)} {noun}")
    amount = ", ".join(counts) or "as the copy's own lists say"
    tree = "\n".join(f"    {line.format(split=split)}" for line in COPIES[task].tree)
    return f"Expected for {task}, split {split} ({amount}):\n  ROOT/\n{tree}"


class DataCheck:
    """One check of one copy.

    Args:
        task: davis, vip or jhmdb.
        root: data root, see `archive.open_root`.
        split: of the task.
        expected: the clips that should be there; empty where only the copy's own lists tell.

    Attributes:
        num_clips, num_frames: how much has been read so far.
        notes: what was ignored or is not proven.

    Raises:
        DataError: for a root that doesn't exist.
    """

    def __init__(self, task: str, root: Path, *, split: str, expected: Sequence[ManifestClip]) -> None:
        if not root.exists():
            raise DataError(f"The data root {root} does not exist.", "Correct --data.")
        self._task, self._root, self._split, self._expected = task, root, split, tuple(expected)
        self.num_clips = 0
        self.num_frames = 0
        self.notes: list[str] = []

    def faults(self, progress: Progress = lambda clip, done, total: None) -> Iterator[Fault]:
        """All faults in the order of the clips, each as soon as its clip has been read."""
        try:
            copy: Copy = COPIES[self._task](self._root)
        except DataError as error:
            yield self._layout_fault(error)
            return
        self.notes.extend(copy.notes)
        self._note_ignored_members(copy.root)
        listed: Mapping[str, ClipFiles] = {}
        try:
            listed = copy.listed(self._split)
        except DataError as error:
            yield Fault(kind="missing", clip=None, problem=error.problem.rstrip("."), remedy=error.remedy)
        else:
            yield from self._list_faults(listed)
        clips = self._clips(copy, listed)
        for number, (files, expected) in enumerate(clips):
            progress(files.name, number, len(clips))
            yield from self._clip_faults(copy, files, expected)
            self.num_clips += 1
        remedy = "Move it away, or add it to a list."
        strays = FaultGroup("surplus", None, "clip folder that no list names", remedy, copy.root)
        yield from strays.extend(list(copy.surplus_clips())).faults()

    def _layout_fault(self, error: DataError) -> Fault:
        tops = [line.split("/")[0] for line in COPIES[self._task].tree]
        absent = tuple(top for top in tops if not (self._root / top).is_dir())
        found = sorted(path.name for path in self._root.iterdir()) if self._root.is_dir() else []
        return Fault(
            kind="missing",
            clip=None,
            problem=f"{error.problem.rstrip('.')}; it holds {_some(found) if found else 'nothing'}",
            remedy="Point --data to the folder with the expected tree, or restore it.",
            files=absent,
        )

    def _note_ignored_members(self, root: Path) -> None:
        ignored = ignored_members(root)
        if ignored:
            self.notes.append(f"{len(ignored)} link(s) or unsafe name(s) in the archive are ignored: {_some(ignored)}.")

    def _list_faults(self, listed: Mapping[str, ClipFiles]) -> Iterator[Fault]:
        """The copy's own list against the manifest."""
        if not self._expected:
            self.notes.append(
                f"No manifest was compared: the {len(listed)} clip(s) are those of the copy's own list {self._split!r}."
            )
            return
        names = {clip.clip for clip in self._expected}
        remedy = "Restore the list; data of your own is checked with --dataset-name or --manifest."
        lacking, beyond = sorted(names - set(listed)), sorted(set(listed) - names)
        here = f"the list of split {self._split}"
        if lacking:
            problem = f"{here} lacks {len(lacking)} of {len(names)} clips: {_some(lacking)}"
            yield Fault(kind="missing", clip=None, problem=problem, remedy=remedy)
        if beyond:
            problem = f"{here} names {len(beyond)} clip(s) that the manifest lacks: {_some(beyond)}"
            yield Fault(kind="surplus", clip=None, problem=problem, remedy=remedy)

    def _clips(self, copy: Copy, listed: Mapping[str, ClipFiles]) -> list[tuple[ClipFiles, ManifestClip | None]]:
        if self._expected:
            return [(listed.get(clip.clip) or copy.files(clip.folder), clip) for clip in self._expected]
        return [(files, None) for files in listed.values()]

    def _clip_faults(self, copy: Copy, files: ClipFiles, expected: ManifestClip | None) -> Iterator[Fault]:
        absent = [path for path in (files.frames, files.annotation) if not path.exists()]
        if len(absent) == 2:
            yield from FaultGroup("missing", files.name, "the whole clip", RESTORE, copy.root).extend(absent).faults()
            return
        paths = numbered(files.frames, SUFFIXES)
        sizes = read_sizes(paths)
        self.num_frames += len(paths)
        is_sound = True
        for faults in (
            number_faults(paths, files, expected, copy.root),
            frame_size_faults(sizes, files, expected if copy.has_official_sizes else None, copy.root),
            copy.annotation_faults(files, _found(paths, sizes, expected), expected),
            surplus_files(files, copy.root),
        ):
            for fault in faults:
                is_sound = False
                yield fault
        if is_sound and expected:
            yield from self._digest_faults(copy, files, paths, expected)

    def _digest_faults(
        self, copy: Copy, files: ClipFiles, paths: Sequence[Path], expected: ManifestClip
    ) -> Iterator[Fault]:
        """Bytes against the manifest's digests; other counts and sizes have been reported already."""
        annotations = copy.annotations(files)
        for what, known, found in (
            ("number of annotations", expected.num_annotations, annotations.num_annotations),
            ("frames_sha256", expected.frames_sha256, expected.frames_sha256 and digest_of_files(paths)),
            (
                "annotations_sha256",
                expected.annotations_sha256,
                expected.annotations_sha256 and digest_of_files(annotations.paths),
            ),
        ):
            if known is None or known == found:
                continue
            difference = f"{what} is {found}, the manifest's is {known}"
            if expected.hash_source and what.endswith("sha256"):
                self.notes.append(f"{files.name}: {difference} ({expected.hash_source}): no proof of damage.")
            else:
                remedy = "Restore the clip, or write a new manifest if the change is meant."
                yield Fault(kind="damaged", clip=files.name, problem=difference, remedy=remedy)


def _found(
    paths: Sequence[Path], sizes: Mapping[Path, tuple[int, int] | str], expected: ManifestClip | None
) -> FoundFrames:
    stems = (expected.stems() if expected else None) or tuple(dict.fromkeys(path.stem for path in paths))
    readable = [size for size in sizes.values() if not isinstance(size, str)]
    return FoundFrames(stems=stems, size=readable[0] if readable else None)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
