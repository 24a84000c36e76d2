"""Text from files never steers a terminal, fakes a line or becomes a formula."""

import csv
import io
import unicodedata

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corrkit.errors import DataError
from corrkit.runs.fitting import Cell
from corrkit.runs.layout import Table, render
from corrkit.tasks.official_csvs import csv_text
from corrkit.text import LONGEST, from_spreadsheet_cell, lines, one_line, spreadsheet_cell

NASTY = [
    "\x1b[2Jgone",
    "a\rb",
    "a\nfine: nothing wrong",
    "\u202eevil\u202c",
    "\x9b31m",
    "a\u2028b",
    "\x00",
    "\x7f",
    "\u200b",
]


@pytest.mark.parametrize("text", NASTY)
def test_nothing_that_steers_is_left(text: str):
    for shown in (one_line(text), DataError(f"{text} is missing.", "Restore it.").problem):
        assert shown.isprintable()
    table = Table(title=text, head=("", text), rows=((Cell(text=text), Cell(text=text)),), notes=(("*", text),))
    for form in ("text", "markdown", "latex"):
        assert not any(
            unicodedata.category(c) in {"Cc", "Cf", "Zl", "Zp"} for c in render(table, form).replace("\n", "")
        )
        assert "\nfine: nothing wrong" not in render(table, form)


@given(st.text())
def test_visible_text_is_left_as_it_is(text: str):
    assert one_line(text).isprintable()
    if text.isprintable():
        assert one_line(text) == text


def test_messages_are_bounded():
    error = DataError("x" * 10**6, "y" * 10**6)
    assert len(str(error)) < 3 * LONGEST
    assert lines("a\nb") == "a\nb"


@given(st.text(min_size=1))
def test_no_cell_is_a_formula_and_pandas_reads_back_what_was_written(text: str):
    name = one_line(text)
    cell = spreadsheet_cell(name)
    written = csv_text([["name", "value"], [name, "-0.25"]])
    (row,) = csv.DictReader(io.StringIO(written))
    assert not row["name"].startswith(("@", "=", "\t", "\r"))
    table = pd.read_csv(io.StringIO(written), dtype={"name": str}, keep_default_na=False)
    assert list(table["name"]) == [cell]
    assert from_spreadsheet_cell(table["name"][0]) == name
    assert list(table["value"]) == [-0.25]


def test_pandas_takes_nothing_off_a_cell_but_what_spreadsheets_take_off_too():
    """Why a cell can't be safe and read back unchanged: whatever stands before "=" stays, quotes apart.

    Programs that compute cells look at what is left once quotes are gone, so pandas would have to drop a character
    that they keep. All of the basic plane are tried, quoted and not.
    """
    kept = [chr(code) for code in range(1, 0x10000) if not 0xD800 <= code < 0xE000 and chr(code) not in '\n\r",']
    for form in ("{}=1", '"{}=1"'):
        written = "name\n" + "".join(f"{form.format(character)}\n" for character in kept)
        table = pd.read_csv(io.StringIO(written), keep_default_na=False, dtype=str)
        assert list(table["name"]) == [f"{character}=1" for character in kept]
    assert list(pd.read_csv(io.StringIO('name\n"=1"\n""=1\n'))["name"]) == ["=1", "=1"]


@given(st.text() | st.text(alphabet="'=+-@a1"))
def test_a_cell_tells_the_text_that_it_was_made_of(text: str):
    assert from_spreadsheet_cell(spreadsheet_cell(text)) == text


@pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)", "+cmd|' /C calc'!A0", "-2+3", "-a", "\t=1"])
def test_formulas_are_quoted_and_numbers_are_not(text: str):
    assert spreadsheet_cell(text) == f"'{text}"
    for number in ("-0.5", "+1", "-1e-3", "1", "", "name"):
        assert spreadsheet_cell(number) == number
