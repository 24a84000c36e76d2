"""A run against a reference on the same clips: difference, interval, permutation p, smallest detectable difference."""

import numpy as np
from numpy.typing import NDArray

from corrkit.errors import ProtocolError
from corrkit.metrics.intervals import PairedDifference, compare_paired
from corrkit.protocols import Protocol, load_protocol, override
from corrkit.runs.comparable import StoredRun
from corrkit.tasks import load_task
from corrkit.tasks.contract import Evidence


def compare_runs(run: StoredRun, reference: StoredRun) -> PairedDifference | str:
    """The difference of the task's first metric, run less reference; or why there is none, as half a sentence.

    Only runs of one protocol@version, of one standing and on the same data and clips are paired: those of one section.
    """
    if run.column != reference.column:
        fields = ("protocol", "split", "data")
        return f"other {', '.join(n for n, a, b in zip(fields, run.column, reference.column, strict=True) if a != b)}"
    if list(run.records) != list(reference.records):
        return "other clips"
    if run.standing != reference.standing:
        names = ("origin of the data", "overrides", "completeness", "precision")
        apart = [n for n, a, b in zip(names, run.standing, reference.standing, strict=True) if a != b]
        return f"another section of the table (other {', '.join(apart)})"
    protocols = protocol_of(run), protocol_of(reference)
    if protocols[0] is None or protocols[1] is None:
        return f"this version of corrkit lacks {run.summary['protocol']}"
    first, second = _evidence(run, protocols[0]), _evidence(reference, protocols[1])
    if first.units != second.units:
        return "other scored clips"

    def leading(sums: "NDArray[np.float64]") -> "NDArray[np.float64]":  # [..., *S] to [..., 1], the first metric
        return first.estimate(sums)[..., :1]

    return compare_paired(first.statistics, second.statistics, leading)[0]


def protocol_of(run: StoredRun) -> Protocol | None:
    """The run's protocol with its overrides; None where this version of corrkit has no such protocol@version."""
    identifier = run.summary["protocol"]
    try:
        protocol = load_protocol(identifier.partition("@")[0])
        return override(protocol, run.summary["modified"]) if protocol.identifier == identifier else None
    except ProtocolError:
        return None


def _evidence(run: StoredRun, protocol: Protocol) -> Evidence:
    statistics = {clip: record.statistics for clip, record in run.records.items()}
    return load_task(run.task).evidence(statistics, protocol)
