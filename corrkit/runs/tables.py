"""The table on screen: one or more results of one benchmark, in per cent, with everything that limits them marked."""

import itertools
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from corrkit.errors import UsageError, closest
from corrkit.runs.fitting import EVERYTHING, Cell, Room
from corrkit.runs.layout import Format, Table, render
from corrkit.runs.results import FULL_PRECISION, PlainCheckpoint, Summary, override_text
from corrkit.task_table import task_facts
from corrkit.text import first_names

MARKS: Mapping[str, str] = MappingProxyType(
    {"modified": "*", "partial": "†", "precision": "‡", "future": "§", "trained": "‖", "tuned": "◊"}
)
_SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors", ".bin", ".pkl", ".npz", ".tar", ".pyth")
_LONGEST_NAME = 40


def results_table(
    summaries: Sequence[Summary],
    form: Format = "text",
    width: int = 80,
    columns: Sequence[str] | None = None,
) -> str:
    """Tables of results: one for each benchmark, protocol and data, in the order of their first result.

    Args:
        summaries: results; reference rows (identity, oracle) are results like any other.
        form: "text", "markdown" or "latex".
        width: columns of the terminal, for "text"; `sys.maxsize` leaves nothing out.
        columns: names of the metrics to show; None for those that there is room for.

    Raises:
        UsageError: a column that no table of these tasks has.
    """
    require_metrics(columns, [summary["task"] for summary in summaries])
    tables = [table for group in _groups(summaries) for table in (_headline(group, columns), *_details(group))]
    return "\n".join(render(table, form, width) for table in tables)


def require_metrics(columns: Sequence[str] | None, tasks: Sequence[str]) -> None:
    """Raises UsageError for a column that no table of results of these tasks has; before the work, where called so."""
    known = [metric.name for task in dict.fromkeys(tasks) for metric in task_facts(task).metrics]
    for name in columns or ():
        if name not in known:
            raise UsageError(
                f"Tables of {', '.join(dict.fromkeys(tasks))} have no column {name!r}.", closest(name, known)
            )


def method_name(checkpoint: PlainCheckpoint) -> str:
    """A checkpoint's short name: its `name` where it has one, else the file name or spec without folder and suffix."""
    spec = str(checkpoint.get("name") or checkpoint.get("spec", ""))
    name = spec.rstrip("/").rsplit("/", 1)[-1]
    return next((name.removesuffix(suffix) for suffix in _SUFFIXES if name.endswith(suffix)), name)


def marks(summary: Summary) -> dict[str, str]:
    """Mark to sentence, for whatever sets a result apart: overrides, missing clips, precision, a look at the future."""
    found = {}
    if summary["modified"]:
        found[MARKS["modified"]] = f"modified protocol: {override_text(summary)}"
    if summary["partial"]:
        missing = summary["partial"]
        total = summary["clips"] + len(missing)
        found[MARKS["partial"]] = f"partial: {len(missing)} of {total} clips are missing ({first_names(missing)})"
    if summary["precision"] not in FULL_PRECISION:
        found[MARKS["precision"]] = f"reduced precision: {summary['precision']}"
    if summary["checkpoint"].get("sees_future"):
        found[MARKS["future"]] = "features of a frame depend on later frames"
    if "tuned_on" in summary:
        found[MARKS["tuned"]] = tuned_words(summary["tuned_on"])
    seen = training_words(summary["checkpoint"].get("system", ""), [summary["task"]], summary["data"]["origin"])
    if seen:
        found[MARKS["trained"]] = seen
    return found


def tuned_words(split: str) -> str:
    """What must be known of a setting that was chosen on clips that it is reported on."""
    return f"tuned-on-{split}: the setting was chosen on the clips that it is reported on"


def training_words(system: str, tasks: Sequence[str], origin: str) -> str:
    """That a system was, or may have been, trained on videos of the benchmarks that it is scored on; "" if not.

    Args:
        system: as recognised.
        tasks: that it is scored on.
        origin: of the data; the embedded clips are no benchmark's videos.
    """
    from corrkit.checkpoints.seen import seen_in_training

    reasons = {task: seen_in_training(system, task) for task in tasks} if origin != "embedded" else {}
    told = [f"{task_facts(task).title}: {reason}" for task, reason in reasons.items() if reason]
    return f"trained on this benchmark's videos, or may be: {'; '.join(told)}" if told else ""


