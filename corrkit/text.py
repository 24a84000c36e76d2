"""Text from files, fit to be shown: nothing in it steers a terminal, fakes a line or is computed by a spreadsheet.

The one place where that is decided: errors, tables, talk on stderr and CSV cells come through here.
"""

from collections.abc import Sequence

LONGEST = 4000
"""Characters of a message; a file decides how long the names in it are."""

_COMPUTED = ("=", "+", "-", "@", "\t", "\r")  # what spreadsheets take for the start of a formula


def one_line(text: str) -> str:
    """The text with every character escaped that is no visible one: control characters, line ends, bidi marks, ..."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    """As Python writes it; a byte of a file's name that is no UTF-8 (a lone surrogate of os.fsdecode) as that byte."""
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def lines(text: str) -> str:
    """As `one_line`, line ends kept, and shortened in the middle beyond `LONGEST` characters."""
    shown = "\n".join(one_line(line) for line in text.split("\n"))
    if len(shown) <= LONGEST:
        return shown
    half = LONGEST // 2
    return f"{shown[:half]} ... ({len(shown) - 2 * half} characters left out) ... {shown[-half:]}"


def first_names(names: Sequence[str], most: int = 5) -> str:
    """The first names of a list that is counted beside it: "a, b, c, d, e, ..."."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def spreadsheet_cell(text: str) -> str:
    """Text that no spreadsheet computes: an apostrophe before what looks like a formula; numbers stay numbers.

    A CSV file can't say that a cell is text: programs decide by the characters that are left once quotes are taken off,
    and those are what pandas reads. So the name itself has to change, and `from_spreadsheet_cell` undoes it.
    """
    if not text.lstrip("'").startswith(_COMPUTED):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def from_spreadsheet_cell(cell: str) -> str:
    """The text that `spreadsheet_cell` made a cell of."""
    is_changed = cell.startswith("'") and cell.lstrip("'").startswith(_COMPUTED)
    return cell[1:] if is_changed else cell
