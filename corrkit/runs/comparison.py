"""Runs against a reference: settings that differ, paired differences of metrics, parts, clips and objects."""

import math
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from corrkit.errors import RunError, UsageError
from corrkit.files.jsontext import from_json, table_of, to_json
from corrkit.metrics.intervals import PairedDifference, holm
from corrkit.protocols import Protocol
from corrkit.protocols.reader import constants
from corrkit.runs.comparable import StoredRun, read_runs
from corrkit.runs.folder import differences
from corrkit.runs.pairing import pair_runs, unlike_fields
from corrkit.task_table import TaskFacts, task_facts
from corrkit.tasks import load_task
from corrkit.tasks.contract import Evidence

_SETTINGS = ("checkpoint", "layer", "stride", "parameters", "precision", "device", "versions")
_ALIKE = "Only runs by one protocol and one way of scoring, on the same data and clips, can be compared."
_ROUNDING = 1e-12
"""Of differences held against a limit: two equal numbers that were summed in another order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """A score of both runs, fractions: of a metric, of one part of the data (METRIC/PART), of a clip, of an object.

    found: interval and p, None for a single clip or object, which is no sample. p_holm: p corrected for the number of
    runs (metrics) or of parts; None where there is no p.
    """

    name: str
    reference: float
    run: float
    found: PairedDifference | None = None
    p_holm: float | None = None

    @property
    def difference(self) -> float:
        """Run less reference; NaN where either is."""
        return self.run - self.reference

    def plain(self) -> dict[str, object]:
        """For JSON."""
        found = self.found
        scores: dict[str, object] = {"reference": self.reference, "run": self.run, "difference": self.difference}
        if found is None:
            return scores
        interval = None if found.interval is None else list(found.interval)
        return {**scores, "interval": interval, "p": found.p, "p_holm": self.p_holm, "detectable": found.detectable}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One run against the reference.

    settings: dotted name to its values (reference, run), for all that differ. metrics: of the table, the leading one
    first. part_metric: what parts are scored by. parts: classes, joints, ...; or objects, each of one clip. clips: in
    order, by the leading metric. units: what was resampled; unit: "clips", or "source videos" that they were cut from.
    position: among the runs that are compared with this reference, from 1; num_runs: how many these are.
    is_equal: whether the statistics of all clips are the same.
    """

    run: StoredRun
    reference: StoredRun
    settings: Mapping[str, tuple[object, object]]
    metrics: tuple[Paired, ...]
    part_metric: str
    parts: tuple[Paired, ...]
    clips: tuple[Paired, ...]
    units: tuple[str, ...]
    unit: str
    position: int
    num_runs: int
    is_equal: bool

    @property
    def leading(self) -> Paired:
        """The metric that decides."""
        return self.metrics[0]

    @property
    def facts(self) -> TaskFacts:
        """Of the task."""
        return task_facts(self.run.task)

    def is_below(self, limit: float) -> bool:
        """Whether the leading metric's difference is below a limit (fraction). NaN is below any."""
        return not self.leading.difference >= limit - _ROUNDING


def compare_folders(reference: Path, folders: Sequence[Path]) -> list[Comparison]:
    """The runs in each folder against those of the reference, task by task; each folder holds one run of each task.

    Raises:
        RunError: a folder holds no finished run, a damaged one, or runs of other tasks; or runs can't be compared.
        UsageError: a folder holds two runs of one task.
    """
    references = runs_by_task(reference)
    found = {folder: runs_by_task(folder) for folder in folders}
    for folder, runs in found.items():
        if runs.keys() != references.keys():
            raise RunError(
                f"{folder} holds runs of {', '.join(runs)}, and {reference} of {', '.join(references)}.",
                "Compare runs of the same tasks.",
            )
    return [
        comparison
        for task, one in references.items()
        for comparison in compare_with(one, [runs[task] for runs in found.values()])
    ]


def runs_by_task(folder: Path) -> dict[str, StoredRun]:
    """The finished runs in or below a folder, at most one of each task.

    Raises:
        RunError: there is none, or one that is damaged or unfinished.
        UsageError: there are two of one task.
    """
    runs, notes = read_runs([folder])
    if notes:
        raise RunError(f"{folder} holds a run that can't be compared; {notes[0]}", "Give folders of finished runs.")
    found: dict[str, StoredRun] = {}
    for run in runs:
        if found.setdefault(run.task, run) is not run:
            raise UsageError(
                f"{folder} holds several runs of {run.task}: {found[run.task].folder} and {run.folder}.",
                "Name one of them.",
            )
    return found


def compare_with(reference: StoredRun, runs: Sequence[StoredRun]) -> list[Comparison]:
    """Runs of one task, each against the reference; p values are corrected for their number.

    Raises:
        RunError: one can't be compared with the reference; says in what they differ.
    """
    comparisons = [_compare(run, reference, number, len(runs)) for number, run in enumerate(runs, start=1)]
    by_metric = [_corrected(paired) for paired in zip(*(one.metrics for one in comparisons), strict=True)]
    return [
        replace(one, metrics=metrics) for one, metrics in zip(comparisons, zip(*by_metric, strict=True), strict=True)
    ]


