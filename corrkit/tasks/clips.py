"""What the clips of all tasks share: a folder of frames, annotation files, and everything that can be wrong with them.

A clip yields its own faults. `corrkit data check` prints all of them; an evaluation or a score raises the first that
stops it, and notes those that its number depends on.
"""

import copy
import itertools
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from corrkit.errors import DataError
from corrkit.files.jsontext import Json, list_of
from corrkit.files.reading import entries, is_folder, is_there, natural_order, numbered_files
from corrkit.frames.pictures import SUFFIXES, read_image, require_pictures
from corrkit.frames.sequence import FrameSequence, ImageFolder, ReadOnce
from corrkit.manifests.clips import ManifestClip
from corrkit.tasks.faults import RESTORE, Fault, FaultGroup, Kind

_CACHE = re.compile(r".+_(onehot|size\d+x\d+)\.npy")
"""Label caches that published code leaves beside the labels (ajabri/videowalk 047f3f4 code/data/vos.py:247-263)."""
UNFOLLOWED = "clips without a scored frame after the first, which is given, say nothing of what is followed"
"""A note of scorers."""
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class ClipFiles:
    """Where one clip lies.

    name: unique in its data set. frames: its folder. annotation: its folder of masks, or its file. number: in its
    split's order, from 0. leads_in: whether frames before the first annotated one are no part of the clip.
    """

    name: str
    frames: Path
    annotation: Path
    number: int = 0
    leads_in: bool = False


