"""Scores predictions of any method: ground truth is enumerated, never the predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from corrkit import __version__
from corrkit.errors import DataError
from corrkit.evaluation import Result
from corrkit.files.archive import open_root
from corrkit.files.jsontext import Json
from corrkit.predictors.together import Stream
from corrkit.protocols import Protocol
from corrkit.runs.results import CheckpointFacts, build_summary
from corrkit.subject import Subject, open_subject
from corrkit.tasks.clips import with_notes
from corrkit.tasks.contract import AnyClip, ClipT, Predictions, Task, Truth
from corrkit.tasks.roots import folders_below


def score(
    task: str,
    *,
    pred: str | Path,
    data: str | Path | None = None,
    protocol: str | Protocol | None = None,
    split: str | None = None,
    clips: Sequence[str] | None = None,
    dataset_name: str | None = None,
    allow_partial: bool = False,
    allow_ground_truth: bool = False,
    grid: tuple[int, int] | None = None,
    **overrides: object,
) -> Result:
    """Scores a folder of predictions against a data set; no network, no propagation.

    Args:
        task: "davis", "vip" or "jhmdb".
        pred: the folder, .zip or .tar of predictions (see the task's `predictions` for the forms it takes).
        data: the data root; None takes $CORRKIT_DATA/<task>, else the embedded clips.
        protocol: decides the rules of the score only; None takes the task's default.
        split: None takes the task's default split.
        clips: score only these; any other number of clips than all marks the result partial.
        dataset_name: name of a data set of one's own in the task's layout.
        allow_partial: clips without predictions are left out instead of being an error.
        allow_ground_truth: predictions that equal the ground truth everywhere are scored instead of being refused.
        grid: (width, height) in cells, for published JHMDB predictions (.dat), which count in cells of a grid; other
            tasks refuse it.
        **overrides: protocol constants by leaf name.

    Raises:
        DataError: naming missing clips, frames that are missing in a clip, or a prediction of another size.
    """
    subject = open_subject(
        task, data=data, protocol=protocol, overrides=overrides, split=split, clips=clips, dataset_name=dataset_name
    )
    return score_subject(
        subject,
        pred,
        allow_partial=allow_partial,
        allow_ground_truth=allow_ground_truth,
        options={} if grid is None else {"grid": grid},
    )


def score_subject(
    subject: Subject,
    pred: str | Path,
    *,
    allow_partial: bool = False,
    allow_ground_truth: bool = False,
    options: Mapping[str, object] = MappingProxyType({}),
) -> Result:
    """See `score`, for a request that is opened already; `options` are those of the task's `predictions`."""
    folder = _opened(Path(pred), subject, options)
    predictions = subject.task.predictions(folder, options)
    subject = replace(subject, clips=_predicted(subject, folder, predictions, allow_partial=allow_partial))
    statistics: dict[str, Mapping[str, Json]] = {}
    equal_clips = 0
    for clip in subject.clips:
        statistics[clip.name], equals_truth = _score_clip(subject.task, predictions, clip, subject.protocol)
        equal_clips += equals_truth
    if equal_clips == len(subject.clips) and not allow_ground_truth:
        raise DataError(
            f"Every prediction in {folder} equals the ground truth.",
            "Point --pred to a method's output, or say --allow-ground-truth.",
        )
    scores = subject.task.scores(statistics, subject.protocol, split=subject.dataset.split)
    summary = build_summary(
        scores,
        subject.protocol,
        checkpoint=CheckpointFacts(spec=Path(pred).name, digest=None, system="predictions", architecture="unknown"),
        data=subject.data,
        precision="",
        device="none",
        layer=None,
        stride=None,
        parameters=None,
        versions={"corrkit": __version__},
        missing=subject.missing(statistics),
    )
    return Result(
        summary=summary,
        protocol=subject.protocol,
        statistics=statistics,
        notes=(*subject.dataset.notes, *scores.notes),
        csvs=scores.csvs,
    )


def _opened(path: Path, subject: Subject, options: Mapping[str, object]) -> Path:
    """A folder of predictions as it is; an archive at the folder that holds the predictions of some clip."""
    if not path.exists():
        raise DataError(f"The prediction folder {path} does not exist.", "Correct --pred.")
    opened = open_root(path)
    if not opened.is_dir():
        raise DataError(f"{path} is neither a folder of predictions nor an archive of one.", "Correct --pred.")
    if opened == path:
        return opened
    for folder in (opened, *folders_below(opened)):
        predictions = subject.task.predictions(folder, options)
        if any(predictions.holds(clip) for clip in subject.clips):
            return folder
    return opened


def _predicted(
    subject: Subject, folder: Path, predictions: Predictions[AnyClip, object], *, allow_partial: bool
) -> tuple[AnyClip, ...]:
    """The clips that have predictions. Raises DataError naming all others, unless partial sets are allowed."""
    clips = subject.clips
    missing = [clip.name for clip in clips if not predictions.holds(clip)]
    if missing and (not allow_partial or len(missing) == len(clips)):
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
        raise DataError(
            f"{folder} lacks {len(missing)} of {len(clips)} clips: {', '.join(missing[:10])}"
            f"{', ...' if len(missing) > 10 else ''}. It holds {found}.",
            "Add them, name the clips to score with --clips, or say --allow-partial.",
        )
    return tuple(clip for clip in clips if clip.name not in set(missing))


def _score_clip(
    task: Task[ClipT, NDArray[np.generic], Truth],
    predictions: Predictions[ClipT, NDArray[np.generic]],
    clip: ClipT,
    protocol: Protocol,
) -> tuple[dict[str, Json], bool]:
    """Statistics of one clip, and whether every scored prediction equals the annotation."""
    clip.check()
    clip = task.resaved(clip, protocol)
    scorer = task.scorer(clip, protocol, task.truth(clip, protocol))
    compared, equal = 0, True
    read = Stream(predictions.read(clip, protocol), ())
    for index, prediction in enumerate(read):
        if prediction is not None:
            scorer.update(index, prediction)
            compared += 1
            truth = clip.annotation(index)
            is_float = prediction.dtype.kind == "f"
            equal = equal and truth is not None and np.array_equal(prediction, truth, equal_nan=is_float)
    return with_notes(scorer.result(), read.notes), equal and compared > 0
