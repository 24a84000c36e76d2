"""JHMDB (and any folder in its layout): 15 joints per person, scored by PCK."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from corrkit.errors import DataError, UsageError
from corrkit.files.jsontext import Json, number_of
from corrkit.files.reading import is_there
from corrkit.manifests.clips import ManifestClip, official_clips
from corrkit.metrics.intervals import bootstrap_intervals, sum_clusters
from corrkit.metrics.keypoints import THRESHOLDS, mean_pck, pck_counts, pck_of_counts
from corrkit.protocols import Protocol
from corrkit.protocols.schema import JhmdbScore
from corrkit.task_table import task_facts
from corrkit.tasks.clips import UNFOLLOWED, ClipFiles, ImageClip, are_official, collected_notes
from corrkit.tasks.contract import DataSet, Evidence, Geometry, Notes, Scores, Task, refuse_options
from corrkit.tasks.faults import Fault
from corrkit.tasks.first_frame import joint_notes
from corrkit.tasks.jhmdb_layout import JhmdbLayout, find_layout
from corrkit.tasks.jhmdb_points import JOINTS, PointCodec, Points
from corrkit.tasks.jhmdb_predictions import find_joints, read_joints, write_joints
from corrkit.tasks.joint_positions import assumed_frame_size, read_joint_positions
from corrkit.tasks.roots import shown_name

_ANY_CLIP = ManifestClip(split="", clip="", folder="", width=320, height=240)
"""What is known of a clip of JHMDB that is in no list here: all of JHMDB is of this size."""
METRICS = tuple(metric.name for metric in task_facts("jhmdb").metrics)
_OUTSIDE = 0.1
"""The largest share of joints outside of the frames that is no hint at another size."""


class JhmdbClip(ImageClip):
    """One clip: frames, and the joints of its .mat. The published prediction files are named by its number."""

    annotation_suffixes = (".mat",)

    @property
    def annotation_files(self) -> tuple[Path, ...]:
        """The .mat file."""
        return (self.files.annotation,)

    @cached_property
    def joints(self) -> Points:
        """True joints [T, J, 2], (x, y) in 0-based pixels; may lie outside the frame. Raises DataError."""
        return read_joint_positions(self.files.annotation)

    @property
    def source(self) -> str:
        """The video that the clip was cut from: HMDB51 names clips VIDEO_ACTION_PARTS_..._NUMBER."""
        return self.name.partition(f"_{self.files.frames.parent.name}_")[0]

    @property
    def num_annotated(self) -> int:
        """Frames that have both picture and joints."""
        return min(len(self.frames), len(self.joints))

    @property
    def num_objects(self) -> None:
        """Not told by joints."""
        return None

    def annotation(self, index: int) -> Points | None:
        """Joints [J, 2] of frame `index`, or None beyond the last annotated frame."""
        return self.joints[index] if index < len(self.joints) else None

    def _placement_faults(self, expected: ManifestClip | None) -> Iterator[Fault]:
        """Two files of one frame, and gaps in the numbers: joints belong to frames by their order."""
        yield from super()._placement_faults(expected)
        missing = [self.files.frames / f"{stem}.png" for stem in _gaps(self._expected_stems(expected))]
        remedy = "Restore it: joints belong to frames by their order."
        yield from self._group("missing", "frame missing", remedy, stops=True).extend(missing).faults()

    def _annotation_faults(self, expected: ManifestClip | None) -> Iterator[Fault]:
        """A .mat that is missing, can't be read, or doesn't fit the frames in number or size."""
        path, remedy = self.files.annotation, "Restore it from joint_positions.zip."
        if not is_there(path):
            yield from self._group("missing", "joints missing", remedy, stops=True).extend([path]).faults()
            return
        try:
            joints = self.joints
        except DataError as error:
            damaged = self._group("damaged", "joints that can't be read", error.remedy, stops=True)
            yield from damaged.extend([path], error.problem.removeprefix(f"{path} ").rstrip(".")).faults()
            return
        num_frames = len(self._expected_stems(expected))
        if num_frames and len(joints) != num_frames:
            surplus = (
                "frames without joints are not scored"
                if num_frames > len(joints)
                else "joints without frames are left out"
            )
            differing = self._group("damaged", "joints that don't fit the frames", remedy, consequence=surplus)
            detail = f"joints of {len(joints)} frames, but {num_frames} frames are there"
            yield from differing.extend([path], detail).faults()
        yield from self._scale_faults(joints)

    def _scale_faults(self, joints: Points) -> Iterator[Fault]:
        """Joints in pixels of frames of another size, by what the file tells, or else by where they lie."""
        try:
            height, width = self.frame_files.size
        except DataError:
            return
        assumed = assumed_frame_size(self.files.annotation)
        if assumed is not None:
            if assumed != (height, width):
                remedy = "Use the frames that the joints were made for, or give joints in pixels of these."
                other = self._group(
                    "damaged",
                    "joints in pixels of frames of another size",
                    remedy,
                    consequence="distances to what is predicted on these frames mean nothing",
                )
                detail = f"of {assumed[1]}x{assumed[0]}, the frames are {width}x{height}"
                yield from other.extend([self.files.annotation], detail).faults()
            return
        outside = float(((joints < -1) | (joints > (width, height))).any(axis=-1).mean())
        if outside > _OUTSIDE:
            group = self._group(
                "noted",
                "joints outside of the frames",
                "Give joints in pixels of the frames.",
                consequence="they may count in pixels of another size",
            )
            detail = f"{outside:.0%} of them, frames are {width}x{height}"
            yield from group.extend([self.files.annotation], detail).faults()
        elif self._official is None and (joints.max(axis=(0, 1)) < (width / 2, height / 2)).all():
            group = self._group(
                "noted",
                "joints that never leave the upper left quarter of the frames",
                "Give joints in pixels of the frames.",
                consequence="they may count in pixels of frames of half the size",
            )
            yield from group.extend([self.files.annotation], f"frames are {width}x{height}").faults()


class JhmdbTask:
    """See `corrkit.tasks.contract.Task`. Splits: "split1" to "split3" (test clips), "all", or a list file."""

    name = "jhmdb"
    tree = JhmdbLayout.tree

    def layout(self, root: Path) -> JhmdbLayout:
        """The layout at `root` or below it. Raises DataError with the expected tree."""
        return find_layout(root)

    def clip(self, files: ClipFiles, root: Path, official: ManifestClip | None = None) -> JhmdbClip:
        """The clip that lies in `files`."""
        return JhmdbClip(files, root, official)

    def open(self, root: Path, *, split: str, dataset_name: str | None) -> DataSet[JhmdbClip]:
        """Opens a root in JHMDB layout. Raises DataError naming what is missing."""
        layout = self.layout(root)
        files, notes = layout.clips(split)
        known = {clip.clip: clip for clip in official_clips(self.name, task_facts(self.name).default_split)}
        clips = tuple(
            self.clip(one, layout.root, None if dataset_name else known.get(one.name, _ANY_CLIP)) for one in files
        )
        official = dataset_name is None and are_official(clips, known)
        return DataSet(
            task=self.name,
            name=dataset_name or ("JHMDB" if official else shown_name(layout.root.name)),
            split=split,
            root=layout.root,
            official=official,
            clips=clips,
            notes=(*layout.notes, *notes),
        )

    def resaved(self, clip: JhmdbClip, protocol: Protocol) -> JhmdbClip:
        """The clip itself: no published code saved this data set again."""
        return clip

    def given(self, clip: JhmdbClip, protocol: Protocol) -> dict[int, Points]:
        """The joints of frame 0."""
        return {0: clip.joints[0]}

    def codec(self, clip: JhmdbClip, geometry: Geometry, protocol: Protocol) -> PointCodec:
        """Joints to maps and back; the same for every clip of one geometry."""
        return PointCodec(geometry, protocol.labels, protocol.readout)

    def truth(self, clip: JhmdbClip, protocol: Protocol) -> Callable[[int], Points | None]:
        """True joints of a frame."""
        return clip.annotation

    def scorer(self, clip: JhmdbClip, protocol: Protocol, truth: Callable[[int], Points | None]) -> "JhmdbScorer":
        """Hits of every joint at the five thresholds."""
        return JhmdbScorer(clip, protocol.score, truth)

    def scores(self, records: Mapping[str, Mapping[str, Json]], protocol: Protocol, *, split: str) -> Scores:
        """PCK of each joint over all clips together, and the mean over joints; intervals over source videos."""
        counts = _stacked(records)
        evidence = self.evidence(records, protocol)
        intervals = bootstrap_intervals(evidence.statistics, evidence.estimate)
        means = mean_pck(pck_of_counts(counts)).tolist()
        return Scores(
            metrics=dict(zip(evidence.names, evidence.estimate(counts.sum(axis=0)).tolist(), strict=True)),
            intervals=dict(zip(evidence.names, intervals, strict=True)),
            per_clip={
                clip: dict(zip(METRICS, values, strict=True)) for clip, values in zip(records, means, strict=True)
            },
            objects=int((counts[:, -1].sum(axis=0) > 0).sum()),
            notes=(*_abstained(records, counts), *collected_notes(records)),
        )

    def evidence(self, records: Mapping[str, Mapping[str, Json]], protocol: Protocol) -> Evidence:
        """Hits and instances [source videos, 6, J]."""
        sources = [str(record["source"]) for record in records.values()]

        def metrics_of(sums: NDArray[np.int64]) -> NDArray[np.float64]:  # [..., 6, J] to [..., 5 + 5 * J]
            pck = pck_of_counts(sums)
            return np.concatenate([mean_pck(pck), pck.reshape(*pck.shape[:-2], -1)], axis=-1)

        return Evidence(
            names=(*METRICS, *(f"{name}/{joint}" for name in METRICS for joint in JOINTS)),
            units=tuple(dict.fromkeys(sources)),
            statistics=sum_clusters(_stacked(records), sources),
            estimate=metrics_of,
        )

    def write_prediction(self, folder: Path, clip: JhmdbClip, index: int, prediction: Points) -> None:
        """FOLDER/CLIP.npy, [T, J, 2]: (x, y) in 0-based pixels, NaN where invisible."""
        write_joints(folder / f"{clip.name}.npy", index, len(clip.frames), prediction)

    def predictions(self, folder: Path, options: Mapping[str, object]) -> "JhmdbPredictions":
        """Files as `jhmdb_predictions.read_joints` takes them.

        options: "grid", (width, height) in cells, for the published .dat files. Raises UsageError for any other.
        """
        refuse_options(self.name, options, known=("grid",))
        match options.get("grid"):
            case None:
                return JhmdbPredictions(folder)
            case (int(width), int(height)) if width > 0 and height > 0:
                return JhmdbPredictions(folder, (width, height))
            case other:
                raise UsageError(f"grid is {other!r}.", "Give width and height in cells, whole numbers from 1.")


@dataclass(frozen=True, slots=True)
class JhmdbPredictions:
    """Joints in `folder`; those of .dat files count in cells of `grid`, (width, height)."""

    folder: Path
    grid: tuple[int, int] | None = None

    def holds(self, clip: JhmdbClip) -> bool:
        """Whether there is a file of the clip in one of the forms of `read`."""
        return find_joints(self.folder, self._name(clip), clip.files.number) is not None

    def read(self, clip: JhmdbClip, protocol: Protocol) -> Generator[Points | None, None, Notes]:
        """Joints [J, 2] of every frame in order, None for frames without annotation; the protocol has no say.

        Raises:
            DataError: for missing or damaged files, naming the missing frames.
        """
        joints = read_joints(self.folder, self._name(clip), clip.files.number, clip.frames.size, self.grid)
        if len(joints) < clip.num_annotated:
            first, last = len(joints), clip.num_annotated - 1
            raise DataError(
                f"{self.folder}: clip {clip.name!r} has predictions of {len(joints)} frames; frames {first} to {last} "
                "are missing.",
                "Predict every annotated frame.",
            )
        for index in range(len(clip.frames)):
            yield joints[index] if index < clip.num_annotated else None
        beyond = len(joints) - len(clip.frames)
        surplus = [("predictions of no frame are ignored", f"joints of {beyond} frames too many")] if beyond > 0 else []
        return [*joint_notes(joints[0], clip.joints[0]), *surplus]

    def _name(self, clip: JhmdbClip) -> str:
        """As the clip is shown, or as its own folder is named, whose bytes may be any."""
        names, number = (clip.name, clip.files.frames.name), clip.files.number
        return next((name for name in names if find_joints(self.folder, name, number)), clip.name)


def _stacked(records: Mapping[str, Mapping[str, Json]]) -> NDArray[np.int64]:
    """Hits and instances [clips, 6, J], also where no clip could be evaluated."""
    counts = [record["counts"] for record in records.values()]
    return np.array(counts, np.int64).reshape(-1, len(THRESHOLDS) + 1, len(JOINTS))


class JhmdbScorer:
    """Hits of every joint of one clip.

    Args:
        clip: what is scored.
        rules: which joints are scored, and what their distances are divided by.
        truth: true joints of a frame, None where it is not annotated.
    """

    def __init__(self, clip: JhmdbClip, rules: JhmdbScore, truth: Callable[[int], Points | None]) -> None:
        self._clip, self._rules, self._truth = clip, rules, truth
        self._pairs: list[tuple[Points, Points]] = []
        self._later = 0

    def takes(self, index: int) -> bool:
        """See `corrkit.tasks.contract.Scorer`."""
        return index < self._clip.num_annotated and (index > 0 or self._rules.score_first)

    def update(self, index: int, prediction: Points) -> None:
        """Takes frame `index` where it is scored."""
        truth = self._truth(index)
        if truth is not None and (index > 0 or self._rules.score_first):
            self._pairs.append((prediction, truth))
            self._later += index > 0

    def result(self) -> dict[str, Json]:
        """{"counts": [6][J] hits at the thresholds and scored instances, "source": of the clip, "notes": if any}."""
        pairs = np.array(self._pairs).reshape(-1, 2, len(JOINTS), 2)
        counts = pck_counts(
            pairs[:, 0], pairs[:, 1], visibility=self._rules.visibility, floor=self._rules.box_floor, score_first=True
        )
        notes = [list(note) for note in (*self._clip.notes, *([] if self._later else [(UNFOLLOWED, "")]))]
        return {
            "counts": counts.tolist(),
            "source": self._clip.source,
            "scored_frames": len(pairs),
            **({"notes": notes} if notes else {}),
        }


def _abstained(records: Mapping[str, Mapping[str, Json]], counts: NDArray[np.int64]) -> Iterator[str]:
    """A note where joints of scored frames are not scored, since they are predicted as invisible."""
    given = len(JOINTS) * int(sum(number_of(record["scored_frames"]) for record in records.values()))
    scored = int(counts[:, -1].sum())
    if scored < given:
        yield (
            f"Scored are {scored} of {given} joints ({scored / given:.1%}): as in the published code, those predicted "
            "as invisible count for nothing."
        )


def _gaps(stems: Sequence[str]) -> list[str]:
    """Numbers that are left out, with the digits of the first stem; none where stems are no numbers."""
    if not stems or not all(stem.isdecimal() for stem in stems):
        return []
    numbers = {int(stem) for stem in stems}
    missing = sorted(set(range(min(numbers), max(numbers))) - numbers)
    return [f"{number:0{len(stems[0])}d}" for number in missing]


if TYPE_CHECKING:
    _: Task[JhmdbClip, Points, Points | None] = JhmdbTask()