class ImageClip(ABC):
    """A clip whose frames are picture files.

    Args:
        files: where it lies.
        root: of the data; faults name files below it.
        official: what the benchmark says of this clip, where the data claim to be the benchmark's.
    """

    annotation_suffixes: tuple[str, ...]

    def __init__(self, files: ClipFiles, root: Path, official: ManifestClip | None = None) -> None:
        self.name = files.name
        self.files = files
        self.root = root
        self._official = official

    @property
    def frames(self) -> FrameSequence:
        """The frames in order, as the task sees them. Raises DataError as `frame_files` does."""
        return self.frame_files

    @cached_property
    def frame_files(self) -> FrameSequence:
        """The frames as they lie in the data set.

        Raises:
            DataError: where there is none, two carry one number, or annotations lack one.
        """
        require_pictures(self._frame_paths, self.files.frames, self.name)
        self._raise_first(self._placement_faults(None))
        return ImageFolder(self._frame_paths)

    def read_once(self) -> Self:
        """The same clip for several readers in step: none of its frames is decoded twice."""
        frames = ReadOnce(self.frame_files)
        clip = copy.copy(self)  # with what is known of the files already
        clip.__dict__.pop("frames", None)
        clip.__dict__["frame_files"] = frames
        return clip

    @cached_property
    def stems(self) -> tuple[str, ...]:
        """Frame names without suffix."""
        return tuple(path.stem for path in self.frame_files.paths)

    @property
    @abstractmethod
    def annotation_files(self) -> Sequence[Path]:
        """The files that the ground truth depends on, in frame order."""

    @property
    @abstractmethod
    def num_annotated(self) -> int:
        """How many frames are annotated. Raises DataError."""

    @property
    @abstractmethod
    def num_objects(self) -> int | None:
        """What a manifest counts in the first annotation; None where it tells none. Raises DataError."""

    @property
    def num_files(self) -> int:
        """Frames that are there, sound or not."""
        return len(self._present_frames)

    def check(self) -> None:
        """Raises DataError for the first fault that stops an evaluation; frames are not decoded for it."""
        self._raise_first(self._known_faults)

    @property
    def notes(self) -> tuple[tuple[str, str], ...]:
        """What is odd and the score depends on: a sentence, equal in all clips that have it, and the clip's detail."""
        return tuple((f"{f.what}: {f.consequence}", f.detail) for f in self._known_faults if f.consequence)

    def faults(self, expected: ManifestClip | None) -> Iterator[Fault]:
        """Everything wrong with the clip's files, frames decoded, measured by what a manifest expects of it."""
        absent = [
            path for path in (self.files.frames, self.files.annotation) if not (is_folder(path) or is_there(path))
        ]
        if len(absent) == 2:
            yield from self._group("missing", "the whole clip", RESTORE).extend(absent).faults()
            return
        yield from self._number_faults(expected)
        yield from self._frame_faults(expected)
        yield from self._placement_faults(expected)
        yield from self._annotation_faults(expected)
        if expected is None:
            yield from self._gap_faults()
        yield from self._surplus_faults()

    @cached_property
    def _known_faults(self) -> tuple[Fault, ...]:
        return (
            *self._placement_faults(None),
            *self._annotation_faults(None),
            *self._gap_faults(),
            *self._official_size_faults(),
        )

    @cached_property
    def _frame_paths(self) -> tuple[Path, ...]:
        return tuple(numbered_files(self.files.frames, SUFFIXES))

    @cached_property
    def _present_frames(self) -> tuple[Path, ...]:
        """Frames without links to nothing."""
        return tuple(path for path in self._frame_paths if not dangles(path))

    def _expected_stems(self, expected: ManifestClip | None) -> Sequence[str]:
        """Names of the frames that should be there where that is known, else of those that are."""
        return (expected.stems() if expected else None) or [path.stem for path in self._present_frames]

    @abstractmethod
    def _annotation_faults(self, expected: ManifestClip | None) -> Iterator[Fault]:
        """Everything wrong with the annotations."""

    def _placement_faults(self, expected: ManifestClip | None) -> Iterator[Fault]:
        """Files that stop an evaluation by where they lie: two of one frame."""
        yield from self._twice(self._frame_paths).faults()

    def _twice(self, paths: Sequence[Path]) -> FaultGroup:
        """Files whose name carries the number of another; the rarer suffix counts as the second."""
        twice = self._group("surplus", "second file of one frame", "Keep one of them.", stops=True)
        suffixes = Counter(path.suffix for path in paths)
        firsts: dict[object, Path] = {}
        for path in sorted(paths, key=lambda path: -suffixes[path.suffix]):
            other = firsts.setdefault(natural_order(path.stem), path)
            if other is not path:
                twice.add(path, f"beside {other.name}")
        return twice

    def _number_faults(self, expected: ManifestClip | None) -> Iterator[Fault]:
        """Frames that are missing, or beyond the manifest's."""
        paths = self._present_frames
        if not paths:
            yield from self._group("missing", "all frames", RESTORE).extend([self.files.frames]).faults()
            return
        stems = {path.stem for path in paths}
        names = expected.stems() if expected else None
        if names is not None:
            missing = [self.files.frames / f"{stem}{paths[0].suffix}" for stem in names if stem not in stems]
            yield from self._group("missing", "frame missing", RESTORE).extend(missing).faults()
            beyond = [path for path in paths if path.stem not in set(names)]
            remedy = "Move it away: the data set's clip ends before it."
            yield from self._group("surplus", "frame beyond the clip's", remedy).extend(beyond).faults()
        elif expected and expected.num_frames not in {None, len(stems)}:
            kind: Kind = "missing" if len(stems) < (expected.num_frames or 0) else "surplus"
            what = f"{len(stems)} frames, the manifest says {expected.num_frames}"
            yield Fault(kind=kind, clip=self.name, what=what, remedy=RESTORE)

    def _frame_faults(self, expected: ManifestClip | None) -> Iterator[Fault]:
        """Frames that can't be decoded, or are of another size than the manifest says, or than the clip's first."""
        damaged = self._group("damaged", "frame that can't be decoded", RESTORE)
        misfits = self._group("damaged", "frame of another size", RESTORE)
        size = (expected.height, expected.width) if expected and expected.height and expected.width else None
        for path in self._present_frames:
            try:
                height, width = read_image(path).shape[:2]
            except DataError as error:
                damaged.add(path, error.problem.removeprefix(f"{path} ").rstrip("."))
                continue
            size = size or (height, width)
            if (height, width) != size:
                misfits.add(path, f"{width}x{height} instead of {size[1]}x{size[0]}")
        yield from damaged.faults()
        yield from misfits.faults()

    def _gap_faults(self) -> Iterator[Fault]:
        """Numbers of frames that are left out, where the others follow each other by one step."""
        digits = [re.findall(r"\d+", path.stem) for path in self._frame_paths]
        numbers = [int(found[-1]) for found in digits if found]
        if len(numbers) < 2 or len(numbers) != len(self._frame_paths):
            return
        steps = [second - first for first, second in itertools.pairwise(numbers)]
        step = min(steps)
        if step < 1:  # another number of the name counts the frames
            return
        holes = [number for number, width in zip(numbers, steps, strict=False) if width > step]
        if holes:
            yield Fault(
                kind="noted",
                clip=self.name,
                what="gaps in the frame numbers",
                detail=f"{sum(-(-width // step) - 1 for width in steps)} left out, the first after {holes[0]}",
                remedy="Restore the frames, if they were not left out on purpose.",
                consequence="frames are taken to follow each other",
            )

    def _official_size_faults(self) -> Iterator[Fault]:
        """Frames of another size than the benchmark's own."""
        official = self._official
        if official is None or not official.width or not official.height or not self._frame_paths:
            return
        try:
            height, width = self.frame_files.size
        except DataError:  # predictions are scored without frames, too
            return
        if (height, width) != (official.height, official.width):
            yield Fault(
                kind="noted",
                clip=self.name,
                what=f"frames of another size than the data set's {official.width}x{official.height}",
                detail=f"{width}x{height}",
                remedy=RESTORE,
                consequence="annotations and distances count in pixels of these frames",
            )

    def _surplus_faults(self) -> Iterator[Fault]:
        """Files that no reader takes for a frame or annotation, label caches apart, and links to nothing."""
        cache_remedy = "Delete it: code that finds it reads it instead of the label, whatever size it was made for."
        caches = self._group("surplus", "label cache of another tool", cache_remedy)
        strangers = self._group("surplus", "unknown file", "Move it away.")
        dangling = self._group("missing", "link to nothing", "Restore what it points to.")
        annotation = self.files.annotation
        is_file = bool(annotation.suffix) and not annotation.is_dir()
        annotations = annotation.parent if is_file else annotation
        for folder, known in ((self.files.frames, SUFFIXES), (annotations, self.annotation_suffixes)):
            for path in sorted(entries(folder), key=lambda path: path.name):
                if dangles(path):
                    dangling.add(path)
                elif _CACHE.fullmatch(path.name):
                    caches.add(path)
                elif not path.name.startswith(".") and (path.suffix.lower() not in known or path.is_dir()):
                    strangers.add(path)
        for group in (caches, strangers, dangling):
            yield from group.faults()

    def _group(self, kind: Kind, what: str, remedy: str, *, stops: bool = False, consequence: str = "") -> FaultGroup:
        return FaultGroup(kind, self.name, what, remedy, self.root, stops=stops, consequence=consequence)

    def _raise_first(self, faults: Iterable[Fault]) -> None:
        first = next((fault for fault in faults if fault.stops), None)
        if first is not None:
            raise first.error(self.root)


