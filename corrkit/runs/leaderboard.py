"""The leaderboard: one row per checkpoint, data and protocols; the three benchmarks side by side."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corrkit.errors import RunError, UsageError
from corrkit.metrics.intervals import PairedDifference, holm
from corrkit.runs.comparable import StoredRun, read_runs, without_repeats
from corrkit.runs.pairing import compare_runs, protocol_of
from corrkit.runs.rows import Row, groups_of, rows_of
from corrkit.task_table import leading_metrics, shown_metrics, task_facts, task_names
from corrkit.text import one_line, spreadsheet_cell

if TYPE_CHECKING:
    import pandas

_PAIRED = ("difference", "difference low", "difference high", "p", "p Holm", "detectable")


def leaderboard(
    run_dirs: str | Path | Sequence[str | Path], reference: str | Path | Sequence[str | Path] = ()
) -> "pandas.DataFrame":
    """Comparable rows from run folders.

    Runs of one checkpoint share a row if they have the same standing: the same origin of data (official, embedded or
    own), the same overrides, all or none partial, the same precision. Rows that can be compared stand together and
    have the same `group`.

    Args:
        run_dirs: folders of finished runs, of any tasks, or folders that hold such below them.
        reference: run folders, at most one for each task, to compare each row with.

    Returns:
        One row per checkpoint, data and protocols; metrics are fractions, columns are always the same in the same
        order (those of the comparison are empty without a reference); text is fit for terminals and spreadsheets
        (`corrkit.text`), so that a CSV of the table reads back equal. `attrs["notes"]` says which runs are left out,
        duplicate or in conflict, and what could not be compared; `attrs["references"]` names the references.

    Raises:
        RunError: a folder does not exist, or none holds a finished run.
        UsageError: two references for one task.
    """
    import pandas

    folders = [run_dirs] if isinstance(run_dirs, str | Path) else list(run_dirs)
    if not folders:
        raise UsageError("No run folder was given.", "Give one or more, e.g. runs/*.")
    found, notes = read_runs([Path(folder) for folder in folders])
    runs, repeats, conflicting = without_repeats(found)
    rows = rows_of(runs)
    references = _references(reference)
    uncompared = _compare(rows, references)
    seeds = _over_seeds(rows)
    table = pandas.DataFrame(
        [
            _record(row, group, seeds[number], references, conflicting)
            for number, (group, row) in enumerate(zip(groups_of(rows), rows, strict=True))
        ]
    )
    leading = [metric.name for metric in leading_metrics()]
    for metric in leading:
        table[f"{metric} p Holm"] = holm([None if math.isnan(p) else p for p in table[f"{metric} p"]])
    table = table.astype({f"{metric} p Holm": float for metric in leading} | {"parameters": "Int64", "stride": "Int64"})
    table.attrs["notes"] = [*notes, *repeats, *uncompared]
    table.attrs["references"] = list(dict.fromkeys(run.name for run in references.values()))
    return table[_column_order(table)]


def _references(reference: str | Path | Sequence[str | Path]) -> dict[str, StoredRun]:
    folders = [reference] if isinstance(reference, str | Path) else list(reference)
    references: dict[str, StoredRun] = {}
    if not folders:
        return references
    runs, notes = read_runs([Path(folder) for folder in folders])
    if notes:
        raise RunError(f"The reference is no finished run: {notes[0]}", "Give the folder of a finished run.")
    for run in runs:
        if run.task in references:
            raise UsageError(
                f"{references[run.task].folder} and {run.folder} are both references for {run.task}.",
                "Give one reference for each task.",
            )
        references[run.task] = run
    return references


def _compare(rows: Iterable[Row], references: Mapping[str, StoredRun]) -> list[str]:
    """Fills in the differences; returns a sentence on each run that could not be compared."""
    notes = []
    for row in rows:
        for task, run in row.runs.items():
            reference = references.get(task)
            if reference is None or _is_reference(run, reference):
                continue
            outcome = compare_runs(run, reference)
            if isinstance(outcome, str):
                notes.append(f"{run.folder} is not compared with {reference.folder}: {outcome}")
            else:
                row.differences[task] = outcome
    return notes


def _is_reference(run: StoredRun, reference: StoredRun) -> bool:
    return (run.checkpoint, run.column, run.standing) == (reference.checkpoint, reference.column, reference.standing)


def _over_seeds(rows: Sequence[Row]) -> list[dict[str, float]]:
    """For each row: number of seeds, and mean and sd of each task's first metric, where a method has several."""
    families: dict[tuple[Any, ...], list[Row]] = {}
    keys = []
    for row in rows:
        architecture = row.any.summary["checkpoint"].get("architecture")
        keys.append((row.any.method, architecture, row.any.checkpoint[1], row.any.standing, *row.columns.items()))
        families.setdefault(keys[-1], []).append(row)
    columns = []
    for key in keys:
        family = families[key]
        values: dict[str, float] = {"seeds": len(family)}
        for task in family[0].runs if len(family) > 1 else ():
            metric = task_facts(task).leading.name
            scores = [row.runs[task].summary["metrics"].get(metric, math.nan) for row in family]
            values[f"{metric} seeds mean"] = statistics.fmean(scores)
            values[f"{metric} seeds sd"] = statistics.stdev(scores)
        columns.append(values)
    return columns


