"""Checks a copy of a data set: what is missing, damaged or surplus, in one pass over its files, clip by clip."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from corrkit.errors import DataError
from corrkit.files.archive import ignored_members
from corrkit.manifests.clips import ManifestClip, digest_of_files
from corrkit.tasks import load_task
from corrkit.tasks.clips import ClipFiles, sentences, some
from corrkit.tasks.contract import AnyClip, AnyTask, Layout
from corrkit.tasks.faults import Fault, FaultGroup, Kind

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
    tree = "\n".join(f"    {line.format(split=split)}" for line in load_task(task).tree)
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
        self._noted: dict[str, list[str]] = {}

    def faults(self, progress: Progress = lambda clip, done, total: None) -> Iterator[Fault]:
        """All faults in the order of the clips, each as soon as its clip has been read."""
        task = load_task(self._task)
        try:
            layout = task.layout(self._root)
        except DataError as error:
            yield self._layout_fault(task, error)
            return
        self.notes.extend(layout.notes)
        self._note_ignored_members(layout.root)
        listed: Mapping[str, ClipFiles] = {}
        try:
            files, notes = layout.clips(self._split)
        except DataError as error:
            yield _fault_of(error, None)
        else:
            listed = {one.name: one for one in files}
            self.notes.extend(notes)
            yield from self._list_faults(listed)
        clips = self._clips(layout, listed)
        for number, (one, expected) in enumerate(clips):
            progress(one.name, number, len(clips))
            try:
                yield from self._clip_faults(layout, task.clip(one, layout.root), expected)
            except DataError as error:  # what keeps its folders from being read
                yield _fault_of(error, one.name)
            self.num_clips += 1
        remedy = "Move it away, or add it to a list."
        strays = FaultGroup("surplus", None, "clip folder that no list names", remedy, layout.root)
        try:
            yield from strays.extend(layout.unlisted()).faults()
        except DataError as error:  # a list of another split
            if listed:
                yield _fault_of(error, None)
        self.notes.extend(sentences(self._noted))

    def _layout_fault(self, task: AnyTask, error: DataError) -> Fault:
        tops = [line.split("/")[0] for line in task.tree]
        absent = tuple(top for top in tops if not (self._root / top).is_dir())
        found = sorted(path.name for path in self._root.iterdir()) if self._root.is_dir() else []
        return Fault(
            kind="missing",
            clip=None,
            what=f"{error.problem.rstrip('.')}; it holds {some(found) if found else 'nothing'}",
            remedy="Point --data to the folder with the expected tree, or restore it.",
            files=absent,
        )

    def _note_ignored_members(self, root: Path) -> None:
        ignored = ignored_members(root)
        if ignored:
            self.notes.append(f"{len(ignored)} link(s) or unsafe name(s) in the archive are ignored: {some(ignored)}.")

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
            problem = f"{here} lacks {len(lacking)} of {len(names)} clips: {some(lacking)}"
            yield Fault(kind="missing", clip=None, what=problem, remedy=remedy)
        if beyond:
            problem = f"{here} names {len(beyond)} clip(s) that the manifest lacks: {some(beyond)}"
            yield Fault(kind="surplus", clip=None, what=problem, remedy=remedy)

    def _clips(self, layout: Layout, listed: Mapping[str, ClipFiles]) -> list[tuple[ClipFiles, ManifestClip | None]]:
        if self._expected:
            return [(listed.get(clip.clip) or layout.files(clip.folder), clip) for clip in self._expected]
        return [(files, None) for files in listed.values()]

    def _clip_faults(self, layout: Layout, clip: AnyClip, expected: ManifestClip | None) -> Iterator[Fault]:
        if expected and not layout.has_official_sizes:
            expected = replace(expected, width=None, height=None)
        is_sound = True
        for fault in clip.faults(expected):
            if fault.kind == "noted":
                clips = self._noted.setdefault(f"{fault.what}: {fault.consequence}", [])
                clips.append(f"{fault.clip} ({fault.detail})")
            else:
                is_sound = False
                yield fault
        self.num_frames += clip.num_files
        if is_sound and expected:
            yield from self._digest_faults(clip, expected)

    def _digest_faults(self, clip: AnyClip, expected: ManifestClip) -> Iterator[Fault]:
        """Bytes against the manifest's digests; other counts and sizes have been reported already."""
        for what, known, found in (
            ("number of annotations", expected.num_annotations, clip.num_annotated),
            (
                "frames_sha256",
                expected.frames_sha256,
                expected.frames_sha256 and digest_of_files(clip.frames.paths),
            ),
            (
                "annotations_sha256",
                expected.annotations_sha256,
                expected.annotations_sha256 and digest_of_files(clip.annotation_files),
            ),
        ):
            if known is None or known == found:
                continue
            difference = f"{what} is {found}, the manifest's is {known}"
            if expected.hash_source and what.endswith("sha256"):
                self.notes.append(f"{clip.name}: {difference} ({expected.hash_source}): no proof of damage.")
            else:
                remedy = "Restore the clip, or write a new manifest if the change is meant."
                yield Fault(kind="damaged", clip=clip.name, what=difference, remedy=remedy)


def _fault_of(error: DataError, clip: str | None) -> Fault:
    """What keeps a clip or a list from being read, as a fault."""
    kind: Kind = "missing" if clip is None else "damaged"
    return Fault(kind=kind, clip=clip, what=error.problem.rstrip("."), remedy=error.remedy)
