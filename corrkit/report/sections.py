"""The sections of a report, one for each benchmark that the runs are of: tables, courses, clips, origins."""

import math
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from corrkit.errors import CorrkitError, UsageError
from corrkit.evaluation import evaluate_together
from corrkit.files.jsontext import Json
from corrkit.predictors.references import GRID_STRIDE, Identity, Oracle
from corrkit.report.charts import COLOURS, Curve, curves
from corrkit.report.clip_parts import ClipPart, clip_part, feature_figures, mean_over_parts
from corrkit.report.failures import Failure
from corrkit.report.figures import Figure
from corrkit.report.opening import OpenedRun
from corrkit.report.stories import Story
from corrkit.runs.comparable import REFERENCE_PREDICTORS
from corrkit.runs.results import Summary
from corrkit.runs.tables import benchmark_title, marks, table_notes
from corrkit.task_table import task_facts

_BINS = 20
Said = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A method of the table: (value, interval) of each metric, fractions, None for none."""

    method: str
    marks: str
    is_reference: bool
    scores: Sequence[tuple[float | None, Sequence[float] | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipRow:
    """A clip, or an object: one score for each method, and (method, failures)."""

    name: str
    scores: Sequence[float | None]
    failures: Sequence[tuple[str, Sequence[Failure]]]


@dataclass(frozen=True, kw_only=True)
class Section:
    """One benchmark.

    methods: names of the runs, as columns of the tables of clips and parts. parts_title: of the table of objects,
    classes or joints. origins: method, command, and the facts that decide its numbers.
    """

    title: str
    metrics: Sequence[str]
    leading: str
    rows: Sequence[Row]
    notes: Sequence[str]
    methods: Sequence[str]
    course: Figure | None
    clips: Sequence[ClipRow]
    parts_title: str
    parts: Sequence[ClipRow]
    shown: Sequence[ClipPart]
    features: Sequence[Figure]
    origins: Sequence[tuple[str, str, Mapping[str, str]]]

    @property
    def figures(self) -> list[Figure]:
        """All of them."""
        course = [self.course] if self.course else []
        return [*course, *(figure for part in self.shown for figure in part.figures), *self.features]


def sections(runs: Sequence[OpenedRun], *, with_features: bool, say: Said) -> list[Section]:
    """A section for each benchmark, protocol and data, in the order of the runs."""
    groups: dict[tuple[str, ...], list[OpenedRun]] = {}
    for opened in runs:
        groups.setdefault((opened.run.task, *opened.run.column, opened.run.origin), []).append(opened)
    found = []
    for number, group in enumerate(groups.values(), start=1):
        if len(group) > len(COLOURS):
            raise UsageError(
                f"{len(group)} runs of {group[0].run.summary['protocol']} are more than one picture can show.",
                f"Report on at most {len(COLOURS)} at a time; corrkit leaderboard takes any number.",
            )
        found.append(_section(group, f"{number}-{group[0].run.task}", with_features, say))
    return found


def _section(runs: Sequence[OpenedRun], stem: str, with_features: bool, say: Said) -> Section:
    first = runs[0].run.summary
    facts = task_facts(runs[0].run.task)
    leading = facts.leading
    methods = _names([opened.run.name for opened in runs])
    stories: list[dict[str, Story]] = []
    for method, opened in zip(methods, runs, strict=True):
        say(f"{method}: reading {len(opened.run.records)} clips of {first['protocol']}")
        stories.append({clip: opened.reader.story(clip) for clip in opened.run.records})
    references, lacking = _references(runs, say)
    metrics = [name for name in first["metrics"] if "/" not in name]
    rows = [_row(opened.run.summary, method, metrics) for method, opened in zip(methods, runs, strict=True)]
    rows += [_row(summary, str(summary["checkpoint"]["spec"]), metrics) for summary in references]
    summaries = [*(opened.run.summary for opened in runs), *references]
    notes = [f"{mark} {text}".strip() for mark, text in table_notes(summaries)[1:]]  # the units are said above
    notes += [f"{m}: no pictures. {o.lacking}" for m, o in zip(methods, runs, strict=True) if o.lacking]
    notes += lacking
    shown, features = [], []
    for label, clip in _chosen(first, leading.name):
        of_clip = [(m, o, s[clip]) for m, o, s in zip(methods, runs, stories, strict=True) if clip in s]
        value = first["per_clip"][clip][leading.name]
        heading = f"{label}: {clip} ({leading.short or leading.name} {100 * value:.1f})"
        say(f"drawing {clip}")
        shown.append(clip_part(heading, clip, of_clip, f"{stem}-{label.lower()}"))
        for method, opened, story in of_clip if with_features and label == "Worst" else ():
            if story.has_predictions and opened.run.summary["checkpoint"]["system"] not in REFERENCE_PREDICTORS:
                say(f"running {method} on {clip}")
                figures, why = feature_figures(method, opened, clip, story, f"{stem}-worst")
                features += figures
                notes += [why] if why else []
    return Section(
        title=benchmark_title(first),
        metrics=metrics,
        leading=leading.short or leading.name,
        rows=rows,
        notes=notes,
        methods=methods,
        course=_course(methods, stories, stem),
        clips=_clip_rows(runs, methods, stories, leading.name),
        parts_title=_parts_title(runs[0], leading.name),
        parts=_part_rows(runs, methods, stories),
        shown=shown,
        features=features,
        origins=[
            (method, str(opened.recorded.get("command") or "not recorded"), _facts(opened))
            for method, opened in zip(methods, runs, strict=True)
        ],
    )


def clip_figures(opened: OpenedRun) -> list[Figure]:
    """Strip, animation and curves of one run's best, median and worst clip."""
    leading = task_facts(opened.run.task).leading
    found: list[Figure] = []
    for label, clip in _chosen(opened.run.summary, leading.name):
        told = [(opened.run.name, opened, opened.reader.story(clip))]
        found += clip_part(f"{label}: {clip}", clip, told, label.lower()).figures
    return found


