"""What happened in a clip, frame by frame: scores of every part, and failures; from records and kept predictions."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corrkit.errors import DataError
from corrkit.files.jsontext import Json
from corrkit.protocols import Protocol
from corrkit.report.failures import (
    NEAR,
    Failure,
    joint_distances,
    mask_failures,
    point_failures,
    score_failures,
)
from corrkit.runs.comparable import StoredRun
from corrkit.runs.folder import kept_predictions
from corrkit.tasks.contract import AnyClip, AnyTask

Label = NDArray[np.uint8 | np.float64]
"""An id mask [H, W] or points [J, 2]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """A clip under a run.

    name: of the clip. frames: the n scored frames, by their numbers in the clip; where no predictions are kept, by
    their order among the scored. parts: names of the K parts (objects, classes, joints); ids: in masks, of joints their
    numbers from 1. scores: name of a score to [K, n].
    failures: of its parts, the earliest first. has_predictions: whether these are kept.
    """

    name: str
    frames: tuple[int, ...]
    parts: tuple[str, ...]
    ids: tuple[int, ...]
    scores: Mapping[str, NDArray[np.float64]]
    failures: tuple[Failure, ...]
    has_predictions: bool


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Clips of a run with their data: truth and kept predictions side by side.

    clips: name to clip, as the protocol sees it.
    """

    run: StoredRun
    task: AnyTask
    protocol: Protocol
    clips: Mapping[str, AnyClip]

    def labels(self, clip: str) -> Iterator[tuple[int, Label, Label]]:
        """Number, truth and prediction of every scored frame. Raises DataError where predictions are missing."""
        opened = self.clips[clip]
        predictions = self.task.predictions(self.run.folder / "predictions", {})
        for index, predicted in enumerate(predictions.read(opened, self.protocol)):
            truth = opened.annotation(index)
            if predicted is not None and truth is not None:
                yield index, np.asarray(truth), np.asarray(predicted)

    def has_predictions(self, clip: str) -> bool:
        """Whether the predictions of a clip are kept, as they were saved."""
        saved = self.run.records[clip].predictions
        return clip in self.clips and kept_predictions(self.run.folder / "predictions", saved) == "whole"

    def story(self, clip: str) -> Story:
        """What happened in a clip. Raises DataError for a kept prediction that can't be read."""
        statistics = self.run.records[clip].statistics
        if not self.has_predictions(clip):
            return _told_by_record(clip, statistics)
        frames: list[int] = []
        confusions: list[NDArray[np.int64]] = []
        truths: list[NDArray[np.float64]] = []
        predictions: list[NDArray[np.float64]] = []
        for index, truth, predicted in self.labels(clip):
            frames.append(index)
            if is_mask(truth):
                confusions.append(_confusion(truth, predicted))
            else:
                truths.append(np.asarray(truth, np.float64))
                predictions.append(np.asarray(predicted, np.float64))
        if not frames:
            return _told_by_record(clip, statistics)
        if predictions:
            return self._of_points(clip, frames, np.stack(truths), np.stack(predictions))
        size = max(len(counts) for counts in confusions)
        padded = [np.pad(counts, (0, size - len(counts))) for counts in confusions]
        return self._of_masks(clip, frames, np.stack(padded), statistics)

    @functools.cached_property
    def _part_names(self) -> tuple[str, ...]:
        """Of parts that belong to no clip: those of the first metric that has any, as METRIC/PART."""
        names = [name.split("/", 1) for name in self.run.summary["metrics"] if "/" in name]
        return tuple(part for metric, part in names if metric == names[0][0])

    def _of_masks(
        self, clip: str, frames: Sequence[int], confusions: NDArray[np.int64], statistics: Mapping[str, Json]
    ) -> Story:
        ids = [0, *(np.flatnonzero(confusions.sum(axis=(0, 2))[1:]) + 1).tolist()]  # those that the truth holds
        rest = sorted(set(range(confusions.shape[2])) - set(ids))
        counts = confusions[:, ids][:, :, ids].copy()
        counts[:, :, 0] += confusions[:, ids][:, :, rest].sum(axis=2)
        own = np.diagonal(counts, axis1=1, axis2=2)
        union = counts.sum(axis=1) + counts.sum(axis=2) - own
        with np.errstate(invalid="ignore"):
            overlap = (own / union).T[1:]
        names = tuple(self._part_names[i] if i < len(self._part_names) else str(i) for i in ids[1:])
        recorded = _recorded(statistics, len(frames))
        scores = recorded if recorded and len(recorded["J"]) == len(names) else {"IoU": overlap}
        failures = _by_frame(mask_failures(frames, counts, names, overlap))
        return Story(
            name=clip,
            frames=tuple(frames),
            parts=names,
            ids=tuple(ids[1:]),
            scores=scores,
            failures=failures,
            has_predictions=True,
        )

    def _of_points(
        self, clip: str, frames: Sequence[int], truth: NDArray[np.float64], predicted: NDArray[np.float64]
    ) -> Story:
        names = self._part_names or tuple(map(str, range(1, truth.shape[1] + 1)))
        distance = np.diagonal(joint_distances(truth, predicted), axis1=1, axis2=2).T  # [J, n]
        scores = {f"within {limit}": np.asarray(distance <= limit, np.float64) for limit in (NEAR, 2 * NEAR)}
        failures = _by_frame(point_failures(frames, truth, predicted, names))
        return Story(
            name=clip,
            frames=tuple(frames),
            parts=names,
            ids=tuple(range(1, len(names) + 1)),
            scores=scores,
            failures=failures,
            has_predictions=True,
        )


