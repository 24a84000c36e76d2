"""Tables as text, Markdown or LaTeX (booktabs): cells and marks in, text out."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Format = Literal["text", "markdown", "latex"]
FORMATS: tuple[Format, ...] = ("text", "markdown", "latex")
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "·": r"$\cdot$", "–": "--", "≥": r"$\geq$",
}  # fmt: skip
_LATEX_MARKS = {"*": r"$^{*}$", "†": r"$^{\dagger}$", "‡": r"$^{\ddagger}$", "§": r"$^{\S}$"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell: its text (spaces before it align numbers), the marks after it ("*†"), whether it is its column's best."""

    text: str
    marks: str = ""
    best: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A title, column heads, rows of as many cells, and footnotes as (mark, text); mark "" for a general remark.

    rules: numbers of the rows before which a line is drawn, e.g. between protocols.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[tuple[str, str], ...] = ()
    rules: tuple[int, ...] = ()


def render(table: Table, form: Format, width: int = 80) -> str:
    """The table as text that ends with a newline.

    Args:
        table: what to show.
        form: "text" for a terminal, "markdown" (a pipe table) or "latex" (booktabs).
        width: columns of the terminal, for "text": a table that doesn't fit is shown with rows and columns exchanged,
            and in several parts where that doesn't fit either.
    """
    if form == "markdown":
        return _markdown(table)
    return _latex(table) if form == "latex" else _text(table, width)


def _text(table: Table, width: int) -> str:
    grid = [list(table.head), *([cell.text + cell.marks for cell in row] for row in table.rows)]
    rules = set(table.rules)
    if _total(grid) > width:
        grid, rules = [list(column) for column in zip(*grid, strict=True)], set()
    parts = [_text_part(part, rules) for part in _parts(grid, width)]
    notes = [f"{mark} {text}".strip() for mark, text in table.notes]
    lines = [*_wrap(table.title, width), "", "\n\n".join(parts)]
    return "\n".join([*lines, *[""] * bool(notes), *(line for note in notes for line in _wrap(note, width))]) + "\n"


def _text_part(grid: list[list[str]], rules: set[int]) -> str:
    widths = _widths(grid)
    line = "-" * _total(grid)
    lines = []
    for number, row in enumerate(grid):
        if number == 1 or number - 1 in rules:
            lines.append(line)
        lines.append("  ".join(text.ljust(size) for text, size in zip(row, widths, strict=True)).rstrip())
    return "\n".join(lines)


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
    rows = [[_markdown_cell(cell) for cell in row] for row in table.rows]
    head = [_markdown_escape(text) for text in table.head]
    lines = [f"**{_markdown_escape(table.title)}**", "", _pipes(head), _pipes(["---"] * len(head)), *map(_pipes, rows)]
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
    for number, row in enumerate(table.rows):
        if number in table.rules:
            body.append(r"\midrule")
        body.append(_latex_row([_latex_cell(cell) for cell in row]))
    notes = [rf"\par\footnotesize {_LATEX_MARKS.get(mark, '')} {_latex_escape(text)}" for mark, text in table.notes]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_latex_escape(table.title)}}}",
            rf"\begin{{tabular}}{{{'l' * len(table.head)}}}",
            r"\toprule",
            _latex_row([_latex_escape(text) for text in table.head]),
            r"\midrule",
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
