"""What the pipeline asks of a task: disk layout to clips, labels to the grid and back, scoring.

One module per task implements `Task`; the pipeline in `corrkit.evaluation` knows nothing else about it.
Prediction and annotation are labels of one type per task: an id map [H, W] uint8 of the original size (DAVIS, VIP), or
points [15, 2] float64 (x, y) in 0-based pixels (JHMDB). Type variables hold a task's types together: its clips, its
labels, and the truth that they are scored against.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeAlias, TypeVar

from corrkit.errors import DataError, UsageError, closest
from corrkit.files.jsontext import Json
from corrkit.frames.sequence import FrameSequence
from corrkit.manifests.clips import ManifestClip
from corrkit.protocols import Protocol as ProtocolConstants
from corrkit.tasks.faults import Fault

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from corrkit.tasks.clips import ClipFiles

Label = TypeVar("Label")
Label_co = TypeVar("Label_co", covariant=True)
Label_contra = TypeVar("Label_contra", contravariant=True)
Truth = TypeVar("Truth")
ClipT = TypeVar("ClipT", bound="AnyClip")
ClipT_co = TypeVar("ClipT_co", bound="AnyClip", covariant=True)
ClipT_contra = TypeVar("ClipT_contra", bound="AnyClip", contravariant=True)

Notes = Sequence[tuple[str, str]]
"""What is odd about a clip: a sentence, equal in all clips that have it, and the clip's detail."""

Origin = Literal["official", "own", "embedded"]
"""Whose data: the benchmark's own, somebody's in its layout, or the clips that come with corrkit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Sizes of one clip, (height, width) of original frame, network input and grid; stride in network pixels."""

    original: tuple[int, int]
    network: tuple[int, int]
    grid: tuple[int, int]
    stride: float


class Clip(Protocol[Label_co]):
    """One clip of a data set. Frames and annotations are read when asked for, never all at once."""

    @property
    def name(self) -> str:
        """Unique in its data set; may hold any character a folder name may."""
        ...

    @property
    def frames(self) -> FrameSequence:
        """The frames in order; uint8 RGB [H, W, 3] each."""
        ...

    @property
    def annotation_files(self) -> Sequence[Path]:
        """The files that the ground truth depends on, in frame order; for the data identity."""
        ...

    def annotation(self, index: int) -> Label_co | None:
        """Annotation of frame `index`, or None where the frame is not annotated."""
        ...

    @property
    def num_annotated(self) -> int:
        """How many frames are annotated. Raises DataError."""
        ...

    @property
    def num_objects(self) -> int | None:
        """What a manifest counts in the first annotation; None where it tells none. Raises DataError."""
        ...

    @property
    def num_files(self) -> int:
        """Frames that are there, sound or not."""
        ...

    def check(self) -> None:
        """Raises DataError for the first fault that stops an evaluation; frames are not decoded for it."""
        ...

    def faults(self, expected: ManifestClip | None) -> Iterator[Fault]:
        """Everything wrong with the clip's files, frames decoded, measured by what a manifest expects of it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet(Generic[ClipT_co]):
    """An opened data root. `official` is True only for the benchmark's own data; notes name what was ignored or odd."""

    task: str
    name: str
    split: str
    root: Path
    official: bool
    clips: tuple[ClipT_co, ...]
    embedded: bool = False
    notes: tuple[str, ...] = ()

    @property
    def origin(self) -> Origin:
        """Whose data."""
        if self.embedded:
            return "embedded"
        return "official" if self.official else "own"


class Codec(Protocol[Label]):
    """Labels of one clip to the grid and back; made from the first annotation, which fixes the channels."""

    def encode(self, annotation: Label) -> "Tensor":
        """Annotation of any frame to a label map [h, w, L] float32."""
        ...

    def entering(self, annotation: Label) -> "Tensor":
        """Label map of what enters in a frame after the first: as `encode`, but 0 where nothing is given."""
        ...

    def grown(self, annotation: Label) -> "Codec[Label]":
        """The codec with channels for what an annotation holds beyond it; those that are there keep their place."""
        ...

    def decode(self, soft: "Tensor") -> Label:
        """Soft label map [h, w, L] to a prediction of the original size."""
        ...

    def lost(self, annotation: Label, labels: "Tensor") -> Sequence[str]:
        """Names of what an annotation holds and no cell of `labels`, its label map, does."""
        ...

    def first_prediction(self, annotation: Label) -> Label:
        """What stands for the prediction of frame 0 where it is not predicted (`readout.first_frame`)."""
        ...


class Scorer(Protocol[Label_contra]):
    """Streaming sufficient statistics of one clip."""

    def takes(self, index: int) -> bool:
        """Whether the truth of frame `index` is looked at; it is prepared for these frames only."""
        ...

    def update(self, index: int, prediction: Label_contra) -> None:
        """Takes the prediction of frame `index`; frames come in order, each once."""
        ...

    def result(self) -> dict[str, Json]:
        """The clip's sufficient statistics as plain JSON values (NaN allowed), and what is odd under "notes"."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """A table row: fractions between 0 and 1 under the field's metric names.

    intervals: metric to [low, high] or None. per_clip: clip to its metrics. objects: how many were scored (objects,
    classes or joints). csvs: official files, name to text. notes: what a reader of the table should know.
    """

    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float] | None]
    per_clip: Mapping[str, Mapping[str, float]]
    objects: int
    csvs: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What intervals and paired comparisons resample.

    names: the M metrics. units: what one draw takes, clips or the source videos that clips were cut from.
    statistics: [units, *S], what each unit adds to the sums. estimate: sums [..., *S] to metrics [..., M].
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    statistics: "NDArray[np.generic]"
    estimate: "Callable[[NDArray[Any]], NDArray[np.float64]]"


class Layout(Protocol):
    """A task's data on disk."""

    @property
    def root(self) -> Path:
        """Its folder."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """How it was found, where that was not told."""
        ...

    @property
    def has_official_sizes(self) -> bool:
        """Whether the frames are the version that the benchmark's manifest describes."""
        ...

    def clips(self, split: str) -> "tuple[tuple[ClipFiles, ...], list[str]]":
        """The clips that the data's own lists name, in order, and notes. Raises DataError where there is none."""
        ...

    def files(self, folder: str) -> "ClipFiles":
        """Where the clip with a manifest's `folder` should lie."""
        ...

    def folder(self, files: "ClipFiles") -> str:
        """The reverse of `files`."""
        ...

    def unlisted(self) -> Iterator[Path]:
        """Folders of clips that no list names; none where there is no list."""
        ...


