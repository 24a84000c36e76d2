"""The leaderboard: one row per checkpoint, data and protocols; the three benchmarks side by side."""

import math
import statistics
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from corrkit.errors import RunError, UsageError
from corrkit.metrics.intervals import holm
from corrkit.runs.columns import Entry, columns
from corrkit.runs.comparable import StoredRun, read_runs, without_repeats
from corrkit.runs.pairing import compare_runs
from corrkit.runs.rows import Row, groups_of, rows_of
from corrkit.task_table import task_facts, task_names

if TYPE_CHECKING:
    import pandas


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
    entries = _entries(rows, references, conflicting)
    table = pandas.DataFrame({column.name: [column.of(entry) for entry in entries] for column in columns()})
    table = table.astype({column.name: column.kind for column in columns() if column.kind})
    table.attrs["notes"] = [*notes, *repeats, *uncompared]
    table.attrs["references"] = list(dict.fromkeys(run.name for run in references.values()))
    return table


def _entries(rows: Sequence[Row], references: Mapping[str, StoredRun], conflicting: set[Path]) -> list[Entry]:
    """The rows with what is known of each among the others."""
    corrected = {}
    for task in task_names():
        found = (row.differences.get(task) for row in rows)
        corrected[task_facts(task).leading.name] = holm([difference.p if difference else None for difference in found])
    return [
        Entry(
            row=row,
            group=group,
            seeds=seeds,
            holm={metric: values[number] for metric, values in corrected.items()},
            is_reference=any(
                task in references and _is_reference(run, references[task]) for task, run in row.runs.items()
            ),
            in_conflict=any(run.folder in conflicting for run in row.runs.values()),
        )
        for number, (row, group, seeds) in enumerate(zip(rows, groups_of(rows), _over_seeds(rows), strict=True))
    ]


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
    families: dict[tuple[Hashable, ...], list[Row]] = {}
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
