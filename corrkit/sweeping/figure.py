"""A sweep as a heat map: two axes, in each cell the best of all settings that are there."""

import math

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
    cells: dict[tuple[int, int], list[Trial]] = {}
    for trial, own in values:
        cells.setdefault((columns.index(own[across]), rows.index(own[down])), []).append(trial)
    scores = {place: trials[0].score for place, trials in cells.items()}  # trials are in order, the best first
    finite = [score for score in scores.values() if not math.isnan(score)] or [0.0]
    lines, texts = list[Line](), list[Text]()
    for place, score in scores.items():
        share = 0.0 if math.isnan(score) else (score - min(finite)) / ((max(finite) - min(finite)) or 1)
        left, middle = _LEFT + _CELL * place[0], _TOP + _ROW * (place[1] + 0.5)
        lines.append(Line(points=((left, middle), (left + _CELL - 2, middle)), colour=_shade(share), width=_ROW - 2))
        for y, text in ((-3, _per_cent(score)), (13, _difference(cells[place][0]))):
            texts.append(Text(x=left + _CELL / 2 - 1, y=middle + y, text=text, anchor="middle", colour="#000000"))
    for place, trials in cells.items():
        if any(trial.is_default for trial in trials):
            lines.append(_frame(place, _DEFAULT, 3))
        if any(trial.is_best for trial in trials):
            lines.append(_frame(place, _BEST, 0))
    texts += [
        Text(x=_LEFT + _CELL * (number + 0.5) - 1, y=_TOP - 6, text=str(value), anchor="middle")
        for number, value in enumerate(columns)
    ]
    texts += [
        Text(x=_LEFT - 8, y=_TOP + _ROW * (number + 0.5) + 4, text=str(value), anchor="end")
        for number, value in enumerate(rows)
    ]
    texts.append(Text(x=_LEFT, y=14, text=f"{across} (columns)" + (f", {down} (rows)" if len(rows) > 1 else "")))
    metric = task_facts(sweep.trials[0].setting.task).leading.name
    split = sweep.splits.selected.dataset.split
    said = [f"{metric} on {split}; red: best" + (f" ({_tuned(sweep)})" if _tuned(sweep) else ""), "black: default"]
    height = _TOP + _ROW * len(rows) + _BELOW
    texts += [Text(x=8, y=height - 22 + 16 * number, text=text) for number, text in enumerate(said)]
    width = max(_LEFT + _CELL * len(columns) + 12, 330)
    return Drawing(width=width, height=height, lines=tuple(lines), texts=tuple(texts))


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


def _difference(trial: Trial) -> str:
    return difference_text(trial.found.difference, trial.found.interval) if trial.found else ""


def _frame(place: tuple[int, int], colour: str, inset: int) -> Line:
    left, top = _LEFT + _CELL * place[0] + inset, _TOP + _ROW * place[1] + 1 + inset
    right, bottom = left + _CELL - 2 - 2 * inset, top + _ROW - 2 - 2 * inset
    corners = (left, top), (right, top), (right, bottom), (left, bottom), (left, top)
    return Line(points=tuple((float(x), float(y)) for x, y in corners), colour=colour, width=2.0)
