"""What is left of a share of the clips: errands to give out, outcomes to take back, and how far it is."""

import math
from collections.abc import Callable, Sequence, Set
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from corrkit.errors import CorrkitError
from corrkit.lanes import Lane
from corrkit.processes.workers import Errand, Outcome
from corrkit.subject import Subject
from corrkit.task_table import task_facts
from corrkit.tasks.contract import AnyClip


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far an evaluation is.

    done: clips that are finished or have failed, among them those taken over from a run that is resumed. total: clips.
    frames_left: of the clips that are not done. metric: the one that leads; score: of the clips done so far, NaN where
    there is none, of the first of several lanes.
    """

    done: int
    total: int
    taken_over: int
    frames_left: int
    metric: str
    score: float


Watch = Callable[[Standing], None]
"""Called before the first clip, and after every one."""


class Remaining:
    """What is left of a share of the clips: gives out errands, and takes back their outcomes; a context manager.

    Args:
        lanes: which may have finished some of the clips.
        subject: what is evaluated on.
        share: the clips, in the data set's order.
        save_predictions: as for `evaluate`.
        taken_over: clips that were finished when the evaluation began.
    """

    def __init__(
        self,
        lanes: Sequence[Lane],
        subject: Subject,
        share: Sequence[AnyClip],
        save_predictions: bool | None,
        taken_over: Set[str],
    ) -> None:
        self._lanes, self._subject, self._save_predictions = lanes, subject, save_predictions
        lacking = {
            clip.name: tuple(place for place, lane in enumerate(lanes) if clip.name not in lane.records)
            for clip in share
        }
        self.clips = [clip for clip in share if lacking[clip.name]]
        self._lacking, self._num_clips = lacking, len(share)
        self._taken_over = sum(clip.name in taken_over for clip in share)
        self._frames_left = {clip.name: clip.num_files for clip in self.clips}
        self._stages: dict[str, ExitStack] = {}

    def errand(self, clip: AnyClip) -> Errand:
        """A clip for the lanes that lack it, with a folder for the predictions of each."""
        stage = self._stages[clip.name] = ExitStack()
        places = self._lacking[clip.name]
        folders = [self._folder(self._lanes[place], stage) for place in places]
        return Errand(clip=clip, places=places, predictions=folders)

    def keep(self, errand: Errand, outcomes: Sequence[Outcome]) -> None:
        """Takes what came of an errand."""
        name = errand.clip.name
        for place, folder, outcome in zip(errand.places, errand.predictions, outcomes, strict=True):
            if isinstance(outcome, CorrkitError):
                self._lanes[place].failures[name] = outcome
            else:
                self._lanes[place].keep(outcome, folder)
        self._stages.pop(name).close()
        del self._frames_left[name]

    def tell(self, watch: Watch | None) -> None:
        """Tells how far the share is."""
        if watch is None:
            return
        metric, score = _score_so_far(self._lanes[0], self._subject)
        watch(
            Standing(
                done=self._num_clips - len(self._frames_left),
                total=self._num_clips,
                taken_over=self._taken_over,
                frames_left=sum(self._frames_left.values()),
                metric=metric,
                score=score,
            )
        )

    def _folder(self, lane: Lane, stage: ExitStack) -> Path | None:
        if lane.run is None or self._save_predictions is False:
            return None
        return stage.enter_context(lane.run.staging())

    def __enter__(self) -> "Remaining":
        return self

    def __exit__(self, *error: object) -> None:
        for stage in self._stages.values():
            stage.close()


def _score_so_far(lane: Lane, subject: Subject) -> tuple[str, float]:
    """The leading metric of the records that a lane has: without interval, at little cost."""
    statistics = {name: record.statistics for name, record in lane.records.items()}
    evidence = subject.task.evidence(statistics, lane.protocol)
    score = float(evidence.estimate(evidence.statistics.sum(axis=0))[0]) if evidence.units else math.nan
    return task_facts(subject.task.name).leading.short or evidence.names[0], score
