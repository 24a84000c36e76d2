"""A comparison for readers: the settings that differ, a sentence of verdict, and what moved; as tables and as JSON."""

import math
import string
import sys
from collections.abc import Sequence
from dataclasses import replace

from corrkit.metrics.intervals import LEVEL
from corrkit.runs.comparison import Comparison, Paired, moved_most
from corrkit.runs.fitting import Cell
from corrkit.runs.layout import Format, Table, render
from corrkit.runs.tables import benchmark_title, marks, per_cent

SIGNIFICANT = 1 - LEVEL
_LONGEST_NAME = 36
_SHOWN = 5
"""Rows of a table of what moved; the JSON has all."""


def comparison_text(comparison: Comparison, form: Format = "text", width: int = 80) -> str:
    """Settings that differ, the verdict over the metrics, then the parts, objects and clips that moved most.

    Args:
        comparison: as `corrkit.runs.comparison` makes it.
        form: "text", "markdown" or "latex".
        width: columns of the terminal, for "text".
    """
    facts = comparison.facts
    tables = [_settings(comparison, width if form == "text" else None), _metrics(comparison)]
    for metric, scores, kind, kinds in (
        (comparison.part_metric, comparison.parts, facts.part, facts.parts),
        (comparison.leading.name, comparison.clips, "clip", "clips"),
    ):
        moved = moved_most(scores, _SHOWN)
        if moved:
            title = f"{metric} per {kind}: the {len(moved)} of {len(scores)} {kinds} that moved most"
            table = _scores(title, kind, moved, _letters(comparison))
            note = f"p corrected for {len(scores)} {kinds} (Holm)."
            tables.append(replace(table, notes=(("", note),)) if moved[0].found else table)
    return "\n".join(render(table, form, width) for table in tables)


def verdict(comparison: Comparison) -> str:
    """One sentence on the leading metric: "J&F +0.4 [-0.3, +1.1], p 0.27: not significant; 30 clips show 1.1 or more".

    Differences are points of per cent. p is corrected where several runs are compared with the reference.
    """
    leading, metric = comparison.leading, comparison.facts.leading.short or comparison.leading.name
    counted = f"{len(comparison.units)} {comparison.unit}"
    if comparison.is_equal:
        return f"{metric} is the same in each of {counted}"
    found, p = leading.found, leading.p_holm
    if found is None or p is None:
        return f"{metric} can't be compared: it is no number in one of the runs"
    holm = f" (Holm, {comparison.num_runs} runs)" if comparison.num_runs > 1 else ""
    said = f"{metric} {_difference(leading)}, {_p(p)}{holm}: {'' if p <= SIGNIFICANT else 'not '}significant"
    smallest = 2.0 ** (1 - len(comparison.units))
    if smallest > SIGNIFICANT:
        return f"{said}, as nothing can be with {counted} (p is {smallest:.2g} or more)"
    return said if not found.detectable else f"{said}; {counted} show {_points(found.detectable)} or more"


def comparison_plain(comparison: Comparison) -> dict[str, object]:
    """For JSON: all there is of a comparison; scores and differences are fractions, NaN is null."""
    run, reference = comparison.run, comparison.reference
    leading = comparison.leading
    return {
        "task": run.task,
        "protocol": run.summary["protocol"],
        "data": run.summary["data"],
        "reference": {"folder": str(reference.folder), "name": reference.name},
        "run": {"folder": str(run.folder), "name": run.name},
        "settings": {name: {"reference": a, "run": b} for name, (a, b) in comparison.settings.items()},
        "verdict": verdict(comparison),
        "significant": leading.p_holm is not None and leading.p_holm <= SIGNIFICANT,
        "metric": leading.name,
        "resampled": {"kind": comparison.unit, "number": len(comparison.units)},
        "metrics": {score.name: score.plain() for score in comparison.metrics},
        "part_metric": comparison.part_metric,
        f"per_{comparison.facts.part}": {score.name: score.plain() for score in comparison.parts},
        "per_clip": {score.name: score.plain() for score in comparison.clips},
    }


def _letters(comparison: Comparison) -> tuple[str, str]:
    """Of the reference and of the run, in the order in which they were given: A and B, A and C, ..."""
    return "A", string.ascii_uppercase[min(comparison.position, 25)]


