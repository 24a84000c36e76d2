"""On which clips a setting is chosen, and on which the chosen one is reported."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from corrkit.errors import DataError, UsageError
from corrkit.protocols import Protocol
from corrkit.subject import Subject, open_subject
from corrkit.task_table import task_facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """selected: the clips on which every setting is evaluated. reported: those of the final numbers; may be the same.

    why: a sentence on why both are the same, where that was not asked for.
    """

    selected: Subject
    reported: Subject
    why: str = ""

    @property
    def tuned_on(self) -> str:
        """The split that a setting is reported on after it was chosen on clips of it; "" where none are."""
        chosen_on = {clip.name for clip in self.selected.clips}
        shares = any(clip.name in chosen_on for clip in self.reported.clips)
        return self.reported.dataset.split if shares else ""


def open_splits(
    task: str,
    protocol: Protocol,
    *,
    select_on: str | None,
    report_on: str | None,
    data: str | Path | None,
    clips: Sequence[str] | None,
    dataset_name: str | None,
) -> Splits:
    """The data of a sweep.

    Args:
        task: see `corrkit.sweep`, as are the others.
        protocol: any of the settings.
        select_on: None takes the benchmark's training split where the data have one of clips of its own.
        report_on: None takes the task's default split.
        data: see task.
        clips: of the one split on which settings are chosen and reported then.
        dataset_name: see task.

    Raises:
        UsageError: clips of two splits are asked for. DataError: for data that can't be opened.
    """

    def opened(split: str | None) -> Subject:
        return open_subject(task, data=data, protocol=protocol, split=split, clips=clips, dataset_name=dataset_name)

    reported = opened(report_on)
    if clips is not None and select_on not in (None, reported.dataset.split):
        raise UsageError(
            "--clips names clips of one split, --select-on and --report-on are two.", "Leave one of them out."
        )
    if select_on is not None:
        is_same = select_on == reported.dataset.split
        return Splits(selected=reported if is_same else opened(select_on), reported=reported)
    training = task_facts(task).training_split
    if clips is not None or training is None:
        reason = "clips of one split were named" if clips is not None else f"{task} has no training split"
        return Splits(selected=reported, reported=reported, why=reason)
    try:
        selected = opened(training)
    except DataError:
        return Splits(selected=reported, reported=reported, why=f"the data have no split {training!r}")
    apart = Splits(selected=selected, reported=reported)
    if apart.tuned_on:
        return Splits(selected=reported, reported=reported, why=f"the data's {training!r} holds the same clips")
    return apart