def _record(
    row: Row, group: int, seeds: Mapping[str, float], references: Mapping[str, StoredRun], conflicting: set[Path]
) -> dict[str, Any]:
    """One row as column to value; the order of the columns is `_column_order`'s."""
    run, runs = row.any, row.runs
    checkpoint, summary = run.summary["checkpoint"], run.summary
    origin, overrides, _, _ = run.standing
    frames, seconds = (sum(pair) for pair in zip(*(one.frames_and_seconds for one in runs.values()), strict=True))
    record: dict[str, Any] = {
        "group": group,
        "method": run.name,
        "architecture": checkpoint.get("architecture", ""),
        "parameters": summary["parameters"],
        "pretraining": checkpoint["pretraining"],
        "stride": summary["stride"],
        "input_size": _by_task({task: _input_size(one) for task, one in runs.items()}),
        "layer": summary["layer"] or "",
        "protocol": " ".join(one.summary["protocol"] for one in runs.values()),
        "data": "; ".join(f"{one.summary['data']['name']} {one.summary['data']['split']}" for one in runs.values()),
        "origin": origin,
        "precision": summary["precision"],
        "frames_per_second": frames / seconds if seconds > 0 else math.nan,
        "modified": overrides,
        "partial": " ".join(clip for one in runs.values() for clip in one.summary["partial"]),
        "sees_future": bool(checkpoint.get("sees_future", False)),
        "conflict": any(one.folder in conflicting for one in runs.values()),
        "reference": any(task in references and _is_reference(one, references[task]) for task, one in runs.items()),
        "system": checkpoint.get("system", ""),
        "checkpoint": run.checkpoint[0],
        "data_identity": " ".join(one.summary["data"]["identity"] for one in runs.values()),
        "runs": " ".join(str(one.folder) for one in runs.values()),
        "seeds": seeds["seeds"],
    }
    for task in task_names():
        leading = task_facts(task).leading.name
        record |= _scores(task, runs.get(task)) | _difference(leading, row.differences.get(task))
        for column in (f"{leading} seeds mean", f"{leading} seeds sd"):
            record[column] = seeds.get(column, math.nan)
    shown = {name: spreadsheet_cell(one_line(value)) for name, value in record.items() if isinstance(value, str)}
    return record | shown


def _scores(task: str, run: StoredRun | None) -> dict[str, float]:
    columns = {}
    for metric in (shown.name for shown in task_facts(task).shown):
        low, high = (run.summary["intervals"].get(metric) if run else None) or (math.nan, math.nan)
        columns[metric] = run.summary["metrics"].get(metric, math.nan) if run else math.nan
        columns[f"{metric} low"], columns[f"{metric} high"] = low, high
    return columns


def _difference(metric: str, difference: PairedDifference | None) -> dict[str, float]:
    low, high = (difference.interval if difference else None) or (math.nan, math.nan)

    def number(value: float | None) -> float:
        return math.nan if value is None else value

    return {
        f"{metric} difference": difference.difference if difference else math.nan,
        f"{metric} difference low": low,
        f"{metric} difference high": high,
        f"{metric} p": number(difference.p if difference else None),
        f"{metric} detectable": number(difference.detectable if difference else None),
    }


def _input_size(run: StoredRun) -> str:
    protocol = protocol_of(run)
    return "" if protocol is None else f"{'x'.join(map(str, protocol.frames.size))} {protocol.frames.resize}".strip()


def _by_task(texts: Mapping[str, str]) -> str:
    """One text where all tasks agree, else "davis: ...; vip: ..."."""
    distinct = set(texts.values())
    return distinct.pop() if len(distinct) == 1 else "; ".join(f"{task}: {text}" for task, text in texts.items())


def _column_order(table: "pandas.DataFrame") -> list[str]:
    """What a reader looks for first, then intervals, seeds and comparison by task, then where the row comes from."""
    metrics = [metric.name for metric in shown_metrics()]
    leading = [metric.name for metric in leading_metrics()]
    order = [
        *("method", "architecture", "parameters", "pretraining", "stride", "input_size", "layer", "protocol"),
        *metrics,
        *(f"{metric} {end}" for metric in metrics for end in ("low", "high")),
        *("precision", "frames_per_second", "seeds"),
        *(f"{metric} seeds {what}" for metric in leading for what in ("mean", "sd")),
        *(f"{metric} {what}" for metric in leading for what in _PAIRED),
        *("origin", "data", "modified", "partial", "sees_future", "conflict", "reference"),
        *("group", "system", "checkpoint", "data_identity", "runs"),
    ]
    assert sorted(order) == sorted(table.columns)
    return order
