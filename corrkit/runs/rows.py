"""Rows of the leaderboard: runs side by side, rows in groups that can be compared, groups and rows in order."""

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field

from corrkit.metrics.intervals import PairedDifference
from corrkit.runs.comparable import StoredRun
from corrkit.task_table import task_facts, task_names


@dataclass(slots=True, kw_only=True)
class Row:
    """Runs of one checkpoint and standing, at most one for each task; differences from the reference by task."""

    runs: dict[str, StoredRun] = field(default_factory=dict)
    differences: dict[str, PairedDifference] = field(default_factory=dict)

    @property
    def any(self) -> StoredRun:
        """One of the runs, for what all of them share."""
        return next(iter(self.runs.values()))

    @property
    def columns(self) -> dict[str, tuple[str, ...]]:
        """Protocol and data by task."""
        return {task: run.column for task, run in self.runs.items()}


def rows_of(runs: Iterable[StoredRun]) -> list[Row]:
    """Runs of one checkpoint and standing side by side, in order.

    Runs whose protocols have one name share a row; those left over join the row that lacks their task, defaults first.
    Order: official, own, embedded data; standard before marked; groups and seeds together; the best first.
    """
    by_checkpoint: dict[tuple[Hashable, ...], list[StoredRun]] = {}
    for run in sorted(runs, key=_preference):
        by_checkpoint.setdefault((run.checkpoint, run.standing), []).append(run)
    rows: list[Row] = []
    for runs_of_one in by_checkpoint.values():
        own: list[Row] = []
        for run in runs_of_one:
            row = next((r for r in own if run.task not in r.runs and _protocol_name(run) in _protocol_names(r)), None)
            if row is None:
                row = Row()
                own.append(row)
            row.runs[run.task] = run
        rows.extend(_filled(own))
    return _sorted(rows)


def _preference(run: StoredRun) -> tuple[Hashable, ...]:
    """By task, its default protocol first, whatever the order of the folders."""
    default = task_facts(run.task).default_protocol
    return task_names().index(run.task), _protocol_name(run) != default, run.column


def _filled(rows: list[Row]) -> list[Row]:
    """Rows merged where they hold different tasks, the earlier taking the later."""
    filled: list[Row] = []
    for row in rows:
        target = next((r for r in filled if not set(r.runs) & set(row.runs)), None)
        if target is None:
            filled.append(row)
        else:
            target.runs.update(row.runs)
    for row in filled:
        row.runs = {task: row.runs[task] for task in task_names() if task in row.runs}
    return filled


def _protocol_name(run: StoredRun) -> str:
    return run.summary["protocol"].partition("/")[2].partition("@")[0]


def _protocol_names(row: Row) -> set[str]:
    return {_protocol_name(run) for run in row.runs.values()}


def _sorted(rows: list[Row]) -> list[Row]:
    """Official before own before embedded, standard before marked; groups together; seeds together; best first."""
    groups = groups_of(rows)
    best: dict[tuple[Hashable, ...], float] = {}
    for row, group in zip(rows, groups, strict=True):
        key = (group, row.any.method)
        best[key] = max(best.get(key, -1.0), _leading(row))

    def order(pair: tuple[Row, int]) -> tuple[Hashable, ...]:
        row, group = pair
        origin, overrides, partial, precision = row.any.standing
        rank = ("official", "own", "embedded").index(origin)
        method = row.any.method
        return rank, partial, bool(overrides), bool(precision), group, -best[group, method], method, -_leading(row)

    return [row for row, _ in sorted(zip(rows, groups, strict=True), key=order)]


def _leading(row: Row) -> float:
    """The first metric that the row has, NaN last."""
    for task, run in row.runs.items():
        value = run.summary["metrics"].get(task_facts(task).leading.name, math.nan)
        if not math.isnan(value):
            return value
    return -1.0


def groups_of(rows: Sequence[Row]) -> list[int]:
    """Number of each row's group: rows of one standing whose protocols and data agree wherever both have a task."""
    groups: list[tuple[tuple[Hashable, ...], dict[str, tuple[str, ...]]]] = []
    numbers = [0] * len(rows)
    for index in sorted(range(len(rows)), key=lambda number: -len(rows[number].runs)):
        row = rows[index]
        for number, (standing, columns) in enumerate(groups):
            shared = set(columns) & set(row.runs)
            if standing == row.any.standing and shared and all(columns[t] == row.columns[t] for t in shared):
                columns.update(row.columns)
                numbers[index] = number
                break
        else:
            groups.append((row.any.standing, dict(row.columns)))
            numbers[index] = len(groups) - 1
    seen = dict.fromkeys(numbers)
    renumbered = {number: position for position, number in enumerate(seen, start=1)}
    return [renumbered[number] for number in numbers]
