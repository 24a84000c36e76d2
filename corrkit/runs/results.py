"""The one results format: `--json`, `summary.json` and `result.summary` are the same object."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict, cast

from corrkit.errors import RunError
from corrkit.files.jsontext import Json, from_json, list_of, number_of, table_of, with_nan
from corrkit.files.reading import regular_text
from corrkit.protocols import Protocol
from corrkit.runs.shapes import mismatches
from corrkit.task_table import task_facts, task_names
from corrkit.tasks.contract import Origin, Scores
from corrkit.tasks.official_csvs import csv_text

FULL_PRECISION = frozenset({"float32", "float64", ""})
"""Precisions that need no mark; "" is that of scored predictions, where no network of ours took part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """What was scored.

    identity: digest of clip list, frames and annotations. origin: decided where the data were opened.
    complete: whether all clips of the split were chosen; only then official data count as official.
    author_split: see `manifests.published.author_split`.
    """

    name: str
    split: str
    identity: str
    origin: Origin
    complete: bool = True
    author_split: str | None = None

    def plain(self) -> "PlainData":
        """As it stands in a summary."""
        official = self.origin == "official" and self.complete
        plain: PlainData = {
            "name": self.name,
            "split": self.split,
            "identity": self.identity,
            "official": official,
            "origin": self.origin,
        }
        if self.author_split is not None:
            plain["author_split"] = self.author_split
        return plain


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointFacts:
    """What was evaluated.

    spec: its name in tables. digest: sha256 of what makes its numbers, None where that is unknown.
    system, architecture: as recognised. mode, sees_future: how it sees time; None where no network took part.
    pretraining: how it was trained, "" where nothing says. seed_of: name of the method of which it is one training
    seed, where that was declared; seeds are grouped by it and by nothing else.
    """

    spec: str
    digest: str | None
    system: str
    architecture: str
    mode: str | None = None
    sees_future: bool = False
    pretraining: str = ""
    seed_of: str | None = None

    def plain(self) -> "PlainCheckpoint":
        """As it stands in a summary."""
        return {
            "spec": self.spec,
            "digest": self.digest,
            "system": self.system,
            "architecture": self.architecture,
            "mode": self.mode,
            "sees_future": self.sees_future,
            "pretraining": self.pretraining,
            "seed_of": self.seed_of,
        }


class PlainCheckpoint(TypedDict):
    """`CheckpointFacts` in a summary."""

    spec: str
    digest: str | None
    system: str
    architecture: str
    mode: str | None
    sees_future: bool
    pretraining: str
    seed_of: str | None


class PlainData(TypedDict):
    """`Data` in a summary.

    author_split: "unknown" where papers report on this data set by lists of clips that they did not publish,
    "published" where the split is one that everybody has; not there where papers share one split.
    """

    name: str
    split: str
    identity: str
    official: bool
    origin: Origin
    author_split: NotRequired[str]


class Summary(TypedDict):
    """One result; fractions in [0, 1] (decays in [-1, 1]) under the field's metric names.

    checkpoint: what `CheckpointFacts.plain` gives. data: what `Data.plain` gives.
    layer, stride, parameters: None where no network took part (`corrkit score`).
    modified: dotted constant to its value, for every override of the protocol; {} for the protocol as published.
    unreleased: what the published numbers of this protocol rest on and nobody has published; [] where nothing is open.
    partial: clips of the split that this result lacks; [] where it is complete.
    intervals: metric to [low, high] at 95 %, None below 3 clips.
    tuned_on: the split of these clips, where the setting was chosen on clips of it; else it is not there.
    """

    task: str
    protocol: str
    checkpoint: PlainCheckpoint
    data: PlainData
    precision: str
    device: str
    layer: str | None
    stride: int | None
    parameters: int | None
    versions: dict[str, str]
    modified: dict[str, object]
    unreleased: list[str]
    partial: list[str]
    clips: int
    objects: int
    metrics: dict[str, float]
    intervals: dict[str, list[float] | None]
    per_clip: dict[str, dict[str, float]]
    tuned_on: NotRequired[str]


