"""What is known of each task, in one read-only table that every room reads; a fact about a task stands nowhere else.

Other packages add tasks of their own through the entry-point group `corrkit.tasks`, each a `TaskFacts`. This module
imports nothing heavy.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from corrkit.errors import UsageError, closest

ENTRY_POINTS = "corrkit.tasks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A number of a task's table.

    name: the field's own, as in summaries. short: head of its column in the leaderboard, "" where it isn't shown there.
    lowest: of its range, whose other end is 1. tolerance: the drop (fraction) that a new baseline of `corrkit regress`
    tolerates; None: the baseline does not hold it. lower_is_better: as said; of all others more is better.
    """

    name: str
    short: str = ""
    lowest: float = 0.0
    tolerance: float | None = None
    lower_is_better: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFacts:
    """A task.

    title: what it scores. implementation: "module:class" of its `corrkit.tasks.contract.Task`. metrics: of its table,
    in order; the first decides comparisons and the order of rows. part: what a score METRIC/PART is of, in the
    singular; parts: what is counted in a table's title. protocol_groups: group to "module:class" of its constants
    (`corrkit.protocols.schema`); its protocols are offered as any (`corrkit.protocols.files`). submission:
    "module:function" that writes a file for its challenge server, where there is one. objects: "module:function" from a
    clip's `Scorer.result()` and the protocol to the leading metric of each of its objects, where parts are those of one
    clip. embedded: whether clips for it come with corrkit. hub_task: the Hugging Face hub's word for such a task.
    training_split: the split on which a constant may be chosen before it is reported on another, where there is one.
    """

    name: str
    title: str
    implementation: str
    default_split: str
    default_protocol: str
    metrics: tuple[Metric, ...]
    part: str
    parts: str
    protocol_groups: Mapping[str, str]
    submission: str | None = None
    objects: str | None = None
    embedded: bool = False
    training_split: str | None = None
    hub_task: str = "other"

    @property
    def shown(self) -> tuple[Metric, ...]:
        """The metrics of the leaderboard; the first is compared."""
        return tuple(metric for metric in self.metrics if metric.short)

    @property
    def leading(self) -> Metric:
        """The metric that decides."""
        return self.metrics[0]

    def lowest(self, metric: str) -> float:
        """The lower end of a metric's range; of a part's score, that of the metric it belongs to."""
        known = {one.name: one.lowest for one in self.metrics}
        return known.get(metric, known.get(metric.partition("/")[0], 0.0))


def task_names() -> tuple[str, ...]:
    """All tasks, in the order of tables."""
    return tuple(_table())


def embedded_tasks() -> tuple[str, ...]:
    """The tasks for which clips come with corrkit, in the order of tables: those that can be evaluated anywhere."""
    return tuple(name for name, facts in _table().items() if facts.embedded)


def task_facts(name: str) -> TaskFacts:
    """What is known of a task. Raises UsageError for an unknown one."""
    table = _table()
    if name not in table:
        raise UsageError(f"There is no task {name!r}.", closest(name, table))
    return table[name]


def shown_metrics() -> tuple[Metric, ...]:
    """The leaderboard's metrics of all tasks, in its order."""
    return tuple(metric for facts in _table().values() for metric in facts.shown)


def leading_metrics() -> tuple[Metric, ...]:
    """The metrics that decide, one for each task."""
    return tuple(facts.leading for facts in _table().values())


def _schema(**groups: str) -> Mapping[str, str]:
    """The groups of a protocol; those that are named differ from task to task."""
    own = {"frames": "Frames", "features": "Features", "memory": "Memory", "affinity": "Affinity", **groups}
    return MappingProxyType({group: f"corrkit.protocols.schema:{name}" for group, name in own.items()})


_DAVIS = TaskFacts(
    name="davis",
    title="DAVIS-2017 objects",
    implementation="corrkit.tasks.davis:DavisTask",
    default_split="val",
    default_protocol="dino",
    metrics=(
        Metric(name="J&F-Mean", short="J&F", tolerance=0.01),
        Metric(name="J-Mean", short="J", tolerance=0.01),
        Metric(name="J-Recall"),
        Metric(name="J-Decay", lowest=-1.0, lower_is_better=True),
        Metric(name="F-Mean", short="F", tolerance=0.01),
        Metric(name="F-Recall"),
        Metric(name="F-Decay", lowest=-1.0, lower_is_better=True),
    ),
    part="object",
    parts="objects",
    protocol_groups=_schema(frames="DavisFrames", labels="MaskLabels", readout="MaskReadout", score="DavisScore"),
    submission="corrkit.tasks.davis_submission:write_submission",
    objects="corrkit.tasks.davis:object_scores",
    embedded=True,
    training_split="train",
    hub_task="image-segmentation",
)

_VIP = TaskFacts(
    name="vip",
    title="VIP body parts",
    implementation="corrkit.tasks.vip:VipTask",
    default_split="val",
    default_protocol="cropmae",
    metrics=(Metric(name="mIoU", short="mIoU", tolerance=0.01),),
    part="class",
    parts="classes",
    protocol_groups=_schema(labels="MaskLabels", readout="MaskReadout", score="VipScore"),
    embedded=True,
    training_split="train",
    hub_task="image-segmentation",
)

_JHMDB = TaskFacts(
    name="jhmdb",
    title="JHMDB keypoints",
    implementation="corrkit.tasks.jhmdb:JhmdbTask",
    default_split="split1",
    default_protocol="cropmae",
    metrics=(
        Metric(name="PCK@0.1", short="PCK@0.1", tolerance=0.015),
        Metric(name="PCK@0.2", short="PCK@0.2", tolerance=0.015),
        Metric(name="PCK@0.3"),
        Metric(name="PCK@0.4"),
        Metric(name="PCK@0.5"),
    ),
    part="joint",
    parts="joints",
    protocol_groups=_schema(labels="PointLabels", readout="PointReadout", score="JhmdbScore"),
    embedded=True,
    hub_task="keypoint-detection",
)


@functools.cache
def _table() -> Mapping[str, TaskFacts]:
    from importlib.metadata import entry_points

    table: dict[str, TaskFacts] = {facts.name: facts for facts in (_DAVIS, _VIP, _JHMDB)}
    for entry in entry_points(group=ENTRY_POINTS):
        facts = entry.load()
        if not isinstance(facts, TaskFacts) or facts.name in table:
            raise UsageError(
                f"The entry point {entry.name!r} of {ENTRY_POINTS} ({entry.value}) names no new task.",
                "It must be a TaskFacts with a name of its own.",
            )
        table[facts.name] = facts
    return MappingProxyType(table)
