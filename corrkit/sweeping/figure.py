"""A sweep as a heat map: two axes, in each cell the best of all settings that are there."""

import math
from collections.abc import Sequence

from corrkit.report.charts import Drawing, Line, Text
from corrkit.runs.comparison_text import difference_text
from corrkit.sweeping.running import Sweep, Trial
from corrkit.task_table import task_facts

_CELL, _ROW = 122, 42
_LEFT, _TOP, _BELOW = 92, 42, 40
_LOW, _HIGH = (236, 241, 248), (66, 122, 188)  # light to dark: black text is read on both
_BEST, _DEFAULT = "#e0483e", "#222222"


def heat_map(sweep: Sweep) -> Drawing:
    """The two axes of most values against each other; the best setting framed in red, the default in black.

    A cell shows the leading metric in per cent, the highest over the axes that are not shown, and below it that
    setting's difference to the default with its interval.
    """
    values = [(trial, {**sweep.grid.values(trial.setting), "layer": trial.layer or ""}) for trial in sweep.trials]
    axes = sorted((*sweep.grid.axes, "layer"), key=lambda axis: -len({str(own[axis]) for _, own in values}))
    across, down = axes[0], axes[1] if len(axes) > 1 else "layer"
    columns, rows = (_ordered([own[axis] for _, own in values]) for axis in (across, down))
    cells: dict[tuple[int, int], list[Trial]] = {}  # in order, the best first
    for trial, own in values:
        cells.setdefault((columns.index(own[across]), rows.index(own[down])), []).append(trial)
    scores = [trials[0].score for trials in cells.values() if not math.isnan(trials[0].score)] or [0.0]
    lines, texts = list[Line](), list[Text]()
    for place, trials in cells.items():
        share = (trials[0].score - min(scores)) / ((max(scores) - min(scores)) or 1)
        lines.append(_ground(place, 0.0 if math.isnan(share) else share))
        texts += _words(place, [_per_cent(trials[0].score), *_difference(trials[0])])
    for place, trials in cells.items():  # above all grounds
        lines += [_frame(place, _DEFAULT, 3)] * any(trial.is_default for trial in trials)
        lines += [_frame(place, _BEST, 0)] * any(trial.is_best for trial in trials)
    height, width = _TOP + _ROW * len(rows) + _BELOW, max(_LEFT + _CELL * len(columns) + 12, 330)
    named = f"{across} (columns)" + (f", {down} (rows)" if len(rows) > 1 else "")
    texts += [Text(x=_LEFT, y=14, text=named), *_headings(columns, rows), *_legend(sweep, height)]
    return Drawing(width=width, height=height, lines=tuple(lines), texts=tuple(texts))


def _ground(place: tuple[int, int], share: float) -> Line:
    """A cell's colour, as a line as broad as the cell is high."""
    left, middle = _LEFT + _CELL * place[0], _TOP + _ROW * (place[1] + 0.5)
    return Line(points=((left, middle), (left + _CELL - 2, middle)), colour=_shade(share), width=_ROW - 2)


def _words(place: tuple[int, int], said: Sequence[str]) -> list[Text]:
    """Lines of text in a cell."""
    x, y = _LEFT + _CELL * (place[0] + 0.5) - 1, _TOP + _ROW * (place[1] + 0.5) - 3
    return [
        Text(x=x, y=y + 16 * number, text=text, anchor="middle", colour="#000000") for number, text in enumerate(said)
    ]


def _headings(columns: Sequence[object], rows: Sequence[object]) -> list[Text]:
    above = [
        Text(x=_LEFT + _CELL * (number + 0.5) - 1, y=_TOP - 6, text=str(value), anchor="middle")
        for number, value in enumerate(columns)
    ]
    beside = [
        Text(x=_LEFT - 8, y=_TOP + _ROW * (number + 0.5) + 4, text=str(value), anchor="end")
        for number, value in enumerate(rows)
    ]
    return [*above, *beside]


def _legend(sweep: Sweep, height: int) -> list[Text]:
    metric = task_facts(sweep.trials[0].setting.task).leading.name
    tuned = f" ({_tuned(sweep)})" if _tuned(sweep) else ""
    said = [f"{metric} on {sweep.splits.selected.dataset.split}; red: best{tuned}", "black: default"]
    return [Text(x=8, y=height - 22 + 16 * number, text=text) for number, text in enumerate(said)]


def _tuned(sweep: Sweep) -> str:
    split = sweep.best.result.summary.get("tuned_on", "")
    return f"tuned-on-{split}" if split else ""


def _ordered(values: list[object]) -> list[object]:
    """Distinct values, numbers by size, words after them."""

    def order(value: object) -> tuple[int, float, str]:
        try:
            return 0, float(str(value).partition("x")[0]), str(value)
        except ValueError:
            return 1, 0.0, str(value)

    return sorted(dict.fromkeys(values), key=order)


def _shade(share: float) -> str:
    return "#" + "".join(f"{round(low + share * (high - low)):02x}" for low, high in zip(_LOW, _HIGH, strict=True))


def _per_cent(score: float) -> str:
    return "–" if math.isnan(score) else f"{100 * score:.1f}"


def _difference(trial: Trial) -> list[str]:
    return [difference_text(trial.found.difference, trial.found.interval)] if trial.found else []


def _frame(place: tuple[int, int], colour: str, inset: int) -> Line:
    left, top = _LEFT + _CELL * place[0] + inset, _TOP + _ROW * place[1] + 1 + inset
    right, bottom = left + _CELL - 2 - 2 * inset, top + _ROW - 2 - 2 * inset
    corners = (left, top), (right, top), (right, bottom), (left, bottom), (left, top)
    return Line(points=tuple((float(x), float(y)) for x, y in corners), colour=colour, width=2.0)
