"""A run against a reference on the same clips: difference, interval, permutation p, smallest detectable difference."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corrkit.files.jsontext import Json
from corrkit.metrics.intervals import PairedDifference, compare_paired
from corrkit.protocols import Protocol
from corrkit.protocols.reader import scoring_constants
from corrkit.runs.comparable import StoredRun, protocol_of
from corrkit.tasks import load_task
from corrkit.tasks.contract import Evidence

Statistics = Mapping[str, Json]
"""Of one clip, as `Scorer.result()` gives them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What two runs say of the same units (see `Evidence`), and the protocol of each."""

    run: Evidence
    reference: Evidence
    run_protocol: Protocol
    reference_protocol: Protocol

    def differences(self) -> dict[str, PairedDifference]:
        """Run less reference, for every metric."""
        found = compare_paired(self.run.statistics, self.reference.statistics, self.run.estimate)
        return dict(zip(self.run.names, found, strict=True))

    def leading(self) -> PairedDifference:
        """Run less reference, for the first metric alone."""

        def first(sums: "NDArray[np.float64]") -> "NDArray[np.float64]":  # [..., *S] to [..., 1]
            return self.run.estimate(sums)[..., :1]

        return compare_paired(self.run.statistics, self.reference.statistics, first)[0]


def compare_runs(run: StoredRun, reference: StoredRun) -> PairedDifference | str:
    """The difference of the task's first metric, run less reference; or why there is none, as half a sentence.

    Only runs of one protocol@version, of one standing and on the same data and clips are paired: those of one section.
    """
    unlike = unlike_fields(run.column, list(run.records), reference)
    if unlike:
        return f"other {', '.join(unlike)}"
    if run.standing != reference.standing:
        names = ("origin of the data", "overrides", "completeness", "precision")
        apart = [n for n, a, b in zip(names, run.standing, reference.standing, strict=True) if a != b]
        return f"another section of the table (other {', '.join(apart)})"
    pair = pair_runs(run, reference)
    return pair if isinstance(pair, str) else pair.leading()


def unlike_fields(
    column: tuple[str, str, str], clips: Sequence[str] | None, reference: StoredRun
) -> dict[str, tuple[str, str]]:
    """What keeps a run from being paired: "protocol", "split", "data" or "clips" to its values (run, reference).

    Args:
        column: of the run, as `StoredRun.column`.
        clips: of the run, names in order; None before it is evaluated.
        reference: the other run.
    """
    fields = ("protocol", "split", "data")
    unlike = {n: (a, b) for n, a, b in zip(fields, column, reference.column, strict=True) if a != b}
    if clips is not None and list(clips) != list(reference.records):
        unlike["clips"] = _without(clips, reference.records), _without(reference.records, clips)
    return unlike


def pair_runs(run: StoredRun, reference: StoredRun) -> Pair | str:
    """Two runs without unlike fields, paired; or why they can't be, as half a sentence.

    Overrides may differ, but for those that decide what is scored.
    """
    protocols = protocol_of(run), protocol_of(reference)
    if protocols[0] is None or protocols[1] is None:
        return f"this version of corrkit lacks {run.summary['protocol']}"
    scoring = [scoring_constants(protocol) for protocol in protocols if protocol is not None]
    if scoring[0] != scoring[1]:
        return f"other {', '.join(name for name, value in scoring[0].items() if value != scoring[1][name])}"
    first, second = _evidence(run, protocols[0]), _evidence(reference, protocols[1])
    if first.units != second.units:
        return "other scored clips"
    if not first.units:
        return "no clip has a scored frame"
    return Pair(run=first, reference=second, run_protocol=protocols[0], reference_protocol=protocols[1])


def pair_protocols(
    run: tuple[Protocol, Mapping[str, Statistics]], reference: tuple[Protocol, Mapping[str, Statistics]]
) -> PairedDifference | str:
    """The difference of the task's first metric between two protocols on the same clips; or why there is none.

    Each gives the statistics of its clips (`Scorer.result()`), and is scored by its own rules; where these make other
    numbers of the same statistics, p is None.
    """
    if list(run[1]) != list(reference[1]):
        return f"other clips: {_without(list(run[1]), reference[1])} and {_without(list(reference[1]), run[1])}"
    evidence, other = (
        load_task(protocol.task).evidence(statistics, protocol) for protocol, statistics in (run, reference)
    )
    if evidence.units != other.units:
        return "other scored clips"
    if not evidence.units:
        return "no clip has a scored frame"
    is_one_rule = all(
        np.array_equal(evidence.estimate(sums), other.estimate(sums), equal_nan=True)
        for sums in (evidence.statistics.sum(axis=0), other.statistics.sum(axis=0))
    )
    return compare_paired(
        evidence.statistics,
        other.statistics,
        lambda sums: evidence.estimate(sums)[..., :1],
        second_estimator=None if is_one_rule else lambda sums: other.estimate(sums)[..., :1],
    )[0]


def _without(clips: Collection[str], others: Collection[str]) -> str:
    """How many clips there are, and which of the others are missing: "28 without bike, dog"."""
    lacking = [clip for clip in others if clip not in clips]
    named = f"{', '.join(lacking[:3])}{', ...' if len(lacking) > 3 else ''}"
    return f"{len(clips)} without {named}" if lacking else str(len(clips))


def _evidence(run: StoredRun, protocol: Protocol) -> Evidence:
    statistics = {clip: record.statistics for clip, record in run.records.items()}
    return load_task(run.task).evidence(statistics, protocol)
