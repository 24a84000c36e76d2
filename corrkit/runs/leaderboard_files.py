"""The leaderboard as CSV, Markdown, LaTeX or text."""

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from corrkit.errors import UsageError
from corrkit.files.atomic import write_atomic
from corrkit.files.jsontext import Json
from corrkit.manifests.published import PublishedNumber, by_table
from corrkit.runs.columns import AUTOMATIC, Chosen, Column, ShownRow, number_in
from corrkit.runs.comparable import REFERENCE_PREDICTORS
from corrkit.runs.fitting import EVERYTHING, Cell, Room
from corrkit.runs.layout import Format, Table, render
from corrkit.runs.leaderboard_html import leaderboard_html
from corrkit.runs.published import published_table
from corrkit.runs.results import FULL_PRECISION
from corrkit.runs.tables import MARKS, training_words, tuned_words
from corrkit.task_table import leading_metrics, shown_metrics
from corrkit.text import first_names, one_line, spreadsheet_cell

if TYPE_CHECKING:
    import pandas

_SUFFIXES: dict[str, Format] = {".md": "markdown", ".tex": "latex"}
_APART = "Rows of different sections can't be compared."
_PUBLISHED = "Published numbers under these protocols (not evaluated here)"
_CONFLICT = "¶"
_PAIRED = "sign-flip p (Holm over rows), and the smallest difference that these clips detect four times in five."


def write_leaderboard(
    table: "pandas.DataFrame",
    path: Path,
    numbers: Sequence[PublishedNumber] = (),
    chosen: Chosen = AUTOMATIC,
) -> None:
    """Writes the table of `leaderboard` in the form of the suffix: .csv, .md, .tex or .html.

    Args:
        table: as `corrkit.leaderboard` returns it.
        path: where to.
        numbers: published ones that follow: as rows of origin "published" in the CSV, else as a table of their own.
        chosen: which columns.

    Raises:
        UsageError: another suffix.
        RunError: the file can't be written.
    """
    if path.suffix == ".csv":
        write_atomic(path, csv_text(with_published(table, numbers), chosen, has_sources=bool(numbers)))
    elif path.suffix == ".html":
        rows, wanted = _rows(table), _wanted(chosen, "text")
        blocks = [published_table(numbers, _PUBLISHED)] if numbers else []
        write_atomic(path, leaderboard_html(_table(table, rows, wanted, chosen), wanted, rows, blocks))
    elif path.suffix in _SUFFIXES:
        form = _SUFFIXES[path.suffix]
        shown = leaderboard_text(table, form, chosen=chosen)
        write_atomic(path, "\n".join([shown, *published_text(numbers, form)]))
    else:
        raise UsageError(f"{path} has no known suffix.", "Use .csv, .md, .tex or .html.")


def with_published(table: "pandas.DataFrame", numbers: Sequence[PublishedNumber]) -> "pandas.DataFrame":
    """The table with published numbers below it, of origin "published"; where they come from stands under "runs"."""
    import pandas

    known: list[dict[str, Json]] = []
    for group in by_table(numbers):
        first = group[0]
        cells = {
            "method": first.method,
            "architecture": first.architecture,
            "pretraining": first.data,
            "stride": first.stride,
            "protocol": " ".join(dict.fromkeys(f"{number.task}/{number.protocol}" for number in group)),
            **{number.metric: number.per_cent / 100 for number in group},
            "origin": "published",
            "data": "; ".join(dict.fromkeys(number.dataset for number in group)),
            "modified": first.overrides,
            "runs": f"{first.source} ({first.certainty})",
        }
        known.append({k: spreadsheet_cell(one_line(v)) if isinstance(v, str) else v for k, v in cells.items()})
    if not known:
        return table
    rows = pandas.DataFrame(known)
    return pandas.concat([table.astype(object), rows.reindex(columns=table.columns).astype(object)], ignore_index=True)