def _names(names: Sequence[str]) -> list[str]:
    """Each once: the second of a name gets a number."""
    return [
        name if names.count(name) == 1 else f"{name} ({names[: number + 1].count(name)})"
        for number, name in enumerate(names)
    ]


def _references(runs: Sequence[OpenedRun], say: Said) -> tuple[list[Summary], list[str]]:
    """Floor and ceiling that are not among the runs; or why there are none."""
    there = {opened.run.summary["checkpoint"]["system"] for opened in runs}
    opened = next((one for one in runs if one.subject is not None), None)
    wanted = [name for name in ("identity", "oracle") if name not in there]
    if not wanted or opened is None or opened.subject is None:
        return [], []
    stride = next((o.run.summary["stride"] for o in runs if o.run.summary["stride"]), GRID_STRIDE)
    predictors = [Identity() if name == "identity" else Oracle(stride) for name in wanted]
    say(f"computing {' and '.join(wanted)} (give their runs to spare this)")
    try:
        found = evaluate_together(
            opened.subject, [(one, opened.protocol) for one in predictors], outs=[None] * len(predictors)
        )
    except CorrkitError as error:
        return [], [f"No floor and ceiling. {error.problem}"]
    return [result.summary for result in found], []


def _row(summary: Summary, method: str, metrics: Sequence[str]) -> Row:
    return Row(
        method=method,
        marks="".join(marks(summary)),
        is_reference=summary["checkpoint"]["system"] in REFERENCE_PREDICTORS,
        scores=[(_number(summary["metrics"].get(name)), summary["intervals"].get(name)) for name in metrics],
    )


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


