"""What is scored: a request for a task, its data and its protocol, opened once."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from corrkit.errors import UsageError
from corrkit.manifests.published import author_split
from corrkit.protocols import Protocol, load_protocol, override
from corrkit.runs.results import Data
from corrkit.task_table import task_facts
from corrkit.tasks import load_task
from corrkit.tasks.contract import AnyClip, AnyTask, DataSet, select_clips
from corrkit.tasks.identity import data_identity
from corrkit.tasks.sources import open_data


@dataclass(frozen=True, kw_only=True)
class Subject:
    """An opened request: the chosen clips of a data set, under a task's protocol. `replace` gives other clips of it.

    dataset_name: as it was asked for.
    """

    task: AnyTask
    protocol: Protocol
    dataset: DataSet[AnyClip]
    clips: tuple[AnyClip, ...]
    dataset_name: str | None = None

    @cached_property
    def data(self) -> Data:
        """What is scored, for summaries; the identity of the chosen clips is worked out once."""
        dataset = self.dataset
        return Data(
            name=dataset.name,
            split=dataset.split,
            identity=data_identity(self.clips),
            origin=dataset.origin,
            complete=len(self.clips) == len(dataset.clips),
            author_split=author_split(dataset.name, dataset.split),
        )

    def missing(self, scored: Collection[str]) -> list[str]:
        """The clips of the data set that have no score."""
        return [clip.name for clip in self.dataset.clips if clip.name not in scored]


def open_subject(
    task: str,
    *,
    data: str | Path | None = None,
    protocol: str | Protocol | None = None,
    overrides: Mapping[str, object] | None = None,
    split: str | None = None,
    clips: Sequence[str] | None = None,
    dataset_name: str | None = None,
) -> Subject:
    """Opens a request, cheapest faults first.

    Args:
        task: "davis", "vip" or "jhmdb".
        data: as for `corrkit.evaluate`, as are protocol, split, clips and dataset_name.
        protocol: see data.
        overrides: protocol constants by leaf or dotted name.
        split: see data.
        clips: see data.
        dataset_name: see data.

    Raises:
        UsageError: for an unknown task, or no clip. ProtocolError, DataError: see the functions of their rooms.
    """
    opened = load_task(task)
    constants = constants_of(opened, protocol, overrides or {})
    dataset = open_data(opened, data, split, dataset_name)
    chosen = dataset.clips if clips is None else select_clips(dataset, clips)
    return Subject(task=opened, protocol=constants, dataset=dataset, clips=tuple(chosen), dataset_name=dataset_name)


def constants_of(task: AnyTask, protocol: str | Protocol | None, overrides: Mapping[str, object]) -> Protocol:
    """A task's protocol, by name or as it is, with overrides. Raises ProtocolError or UsageError."""
    constants = protocol if isinstance(protocol, Protocol) else None
    if constants is None:
        constants = load_protocol(str(protocol or task_facts(task.name).default_protocol), task.name)
    elif constants.task != task.name:
        raise UsageError(f"{constants.identifier} is no protocol for {task.name}.", "Choose one of the task's own.")
    return override(constants, overrides)