def published_text(numbers: Sequence[PublishedNumber], form: Format, width: int = 80) -> list[str]:
    """The block of published numbers; none where there are none."""
    return [render(published_table(numbers, _PUBLISHED), form, width)] if numbers else []


def csv_text(table: "pandas.DataFrame", chosen: Chosen = AUTOMATIC, *, has_sources: bool = False) -> str:
    """The table as CSV: numbers with six digits, scores as fractions; equal runs give equal bytes.

    has_sources: whether rows are published numbers, whose sources stand under "runs": that column is there then.
    """
    names = list(dict.fromkeys([*(column.name for column in chosen.of(is_short=True)), *(["runs"] * has_sources)]))
    return str(table[names].map(_six_digits).to_csv(index=False, lineterminator="\n"))


def _six_digits(value: object) -> object:
    return f"{value:.6f}" if isinstance(value, float) and not math.isnan(value) else value


def leaderboard_text(table: "pandas.DataFrame", form: Format, width: int = 80, chosen: Chosen = AUTOMATIC) -> str:
    """The table of `leaderboard` for readers: per cent, one section per group, the best in bold, marks explained.

    Args:
        table: as `corrkit.leaderboard` returns it.
        form: "text", "markdown" or "latex"; in LaTeX metrics alone are shown, where nothing else is asked for.
        width: columns of the terminal, for "text".
        chosen: which columns.

    Raises:
        UsageError: there is no such column.
    """
    wanted = _wanted(chosen, form)
    shown = _table(table, _rows(table), wanted, chosen)
    if _is_for_paper(chosen, form):
        plain = tuple(tuple(replace(cell, detail="") for cell in row) for row in shown.rows)
        shown = replace(shown, rows=plain, notes=(("", f"Per cent. {_APART}"), *shown.notes[1:]))
    return render(shown, form, sys.maxsize if chosen.is_wide else width)


def _rows(table: "pandas.DataFrame") -> list[ShownRow]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _wanted(chosen: Chosen, form: Format) -> list[Column]:
    """The columns beside the method's that are shown in a form, if there is room."""
    wanted = [column for column in chosen.of(is_short=False)[1:] if column.cell is not None or chosen.names]
    return [column for column in wanted if column.is_metric] if _is_for_paper(chosen, form) else wanted


def _is_for_paper(chosen: Chosen, form: Format) -> bool:
    """Whether scores alone are shown, to fit one column of a paper."""
    return form == "latex" and chosen.names is None and not chosen.is_wide


def _table(table: "pandas.DataFrame", rows: list[ShownRow], wanted: Sequence[Column], chosen: Chosen) -> Table:
    cell_of = {column.head or column.name: column.cell or partial(_plain_cell, column.name) for column in wanted}
    best = _best(rows)
    cells = tuple(
        (_method(row), *(replace(cell(row), best=head in best[number]) for head, cell in cell_of.items()))
        for number, row in enumerate(rows)
    )
    sections = {row["group"]: (_heading(row, rows), number) for number, row in reversed(list(enumerate(rows)))}
    return Table(
        title="Label propagation with frozen features",
        head=("Method", *cell_of),
        rows=cells,
        notes=tuple(_notes(rows, table.attrs.get("references", []))),
        room=_room(wanted, chosen),
        sections=tuple(sorted(sections.values(), key=lambda section: section[1])),
    )


def _room(wanted: Sequence[Column], chosen: Chosen) -> Room:
    """First go intervals of metrics that don't lead, then settings, those metrics, seeds, differences, intervals."""
    settings = frozenset(column.head for column in wanted if column.is_setting)
    if chosen.names is not None or chosen.is_wide:
        return Room(settings=settings) if chosen.names is None else EVERYTHING
    leading = {metric.short for metric in leading_metrics()}
    further = [column.head for column in reversed(wanted) if column.is_metric and column.head not in leading]
    others = [column.head for column in reversed(wanted) if not column.is_metric and not column.is_setting]
    order = [(head, True) for head in further]
    order += [(head, False) for head in ("Frames/s", "Pretraining", "Parameters", "Stride", "Architecture")]
    order += [(head, False) for head in further]
    order += [(head, True) for head in others]
    order += [(head, False) for head in others]
    order += [(column.head, True) for column in reversed(wanted) if column.head in leading]
    return Room(settings=settings, columns=tuple(order), hint="; --wide shows all, --columns chooses")


