"""One pass over one clip, for several predictors in lockstep: predict, score and save frame by frame."""

import functools
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from corrkit.predictors.contract import Predictor
from corrkit.protocols import Protocol
from corrkit.runs.records import ClipRecord
from corrkit.tasks.contract import ClipT, Label, Task, Truth
from corrkit.tasks.thinned import thinned

if TYPE_CHECKING:
    from corrkit.backbones.layers import SharedLayer

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
    prepared = _prepared(lanes, clip, task, truth)
    scorers = [task.scorer(seen, protocol, true) for (_, protocol), (seen, true) in zip(lanes, prepared, strict=True)]
    folders = predictions or [None] * len(lanes)
    with ExitStack() as stack:
        for layers in _passes(lanes):
            stack.enter_context(layers[0].shared.lockstep(layers))
        streams = []
        for (predictor, protocol), (seen, _) in zip(lanes, prepared, strict=True):
            stream = predictor.predict(thinned(seen, every), task, protocol)
            streams.append(stack.enter_context(closing(stream)))
        for index, predicted in enumerate(zip(*streams, strict=True)):
            for scorer, folder, prediction in zip(scorers, folders, predicted, strict=True):
                if prediction is not None:
                    scorer.update(index * every, prediction)
                    if folder is not None:
                        task.write_prediction(folder, clip, index * every, prediction)
            if progress is not None:
                progress(clip.name, index + 1, num_frames)
    seconds = time.perf_counter() - started
    return [
        ClipRecord(clip=clip.name, frames=num_frames, statistics=scorer.result(), seconds=seconds) for scorer in scorers
    ]


def _passes(lanes: Sequence[tuple[Predictor, Protocol]]) -> "list[list[SharedLayer]]":
    """The layers among the lanes, by the pass of the network that they share."""
    found: dict[int, list[SharedLayer]] = {}
    for predictor, _ in lanes:
        if predictor.shared is not None:
            found.setdefault(id(predictor.shared.shared), []).append(predictor.shared)
    return list(found.values())


def _prepared(
    lanes: Sequence[tuple[Predictor, Protocol]],
    clip: ClipT,
    task: Task[ClipT, Label, Truth],
    truth: Callable[[int], Truth] | None,
) -> list[tuple[ClipT, Callable[[int], Truth]]]:
    """The clip as each lane's protocol sees it, with its `Task.truth`; lanes under one protocol share them.

    Truth that isn't kept by the caller is kept for the latest frame.
    """
    made: list[tuple[Protocol, ClipT, Callable[[int], Truth]]] = []
    found: list[tuple[ClipT, Callable[[int], Truth]]] = []
    for _, protocol in lanes:
        known = next((entry for entry in made if entry[0] == protocol), None)
        if known is None:
            seen = task.resaved(clip, protocol)
            known = protocol, seen, truth or functools.lru_cache(maxsize=1)(task.truth(seen, protocol))
            made.append(known)
        found.append(known[1:])
    return found