def build_summary(
    scores: Scores,
    protocol: Protocol,
    *,
    checkpoint: CheckpointFacts,
    data: Data,
    precision: str,
    device: str,
    layer: str | None,
    stride: int | None,
    parameters: int | None,
    versions: Mapping[str, str],
    missing: Sequence[str],
) -> Summary:
    """The results object of one run.

    Args:
        scores: aggregated metrics as fractions.
        protocol: as it was used, overrides included.
        checkpoint: what was evaluated.
        data: what it was evaluated on.
        precision: "float32", "bfloat16", ...
        device: "cpu", "cuda" or "mps".
        layer: which features were taken.
        stride: pixels per cell.
        parameters: of the backbone.
        versions: of corrkit, torch and whatever else decides numbers.
        missing: clips of the split without a result.

    Raises:
        ValueError: a metric is no fraction.
    """
    require_fractions(protocol.task, scores.metrics)
    return {
        "task": protocol.task,
        "protocol": protocol.identifier,
        "checkpoint": checkpoint.plain(),
        "data": data.plain(),
        "precision": precision,
        "device": device,
        "layer": layer,
        "stride": stride,
        "parameters": parameters,
        "versions": dict(versions),
        "modified": dict(protocol.overrides),
        "unreleased": list(protocol.unreleased),
        "partial": list(missing),
        "clips": len(scores.per_clip),
        "objects": scores.objects,
        "metrics": {name: float(value) for name, value in scores.metrics.items()},
        "intervals": plain_intervals(scores),
        "per_clip": {clip: dict(metrics) for clip, metrics in scores.per_clip.items()},
    }


def plain_intervals(scores: Scores) -> dict[str, list[float] | None]:
    """As they stand in a summary."""
    return {name: _pair(scores.intervals.get(name)) for name in scores.metrics if name in scores.intervals}


def read_summary(path: Path) -> Summary:
    """Reads a summary.json; null metrics become NaN. Raises RunError where it is missing or no summary."""
    try:
        document = from_json(regular_text(path))
    except FileNotFoundError:
        raise RunError(
            f"{path} is missing.", "Give the folder of a finished run, or repeat its command to finish it."
        ) from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path} can't be read: {error}.", "Repeat the eval command to write it again.") from None
    return parse_summary(document, str(path))


def parse_summary(document: Json, where: str) -> Summary:
    """Checks fields and types of a parsed summary. Raises RunError naming those that are missing, unknown or wrong."""
    faults = list(mismatches(document, Summary, "it")) or _contradictions(table_of(document))
    if faults:
        raise RunError(
            f"{where} is no summary of corrkit: {' and '.join(faults[:4])}.",
            "Give a run of this version, or repeat its command.",
        )
    summary = dict(table_of(document))
    summary["metrics"] = with_nan(summary["metrics"])
    summary["per_clip"] = with_nan(summary["per_clip"])
    summary["intervals"] = {
        name: pair if pair is None else with_nan(pair) for name, pair in table_of(summary["intervals"]).items()
    }
    return cast(Summary, summary)


def _contradictions(document: Mapping[str, Json]) -> list[str]:
    """What no type says: a task that there is, its protocol, pairs, fractions."""
    task = str(document["task"])
    if task not in task_names():
        return [f"it.task is {task!r}"]
    faults = [] if str(document["protocol"]).startswith(f"{task}/") else [f"it.protocol is {document['protocol']!r}"]
    faults += [
        f"it.intervals.{name} is no pair"
        for name, pair in table_of(document["intervals"]).items()
        if pair and len(list_of(pair)) != 2
    ]
    try:
        require_fractions(task, {name: number_of(value) for name, value in table_of(document["metrics"]).items()})
    except ValueError as error:
        faults.append(str(error))
    return faults


def summary_csv(summary: Summary) -> str:
    """Header and one row: the settings, then each metric with its interval; NaN and None are empty."""
    checkpoint, data = summary["checkpoint"], summary["data"]
    row: dict[str, object] = {
        "task": summary["task"],
        "protocol": summary["protocol"],
        "checkpoint": checkpoint["spec"],
        "digest": checkpoint["digest"],
        "data": data["name"],
        "split": data["split"],
        "data_identity": data["identity"],
        "official": data["official"],
        "origin": data["origin"],
        **{name: summary[name] for name in ("precision", "device", "layer", "stride", "parameters")},
        "modified": override_text(summary),
        "partial": " ".join(summary["partial"]),
        "clips": summary["clips"],
        "objects": summary["objects"],
    }
    if "tuned_on" in summary:
        row["tuned_on"] = summary["tuned_on"]
    for name, value in summary["metrics"].items():
        row[name] = value
        if name in summary["intervals"]:
            low, high = summary["intervals"][name] or (math.nan, math.nan)
            row[f"{name} low"], row[f"{name} high"] = low, high
    return csv_text([list(row), [_cell(value) for value in row.values()]])


def override_text(summary: Summary) -> str:
    """The overrides in one line: "affinity.radius=6 affinity.topk=7"; "" for an unmodified protocol."""
    return " ".join(f"{name}={value}" for name, value in summary["modified"].items())


def _pair(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else [float(interval[0]), float(interval[1])]


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return repr(float(value)) if isinstance(value, float) else str(value)


def require_fractions(task: str, metrics: Mapping[str, float]) -> None:
    """Raises ValueError for a metric that is neither NaN nor between the lowest value of its kind and 1."""
    for name, value in metrics.items():
        low = task_facts(task).lowest(name)
        if not (math.isnan(value) or low <= value <= 1.0):
            raise ValueError(f"{name} is {value}, not a fraction in [{low:g}, 1]")
