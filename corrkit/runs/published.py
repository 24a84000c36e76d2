"""Published numbers as tables, and beside a result where the checkpoint is known to be the published one."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from corrkit.manifests.published import (
    CERTAINTY,
    PublishedNumber,
    by_table,
    public_checkpoints,
    published_numbers,
)
from corrkit.protocols import load_protocol, override
from corrkit.runs.fitting import Cell
from corrkit.runs.layout import Table
from corrkit.runs.results import Summary
from corrkit.task_table import task_facts, task_names


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """A published number and the same metric (per cent) of a result."""

    number: PublishedNumber
    value: float

    @property
    def difference(self) -> float:
        """Own less published, points."""
        return self.value - self.number.per_cent

    @property
    def is_within(self) -> bool:
        """Whether the difference is within the row's tolerance."""
        return abs(self.difference) <= (self.number.tolerance or 0.0) + 1e-9

    def sentence(self) -> str:
        """For readers."""
        number = self.number
        return (
            f"published {number.metric} {number.printed} ({number.method} {number.network}, {number.source}; "
            f"{CERTAINTY[number.certainty]}); here {self.value:.1f} ({self.difference:+.1f})"
        )


def beside_published(summary: Summary, origin: str = "") -> list[Beside]:
    """The published numbers that a result repeats, each beside its own.

    Only where the checkpoint is identified, by the digest of its file or by the hub's name in `origin`, never by its
    layout; and where protocol, overrides and data are those of the number.

    Args:
        summary: the result.
        origin: the spec that the checkpoint was loaded from, "" where options changed what was made of it.
    """
    digest = summary["checkpoint"]["digest"]
    names = {one.name for one in public_checkpoints() if one.is_identified_by(digest, origin)}
    return [beside for beside in comparable(summary) if beside.number.checkpoint in names]


def comparable(summary: Summary) -> list[Beside]:
    """The published numbers with a checkpoint that are of a result's protocol, overrides, data and metrics."""
    if not summary["data"]["official"] or summary["partial"]:
        return []
    return [
        Beside(number=number, value=100 * summary["metrics"][number.metric])
        for number in published_numbers(summary["task"])
        if number.checkpoint and number.metric in summary["metrics"] and _is_under(number, summary)
    ]


def _is_under(number: PublishedNumber, summary: Summary) -> bool:
    """Whether a number was measured as a result: protocol, overrides, data set."""
    name = summary["protocol"].partition("@")[0]
    if f"{number.task}/{number.protocol}" != name or number.dataset != summary["data"]["name"]:
        return False
    asked = override(load_protocol(name), number.changes).overrides
    return {key: _plain(value) for key, value in asked.items()} == {
        key: _plain(value) for key, value in summary["modified"].items()
    }


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def published_table(numbers: Sequence[PublishedNumber], title: str = "Published numbers") -> Table:
    """Numbers as a table: a row for each row of a source's table, a column for each metric that any has."""
    metrics = [
        (task, metric.name)
        for task in task_names()
        for metric in task_facts(task).metrics
        if any((number.task, number.metric) == (task, metric.name) for number in numbers)
    ]
    groups = by_table(numbers)
    head = ("Method", "Network", "Trained on", "Protocol", *(metric for _, metric in metrics), "Certainty", "Source")
    return Table(
        title=title,
        head=head,
        rows=tuple(_row(group, metrics) for group in groups),
        notes=(
            ("", "Per cent, as printed in the source. Numbers of different protocols can't be compared."),
            *(("", f"{name}: {CERTAINTY[name]}.") for name in CERTAINTY if any(n.certainty == name for n in numbers)),
        ),
    )


def _row(group: Sequence[PublishedNumber], metrics: Sequence[tuple[str, str]]) -> tuple[Cell, ...]:
    first = group[0]
    values = {(number.task, number.metric): number.printed.rjust(4) for number in group}
    return tuple(
        Cell(text=text)
        for text in (
            first.method,
            first.network,
            first.data,
            _settings(first),
            *(values.get(metric, "   –") for metric in metrics),
            first.certainty,
            first.source,
        )
    )


def _settings(first: PublishedNumber) -> str:
    """Protocol, overrides, other data, and what the source says beyond them."""
    named = " ".join(filter(None, (first.protocol, first.overrides))) if first.protocol else ""
    return "; ".join(filter(None, (named, first.other_data, first.settings)))


def numbers_beside(protocols: Collection[str]) -> tuple[PublishedNumber, ...]:
    """The published numbers under protocols (TASK/NAME@VERSION), on the data that the task is named for.

    Overridden constants are shown with the protocol; numbers on other data (YouTube-VOS, MOSE) are left out.
    """
    names = {identifier.partition("@")[0] for identifier in protocols}
    return tuple(
        number
        for number in published_numbers()
        if f"{number.task}/{number.protocol}" in names and not number.other_data
    )