def require_alike(what: str, column: tuple[str, str, str], clips: Sequence[str] | None, reference: StoredRun) -> None:
    """Refuses what can't be compared with the reference, before or after it was evaluated.

    Args:
        what: how the message names it.
        column: protocol, split and data, as `StoredRun.column`.
        clips: names, sorted; None before they are evaluated.
        reference: what it is to be compared with.

    Raises:
        RunError: names what differs, with both values.
    """
    unlike = unlike_fields(column, clips, reference)
    if unlike:
        apart = "; ".join(f"{name} is {there} there and {here} here" for name, (here, there) in unlike.items())
        raise RunError(f"{what} can't be compared with {reference.folder}: {apart}.", _ALIKE)


def _compare(run: StoredRun, reference: StoredRun, position: int, num_runs: int) -> Comparison:
    require_alike(str(run.folder), run.column, list(run.records), reference)
    pair = pair_runs(run, reference)
    if isinstance(pair, str):
        raise RunError(f"{run.folder} can't be compared with {reference.folder}: {pair}.", _ALIKE)
    totals = [evidence.estimate(evidence.statistics.sum(axis=0)) for evidence in (pair.reference, pair.run)]
    scores = {
        name: Paired(name=name, reference=float(old), run=float(new), found=found)
        for (name, found), old, new in zip(pair.differences().items(), *totals, strict=True)
    }
    metrics = [one for name, one in scores.items() if "/" not in name]
    # As in the results table: of the first metric that has parts.
    part_metric = next((name.partition("/")[0] for name in scores if "/" in name), metrics[0].name)
    prefix = f"{part_metric}/"
    parts = [replace(one, name=name.removeprefix(prefix)) for name, one in scores.items() if name.startswith(prefix)]
    protocols = pair.reference_protocol, pair.run_protocol
    there, here = (_per_clip(one, protocol) for one, protocol in zip((reference, run), protocols, strict=True))
    return Comparison(
        run=run,
        reference=reference,
        settings=_settings(reference, run, protocols),
        metrics=tuple(metrics),
        part_metric=part_metric,
        parts=(*_corrected(parts), *_objects(reference, run, protocols)),
        clips=tuple(
            Paired(name=clip, reference=_leading_score(there[clip]), run=_leading_score(here[clip])) for clip in there
        ),
        units=pair.run.units,
        unit="clips" if sum(len(one.units) for one in here.values()) == len(pair.run.units) else "source videos",
        position=position,
        num_runs=num_runs,
        is_equal=np.array_equal(pair.run.statistics, pair.reference.statistics, equal_nan=True),
    )


def _corrected(scores: Sequence[Paired]) -> tuple[Paired, ...]:
    """With p values corrected for their number by Holm's rule."""
    adjusted = holm([one.found.p if one.found else None for one in scores])
    return tuple(replace(one, p_holm=p) for one, p in zip(scores, adjusted, strict=True))


def _settings(
    reference: StoredRun, run: StoredRun, protocols: tuple[Protocol, Protocol]
) -> dict[str, tuple[object, object]]:
    """Dotted name to (reference, run), for what the summaries say of how the numbers came about, overrides by value."""
    versions = dict.fromkeys([*reference.summary["versions"], *run.summary["versions"]])
    there, here = (
        {
            **{name: one.summary[name] for name in _SETTINGS},  # type: ignore[literal-required]  # names of Summary
            "versions": {**versions, **one.summary["versions"]},
            "data": {"name": one.summary["data"]["name"], "origin": one.origin},
            **constants(protocol),
        }
        for one, protocol in zip((reference, run), protocols, strict=True)
    )
    return differences(table_of(from_json(to_json(there))), here)


def _per_clip(run: StoredRun, protocol: Protocol) -> dict[str, Evidence]:
    """Each clip by itself; without units where it has no scored frame."""
    task = load_task(run.task)
    return {clip: task.evidence({clip: record.statistics}, protocol) for clip, record in run.records.items()}


def _leading_score(evidence: Evidence) -> float:
    return float(evidence.estimate(evidence.statistics.sum(axis=0))[0])


def _objects(reference: StoredRun, run: StoredRun, protocols: tuple[Protocol, Protocol]) -> Iterable[Paired]:
    """Each object, named CLIP_ID as in the official files; none for tasks whose parts belong to no clip."""
    place = task_facts(run.task).objects
    if place is None:
        return
    scores = pkgutil.resolve_name(place)
    for clip in reference.records:
        there = scores(reference.records[clip].statistics, protocols[0])
        here = scores(run.records[clip].statistics, protocols[1])
        for name in there:
            yield Paired(name=f"{clip}_{name}", reference=there[name], run=here.get(name, math.nan))


def moved_most(scores: Sequence[Paired], number: int) -> list[Paired]:
    """Those with the largest differences, either way, the largest first; none that is 0 or NaN."""
    moved = [one for one in scores if abs(one.difference) > 0]
    return sorted(moved, key=lambda one: -abs(one.difference))[:number]
