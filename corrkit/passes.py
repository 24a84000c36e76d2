"""One pass over one clip, for several predictors in lockstep: predict, score and save frame by frame."""

import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from corrkit.predictors.contract import Predictor
from corrkit.predictors.together import predict_together
from corrkit.protocols import Protocol
from corrkit.protocols.reader import scoring_constants
from corrkit.runs.records import ClipRecord
from corrkit.tasks.clips import with_notes
from corrkit.tasks.contract import ClipT, Label, Task, Truth
from corrkit.tasks.thinned import read_once, thinned

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
    scoring = [0.0] * len(lanes)
    num_frames = -(-len(clip.frames) // every)
    prepared = _prepared(lanes, clip, task, truth)
    scorers = [task.scorer(seen, protocol, true) for (_, protocol), (seen, true) in zip(lanes, prepared, strict=True)]
    folders = predictions or [None] * len(lanes)
    members = [
        (predictor, protocol, thinned(seen, every))
        for (predictor, protocol), (seen, _) in zip(lanes, prepared, strict=True)
    ]
    with predict_together(members, task) as streams:
        opened = time.perf_counter() - started
        for index, predicted in enumerate(zip(*streams, strict=True)):
            for lane, prediction in enumerate(predicted):
                before = time.perf_counter()
                if prediction is not None:
                    scorers[lane].update(index * every, prediction)
                    if (folder := folders[lane]) is not None:
                        task.write_prediction(folder, clip, index * every, prediction)
                scoring[lane] += time.perf_counter() - before
            if progress is not None:
                progress(clip.name, index + 1, num_frames)
    return [
        ClipRecord(
            clip=clip.name,
            frames=num_frames,
            statistics=with_notes(scorer.result(), stream.notes),
            seconds=opened + stream.seconds + own,
        )
        for scorer, stream, own in zip(scorers, streams, scoring, strict=True)
    ]


def _prepared(
    lanes: Sequence[tuple[Predictor, Protocol]],
    clip: ClipT,
    task: Task[ClipT, Label, Truth],
    truth: Callable[[int], Truth] | None,
) -> list[tuple[ClipT, Callable[[int], Truth]]]:
    """The clip as each lane's protocol sees it, with its `Task.truth`; lanes that are scored alike share them.

    Truth that isn't kept by the caller is kept for the latest frame.
    """
    shared = read_once(clip) if len(lanes) > 1 else clip
    made: dict[str, tuple[ClipT, Callable[[int], Truth]]] = {}
    found = []
    for _, protocol in lanes:
        alike = repr(scoring_constants(protocol))
        if alike not in made:
            seen = task.resaved(shared, protocol)
            made[alike] = seen, truth or functools.lru_cache(maxsize=1)(task.truth(seen, protocol))
        found.append(made[alike])
    return found