def clip_folder(folder: Path, clip: ImageClip) -> Path:
    """The folder of a clip's predictions: named as the clip is shown, else as its frames' folder, of any bytes."""
    shown = folder / clip.name
    return shown if is_folder(shown) else folder / clip.files.frames.name


def dangles(path: Path) -> bool:
    """Whether a path is a link to nothing."""
    return path.is_symlink() and not path.exists()


def are_official(clips: Sequence[ImageClip], known: Mapping[str, ManifestClip]) -> bool:
    """Whether these are all of the benchmark's own clips, with its numbers of frames and annotations."""
    if not known or {clip.name for clip in clips} != set(known):
        return False
    try:
        return all(
            number is None or number == found
            for clip in clips
            for number, found in (
                (known[clip.name].num_frames, len(clip.frames)),
                (known[clip.name].num_annotations, clip.num_annotated),
            )
        )
    except DataError:
        return False


def collected_notes(records: Mapping[str, Mapping[str, Json]]) -> tuple[str, ...]:
    """What `Scorer.result()` noted of each clip, a sentence for each thing, naming the clips that have it."""
    found: dict[str, list[str]] = {}
    for clip, record in records.items():
        for sentence, detail in ((str(part) for part in list_of(note)) for note in list_of(record.get("notes", ()))):
            found.setdefault(sentence, []).append(f"{clip} ({detail})" if detail else clip)
    return sentences(found)


def with_notes(statistics: Mapping[str, Json], notes: Sequence[tuple[str, str]]) -> dict[str, Json]:
    """`Scorer.result()` with what else was noted of the clip, behind the scorer's own."""
    noted = [*list_of(statistics.get("notes", ())), *map(list, notes)]
    return {**statistics, "notes": noted} if notes else {**statistics}


def sentences(noted: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Notes as sentences: what was noted, and of which clips."""
    return tuple(f"{what[0].upper()}{what[1:]}: {some(clips, _SHOWN)}." for what, clips in noted.items())


def some(names: Sequence[object], shown: int = 5) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(map(str, names[:shown])) + more