def per_cent(value: float, interval: Sequence[float] | None = None) -> str:
    """A fraction as per cent with one decimal, its interval after it: "61.2 [55.1, 67.3]", " 9.4"; "   –" for NaN."""
    if math.isnan(value):
        return "   –"
    text = f"{100 * value:4.1f}"
    return text if interval is None else f"{text} [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def score_cell(value: float, interval: Sequence[float] | None) -> Cell:
    """A fraction as per cent, its interval as a detail."""
    text = per_cent(value)
    return Cell(text=text, detail="" if math.isnan(value) else per_cent(value, interval).removeprefix(text))


def _groups(summaries: Sequence[Summary]) -> list[list[Summary]]:
    groups: dict[tuple[str, ...], list[Summary]] = {}
    for summary in summaries:
        data = summary["data"]
        key = (summary["task"], summary["protocol"], data["split"], data["identity"], data["origin"])
        groups.setdefault(key, []).append(summary)
    return list(groups.values())


def _headline(group: Sequence[Summary], columns: Sequence[str] | None) -> Table:
    first = group[0]
    names = [name for name in first["metrics"] if "/" not in name]
    if columns is not None:
        names = [name for name in columns if name in names]
    rows = [(_method(summary), *(_score(summary, name) for name in names)) for summary in group]
    return Table(
        title=benchmark_title(first),
        head=("", *names),
        rows=tuple(rows),
        notes=tuple(table_notes(group)),
        room=_room(first["task"], columns),
    )


def _room(task: str, columns: Sequence[str] | None) -> Room:
    """First go metrics that the leaderboard doesn't show, then intervals, the leading metric's last of all."""
    if columns is not None:
        return EVERYTHING
    facts = task_facts(task)
    hidden = [metric.name for metric in reversed(facts.metrics) if not metric.short and metric != facts.leading]
    further = [metric.name for metric in reversed(facts.shown) if metric != facts.leading]
    order = [*((name, False) for name in hidden), *((name, True) for name in further)]
    order += [*((name, False) for name in further), (facts.leading.name, True)]
    return Room(columns=tuple(order), hint="; --wide shows all, --columns chooses")


def _details(group: Sequence[Summary]) -> list[Table]:
    """The scores behind the headline, e.g. IoU/hat: those of the first metric that has any; all are in the JSON."""
    task = group[0]["task"]
    detailed = [name.split("/", 1) for name in group[0]["metrics"] if "/" in name]
    if not detailed:
        return []
    metric, found = next(itertools.groupby(detailed, key=lambda pair: pair[0]))
    rows = [
        (Cell(text=part), *(Cell(text=per_cent(s["metrics"].get(f"{metric}/{part}", math.nan))) for s in group))
        for _, part in found
    ]
    head = ("", *(_method_text(summary) for summary in group))
    return [Table(title=f"{metric} per {task_facts(task).part}, per cent", head=head, rows=tuple(rows))]


def benchmark_title(summary: Summary) -> str:
    """Protocol, data, and how much of them: "davis/dino@1 · DAVIS-2017 val · 30 clips, 61 objects"."""
    data = summary["data"]
    counts = f"{summary['clips']} clips, {summary['objects']} {task_facts(summary['task']).parts}"
    return f"{summary['protocol']} · {data['name']} {data['split']} · {counts}".replace("  ", " ")


def general_notes(group: Sequence[Summary]) -> list[tuple[str, str]]:
    """Remarks on all of some results of the same data."""
    notes = []
    has_interval = any(pair is not None for summary in group for pair in summary["intervals"].values())
    notes.append(("", "Per cent, with 95 % intervals in brackets." if has_interval else "Per cent."))
    data = group[0]["data"]
    if data["origin"] == "embedded":
        notes.append(("", "Embedded clips: not comparable with results on the benchmark's own data."))
    elif data["origin"] == "own":
        notes.append(("", f"{data['name']} is not the benchmark's own data: compare rows of the same data only."))
    return notes


def table_notes(group: Sequence[Summary]) -> list[tuple[str, str]]:
    """Mark and text of what readers of a table of these results must know: of all of them, then of each."""
    notes = general_notes(group)
    for summary in group:
        notes.extend((mark, f"{_method_text(summary)}: {sentence}") for mark, sentence in marks(summary).items())
    return notes


def _method(summary: Summary) -> Cell:
    return Cell(text=_method_text(summary), marks="".join(marks(summary)))


def _method_text(summary: Summary) -> str:
    name = method_name(summary["checkpoint"])
    return name if len(name) <= _LONGEST_NAME else f"{name[:22]}...{name[-15:]}"


def _score(summary: Summary, name: str) -> Cell:
    return score_cell(summary["metrics"].get(name, math.nan), summary["intervals"].get(name))
