"""A sweep for readers and for programs: tables, CSV, JSON."""

import math
from collections.abc import Sequence

from corrkit.runs.comparison_text import difference_text, p_text
from corrkit.runs.fitting import Cell, Room
from corrkit.runs.layout import Format, Table, render
from corrkit.runs.tables import benchmark_title, general_notes, marks, method_name, score_cell
from corrkit.sweeping.running import Sweep, Trial
from corrkit.task_table import TaskFacts, task_facts
from corrkit.tasks.official_csvs import csv_text


def sweep_text(sweep: Sweep, form: Format = "text", width: int = 80) -> str:
    """All settings, the best first; then the default and the chosen one on other clips, where they were chosen on some.

    form: "text", "markdown" or "latex". width: columns of the terminal, for "text".
    """
    tables = [_table(sweep, sweep.trials, "settings, the best first")]
    if sweep.splits.reported is not sweep.splits.selected:
        tables.append(_table(sweep, sweep.reported, f"chosen on {sweep.splits.selected.dataset.split}"))
    return "\n".join(render(table, form, width) for table in tables)


def sweep_csv(sweep: Sweep) -> str:
    """A row for each setting and split; scores and differences as fractions, empty where there is none."""
    rows = [_plain(sweep, trial) for trial in _every(sweep)]
    return csv_text([list(rows[0]), *([_csv_cell(value) for value in row.values()] for row in rows)])


def sweep_plain(sweep: Sweep) -> dict[str, object]:
    """For JSON: what was swept, a row for each setting and split, and the summaries of what is reported."""
    first = sweep.trials[0].result.summary
    return {
        "task": first["task"],
        "protocol": first["protocol"],
        "checkpoint": first["checkpoint"],
        "metric": _facts(sweep).leading.name,
        "axes": [*sweep.grid.axes, *(["layer"] if _has_layers(sweep) else [])],
        "selected_on": sweep.splits.selected.dataset.split,
        "reported_on": sweep.splits.reported.dataset.split,
        "tuned_on": sweep.splits.tuned_on,
        "settings": [_plain(sweep, trial) for trial in _every(sweep)],
        "reported": [trial.result.summary for trial in sweep.reported],
    }


def _every(sweep: Sweep) -> list[Trial]:
    """Each trial once: those of settings that are reported on other clips come last."""
    apart = sweep.splits.reported is not sweep.splits.selected
    return [*sweep.trials, *(sweep.reported if apart else ())]


def _plain(sweep: Sweep, trial: Trial) -> dict[str, object]:
    summary, found, facts = trial.result.summary, trial.found, _facts(sweep)
    low, high = (found and found.interval) or (math.nan, math.nan)
    scores: dict[str, object] = {}
    for metric in facts.shown:
        scores[metric.name] = summary["metrics"].get(metric.name, math.nan)
        ends = summary["intervals"].get(metric.name) or (math.nan, math.nan)
        scores |= {f"{metric.name} low": ends[0], f"{metric.name} high": ends[1]}
    return {
        **sweep.grid.values(trial.setting),
        "layer": trial.layer,
        "split": summary["data"]["split"],
        **scores,
        "difference": found.difference if found else math.nan,
        "difference low": low,
        "difference high": high,
        "p": found.p if found else None,
        "p Holm": trial.p_holm,
        "best": trial.is_best,
        "default": trial.is_default,
        "tuned_on": _tuned(trial),
        "partial": " ".join(summary["partial"]),
        "protocol": summary["protocol"],
        "folder": "" if trial.result.folder is None else str(trial.result.folder),
    }


def _tuned(trial: Trial) -> str:
    """The word for it where it is so, as in tuned-on-val."""
    split = trial.result.summary.get("tuned_on", "")
    return f"tuned-on-{split}" if split else ""


def _csv_cell(value: object) -> str:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)


def _table(sweep: Sweep, trials: Sequence[Trial], what: str) -> Table:
    facts, summaries = _facts(sweep), [trial.result.summary for trial in trials]
    leading = facts.leading.short or facts.leading.name
    axes = [*sweep.grid.axes, *(["layer"] if _has_layers(sweep) else [])]
    shown = [metric.name for metric in facts.shown]
    rows = tuple(
        (
            Cell(text=_word(trial), marks="".join(_marks(trial))),
            *(Cell(text=str(value)) for value in _setting(sweep, trial).values()),
            *(
                score_cell(
                    trial.result.summary["metrics"].get(name, math.nan), trial.result.summary["intervals"].get(name)
                )
                for name in shown
            ),
            Cell(text="" if trial.found is None else difference_text(trial.found.difference, trial.found.interval)),
            Cell(text=p_text(trial.p_holm) if trial.found else ""),
        )
        for trial in trials
    )
    return Table(
        title=f"{method_name(summaries[0]['checkpoint'])} · {benchmark_title(summaries[0])} · {what}",
        head=("", *axes, *shown, f"Δ {leading}", "p"),
        rows=rows,
        notes=(*general_notes(summaries), *_notes(sweep, trials)),
        room=_room(shown),
    )


def _setting(sweep: Sweep, trial: Trial) -> dict[str, object]:
    layer = {"layer": trial.layer} if _has_layers(sweep) else {}
    return {**sweep.grid.values(trial.setting), **layer}


def _word(trial: Trial) -> str:
    return ", ".join([*(["best"] if trial.is_best else []), *(["default"] if trial.is_default else [])])


def _marks(trial: Trial) -> dict[str, str]:
    """As in any table, but for the overrides, which the columns tell."""
    found = marks(trial.result.summary)
    return {mark: text for mark, text in found.items() if not text.startswith("modified protocol")}


def _notes(sweep: Sweep, trials: Sequence[Trial]) -> list[tuple[str, str]]:
    notes = [
        (
            "",
            "Δ: difference to the default, in points, with its 95 % interval over the same clips; p of the sign-flip "
            "permutation test, corrected for the number of settings (Holm).",
        )
    ]
    if sweep.splits.why:
        notes.append(("", f"Chosen and reported on the same clips, since {sweep.splits.why}."))
    for mark, text in {pair: None for trial in trials for pair in _marks(trial).items()}:
        notes.append((mark, text))
    notes += [("", text) for text in dict.fromkeys(f"No difference: {trial.why}." for trial in trials if trial.why)]
    return notes


def _room(metrics: Sequence[str]) -> Room:
    """First go intervals of metrics that don't lead, then those metrics, then p; the differences stay."""
    further = list(reversed(metrics[1:]))
    order = [*((name, True) for name in further), *((name, False) for name in further), (metrics[0], True)]
    return Room(columns=(*order, ("p", False)), hint="; the CSV has them")


def _facts(sweep: Sweep) -> TaskFacts:
    return task_facts(sweep.trials[0].setting.task)


def _has_layers(sweep: Sweep) -> bool:
    return len({trial.layer for trial in sweep.trials}) > 1
