"""Which runs may stand in one row or one column: checkpoint, data, protocol, and whatever sets a run apart."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from corrkit.errors import ProtocolError, RunError
from corrkit.files.reading import files_below
from corrkit.protocols import Protocol, load_protocol, override
from corrkit.runs.agreement import require_settings_agree, with_numbers_of_records
from corrkit.runs.folder import read_run
from corrkit.runs.records import ClipRecord
from corrkit.runs.results import FULL_PRECISION, Summary, override_text
from corrkit.runs.tables import method_name
from corrkit.tasks.contract import Origin

REFERENCE_PREDICTORS = frozenset({"identity", "oracle", "matching-oracle"})


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """A finished run: its folder, its summary, and clip name to record."""

    folder: Path
    summary: Summary
    records: dict[str, ClipRecord]

    @property
    def task(self) -> str:
        """davis, vip or jhmdb."""
        return self.summary["task"]

    @property
    def checkpoint(self) -> tuple[str, str]:
        """What was evaluated: digest (or spec, where there is none) and layer."""
        checkpoint = self.summary["checkpoint"]
        return str(checkpoint["digest"] or checkpoint["spec"]), str(self.summary["layer"] or "")

    @property
    def name(self) -> str:
        """The checkpoint's short name."""
        return method_name(self.summary["checkpoint"])

    @property
    def method(self) -> str:
        """What the checkpoint was declared to be a training seed of; else the checkpoint itself, whatever its name."""
        return self.summary["checkpoint"]["seed_of"] or f"{self.name} {self.checkpoint[0]}"

    @property
    def column(self) -> tuple[str, str, str]:
        """Protocol and data (not the name of its folder): runs that agree can be compared, other things being equal."""
        data = self.summary["data"]
        return self.summary["protocol"], data["split"], data["identity"]

    @property
    def origin(self) -> Origin:
        """Whose data."""
        return self.summary["data"]["origin"]

    @property
    def standing(self) -> tuple[str, str, bool, str]:
        """Origin of the data, overrides, partial or not, reduced precision: runs of unlike standing are never mixed."""
        precision = self.summary["precision"]
        reduced = "" if precision in FULL_PRECISION else precision
        return self.origin, override_text(self.summary), bool(self.summary["partial"]), reduced

    @property
    def frames_and_seconds(self) -> tuple[int, float]:
        """Frames evaluated and the seconds that took; NaN where a clip has no timing."""
        records = self.records.values()
        return sum(record.frames for record in records), math.fsum(record.seconds for record in records)


def read_runs(folders: Sequence[Path]) -> tuple[list[StoredRun], list[str]]:
    """The finished runs in or below `folders`, and a sentence on each that is left out.

    Raises:
        RunError: a folder does not exist, or none holds a finished run.
    """
    runs, notes = [], []
    for folder in dict.fromkeys(run for given in folders for run in _runs_below(given)):
        try:
            run = _read(folder)
        except RunError as error:
            notes.append(f"left out: {error.problem}")
        else:
            runs.append(run)
    if not runs:
        raise RunError(f"None of the {len(notes)} folders holds a finished run: {notes[0]}", "Run corrkit eval first.")
    return runs, notes


def protocol_of(run: StoredRun) -> Protocol | None:
    """The run's protocol with its overrides; None where this version of corrkit has no such protocol@version."""
    return _protocol_of(run.summary)


def _protocol_of(summary: Summary) -> Protocol | None:
    identifier = summary["protocol"]
    try:
        protocol = load_protocol(identifier.partition("@")[0])
        return override(protocol, summary["modified"]) if protocol.identifier == identifier else None
    except ProtocolError:
        return None


def _read(folder: Path) -> StoredRun:
    """A finished run. Raises RunError where its files are damaged, or say different things."""
    summary, records = read_run(folder)
    require_settings_agree(folder, summary)
    protocol = _protocol_of(summary)
    if protocol is not None:
        summary = with_numbers_of_records(folder, summary, records, protocol)
    return StoredRun(folder=folder, summary=summary, records=records)


def _runs_below(folder: Path) -> list[Path]:
    """The folder itself where it is a run, or holds none; else all runs below it, sorted."""
    if not folder.exists():
        raise RunError(f"{folder} does not exist.", "Give folders of finished runs, e.g. runs/*.")
    if (folder / "run.json").exists() or (folder / "summary.json").exists():
        return [folder]
    return sorted({path.parent for path in files_below(folder) if path.name == "summary.json"}) or [folder]


def without_repeats(runs: Iterable[StoredRun]) -> tuple[list[StoredRun], list[str], set[Path]]:
    """The first run of each checkpoint, protocol, data and standing.

    Returns:
        The runs that stay, a sentence on each one that doesn't, and the folders of those that stay although another
        run gives other numbers.
    """
    kept: dict[tuple[object, ...], StoredRun] = {}
    notes, conflicting = [], set()
    for run in runs:
        first = kept.setdefault((run.checkpoint, run.column, run.standing), run)
        if first is run:
            continue
        if _same_numbers(first.summary, run.summary):
            notes.append(
                f"duplicate: {run.folder} repeats {first.folder} (same checkpoint, protocol, data and numbers)"
            )
        else:
            conflicting.add(first.folder)
            notes.append(f"conflict: {_conflict(first, run)}; {first.folder} is shown")
    return list(kept.values()), notes, conflicting


def _same_numbers(one: Summary, two: Summary) -> bool:
    return repr(sorted(one["metrics"].items())) == repr(sorted(two["metrics"].items()))


def _conflict(first: StoredRun, other: StoredRun) -> str:
    a, b = first.summary, other.summary
    metric = next(name for name in a["metrics"] if repr(a["metrics"][name]) != repr(b["metrics"].get(name)))
    circumstances = [
        f"{name} {old} and {new}"
        for name, old, new in (
            ("device", a["device"], b["device"]),
            *((name, a["versions"].get(name), b["versions"].get(name)) for name in {**a["versions"], **b["versions"]}),
        )
        if old != new
    ]
    return (
        f"{first.folder} and {other.folder} have the same checkpoint, protocol and data, but {metric} "
        f"{a['metrics'][metric]:.4f} and {b['metrics'].get(metric, math.nan):.4f}"
        + (f" ({', '.join(circumstances)})" if circumstances else "")
    )
