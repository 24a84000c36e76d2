"""Results in the two forms of the Hugging Face hub: `.eval_results/*.yaml`, and `model-index` in a model card's head.

Sources: huggingface/hub-docs 242f4a1 eval_results.yaml, docs/hub/eval-results.md and modelcard.md; read back in the
tests by huggingface_hub's own `parse_eval_result_entries` and `model_index_to_eval_results`.
"""

from collections.abc import Sequence

from corrkit.files.jsontext import Json
from corrkit.runs.sharing.facts import Told
from corrkit.text import one_line

TAGS = ("corrkit", "video-correspondence", "label-propagation")


def eval_results(runs: Sequence[Told]) -> list[dict[str, Json]]:
    """The entries of a `.eval_results/*.yaml`: the leading metric of each run that has one, in per cent."""
    return [
        {
            "dataset": {"id": told.dataset, "task_id": told.variant},
            "value": per_cent(told.metrics[0][1]),
            "notes": one_line("; ".join(_notes(told))),
        }
        for told in runs
        if told.metrics
    ]


def model_index(name: str, runs: Sequence[Told]) -> list[dict[str, Json]]:
    """The `model-index` of a model card: all metrics of the tasks' tables, in per cent."""
    return [{"name": name, "results": [_result(told) for told in runs if told.metrics]}]


def per_cent(value: float) -> float:
    """A fraction in per cent, with two decimals."""
    return round(100 * value, 2)


def _result(told: Told) -> dict[str, Json]:
    data = told.run.summary["data"]
    return {
        "task": {"type": told.facts.hub_task, "name": told.facts.title},
        "dataset": {
            "type": told.dataset,
            "name": one_line(f"{data['name']} {data['split']}".strip()),
            "config": told.variant,
            "split": one_line(data["split"]),
            "args": {"protocol": told.run.summary["protocol"], "identity": one_line(data["identity"])},
        },
        "metrics": [
            {"type": metric.name, "value": per_cent(value), "name": f"{metric.name}, per cent"}
            for metric, value in told.metrics
        ],
    }


def _notes(told: Told) -> list[str]:
    metric, _ = told.metrics[0]
    interval = told.run.summary["intervals"].get(metric.name)
    words = [f"{metric.name} in per cent under {told.run.summary['protocol']}, corrkit {told.version}"]
    words += [f"95 % interval {per_cent(interval[0])} to {per_cent(interval[1])}"] if interval else []
    return words + told.remarks