def _plain_cell(name: str, row: ShownRow) -> Cell:
    """Of a column that otherwise stands in the CSV alone."""
    value = _six_digits(row[name])
    return Cell(text="" if value is None or value != value else str(value))  # NaN differs from itself


def _best(rows: list[ShownRow]) -> list[set[str]]:
    """For each row the heads under which it is best in its group; floor, ceiling and groups of one row don't count."""
    best: list[set[str]] = [set() for _ in rows]
    for group in {row["group"] for row in rows}:
        members = [n for n, row in enumerate(rows) if row["group"] == group and not _is_floor_or_ceiling(row)]
        for metric in shown_metrics():
            scores = {n: number_in(rows[n], metric.name) for n in members}
            scored = {n: score for n, score in scores.items() if not math.isnan(score)}
            for n in scored if len(scored) > 1 else ():
                if scored[n] == max(scored.values()):
                    best[n].add(metric.short)
    return best


def _is_floor_or_ceiling(row: ShownRow) -> bool:
    return row["system"] in REFERENCE_PREDICTORS


def _method(row: ShownRow) -> Cell:
    return Cell(text=str(row["method"]), marks="".join(mark for mark, _ in _marks(row)))


def _marks(row: ShownRow) -> list[tuple[str, str]]:
    found = []
    if row["modified"]:
        found.append((MARKS["modified"], f"modified protocol: {row['modified']}"))
    if row["partial"]:
        found.append((MARKS["partial"], f"partial, clips missing: {first_names(str(row['partial']).split(' '))}"))
    if row["precision"] not in FULL_PRECISION:
        found.append((MARKS["precision"], f"reduced precision: {row['precision']}"))
    if row["sees_future"]:
        found.append((MARKS["future"], "features of a frame depend on later frames"))
    if row["tuned_on"]:
        found.append((MARKS["tuned"], tuned_words(str(row["tuned_on"]))))
    tasks = [name.partition("/")[0] for name in str(row["protocol"]).split()]
    seen = training_words(str(row["system"]), tasks, str(row["origin"]))
    if seen:
        found.append((MARKS["trained"], seen))
    if row["conflict"]:
        found.append((_CONFLICT, "another run of the same checkpoint, protocol and data has other numbers"))
    return found


def _heading(row: ShownRow, rows: list[ShownRow]) -> str:
    """Protocols and data of a group, from the row of it that has most tasks."""
    fullest = max((one for one in rows if one["group"] == row["group"]), key=lambda one: len(str(one["protocol"])))
    words = {"official": "", "own": " (not the benchmark's own data)", "embedded": " (embedded clips)"}
    origin = words[str(row["origin"])]
    return f"{fullest['protocol']} on {fullest['data']}{origin}"


def _notes(rows: list[ShownRow], references: list[str]) -> list[tuple[str, str]]:
    notes = [("", f"Per cent, with 95 % intervals in brackets. {_APART}")]
    if references:
        names = ", ".join(references)
        notes.append(("", f"Δ: difference from {names} on the same clips, with its interval, {_PAIRED}"))
    outside = dict.fromkeys(str(row["method"]) for row in rows if _is_floor_or_ceiling(row))
    if outside:
        notes.append(("", f"Floor and ceiling are left out of what is bold: {', '.join(outside)}."))
    return [*notes, *((mark, f"{row['method']}: {text}") for row in rows for mark, text in _marks(row))]
