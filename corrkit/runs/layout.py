"""Tables as text, Markdown or LaTeX (booktabs): cells and marks in, text out."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from corrkit.text import one_line

Format = Literal["text", "markdown", "latex"]
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "·": r"$\cdot$", "–": "--", "Δ": r"$\Delta$",
}  # fmt: skip
_LATEX_MARKS = {"*": r"$^{*}$", "†": r"$^{\dagger}$", "‡": r"$^{\ddagger}$", "§": r"$^{\S}$", "¶": r"$^{\P}$"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell: its text (spaces before it align numbers), the marks after it ("*†"), whether it is its column's best."""

    text: str
    marks: str = ""
    best: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A title, column heads, rows of as many cells, and footnotes as (mark, text); mark "" for a general remark.

    sections: heading and number of its first row, where rows fall into groups; empty for a table without groups.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[tuple[str, str], ...] = ()
    sections: tuple[tuple[str, int], ...] = ()


def render(table: Table, form: Format, width: int = 80) -> str:
    """The table as text that ends with a newline.

    Args:
        table: what to show.
        form: "text" for a terminal, "markdown" (a pipe table) or "latex" (booktabs).
        width: columns of the terminal, for "text": a table that doesn't fit is shown with rows and columns exchanged,
            and in several parts where that doesn't fit either.
    """
    table = _shown(table)
    if form == "markdown":
        return _markdown(table)
    return _latex(table) if form == "latex" else _text(table, width)


def _shown(table: Table) -> Table:
    """The table with every text fit to be shown."""
    return replace(
        table,
        title=one_line(table.title),
        head=tuple(map(one_line, table.head)),
        rows=tuple(tuple(replace(cell, text=one_line(cell.text)) for cell in row) for row in table.rows),
        notes=tuple((mark, one_line(text)) for mark, text in table.notes),
        sections=tuple((one_line(heading), number) for heading, number in table.sections),
    )


def _text(table: Table, width: int) -> str:
    blocks = []
    for heading, rows in _split(table):
        grid = [list(table.head), *([cell.text + cell.marks for cell in row] for row in rows)]
        if _total(grid) > width:
            grid = [list(column) for column in zip(*grid, strict=True)]
        blocks.extend([*_wrap(heading, width), ""] if heading else [])
        blocks.append("\n\n".join(_text_part(part) for part in _parts(grid, width)) + "\n")
    notes = [line for mark, text in table.notes for line in _wrap(f"{mark} {text}".strip(), width)]
    return "\n".join([*_wrap(table.title, width), "", *blocks, *notes]).rstrip("\n") + "\n"


def _split(table: Table) -> list[tuple[str, tuple[tuple[Cell, ...], ...]]]:
    """Heading and rows of each section; one section without heading where there are none."""
    sections = table.sections or (("", 0),)
    ends = [*(start for _, start in sections[1:]), len(table.rows)]
    return [(heading, table.rows[start:end]) for (heading, start), end in zip(sections, ends, strict=True)]


def _text_part(grid: list[list[str]]) -> str:
    widths = _widths(grid)
    lines = ["  ".join(text.ljust(size) for text, size in zip(row, widths, strict=True)).rstrip() for row in grid]
    return "\n".join([lines[0], "-" * _total(grid), *lines[1:]])


def _parts(grid: list[list[str]], width: int) -> list[list[list[str]]]:
    """The grid cut into groups of columns that fit, the first column repeated before each."""
    columns = [list(column) for column in zip(*grid, strict=True)]
    groups: list[list[list[str]]] = [[columns[0]]]
    for column in columns[1:]:
        grown = [*groups[-1], column]
        if len(groups[-1]) > 1 and sum(max(map(len, one)) + 2 for one in grown) - 2 > width:
            groups.append([columns[0], column])
        else:
            groups[-1] = grown
    return [[list(row) for row in zip(*group, strict=True)] for group in groups]


def _widths(grid: list[list[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*grid, strict=True)]


def _total(grid: list[list[str]]) -> int:
    return sum(size + 2 for size in _widths(grid)) - 2


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _markdown(table: Table) -> str:
    lines = [f"**{_markdown_escape(table.title)}**"]
    for heading, rows in _split(table):
        lines += ["", _markdown_escape(heading)] if heading else []
        body = [[_markdown_cell(cell) for cell in row] for row in rows]
        head = [_markdown_escape(text) for text in table.head]
        lines += ["", _pipes(head), _pipes(["---"] * len(head)), *map(_pipes, body)]
    notes = [f"{_markdown_escape(mark)} {_markdown_escape(text)}".strip() for mark, text in table.notes]
    return "\n".join([*lines, *(line for note in notes for line in ("", note))]) + "\n"


def _markdown_cell(cell: Cell) -> str:
    text = _markdown_escape(cell.text.strip())
    return (f"**{text}**" if cell.best else text) + _markdown_escape(cell.marks)


def _markdown_escape(text: str) -> str:
    for character in "\\|*_<":
        text = text.replace(character, f"\\{character}")
    return text


def _pipes(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _latex(table: Table) -> str:
    body = []
    for heading, rows in _split(table):
        body += [r"\midrule"]
        if heading:
            body += [rf"\multicolumn{{{len(table.head)}}}{{l}}{{\emph{{{_latex_escape(heading)}}}}} \\"]
        body += [_latex_row([_latex_cell(cell) for cell in row]) for row in rows]
    notes = [rf"\par\footnotesize {_LATEX_MARKS.get(mark, '')} {_latex_escape(text)}" for mark, text in table.notes]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_latex_escape(table.title)}}}",
            rf"\begin{{tabular}}{{{'l' * len(table.head)}}}",
            r"\toprule",
            _latex_row([_latex_escape(text) for text in table.head]),
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            *notes,
            r"\end{table}",
            "",
        ]
    )


def _latex_cell(cell: Cell) -> str:
    text = _latex_escape(cell.text.strip())
    return (rf"\textbf{{{text}}}" if cell.best else text) + "".join(_LATEX_MARKS[mark] for mark in cell.marks)


def _latex_escape(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def _latex_row(cells: Sequence[str]) -> str:
    # A row that begins with "[" would be read as the optional argument of the line break before it.
    return " & ".join(f"{{{cell}}}" if cell.startswith("[") else cell for cell in cells) + r" \\"
