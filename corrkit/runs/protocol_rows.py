"""One checkpoint under several protocols: a row for each, with its paired difference to the first."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from corrkit.metrics.intervals import PairedDifference, holm
from corrkit.protocols import Protocol
from corrkit.runs.comparison_text import difference_text, p_text
from corrkit.runs.fitting import Cell, Room
from corrkit.runs.layout import Format, Table, render
from corrkit.runs.pairing import Statistics, pair_protocols
from corrkit.runs.results import Summary
from corrkit.runs.tables import benchmark_title, general_notes, marks, method_name, score_cell
from corrkit.task_table import TaskFacts, task_facts


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolRow:
    """One result of a pass under several protocols.

    summary, protocol, statistics: of the result. found: the leading metric less that of the first row of the same
    method; None for that row itself. why: half a sentence where the two can't be paired. p_holm: p corrected for the
    number of rows that are compared with the same one.
    """

    summary: Summary
    protocol: Protocol
    statistics: Mapping[str, Statistics]
    found: PairedDifference | None = None
    why: str = ""
    p_holm: float | None = None

    @property
    def method(self) -> str:
        """The checkpoint's short name."""
        return method_name(self.summary["checkpoint"])

    @property
    def facts(self) -> TaskFacts:
        """Of the task."""
        return task_facts(self.summary["task"])

    def plain(self) -> dict[str, object]:
        """For JSON: the difference to the first row of the same method; fractions, null where there is none."""
        found = self.found
        return {
            "protocol": self.summary["protocol"],
            "modified": self.summary["modified"],
            "method": self.method,
            "metric": self.facts.leading.name,
            "difference": None if found is None else found.difference,
            "interval": None if found is None or found.interval is None else list(found.interval),
            "p": None if found is None else found.p,
            "p_holm": self.p_holm,
            "why": self.why,
        }


def compared_with_first(rows: Sequence[ProtocolRow]) -> list[ProtocolRow]:
    """The same rows, each with its difference to the first one of its method."""
    firsts: dict[str, ProtocolRow] = {}
    compared = []
    for row in rows:
        first = firsts.setdefault(row.method, row)
        found = (
            None if row is first else pair_protocols((row.protocol, row.statistics), (first.protocol, first.statistics))
        )
        compared.append(replace(row, why=found) if isinstance(found, str) else replace(row, found=found))
    return [replace(row, p_holm=p) for row, p in zip(compared, _corrected(compared), strict=True)]


def protocols_table(rows: Sequence[ProtocolRow], form: Format = "text", width: int = 80) -> str:
    """A table with a row for each protocol (and method, where there are several), in the order of the rows.

    Args:
        rows: of one task and data, as `compared_with_first` gives them.
        form: "text", "markdown" or "latex".
        width: columns of the terminal, for "text".
    """
    first, summaries = rows[0], [row.summary for row in rows]
    shown = [metric.name for metric in first.facts.shown]
    leading = first.facts.leading
    has_methods = len({row.method for row in rows}) > 1
    head = ("", *(("method",) if has_methods else ()), *shown, f"Δ {leading.short or leading.name}", "p")
    cells = tuple(
        (
            Cell(text=label, marks="".join(marks(row.summary))),
            *((Cell(text=row.method),) if has_methods else ()),
            *(
                score_cell(row.summary["metrics"].get(name, math.nan), row.summary["intervals"].get(name))
                for name in shown
            ),
            Cell(text="" if row.found is None else difference_text(row.found.difference, row.found.interval)),
            Cell(text=p_text(row.p_holm) if row.found else ""),
        )
        for label, row in zip(_labels(rows), rows, strict=True)
    )
    title = benchmark_title(first.summary).partition(" · ")[2]
    return render(
        Table(
            title=title if has_methods else f"{first.method} · {title}",
            head=head,
            rows=cells,
            notes=(*general_notes(summaries), *_notes(rows)),
            room=_room(shown),
        ),
        form,
        width,
    )


def _room(metrics: Sequence[str]) -> Room:
    """First go intervals of metrics that don't lead, then those metrics; the differences stay."""
    further = list(reversed(metrics[1:]))
    order = [*((name, True) for name in further), *((name, False) for name in further), (metrics[0], True)]
    return Room(columns=tuple(order), hint="; a wider terminal shows them")


def _labels(rows: Sequence[ProtocolRow]) -> list[str]:
    """Protocol of each row, with the overrides in which rows differ."""
    modified = [row.summary["modified"] for row in rows]
    differing = [
        name for name in dict.fromkeys(n for m in modified for n in m) if len({str(m.get(name)) for m in modified}) > 1
    ]
    return [
        " ".join(
            [
                row.summary["protocol"],
                *(f"{name.rpartition('.')[2]}={own[name]}" for name in differing if name in own),
            ]
        )
        for row, own in zip(rows, modified, strict=True)
    ]


def _notes(rows: Sequence[ProtocolRow]) -> list[tuple[str, str]]:
    first = rows[0].summary["protocol"]
    notes = [
        (
            "",
            f"Δ: difference to the first row ({first}) of the same method, in points, with its 95 % interval over the "
            "same clips; p of the sign-flip permutation test, corrected for the number of rows (Holm); none where the "
            "two are scored by other rules.",
        )
    ]
    marked: dict[tuple[str, str], list[str]] = {}
    for label, row in zip(_labels(rows), rows, strict=True):
        for sentence in (*marks(row.summary).items(), *([("", f"no difference, {row.why}")] if row.why else [])):
            marked.setdefault(sentence, []).append(f"{label}, {row.method}")
    for (mark, text), names in marked.items():
        notes.append((mark, text if len(names) == len(rows) else f"{'; '.join(names)}: {text}"))
    return notes


def _corrected(rows: Sequence[ProtocolRow]) -> list[float | None]:
    """P of each row, corrected among the rows of its method."""
    corrected: list[float | None] = [None] * len(rows)
    for method in dict.fromkeys(row.method for row in rows):
        places = [place for place, row in enumerate(rows) if row.method == method]
        found = [rows[place].found for place in places]
        for place, p in zip(places, holm([one.p if one else None for one in found]), strict=True):
            corrected[place] = p
    return corrected
