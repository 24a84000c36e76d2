"""A run as a record of Every Eval Ever: one JSON document, and a line of JSON for each clip and metric.

Source: the wheel every_eval_ever-0.3.0 (evaleval/every_eval_ever), schemas/eval.schema.json and
instance_level_eval.schema.json, which the tests validate against. docs/card.md says what the schema asks for and a
video benchmark doesn't have.
"""

import hashlib
import json
import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from corrkit.errors import DataError
from corrkit.files.jsontext import Json, to_json
from corrkit.runs.results import override_text
from corrkit.runs.sharing.facts import Told, slug
from corrkit.task_table import Metric
from corrkit.text import one_line

SCHEMA_VERSION = "0.3.0"
_RESAMPLING = "percentile bootstrap over clips"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The two files of a run, as text, and where they belong in the collection, without suffix."""

    place: str
    document: str
    samples: str


def record(told: Told, now: int) -> Record:
    """The record of a run.

    Args:
        told: the run.
        now: when the record is made, in seconds since 1970.
    """
    summary = told.run.summary
    digest = hashlib.sha256(to_json(summary).encode()).hexdigest()
    owner, _, name = told.model.partition("/")
    place = f"data/corrkit-{slug(told.run.task)}/{slug(owner)}/{slug(name)}/{_identifier(digest)}"
    evaluation = f"corrkit/{told.variant}/{told.model}/{digest[:16]}"
    rows = [
        row
        for metric, _ in told.metrics
        for clip in summary["per_clip"]
        if (row := _row(told, evaluation, metric, clip))
    ]
    samples = "".join(json.dumps(row, ensure_ascii=True, allow_nan=False) + "\n" for row in rows)
    document: dict[str, Json] = {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": evaluation,
        "retrieved_timestamp": str(now),
        "source_metadata": {
            "source_name": "corrkit",
            "source_type": "evaluation_run",
            "source_organization_name": told.by or "not stated",
            "evaluator_relationship": "other",
        },
        "eval_library": {
            "name": "corrkit",
            "version": told.version,
            "additional_details": {k: v for k, v in summary["versions"].items() if k != "corrkit"},
        },
        "model_info": _model(told),
        "evaluation_results": [_result(told, metric, value) for metric, value in told.metrics],
        "detailed_evaluation_results": {
            "format": "jsonl",
            "file_path": f"{place}_samples.jsonl",
            "hash_algorithm": "sha256",
            "checksum": hashlib.sha256(samples.encode()).hexdigest(),
            "total_rows": len(rows),
        },
    }
    return Record(place=place, document=to_json(document), samples=samples)


def _identifier(digest: str) -> str:
    """A name in the form of a random UUID (version 4), the same for the same result."""
    return str(uuid.UUID(hex=digest[:32], version=4))


def _model(told: Told) -> dict[str, Json]:
    summary = told.run.summary
    checkpoint = summary["checkpoint"]
    details = {
        "deployment_type": "self_deployed",
        "model_availability": "unknown",
        "sha256": checkpoint["digest"],
        "system": checkpoint["system"],
        "architecture": checkpoint["architecture"],
        "pretraining": checkpoint["pretraining"],
        "parameters": summary["parameters"],
        "layer": summary["layer"],
        "stride": summary["stride"],
        "sees_future": checkpoint["sees_future"],
    }
    return {"name": one_line(told.run.name), "id": told.model, "additional_details": _texts(details)}


def _result(told: Told, metric: Metric, value: float) -> dict[str, Json]:
    summary = told.run.summary
    interval = summary["intervals"].get(metric.name)
    uncertainty: dict[str, Json] = {"num_samples": summary["clips"]}
    if interval:
        uncertainty["confidence_interval"] = {
            "lower": interval[0],
            "upper": interval[1],
            "confidence_level": 0.95,
            "method": _RESAMPLING,
        }
    details = {
        "protocol": summary["protocol"],
        "modified": override_text(summary),
        "partial": " ".join(summary["partial"]),
        "remarks": "; ".join(told.remarks),
        "precision": summary["precision"],
        "device": summary["device"],
    }
    return {
        "evaluation_result_id": _result_id(told, metric),
        "evaluation_name": f"corrkit.{told.variant}",
        "source_data": _source(told),
        "metric_config": {
            "evaluation_description": f"{told.facts.title} by label propagation under {summary['protocol']}",
            "metric_id": f"corrkit.{told.run.task}.{slug(metric.name).lower()}",
            "metric_name": metric.name,
            "metric_unit": "proportion",
            "lower_is_better": metric.lower_is_better,
            "score_type": "continuous",
            "min_score": metric.lowest,
            "max_score": 1.0,
        },
        "score_details": {"score": value, "uncertainty": uncertainty},
        "generation_config": {
            "generation_args": {"execution_command": told.command},
            "additional_details": _texts(details),
        },
    }


def _result_id(told: Told, metric: Metric) -> str:
    return f"{told.variant}.{slug(metric.name).lower()}"


def _source(told: Told) -> dict[str, Json]:
    """The data set: the benchmark's own page, or data that nobody else has."""
    from corrkit.datasets.sources import read_source

    data = told.run.summary["data"]
    named: dict[str, Json] = {
        "dataset_name": one_line(data["name"]),
        "additional_details": _texts({"split": data["split"], "identity": data["identity"], "origin": data["origin"]}),
    }
    try:
        page = read_source(told.run.task).page if data["origin"] == "official" else ""
    except DataError:  # a task of another package
        page = ""
    return {**named, "source_type": "url", "url": [page]} if page else {**named, "source_type": "other"}


def _row(told: Told, evaluation: str, metric: Metric, clip: str) -> dict[str, Json] | None:
    """A clip's score; None where it has none."""
    summary = told.run.summary
    score = summary["per_clip"][clip].get(metric.name, math.nan)
    if math.isnan(score):
        return None
    found = told.run.records.get(clip)
    data = summary["data"]
    frames = f"{found.frames} frames" if found else "frames"
    predictions = found.predictions if found else {}
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": evaluation,
        "model_id": told.model,
        "evaluation_name": f"corrkit.{told.variant}",
        "evaluation_result_id": _result_id(told, metric),
        "sample_id": one_line(clip),
        "interaction_type": "single_turn",
        "input": {
            "raw": one_line(f"{clip} of {data['name']} {data['split']}: {frames}, and the labels of the first"),
            "reference": [],
        },
        "output": {"raw": [one_line(f"predictions/{name} sha256:{sha}") for name, sha in predictions.items()]},
        "answer_attribution": [],
        "evaluation": {"score": score, "is_correct": False},
        "metadata": {"is_correct": "asked for by the schema; a continuous score is neither"},
    }


def _texts(details: Mapping[str, object]) -> dict[str, Json]:
    """The schema takes texts alone; what is None or empty is left out."""
    return {name: one_line(str(value)) for name, value in details.items() if value not in (None, "")}