class Predictions(Protocol[ClipT_contra, Label_co]):
    """A folder of predictions of any method, opened by a task."""

    def holds(self, clip: ClipT_contra) -> bool:
        """Whether there is anything for this clip."""
        ...

    def read(self, clip: ClipT_contra, protocol: ProtocolConstants) -> Generator[Label_co | None, None, Notes]:
        """Predictions of all scored frames in order, None for frames that are not scored; at the end, what is odd.

        Raises:
            DataError: for predictions that are missing or can't be read.
        """
        ...


class Task(Protocol[ClipT, Label, Truth]):
    """One benchmark; what is merely known of it stands in `corrkit.task_table`."""

    name: str
    tree: tuple[str, ...]
    """The layout of its data, a line each; {split} stands for the split."""

    def layout(self, root: Path) -> Layout:
        """The layout at `root` or below it. Raises DataError with the expected tree."""
        ...

    def clip(self, files: "ClipFiles", root: Path, official: ManifestClip | None = None) -> ClipT:
        """The clip that lies in `files`, below the data's `root`; `official` is what the benchmark says of it."""
        ...

    def open(self, root: Path, *, split: str, dataset_name: str | None) -> DataSet[ClipT]:
        """Finds the layout at, above or below `root`. Raises DataError naming what is missing."""
        ...

    def resaved(self, clip: ClipT, protocol: ProtocolConstants) -> ClipT:
        """The clip as the protocol's published preprocessing had saved it again, or the clip itself."""
        ...

    def given(self, clip: ClipT, protocol: ProtocolConstants) -> Mapping[int, Label]:
        """The labels that a method is given: the annotation of frame 0, and what enters later by the frame it enters.

        Later labels are id maps that hold nothing else.
        """
        ...

    def codec(self, clip: ClipT, geometry: Geometry, protocol: ProtocolConstants) -> Codec[Label]:
        """The clip's label codec for one geometry."""
        ...

    def truth(self, clip: ClipT, protocol: ProtocolConstants) -> Callable[[int], Truth]:
        """Ground-truth side of the score of frame `index`, prepared; a caller that scores often may memoise it."""
        ...

    def scorer(self, clip: ClipT, protocol: ProtocolConstants, truth: Callable[[int], Truth]) -> Scorer[Label]:
        """A fresh scorer for one pass over the clip."""
        ...

    def scores(self, records: Mapping[str, Mapping[str, Json]], protocol: ProtocolConstants, *, split: str) -> Scores:
        """Clip name to `Scorer.result()`, aggregated as the benchmark does; the split names the official files."""
        ...

    def evidence(self, records: Mapping[str, Mapping[str, Json]], protocol: ProtocolConstants) -> Evidence:
        """Clip name to `Scorer.result()`, as sums whose metrics are those of `scores`."""
        ...

    def write_prediction(self, folder: Path, clip: ClipT, index: int, prediction: Label) -> None:
        """Saves one prediction in the task's layout, in a form the task's official tool reads."""
        ...

    def predictions(self, folder: Path, options: Mapping[str, object]) -> Predictions[ClipT, Label]:
        """Predictions of any method in `folder`, read with the task's own options.

        Raises:
            UsageError: for an option that the task has not, or a wrong value.
        """
        ...


AnyClip: TypeAlias = Clip[Any]
"""Of a task that is only known when the program runs."""
AnyTask: TypeAlias = Task[Any, Any, Any]
"""Known by its name only when the program runs."""


def refuse_options(task: str, options: Mapping[str, object], known: Sequence[str] = ()) -> None:
    """Raises UsageError for an option of reading predictions that a task has not."""
    for name in options:
        if name not in known:
            raise UsageError(
                f"Predictions for {task} are read without --{name}.",
                f"Leave it out, or say {' or '.join(f'--{one}' for one in known)}." if known else "Leave it out.",
            )


def select_clips(data: DataSet[ClipT], names: Sequence[str]) -> tuple[ClipT, ...]:
    """The named clips in the data set's order. Raises DataError for a name that it lacks, UsageError for none."""
    if isinstance(names, str) or not names:
        raise UsageError(f"clips is {names!r}, which names no clip.", "Give a list of names, or leave it out for all.")

    known = {clip.name for clip in data.clips}
    names = _with_commas(names, known)
    for name in names:
        if name not in known:
            raise DataError(f"{data.root} has no clip {name!r} in split {data.split!r}.", closest(name, known))
    return tuple(clip for clip in data.clips if clip.name in set(names))


def _with_commas(names: Sequence[str], known: Set[str]) -> list[str]:
    """Names with those put together again that a list separated by commas has cut: "a,b" where there is no "a"."""
    found: list[str] = []
    rest = list(names)
    while rest:
        longest = next((n for n in range(len(rest), 1, -1) if ",".join(rest[:n]) in known), 1)
        count = 1 if rest[0] in known else longest
        found.append(",".join(rest[:count]))
        rest = rest[count:]
    return found
