"""Columns of the leaderboard, each in one place: its name, its value of a row, how it is shown to readers."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeAlias

from corrkit.errors import UsageError, closest
from corrkit.metrics.intervals import PairedDifference
from corrkit.runs.comparable import StoredRun, protocol_of
from corrkit.runs.fitting import Cell
from corrkit.runs.results import Summary
from corrkit.runs.rows import Row
from corrkit.runs.tables import score_cell
from corrkit.task_table import leading_metrics, task_facts, task_names
from corrkit.text import one_line, spreadsheet_cell

ShownRow: TypeAlias = Mapping[str, object]
"""A row of the finished table: column to value, as pandas gives it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A row with what is known of it among the others.

    group: of rows that can be compared. seeds: number of its method's seeds, and "METRIC seeds mean" and "... sd" where
    there are several. holm: leading metric to p corrected over all rows. is_reference: the others' differences are from
    it. in_conflict: another run of the same gives other numbers.
    """

    row: Row
    group: int
    seeds: Mapping[str, float]
    holm: Mapping[str, float | None]
    is_reference: bool
    in_conflict: bool

    @property
    def summary(self) -> Summary:
        """Of one of the row's runs, for what all of them share."""
        return self.row.any.summary

    def joined(self, text: Callable[[StoredRun], str], separator: str = " ") -> str:
        """A text of each of the row's runs."""
        return separator.join(map(text, self.row.runs.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of the table, and of its CSV.

    value: of a row; fractions, NaN where there is none. kind: pandas' type, where it isn't found out. head, cell: how
    the column is called and a row of the finished table shown to readers; without them it stands in the CSV only.
    is_short: whether it stands in the short CSV. is_metric, is_setting: what it is; settings go to the heading where
    all rows agree. is_timing: shown only where timing is asked for, since a second run has other values.
    """

    name: str
    value: Callable[[Entry], object]
    kind: str | None = None
    head: str = ""
    cell: Callable[[ShownRow], Cell] | None = None
    is_short: bool = False
    is_metric: bool = False
    is_setting: bool = False
    is_timing: bool = False

    def of(self, entry: Entry) -> object:
        """The value, fit for terminals and spreadsheets."""
        value = self.value(entry)
        return spreadsheet_cell(one_line(value)) if isinstance(value, str) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Which columns of the leaderboard are wanted.

    names: these, by their names in the CSV or by their heads; None for as many as there is room for, and the short set
    in the CSV. is_wide: all there are. has_timing: also speed, which differs from run to run.
    """

    names: tuple[str, ...] | None = None
    is_wide: bool = False
    has_timing: bool = False

    def of(self, *, is_short: bool) -> list[Column]:
        """The columns, the method's first. is_short: of the short set, where nothing else is asked for.

        Raises:
            UsageError: there is no such column.
        """
        known = [column for column in columns() if self.has_timing or not column.is_timing]
        if self.names is None:
            return [column for column in known if self.is_wide or not is_short or column.is_short or column.is_timing]
        by_name = {name: column for column in columns() for name in (column.name, column.head) if name}
        for name in self.names:
            if name not in by_name:
                raise UsageError(f"The leaderboard has no column {name!r}.", closest(name, by_name))
        wanted = dict.fromkeys(["method", *(by_name[name].name for name in self.names)])
        return [by_name[name] for name in wanted]


AUTOMATIC = Chosen()


def number_in(row: ShownRow, name: str) -> float:
    """A number of a row, NaN where it has none."""
    value = row[name]
    return float(value) if isinstance(value, int | float) else math.nan


def columns() -> tuple[Column, ...]:
    """What a reader looks for first, then intervals, seeds and comparison by task, then where the row comes from."""
    scores = [(task, metric) for task in task_names() for metric in task_facts(task).shown]
    return (
        Column(name="method", value=lambda entry: entry.row.any.name, is_short=True),
        *_of_the_checkpoint(),
        *(
            Column(
                name=metric.name,
                value=partial(_score, task, metric.name),
                head=metric.short,
                cell=partial(_score_cell, metric.name),
                is_short=True,
                is_metric=True,
            )
            for task, metric in scores
        ),
        *(
            Column(
                name=f"{metric.name} {end}",
                value=partial(_end, task, metric.name, number),
                is_short=metric == task_facts(task).leading,
            )
            for task, metric in scores
            for number, end in enumerate(("low", "high"))
        ),
        Column(name="precision", value=lambda entry: entry.summary["precision"], is_short=True),
        Column(name="frames_per_second", value=_speed, head="Frames/s", cell=_speed_cell, is_timing=True),
        Column(name="seeds", value=lambda entry: entry.seeds["seeds"], head="Over seeds", cell=_seeds_cell),
        *(
            Column(name=name, value=partial(_of_seeds, name))
            for metric in leading_metrics()
            for name in (f"{metric.name} seeds mean", f"{metric.name} seeds sd")
        ),
        *(column for task in task_names() for column in _of_the_comparison(task)),
        *_of_the_origin(),
    )


def _of_the_checkpoint() -> tuple[Column, ...]:
    def text(name: Literal["architecture", "pretraining"], head: str) -> Column:
        return Column(
            name=name,
            value=lambda entry: entry.summary["checkpoint"][name],
            head=head,
            cell=lambda row: Cell(text=str(row[name])),
            is_short=True,
            is_setting=True,
        )

    return (
        text("architecture", "Architecture"),
        Column(
            name="parameters",
            value=lambda entry: entry.summary["parameters"],
            kind="Int64",
            head="Parameters",
            cell=lambda row: Cell(text=_millions(number_in(row, "parameters"))),
            is_short=True,
            is_setting=True,
        ),
        text("pretraining", "Pretraining"),
        Column(
            name="stride",
            value=lambda entry: entry.summary["stride"],
            kind="Int64",
            head="Stride",
            cell=lambda row: Cell(text=_whole(number_in(row, "stride"))),
            is_short=True,
            is_setting=True,
        ),
        Column(name="input_size", value=_input_sizes),
        Column(name="layer", value=lambda entry: entry.summary["layer"] or ""),
        Column(name="protocol", value=lambda entry: entry.joined(lambda run: run.summary["protocol"]), is_short=True),
    )


def _of_the_comparison(task: str) -> tuple[Column, ...]:
    metric = task_facts(task).leading

    def difference(end: str, number: Callable[[PairedDifference], float | None]) -> Column:
        return Column(name=f"{metric.name} {end}", value=lambda entry: _number(task, number, entry))

    return (
        Column(
            name=f"{metric.name} difference",
            value=lambda entry: _number(task, lambda found: found.difference, entry),
            head=f"Δ {metric.short}",
            cell=partial(_difference_cell, metric.name),
        ),
        difference("difference low", lambda found: found.interval and found.interval[0]),
        difference("difference high", lambda found: found.interval and found.interval[1]),
        difference("p", lambda found: found.p),
        Column(name=f"{metric.name} p Holm", value=lambda entry: _or_nan(entry.holm[metric.name]), kind="float"),
        difference("detectable", lambda found: found.detectable),
    )


def _of_the_origin() -> tuple[Column, ...]:
    return (
        Column(name="origin", value=lambda entry: entry.row.any.origin, is_short=True),
        Column(name="data", value=lambda entry: entry.joined(_data, "; "), is_short=True),
        Column(name="modified", value=lambda entry: entry.row.any.standing[1], is_short=True),
        Column(
            name="tuned_on",
            value=lambda entry: entry.joined(lambda run: run.summary.get("tuned_on", "")).strip(),
            is_short=True,
        ),
        Column(name="partial", value=lambda entry: " ".join(_missing(entry)), is_short=True),
        Column(name="sees_future", value=lambda entry: entry.summary["checkpoint"]["sees_future"]),
        Column(name="conflict", value=lambda entry: entry.in_conflict),
        Column(name="reference", value=lambda entry: entry.is_reference),
        Column(name="group", value=lambda entry: entry.group),
        Column(name="system", value=lambda entry: entry.summary["checkpoint"]["system"]),
        Column(name="checkpoint", value=lambda entry: entry.row.any.checkpoint[0]),
        Column(name="data_identity", value=lambda entry: entry.joined(lambda run: run.summary["data"]["identity"])),
        Column(name="runs", value=lambda entry: entry.joined(lambda run: str(run.folder))),
    )


def _score(task: str, metric: str, entry: Entry) -> float:
    run = entry.row.runs.get(task)
    return run.summary["metrics"].get(metric, math.nan) if run else math.nan


def _end(task: str, metric: str, number: int, entry: Entry) -> float:
    """One end of an interval."""
    run = entry.row.runs.get(task)
    interval = run.summary["intervals"].get(metric) if run else None
    return interval[number] if interval else math.nan


def _of_seeds(name: str, entry: Entry) -> float:
    return entry.seeds.get(name, math.nan)


def _number(task: str, number: Callable[[PairedDifference], float | None], entry: Entry) -> float:
    """Something of a row's difference from the reference."""
    found = entry.row.differences.get(task)
    return math.nan if found is None else _or_nan(number(found))


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _speed(entry: Entry) -> float:
    pairs = [run.frames_and_seconds for run in entry.row.runs.values()]
    frames, seconds = (sum(numbers) for numbers in zip(*pairs, strict=True))
    return frames / seconds if seconds > 0 else math.nan


def _data(run: StoredRun) -> str:
    return f"{run.summary['data']['name']} {run.summary['data']['split']}"


def _missing(entry: Entry) -> list[str]:
    return [clip for run in entry.row.runs.values() for clip in run.summary["partial"]]


def _input_sizes(entry: Entry) -> str:
    """One text where all tasks agree, else "davis: ...; vip: ..."."""
    sizes = {task: _input_size(run) for task, run in entry.row.runs.items()}
    distinct = set(sizes.values())
    return distinct.pop() if len(distinct) == 1 else "; ".join(f"{task}: {text}" for task, text in sizes.items())


def _input_size(run: StoredRun) -> str:
    protocol = protocol_of(run)
    return "" if protocol is None else f"{'x'.join(map(str, protocol.frames.size))} {protocol.frames.resize}".strip()


def _score_cell(metric: str, row: ShownRow) -> Cell:
    return score_cell(number_in(row, metric), _interval(row, metric))


def _difference_cell(metric: str, row: ShownRow) -> Cell:
    difference = number_in(row, f"{metric} difference")
    if math.isnan(difference):
        return Cell(text="")
    shown = score_cell(difference, _interval(row, f"{metric} difference"))
    p, detectable = number_in(row, f"{metric} p Holm"), number_in(row, f"{metric} detectable")
    details = [f"p {p:.3f}" if p >= 0.001 else "p < 0.001"] if not math.isnan(p) else []
    details += [f"detects {100 * detectable:.1f}"] if not math.isnan(detectable) else []
    return replace(shown, detail=", ".join([shown.detail, *details]))


def _speed_cell(row: ShownRow) -> Cell:
    speed = number_in(row, "frames_per_second")
    return Cell(text="" if math.isnan(speed) else f"{speed:.1f}")


def _seeds_cell(row: ShownRow) -> Cell:
    parts = []
    for metric in leading_metrics():
        mean, sd = (100 * number_in(row, f"{metric.name} seeds {word}") for word in ("mean", "sd"))
        parts += [f"{metric.short} {mean:.1f} ± {sd:.1f}"] if not math.isnan(sd) else []
    return Cell(text=f"{', '.join(parts)} (n={row['seeds']})" if parts else "")


def _interval(row: ShownRow, name: str) -> tuple[float, float] | None:
    low, high = number_in(row, f"{name} low"), number_in(row, f"{name} high")
    return None if math.isnan(low) else (low, high)


def _millions(value: float) -> str:
    return "" if math.isnan(value) or not value else f"{value / 1e6:.1f} M"


def _whole(value: float) -> str:
    return "" if math.isnan(value) else str(int(value))
