"""One pass over one clip, for several predictors in lockstep: predict, score and save frame by frame."""

import functools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Generic

from corrkit.beside import Beside
from corrkit.predictors.contract import Predictor
from corrkit.predictors.together import predict_together
from corrkit.protocols import Protocol
from corrkit.protocols.reader import scoring_constants
from corrkit.runs.records import ClipRecord
from corrkit.tasks.clips import with_notes
from corrkit.tasks.contract import ClipT, Label, Scorer, Task, Truth
from corrkit.tasks.thinned import read_once, thinned

_KEPT = 10  # frames whose truth is kept: scores lie behind by as many pieces of work as `Beside` lets wait

Progress = Callable[[str, int, int], None]
"""Called after every frame with the clip's name, frames done, and frames of the clip."""


def evaluate_clip(
    lanes: Sequence[tuple[Predictor, Protocol]],
    clip: ClipT,
    task: Task[ClipT, Label, Truth],
    *,
    truth: Callable[[int], Truth] | None = None,
    predictions: Sequence[Path | None] | None = None,
    progress: Progress | None = None,
    every: int = 1,
) -> list[ClipRecord]:
    """One pass over a clip: predict, score and save frame by frame; a record for each lane.

    Args:
        lanes: predictors, each with its protocol.
        clip: of the task's data.
        task: of all the protocols.
        truth: `Task.truth` of the clip under the protocol of all lanes, where the caller keeps it.
        predictions: the folder for each lane's predictions, or None.
        progress: called after every frame.
        every: takes the frames 0, every, 2 * every, ... only.
    """
    started = time.perf_counter()
    clip.check()
    num_frames = -(-len(clip.frames) // every)
    folders = predictions or [None] * len(lanes)
    with Beside("truth") as truths, Beside("scores") as scoring, Beside("labels") as decoding:
        prepared = _prepared(lanes, clip, task, truth, truths)
        members = [
            (predictor, protocol, thinned(seen, every))
            for (predictor, protocol), (seen, _) in zip(lanes, prepared, strict=True)
        ]
        takers = [
            _Taker(task, clip, folder, task.scorer(seen, protocol, true))
            for (_, protocol), (seen, true), folder in zip(lanes, prepared, folders, strict=True)
        ]
        with predict_together(members, task, decoding) as streams, scoring.finished():
            opened = time.perf_counter() - started
            for index, predicted in enumerate(zip(*streams, strict=True)):
                for taker, (_, true), prediction in zip(takers, prepared, predicted, strict=True):
                    if prediction is not None:
                        if taker.scorer.takes(index * every):
                            true.ask(index * every)
                        scoring.do(functools.partial(taker.take, index * every, prediction))
                if progress is not None:
                    progress(clip.name, index + 1, num_frames)
    return [
        ClipRecord(
            clip=clip.name,
            frames=num_frames,
            statistics=with_notes(taker.scorer.result(), stream.notes),
            seconds=opened + stream.seconds + taker.seconds,
            frames_at_a_time=predictor.frames_at_a_time,
        )
        for (predictor, _), taker, stream in zip(lanes, takers, streams, strict=True)
    ]


class _Taker(Generic[ClipT, Label, Truth]):
    """Scores and saves the predictions of one lane, and counts the seconds that it takes."""

    def __init__(
        self, task: Task[ClipT, Label, Truth], clip: ClipT, folder: Path | None, scorer: Scorer[Label]
    ) -> None:
        self._task, self._clip, self._folder = task, clip, folder
        self.scorer, self.seconds = scorer, 0.0

    def take(self, index: int, prediction: Label) -> None:
        before = time.perf_counter()
        self.scorer.update(index, prediction)
        if self._folder is not None:
            self._task.write_prediction(self._folder, self._clip, index, prediction)
        self.seconds += time.perf_counter() - before


class _Truth(Generic[Truth]):
    """`Task.truth` of one clip, prepared in a thread before it is asked for.

    Args:
        truth: of a frame; not every frame has one.
        beside: the thread.
    """

    def __init__(self, truth: Callable[[int], Truth], beside: Beside) -> None:
        self._truth, self._beside = truth, beside
        self._coming: dict[int, Future[Truth]] = {}

    def ask(self, index: int) -> None:
        """Has a frame's truth prepared, where its scorer will look at it; what fails is raised only there."""
        if index not in self._coming:
            self._coming[index] = self._beside.ask(functools.partial(self._truth, index))
            if len(self._coming) > _KEPT:
                del self._coming[next(iter(self._coming))]

    def __call__(self, index: int) -> Truth:
        """A frame's truth. Raises as `Task.truth` does."""
        coming = self._coming.get(index)
        return self._truth(index) if coming is None else coming.result()


def _prepared(
    lanes: Sequence[tuple[Predictor, Protocol]],
    clip: ClipT,
    task: Task[ClipT, Label, Truth],
    truth: Callable[[int], Truth] | None,
    truths: Beside,
) -> list[tuple[ClipT, _Truth[Truth]]]:
    """The clip as each lane's protocol sees it, with its `Task.truth`; lanes that are scored alike share them."""
    shared = read_once(clip) if len(lanes) > 1 else clip
    made: dict[str, tuple[ClipT, _Truth[Truth]]] = {}
    found = []
    for _, protocol in lanes:
        alike = repr(scoring_constants(protocol))
        if alike not in made:
            seen = task.resaved(shared, protocol)
            made[alike] = seen, _Truth(truth or task.truth(seen, protocol), truths)
        found.append(made[alike])
    return found
