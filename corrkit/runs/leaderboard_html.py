"""The leaderboard as a page of its own: rows to be sorted, sections to be filtered, intervals drawn; no network."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from corrkit.pages import page
from corrkit.runs.columns import Column, ShownRow, number_in
from corrkit.runs.fitting import Cell
from corrkit.runs.layout import Table, shown


@dataclass(frozen=True, slots=True, kw_only=True)
class HtmlCell:
    """A cell: text, or a score with its interval (fractions); value is what it is sorted by, "" where it has none."""

    text: str
    value: str
    score: float | None = None
    interval: tuple[float, float] | None = None
    best: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HtmlSection:
    """Rows that can be compared; protocols and origin are what the page filters by."""

    heading: str
    protocols: tuple[str, ...]
    origin: str
    head: tuple[tuple[str, bool], ...]
    rows: tuple[tuple[HtmlCell, ...], ...]


def leaderboard_html(
    table: Table, columns: Sequence[Column], rows: Sequence[ShownRow], further: Sequence[Table] = ()
) -> str:
    """The page.

    Args:
        table: the leaderboard as it is shown elsewhere: heads, cells, sections, notes.
        columns: of the table, without the method's.
        rows: the values behind its rows.
        further: blocks below, e.g. of published numbers, without intervals.
    """
    table = shown(table)
    starts = [number for _, number in table.sections]
    ends = [*starts[1:], len(rows)]
    sections = [
        _section(heading, table, columns, rows, range(start, end))
        for (heading, start), end in zip(table.sections, ends, strict=True)
    ]
    return page(
        "leaderboard.html",
        title=table.title,
        sections=sections,
        protocols=sorted({name for section in sections for name in section.protocols}),
        origins=list(dict.fromkeys(section.origin for section in sections)),
        notes=[f"{mark} {text}".strip() for mark, text in table.notes[1:]],  # units are said above
        further=[shown(one) for one in further],
    )


def _section(
    heading: str, table: Table, columns: Sequence[Column], rows: Sequence[ShownRow], numbers: Sequence[int]
) -> HtmlSection:
    cells = {number: table.rows[number] for number in numbers}
    kept = [
        place
        for place, _ in enumerate(columns)
        if any(cells[number][place + 1].whole.strip(" –") for number in numbers)
    ]
    first = rows[numbers[0]]
    return HtmlSection(
        heading=heading,
        protocols=tuple(str(first["protocol"]).split()),
        origin=str(first["origin"]),
        head=(("Method", False), *((table.head[place + 1], _is_number(columns[place])) for place in kept)),
        rows=tuple(
            (
                HtmlCell(text=cells[number][0].whole, value=cells[number][0].text),
                *(_cell(columns[place], cells[number][place + 1], rows[number]) for place in kept),
            )
            for number in numbers
        ),
    )


def _is_number(column: Column) -> bool:
    return column.is_metric or column.is_timing or column.kind is not None or column.name.endswith("difference")


def _cell(column: Column, cell: Cell, row: ShownRow) -> HtmlCell:
    value = number_in(row, column.name)
    if column.is_metric:
        ends = number_in(row, f"{column.name} low"), number_in(row, f"{column.name} high")
        return HtmlCell(
            text="",
            value="" if math.isnan(value) else f"{value:.6f}",
            score=None if math.isnan(value) else value,
            interval=None if math.isnan(ends[0]) else ends,
            best=cell.best,
        )
    text = cell.whole.strip()
    return HtmlCell(text=text, value=("" if math.isnan(value) else f"{value:g}") if _is_number(column) else text)