def is_mask(label: Label) -> bool:
    """Whether a label is an id mask, not points."""
    return label.dtype == np.uint8


def _by_frame(failures: Sequence[Failure]) -> tuple[Failure, ...]:
    return tuple(sorted(failures, key=lambda failure: failure.frame))


def _recorded(statistics: Mapping[str, Json], num_frames: int | None = None) -> dict[str, NDArray[np.float64]]:
    """J and F [K, n] of a record that holds them for every frame; {} else."""
    if not all(isinstance(statistics.get(name), list) for name in "JF"):
        return {}
    found = {name: np.array(statistics[name], np.float64) for name in "JF"}
    fits = all(values.ndim == 2 and num_frames in (None, values.shape[1]) for values in found.values())
    return found if fits else {}


def _told_by_record(clip: str, statistics: Mapping[str, Json]) -> Story:
    """Without predictions: J and F where the record has them, and what J alone tells of failures."""
    recorded = _recorded(statistics)
    frames = tuple(range(1, recorded["J"].shape[1] + 1)) if recorded else ()
    parts = tuple(str(number) for number in range(1, len(recorded["J"]) + 1)) if recorded else ()
    failures = _by_frame(score_failures(frames, parts, recorded["J"]) if frames else [])
    return Story(
        name=clip,
        frames=frames,
        parts=parts,
        ids=tuple(range(1, len(parts) + 1)),
        scores=recorded,
        failures=failures,
        has_predictions=False,
    )


def _confusion(truth: Label, predicted: Label) -> NDArray[np.int64]:
    """Pixels [n, n] by true and predicted id; n is the largest id and 1."""
    if truth.shape != predicted.shape:
        raise DataError(
            f"A kept prediction has {predicted.shape[1]}x{predicted.shape[0]} pixels, its truth "
            f"{truth.shape[1]}x{truth.shape[0]}.",
            "Evaluate again with --save-predictions.",
        )
    size = 1 + max(int(truth.max(initial=0)), int(predicted.max(initial=0)))
    pairs = truth.astype(np.int64).ravel() * size + predicted.ravel()
    return np.bincount(pairs, minlength=size * size).reshape(size, size)
