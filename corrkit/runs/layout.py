"""Tables as text, Markdown or LaTeX (booktabs): cells and marks in, text out."""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from corrkit.runs.fitting import EVERYTHING, Cell, Grid, Room, fitted, folded
from corrkit.text import one_line

Format = Literal["text", "markdown", "latex"]
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "·": r"$\cdot$", "–": "--", "Δ": r"$\Delta$",
}  # fmt: skip
_LATEX_COLUMN = 48
"""Characters of 9 pt that fit one column of a two-column paper (241 pt)."""
_LINKED = re.compile(r"((?:[\w.+-]+@[\w-]+(?:\.[\w-]+)+)|(?:https?://|www\.)[^\s`|]+)")
"""What GitHub takes for an address: https://github.github.com/gfm/#autolinks-extension-."""
_SPECIAL = re.compile(r"[\\|*_<`~]|\[(?=[^\]]*\][\[(:])")
"""Characters that Markdown reads as more than text; brackets where a link could follow."""
_LATEX_MARKS = {
    "*": r"$^{*}$", "†": r"$^{\dagger}$", "‡": r"$^{\ddagger}$", "§": r"$^{\S}$", "¶": r"$^{\P}$", "‖": r"$^{\|}$",
    "◊": r"$^{\diamond}$",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A title, column heads, rows of as many cells, and footnotes as (mark, text); mark "" for a general remark.

    sections: heading and number of its first row, where rows fall into groups; empty for a table without groups.
    room: what goes to the heading, and what is left out where there is no room.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[tuple[str, str], ...] = ()
    sections: tuple[tuple[str, int], ...] = ()
    room: Room = EVERYTHING


def render(table: Table, form: Format, width: int = 80) -> str:
    """The table as text that ends with a newline: one line for each row, whatever the width.

    Args:
        table: what to show.
        form: "text" for a terminal, "markdown" (a pipe table that GitHub shows) or "latex" (booktabs, one column).
        width: columns of the terminal, for "text": what has no room is left out as `table.room` says; a table that may
            lose nothing goes on below with its first column again.
    """
    table = shown(table)
    if form == "markdown":
        return _markdown(table)
    return _latex(table) if form == "latex" else _text(table, width)


def shown(table: Table) -> Table:
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
    blocks, left_out = [], dict[str, None]()
    for section in _split(table):
        grid = fitted(section, table.room, lambda grid: _total(_texts(grid)) <= width)
        left_out |= dict.fromkeys(grid.left_out)
        blocks.extend([*_wrap(grid.heading, width), ""] if grid.heading else [])
        blocks.append("\n\n".join(_text_part(part) for part in _parts(_texts(grid), width)) + "\n")
    said = f"No room for {', '.join(left_out)}{table.room.hint}." if left_out else ""
    notes = [line for mark, text in (("", said), *table.notes) for line in _wrap(f"{mark} {text}".strip(), width)]
    return "\n".join([*_wrap(table.title, width), "", *blocks, *notes]).rstrip("\n") + "\n"


def _texts(grid: Grid) -> list[list[str]]:
    """What a terminal shows, heads first."""
    return [list(grid.head), *([cell.whole for cell in row] for row in grid.rows)]


def _split(table: Table) -> list[Grid]:
    """Each section with the columns that say something in it; one without heading where there are no sections."""
    sections = table.sections or (("", 0),)
    ends = [*(start for _, start in sections[1:]), len(table.rows)]
    grids = [
        Grid(heading=heading, head=table.head, rows=table.rows[start:end])
        for (heading, start), end in zip(sections, ends, strict=True)
    ]
    return [folded(grid, table.room) for grid in grids]


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
    lines = [f"**{markdown_escape(table.title)}**"]
    for grid in _split(table):
        lines += ["", markdown_escape(grid.heading)] if grid.heading else []
        body = [[_markdown_cell(cell) for cell in row] for row in grid.rows]
        head = [markdown_escape(text) for text in grid.head]
        below = ["---:" if is_right else "---" for is_right in _of_numbers(grid)]
        lines += ["", _pipes(head), _pipes(below), *map(_pipes, body)]
    notes = [f"{markdown_escape(mark)} {markdown_escape(text)}".strip() for mark, text in table.notes]
    return "\n".join([*lines, *(line for note in notes for line in ("", note))]) + "\n"


def _of_numbers(grid: Grid) -> list[bool]:
    """For each column whether it holds numbers, which stand at its right; the first is that of names."""
    texts = ([cell.text.strip() for cell in grid.column(number)] for number in range(1, len(grid.head)))
    return [False, *(all(re.match(r"[-+–\d]|$", text) for text in column) for column in texts)]


def _markdown_cell(cell: Cell) -> str:
    text = markdown_escape((cell.text + cell.detail).strip())
    return (f"**{text}**" if cell.best else text) + markdown_escape(cell.marks)


def markdown_escape(text: str) -> str:
    """What looks like an address ("PCK@0.1", a site) stands as code: GitHub makes links of those, escaped or not."""
    return "".join(
        f"`{part}`" if number % 2 else _SPECIAL.sub(r"\\\g<0>", part) for number, part in enumerate(_LINKED.split(text))
    )


def _pipes(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _latex(table: Table) -> str:
    r"""For one column of a paper at \small: what has no room is left out, first of all intervals."""
    everything = folded(Grid(heading="", head=table.head, rows=table.rows), table.room)
    grid = fitted(everything, table.room, lambda grid: _latex_width(grid) <= _LATEX_COLUMN)
    starts = dict(_starts(table))
    body = [r"\midrule"] if not table.sections else []
    for number, row in enumerate(grid.rows):
        if number in starts:
            heading = rf"\parbox{{\columnwidth}}{{\raggedright\emph{{{_latex_escape(starts[number])}}}\strut}}"
            body += [r"\midrule", rf"\multicolumn{{{len(grid.head)}}}{{@{{}}l@{{}}}}{{{heading}}} \\"]
        body += [_latex_row([_latex_cell(cell) for cell in row])]
    title = " · ".join(filter(None, [table.title, grid.heading]))
    notes = [rf"\par\footnotesize {_LATEX_MARKS.get(mark, '')} {_latex_escape(text)}" for mark, text in table.notes]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering\small",
            r"\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{_latex_escape(title)}}}",
            rf"\begin{{tabular}}{{@{{}}{''.join('r' if is_right else 'l' for is_right in _of_numbers(grid))}@{{}}}}",
            r"\toprule",
            _latex_row([_latex_escape(text) for text in grid.head]),
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            *notes,
            r"\end{table}",
            "",
        ]
    )


def _starts(table: Table) -> list[tuple[int, str]]:
    return [(number, heading) for heading, number in table.sections]


def _latex_width(grid: Grid) -> float:
    """In characters, each gap between columns as one and a quarter."""
    return sum(_widths(_texts(grid))) + 1.25 * (len(grid.head) - 1)


def _latex_cell(cell: Cell) -> str:
    text = _latex_escape((cell.text + cell.detail).strip())
    return (rf"\textbf{{{text}}}" if cell.best else text) + "".join(_LATEX_MARKS[mark] for mark in cell.marks)


def _latex_escape(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def _latex_row(cells: Sequence[str]) -> str:
    # A row that begins with "[" would be read as the optional argument of the line break before it.
    return " & ".join(f"{{{cell}}}" if cell.startswith("[") else cell for cell in cells) + r" \\"
