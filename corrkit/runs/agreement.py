"""Whether the files of a finished run say one thing: its settings in run.json and the summary, its numbers in records.

A file that is damaged, or that somebody has edited, may still be read: then it is the others that give it away.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from corrkit.errors import RunError
from corrkit.files.jsontext import Json, from_json, table_of, to_json
from corrkit.protocols import Protocol
from corrkit.runs.folder import differences, run_document
from corrkit.runs.records import ClipRecord
from corrkit.runs.results import Summary, plain_intervals, require_fractions
from corrkit.tasks import load_task
from corrkit.tasks.contract import Scores

_ROUNDING = 1e-9
"""Between numbers that were computed on machines whose sums differ in the last bits."""
_NO_RECORD = (KeyError, TypeError, ValueError, IndexError, OverflowError)
"""What statistics raise that are not a task's: somebody wrote them by hand."""
_AGAIN = "Repeat its eval command to write the summary again, or evaluate it anew."


def require_settings_agree(folder: Path, summary: Summary) -> None:
    """Raises RunError where the fingerprint in run.json has other settings than the summary.

    Fields that the fingerprint lacks are not compared, nor is anything where run.json can't be read.
    """
    stored = run_document(folder).get("fingerprint")
    if not isinstance(stored, Mapping):
        return
    told = {name: value for name, value in _settings(summary).items() if name in stored}
    there: dict[str, object] = {name: stored[name] for name in told}
    if isinstance(data := there.get("data"), Mapping):  # each side says more than the other
        there["data"] = {name: value for name, value in data.items() if name in summary["data"]}
        told["data"] = {name: value for name, value in summary["data"].items() if name in data}
    found = differences(table_of(from_json(to_json(there))), told)
    if found:
        parts = [f"{name} is {old!r} there and {new!r} here" for name, (old, new) in found.items()]
        raise RunError(f"{folder}: summary.json contradicts run.json: {'; '.join(parts[:4])}.", _AGAIN)


def _settings(summary: Summary) -> dict[str, object]:
    """What of a summary stands in a fingerprint, too, by its names there."""
    return {
        "task": summary["task"],
        "checkpoint": summary["checkpoint"]["digest"],
        "layer": summary["layer"],
        "protocol": summary["protocol"],
        "overrides": summary["modified"],
        "data": summary["data"],
        "precision": summary["precision"],
        "device": summary["device"],
        **{name: summary["versions"].get(name) for name in ("corrkit", "torch")},
    }


def with_numbers_of_records(
    folder: Path, summary: Summary, records: Mapping[str, ClipRecord], protocol: Protocol
) -> Summary:
    """The summary, whose scores are those that follow from the records; intervals are those of this numpy's generator.

    Args:
        folder: of the run, for the message.
        summary: as it stands in the file.
        records: clip to record, of all clips of the summary.
        protocol: of the summary, with its overrides.

    Raises:
        RunError: no score follows from a record, or the summary has other scores than follow from the records.
    """
    statistics = {clip: records[clip].statistics for clip in summary["per_clip"]}  # sums depend on the order
    scores = _scores(folder, summary, statistics, protocol)
    for what, told, found in _pairs(summary, scores):
        if not _equal(told, found):
            raise RunError(
                f"{folder / 'summary.json'} says that {what} is {told}, and from the records of its clips follows "
                f"{found}.",
                _AGAIN,
            )
    return {**summary, "intervals": plain_intervals(scores)}


def usable_record(clip: str, plain: Mapping[str, Json], protocol: Protocol) -> ClipRecord:
    """The record of a clip, as a run holds it. Raises ValueError where it is none, or no score follows from it."""
    try:
        record = ClipRecord.of(plain)
        scores = load_task(protocol.task).scores({clip: record.statistics}, protocol, split="")
        require_fractions(protocol.task, scores.metrics)
    except _NO_RECORD as error:
        raise ValueError(f"no score follows from it ({error!r})") from None
    if record.clip != clip:
        raise ValueError(f"it is of {record.clip}")
    return record


def _scores(folder: Path, summary: Summary, statistics: Mapping[str, Mapping[str, Json]], protocol: Protocol) -> Scores:
    task = load_task(summary["task"])
    odd = ""
    try:
        for odd in statistics:
            task.evidence({odd: statistics[odd]}, protocol)
        return task.scores(statistics, protocol, split=summary["data"]["split"])
    except _NO_RECORD as error:
        raise RunError(
            f"{folder} has a record of {odd} from which no score follows ({error!r}).", "Evaluate it again."
        ) from None


def _pairs(summary: Summary, scores: Scores) -> Iterator[tuple[str, float, float]]:
    """Name, value in the summary, value from the records; NaN for one that is missing there."""
    yield "the number of clips", summary["clips"], len(scores.per_clip)
    yield "the number of objects", summary["objects"], scores.objects
    tables = [("", summary["metrics"], scores.metrics)]
    tables += [(f" of {clip}", found, scores.per_clip[clip]) for clip, found in summary["per_clip"].items()]
    for where, told, found in tables:
        for name in dict.fromkeys([*told, *found]):
            yield f"{name}{where}", told.get(name, math.nan), found.get(name, math.nan)


def _equal(one: float, other: float) -> bool:
    return abs(one - other) <= _ROUNDING or (math.isnan(one) and math.isnan(other))