def _settings(comparison: Comparison, width: int | None) -> Table:
    """Long values are shortened to fit a terminal's width."""
    reference, run, letters = comparison.reference, comparison.run, _letters(comparison)
    rows = {"run": (str(reference.folder), str(run.folder)), **comparison.settings}
    room = sys.maxsize if width is None else max((width - max(map(len, rows)) - 4) // 2, 12)
    names = [
        f"{letter} ({_shortened(one.name, _LONGEST_NAME)})"
        for letter, one in zip(letters, (reference, run), strict=True)
    ]
    return Table(
        title=f"{names[1]} against {names[0]}: settings that differ · {benchmark_title(run.summary)}",
        head=("", *letters),
        rows=tuple(
            (Cell(text=name), *(Cell(text=_shortened(_shown(value), room)) for value in values))
            for name, values in rows.items()
        ),
    )


def _metrics(comparison: Comparison) -> Table:
    holm = f", corrected for {comparison.num_runs} runs (Holm)" if comparison.num_runs > 1 else ""
    notes = [
        f"Per cent; differences in points, with 95 % bootstrap intervals over {len(comparison.units)} "
        f"{comparison.unit}; p of the sign-flip permutation test{holm}; detects: the smallest difference that would be "
        "found four times in five."
    ]
    for letter, run in zip(_letters(comparison), (comparison.reference, comparison.run), strict=True):
        notes += [f"{letter}: {sentence}" for sentence in marks(run.summary).values()]
    table = _scores(f"{verdict(comparison)}.", "", comparison.metrics, _letters(comparison))
    return replace(table, notes=tuple(("", note) for note in notes))


def _scores(title: str, kind: str, scores: Sequence[Paired], letters: tuple[str, str]) -> Table:
    """A row for each score: both runs, the difference, and what is known of it where it is more than one clip's."""
    has_found = any(score.found for score in scores)
    return Table(
        title=title,
        head=(kind, *letters, " - ".join(reversed(letters)), *(("p", "detects") if has_found else ())),
        rows=tuple(
            (
                Cell(text=_shortened(score.name, _LONGEST_NAME)),
                Cell(text=per_cent(score.reference)),
                Cell(text=per_cent(score.run)),
                Cell(text=_difference(score, width=5)),
                *((Cell(text=p_text(score.p_holm)), Cell(text=_detectable(score))) if has_found else ()),
            )
            for score in scores
        ),
    )


def difference_text(difference: float, interval: tuple[float, float] | None, width: int = 0) -> str:
    """In points, with the interval where there is one: "+0.4 [-0.3, +1.1]"; padded to a width, to stand in columns."""
    if math.isnan(difference):
        return "–".rjust(width)
    text = _points(difference, "+").rjust(width)
    return f"{text} [{_points(interval[0], '+')}, {_points(interval[1], '+')}]" if interval else text


def p_text(p: float | None) -> str:
    """For a column of p values: "0.27", "0.012", "< 0.001"; "–" where there is none."""
    return "–" if p is None else _p(p).removeprefix("p ")


def _difference(score: Paired, width: int = 0) -> str:
    return difference_text(score.difference, score.found.interval if score.found else None, width)


def _points(fraction: float, sign: str = "") -> str:
    """Points of per cent with one decimal; what that would round to nothing keeps one digit: "+0.4", "-0.02"."""
    value = 100 * fraction
    if 0 < abs(value) < 0.05:
        return f"{value:{sign}.1g}"
    return f"{value:{sign}.1f}" if value else "0.0"


def _p(p: float) -> str:
    if p < 0.001:
        return "p < 0.001"
    return f"p {p:.3f}" if p < 0.1 else f"p {p:.2f}"


def _detectable(score: Paired) -> str:
    return "–" if score.found is None or score.found.detectable is None else _points(score.found.detectable)


def _shown(value: object) -> str:
    return "none" if value is None or value == "" else str(value)


def _shortened(text: str, room: int) -> str:
    """Cut in the middle: names differ at either end."""
    half = (room - 3) // 2
    return text if len(text) <= room else f"{text[: room - 3 - half]}...{text[len(text) - half :]}"
