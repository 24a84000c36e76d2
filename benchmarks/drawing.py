"""The rows of a run as CSV, and drawn: how far each is from its bar."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from measuring import Row

from corrkit.report.charts import Drawing, Line, Text, painted

COLUMNS = ("benchmark", "what", "value", "unit", "relation", "must", "aim", "verdict")
COLOURS = {"aim": "#2ca02c", "holds": "#1f77b4", "MISSED": "#d62728"}
_NAMES, _BARS, _LINE, _TOP = 560, 400, 18, 30  # pixels
_WIDEST = 3.0  # doublings to either side of the bar


def write_csv(path: Path, done: Sequence[tuple[str, Row]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(COLUMNS)
        for name, row in done:
            bar = row.bar
            limits = (bar.relation, bar.must, bar.aim) if bar else ("", None, None)
            writer.writerow((name, row.what, f"{row.value:.6g}", row.unit, *limits, row.verdict))


def draw(path: Path, done: Sequence[tuple[str, Row]]) -> None:
    """A line for each figure that must hold something: to the right of the middle it does, a tick is the aim."""
    barred = [(name, row) for name, row in done if row.bar is not None and row.bar.must is not None]
    middle, height = _NAMES + _BARS / 2, _TOP + _LINE * (len(barred) + 1)
    lines = [Line(points=((middle, _TOP - 8), (middle, height)), colour="#9aa4b2", is_dashed=True)]
    texts = [
        Text(x=middle, y=_TOP - 14, text="must hold (tick: aim); each doubling is better to the right", anchor="middle")
    ]
    for number, (name, row) in enumerate(barred):
        y = _TOP + _LINE * number + 6
        assert row.bar is not None
        end = middle + _better(row, row.value)
        lines.append(Line(points=((middle, y), (end, y)), colour=COLOURS[row.verdict], width=8))
        if row.bar.aim is not None:
            aim = middle + _better(row, row.bar.aim)
            lines.append(Line(points=((aim, y - 6), (aim, y + 6)), colour="#333333", width=2))
        texts.append(Text(x=_NAMES - 8, y=y + 4, text=f"{row.what}: {row.value:.3g} {row.unit}", anchor="end"))
        texts.append(Text(x=4, y=y + 4, text=name))
    painted(Drawing(width=_NAMES + _BARS, height=int(height), lines=tuple(lines), texts=tuple(texts))).save(path)


def _better(row: Row, value: float) -> float:
    """Pixels to the right of the bar: how many times better a value is than what must hold, in doublings."""
    assert row.bar is not None
    assert row.bar.must
    doublings = math.log2(value / row.bar.must) * (1 if row.bar.relation == ">=" else -1)
    return max(-_WIDEST, min(_WIDEST, doublings)) * _BARS / 2 / _WIDEST