def _chosen(summary: Summary, metric: str) -> list[tuple[str, str]]:
    """("Worst", clip) and so on, by the first run's score; fewer where there are fewer clips."""
    scores = {clip: one.get(metric, math.nan) for clip, one in summary["per_clip"].items()}
    ordered = sorted((clip for clip, value in scores.items() if not math.isnan(value)), key=lambda clip: scores[clip])
    if not ordered:
        return []
    wanted = {"Best": ordered[-1], "Median": ordered[len(ordered) // 2], "Worst": ordered[0]}
    chosen = {clip: label for label, clip in wanted.items()}  # of one clip the last label stays
    return [(label, clip) for clip, label in sorted(chosen.items(), key=lambda pair: list(wanted).index(pair[1]))]


def _course(methods: Sequence[str], stories: Sequence[Mapping[str, Story]], stem: str) -> Figure | None:
    """The mean over parts and clips by the share of the clip that has passed, a curve for each run and score."""
    lengths = [values.shape[1] for of_run in stories for story in of_run.values() for values in story.scores.values()]
    bins = min([_BINS, *filter(None, lengths)])
    shown = []
    for method, of_run, colour in zip(methods, stories, COLOURS, strict=False):
        names = list(dict.fromkeys(name for story in of_run.values() for name in story.scores))
        for score in names:
            sums, counts = np.zeros(bins), np.zeros(bins)
            for story in of_run.values():
                values = story.scores.get(score)
                if values is None or not values.size:
                    continue
                place = np.arange(values.shape[1]) * bins // values.shape[1]
                mean = mean_over_parts(values)
                known = ~np.isnan(mean)
                np.add.at(sums, place[known], mean[known])
                np.add.at(counts, place[known], 1)
            with np.errstate(invalid="ignore"):
                y = (sums / counts).tolist()
            x = [100 * (number + 0.5) / bins for number in range(bins)]
            shown.append(Curve(name=f"{method} {score}", x=x, y=y, colour=colour, is_dashed=score != names[0]))
    if not shown:
        return None
    return Figure(
        name=f"{stem}-course",
        caption="Scores over the course of the clips: mean over clips and parts.",
        alt="Scores over the course of the clips",
        drawing=curves(shown, "per cent of the clip", span=(0, 100)),
    )


def _clip_rows(
    runs: Sequence[OpenedRun], methods: Sequence[str], stories: Sequence[Mapping[str, Story]], metric: str
) -> list[ClipRow]:
    clips = dict.fromkeys(clip for opened in runs for clip in opened.run.records)
    return [
        ClipRow(
            name=clip,
            scores=[_number(opened.run.summary["per_clip"].get(clip, {}).get(metric)) for opened in runs],
            failures=[(m, s[clip].failures) for m, s in zip(methods, stories, strict=True) if clip in s],
        )
        for clip in clips
    ]


def _parts_title(opened: OpenedRun, leading: str) -> str:
    """What the table of parts shows."""
    facts = task_facts(opened.run.task)
    metric = next((name.split("/", 1)[0] for name in opened.run.summary["metrics"] if "/" in name), leading)
    return f"{metric} per {facts.part}"


def _part_rows(
    runs: Sequence[OpenedRun], methods: Sequence[str], stories: Sequence[Mapping[str, Story]]
) -> list[ClipRow]:
    """Objects of each clip with their failures; or the classes or joints of all clips together."""
    place = task_facts(runs[0].run.task).objects
    if place is None:
        metric = next((name.split("/", 1)[0] for name in runs[0].run.summary["metrics"] if "/" in name), None)
        names = [name for name in runs[0].run.summary["metrics"] if metric and name.startswith(f"{metric}/")]
        return [
            ClipRow(
                name=name.split("/", 1)[1],
                scores=[_number(opened.run.summary["metrics"].get(name)) for opened in runs],
                failures=[],
            )
            for name in names
        ]
    scores = pkgutil.resolve_name(place)
    rows = []
    for clip in dict.fromkeys(clip for opened in runs for clip in opened.run.records):
        found = [scores(o.run.records[clip].statistics, o.protocol) if clip in o.run.records else {} for o in runs]
        for name in dict.fromkeys(name for one in found for name in one):
            failures = [
                (m, [f for f in s[clip].failures if f.part == name])
                for m, s in zip(methods, stories, strict=True)
                if clip in s
            ]
            values = [_number(one.get(name)) for one in found]
            rows.append(ClipRow(name=f"{clip}_{name}", scores=values, failures=failures))
    return rows


def _facts(opened: OpenedRun) -> dict[str, str]:
    """Dotted name to value of the fingerprint, and where the run lies."""
    found = {"run": str(opened.run.folder)}

    def add(name: str, value: Json) -> None:
        if isinstance(value, dict):
            for key, below in value.items():
                add(f"{name}.{key}" if name else str(key), below)
        else:
            found[name] = "none" if value is None else str(value)

    add("", dict(opened.fingerprint))
    return found
