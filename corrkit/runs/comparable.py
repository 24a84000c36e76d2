"""Which runs may stand in one row or one column: checkpoint, data, protocol, and whatever sets a run apart."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corrkit.errors import RunError
from corrkit.runs.folder import read_run
from corrkit.runs.results import Summary, override_text
from corrkit.runs.tables import method_name

REFERENCE_PREDICTORS = frozenset({"identity", "oracle"})
_FULL_PRECISION = frozenset({"float32", "float64", ""})  # "": scored predictions of any method
_SEED = re.compile(r"[-_.]?seed[-_=]?\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """A finished run: its folder, its summary, and clip name to record."""

    folder: Path
    summary: Summary
    records: dict[str, dict[str, Any]]

    @property
    def task(self) -> str:
        """davis, vip or jhmdb."""
        return self.summary["task"]

    @property
    def checkpoint(self) -> tuple[str, str]:
        """What was evaluated: digest (or spec, where there is none) and layer."""
        checkpoint = self.summary["checkpoint"]
        return str(checkpoint.get("digest") or checkpoint["spec"]), str(self.summary["layer"] or "")

    @property
    def name(self) -> str:
        """The checkpoint's short name."""
        return method_name(self.summary["checkpoint"])

    @property
    def method(self) -> str:
        """The checkpoint's name without its training seed."""
        checkpoint = self.summary["checkpoint"]
        name = str(checkpoint.get("method") or self.name)
        if name.startswith("random"):
            name = re.sub(r"@\d+$", "", name)
        return _SEED.sub("", name) or name

    @property
    def column(self) -> tuple[str, str, str, str]:
        """Protocol and data: runs that agree on it can be compared, other things being equal."""
        data = self.summary["data"]
        return self.summary["protocol"], data["name"], data["split"], data["identity"]

    @property
    def origin(self) -> str:
        """Whose data: "official", "embedded" or "own"."""
        data = self.summary["data"]
        if data["name"].startswith("embedded"):
            return "embedded"
        return "official" if data["official"] else "own"

    @property
    def standing(self) -> tuple[str, str, bool, str]:
        """Origin of the data, overrides, partial or not, reduced precision: runs of unlike standing are never mixed."""
        precision = self.summary["precision"]
        reduced = "" if precision in _FULL_PRECISION else precision
        return self.origin, override_text(self.summary), bool(self.summary["partial"]), reduced

    @property
    def frames_and_seconds(self) -> tuple[int, float]:
        """Frames evaluated and the seconds that took; NaN where a clip has no timing."""
        seconds = [record.get("timing", {}).get("seconds", math.nan) for record in self.records.values()]
        return sum(int(record.get("frames", 0)) for record in self.records.values()), math.fsum(seconds)


def read_runs(folders: Sequence[Path]) -> tuple[list[StoredRun], list[str]]:
    """The finished runs among `folders`, and a sentence on each folder that is none.

    Raises:
        RunError: a folder does not exist, or none holds a finished run.
    """
    runs, notes = [], []
    for folder in dict.fromkeys(folders):
        if not folder.exists():
            raise RunError(f"{folder} does not exist.", "Give folders of finished runs, e.g. runs/*.")
        try:
            summary, records = read_run(folder)
        except RunError as error:
            notes.append(f"left out: {error.problem}")
        else:
            runs.append(StoredRun(folder=folder, summary=summary, records=records))
    if not runs:
        raise RunError(f"None of the {len(notes)} folders holds a finished run: {notes[0]}", "Run corrkit eval first.")
    return runs, notes


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
