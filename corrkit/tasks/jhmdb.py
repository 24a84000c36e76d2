"""JHMDB (and any folder in its layout): 15 joints per person, scored by PCK."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from corrkit.errors import DataError
from corrkit.frames.files import numbered_files, require_one_each
from corrkit.frames.pictures import SUFFIXES, require_pictures
from corrkit.frames.sequence import ImageFolder
from corrkit.manifests import manifest
from corrkit.metrics.intervals import bootstrap_intervals, sum_clusters
from corrkit.metrics.keypoints import THRESHOLDS, mean_pck, pck_counts, pck_of_counts
from corrkit.protocols import Protocol
from corrkit.protocols.schema import JhmdbScore
from corrkit.task_table import task_facts
from corrkit.tasks.contract import DataSet, Evidence, Geometry, Scores
from corrkit.tasks.jhmdb_layout import ClipFiles, find_layout
from corrkit.tasks.jhmdb_points import JOINTS, PointCodec, Points
from corrkit.tasks.jhmdb_predictions import find_joints, read_joints, write_joints
from corrkit.tasks.joint_positions import read_joint_positions
from corrkit.tasks.roots import shown_name

METRICS = tuple(metric.name for metric in task_facts("jhmdb").metrics)


class JhmdbClip:
    """One clip: frames, and the joints of its .mat.

    Args:
        files: where they lie.
        number: of the clip in its data set's order; the published prediction files are named by it.
    """

    def __init__(self, files: ClipFiles, number: int) -> None:
        self.name = files.name
        self.number = number
        self._files = files

    @cached_property
    def frames(self) -> ImageFolder:
        """The frames, sorted by number. Raises DataError for a missing or empty folder, or a gap in the numbers."""
        folder = self._files.frames
        paths = numbered_files(folder, SUFFIXES)
        require_pictures(paths, folder, self.name)
        require_one_each(paths)
        numbers = [int(path.stem) for path in paths if path.stem.isdecimal()]
        missing = sorted(set(range(numbers[0], numbers[-1] + 1)) - set(numbers)) if numbers else []
        if missing:
            raise DataError(
                f"{self.name}: {len(missing)} frame(s) are missing in {folder}, first number {missing[0]}.",
                "Restore them: joints belong to frames by their order.",
            )
        return ImageFolder(paths)

    @property
    def annotation_files(self) -> tuple[Path, ...]:
        """The .mat file."""
        return (self._files.annotation,)

    @cached_property
    def joints(self) -> Points:
        """True joints [T, J, 2], (x, y) in 0-based pixels; may lie outside the frame. Raises DataError."""
        return read_joint_positions(self._files.annotation)

    @property
    def source(self) -> str:
        """The video that the clip was cut from: HMDB51 names clips VIDEO_ACTION_PARTS_..._NUMBER."""
        return self.name.partition(f"_{self._files.frames.parent.name}_")[0]

    @property
    def num_annotated(self) -> int:
        """Frames that have both picture and joints."""
        return min(len(self.frames), len(self.joints))

    def annotation(self, index: int) -> Points | None:
        """Joints [J, 2] of frame `index`, or None beyond the last annotated frame."""
        return self.joints[index] if index < len(self.joints) else None


class JhmdbTask:
    """See `corrkit.tasks.contract.Task`. Splits: "split1" to "split3" (test clips), "all", or a list file."""

    name = "jhmdb"

    def open(self, root: Path, *, split: str, dataset_name: str | None) -> DataSet:
        """Opens a root in JHMDB layout. Raises DataError naming what is missing."""
        layout = find_layout(root)
        clips = tuple(JhmdbClip(files, number) for number, files in enumerate(layout.clips(split)))
        official = dataset_name is None and _has_official_clips(clips)
        return DataSet(
            task=self.name,
            name=dataset_name or ("JHMDB" if official else shown_name(layout.root.name)),
            split=split,
            root=layout.root,
            official=official,
            clips=clips,
            notes=(
                *layout.notes,
                *(layout.left_out() if split == "all" else ()),
                *(note for clip in clips for note in _count_notes(clip)),
            ),
        )

    def resaved(self, clip: JhmdbClip, protocol: Protocol) -> JhmdbClip:
        """The clip itself: no published code saved this data set again."""
        return clip

    def codec(self, clip: JhmdbClip, geometry: Geometry, protocol: Protocol) -> PointCodec:
        """Joints to maps and back; the same for every clip of one geometry."""
        return PointCodec(geometry, protocol.labels, protocol.readout)

    def truth(self, clip: JhmdbClip, protocol: Protocol) -> Callable[[int], Points | None]:
        """True joints of a frame."""
        return clip.annotation

    def scorer(self, clip: JhmdbClip, protocol: Protocol, truth: Callable[[int], Points | None]) -> "JhmdbScorer":
        """Hits of every joint at the five thresholds."""
        return JhmdbScorer(clip.source, protocol.score, truth)

    def scores(self, records: Mapping[str, Mapping[str, Any]], protocol: Protocol, *, split: str) -> Scores:
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
        )

    def evidence(self, records: Mapping[str, Mapping[str, Any]], protocol: Protocol) -> Evidence:
        """Hits and instances [source videos, 6, J]."""
        sources = [record["source"] for record in records.values()]

        def metrics_of(sums: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:  # [..., 6, J] to [..., 5 + 5 * J]
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

    def has_predictions(self, folder: Path, clip: JhmdbClip) -> bool:
        """Whether the folder holds a file of the clip in one of the forms of `read_predictions`."""
        return find_joints(folder, clip.name, clip.number) is not None

    def read_predictions(
        self, folder: Path, clip: JhmdbClip, *, grid: tuple[int, int] | None = None
    ) -> Iterator[Points | None]:
        """Joints [J, 2] of every frame in order, None for frames without annotation.

        Args:
            folder: see `jhmdb_predictions.read_joints`.
            clip: of this task.
            grid: (width, height) in cells, for the published .dat files.

        Raises:
            DataError: for missing or damaged files, naming the missing frames.
        """
        joints = read_joints(folder, clip.name, clip.number, clip.frames.size, grid)
        if len(joints) < clip.num_annotated:
            first, last = len(joints), clip.num_annotated - 1
            raise DataError(
                f"{folder}: clip {clip.name!r} has predictions of {len(joints)} frames; frames {first} to {last} are "
                "missing.",
                "Predict every annotated frame.",
            )
        for index in range(len(clip.frames)):
            yield joints[index] if index < clip.num_annotated else None


def _stacked(records: Mapping[str, Mapping[str, Any]]) -> np.ndarray[Any, Any]:
    """Hits and instances [clips, 6, J], also where no clip could be evaluated."""
    counts = [record["counts"] for record in records.values()]
    return np.array(counts, np.int64).reshape(-1, len(THRESHOLDS) + 1, len(JOINTS))


class JhmdbScorer:
    """Hits of every joint of one clip.

    Args:
        source: the source video of the clip.
        rules: which joints are scored, and what their distances are divided by.
        truth: true joints of a frame, None where it is not annotated.
    """

    def __init__(self, source: str, rules: JhmdbScore, truth: Callable[[int], Points | None]) -> None:
        self._source, self._rules, self._truth = source, rules, truth
        self._pairs: list[tuple[Points, Points]] = []

    def update(self, index: int, prediction: Points) -> None:
        """Takes frame `index` where it is scored."""
        truth = self._truth(index)
        if truth is not None and (index > 0 or self._rules.score_first):
            self._pairs.append((prediction, truth))

    def result(self) -> dict[str, Any]:
        """{"counts": [6][J] hits at the thresholds and scored instances, "source": of the clip}."""
        pairs = np.array(self._pairs).reshape(-1, 2, len(JOINTS), 2)
        counts = pck_counts(
            pairs[:, 0], pairs[:, 1], visibility=self._rules.visibility, floor=self._rules.box_floor, score_first=True
        )
        return {"counts": counts.tolist(), "source": self._source, "scored_frames": len(pairs)}


def _count_notes(clip: JhmdbClip) -> list[str]:
    """A note where a clip has more or fewer frames than annotations; a damaged clip tells when it is evaluated."""
    try:
        frames, annotated = len(clip.frames), len(clip.joints)
    except DataError:
        return []
    if frames == annotated:
        return []
    surplus = "frames without joints are not scored" if frames > annotated else "joints without frames are left out"
    return [f"{clip.name} has {frames} frames and joints of {annotated}: {surplus}."]


def _has_official_clips(clips: Sequence[JhmdbClip]) -> bool:
    """Whether these are the test clips of split 1, with their frame counts (data_manifests/jhmdb_split1_test.csv)."""
    with manifest("jhmdb_split1_test.csv").open(encoding="utf-8") as file:
        known = {row["clip"]: int(row["num_frames"]) for row in csv.DictReader(file)}
    if {clip.name for clip in clips} != set(known):
        return False
    try:
        return all(clip.num_annotated == known[clip.name] for clip in clips)
    except DataError:
        return False
