"""`corrkit regress`: the embedded clips through all three benchmarks, held against a baseline file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast

from corrkit import __version__
from corrkit.backbones.loading import Loading
from corrkit.errors import RunError
from corrkit.evaluation import evaluate
from corrkit.files.atomic import write_atomic
from corrkit.files.jsontext import Json, from_json, number_of, table_of
from corrkit.files.reading import regular_text
from corrkit.inference import standard_defaults
from corrkit.passes import Progress
from corrkit.predictors.contract import Predictor
from corrkit.predictors.loading import make_predictor
from corrkit.runs.shapes import mismatches
from corrkit.task_table import task_facts, task_names

if TYPE_CHECKING:
    import torch

    from corrkit.backbones.contract import Backbone

_AGAIN = "Correct it, or delete it and write it again with --update, from a checkpoint that you trust."


class Baseline(TypedDict):
    """A baseline file. By task: protocol, identity of the clips, metrics, and the drops (fractions) to be tolerated."""

    corrkit: str
    checkpoint: dict[str, str | None]
    protocols: dict[str, str]
    data: dict[str, str]
    metrics: dict[str, dict[str, float]]
    tolerances: dict[str, dict[str, float]]


def tolerances(task: str) -> dict[str, float]:
    """Metric to the drop (fraction) that a new baseline tolerates; each file holds its own, to be edited there."""
    return {metric.name: metric.tolerance for metric in task_facts(task).metrics if metric.tolerance is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One metric: fractions; `dropped` where it fell by more than its tolerance, or became NaN."""

    task: str
    metric: str
    baseline: float
    measured: float
    tolerance: float

    @property
    def change(self) -> float:
        """Measured less baseline."""
        return self.measured - self.baseline

    @property
    def dropped(self) -> bool:
        """NaN counts as a drop."""
        return not self.change >= -self.tolerance


def measure(
    model: "str | Path | Backbone | torch.nn.Module | Predictor",
    *,
    device: str = "auto",
    progress: Progress | None = None,
    **loading: Any,
) -> Baseline:
    """All three benchmarks on the embedded clips, in the form of a baseline file.

    Args:
        model: as for `corrkit.evaluate`.
        device: as for `corrkit.evaluate`, as is progress.
        progress: see device.
        **loading: heads, layer, key, window, system and layout, as for `corrkit.evaluate`.

    Raises:
        CorrkitError: where a clip can't be evaluated.
    """
    with standard_defaults():
        predictor = make_predictor(model, device=device, loading=Loading(**loading))
    measured: Baseline = {
        "corrkit": __version__,
        "checkpoint": {"spec": predictor.name, "digest": predictor.digest},
        "protocols": {},
        "data": {},
        "metrics": {},
        "tolerances": {},
    }
    for task in (name for name in task_names() if task_facts(name).embedded):
        result = evaluate(task, predictor, data="embedded", progress=progress)
        for error in result.failures.values():
            raise error
        summary = result.summary
        measured["protocols"][task] = summary["protocol"]
        measured["data"][task] = summary["data"]["identity"]
        held = tolerances(task)
        measured["tolerances"][task] = held
        measured["metrics"][task] = {name: summary["metrics"][name] for name in held}
    return measured


def compare(measured: Baseline, baseline: Baseline, where: str = "the baseline") -> list[Comparison]:
    """Every metric of the baseline against what was measured.

    Raises:
        RunError: the baseline was made with other clips or protocols, so its numbers can't be compared.
    """
    for key, theirs, ours in (
        ("protocols", baseline["protocols"], measured["protocols"]),
        ("data", baseline["data"], measured["data"]),
    ):
        if theirs != ours:
            raise RunError(
                f"{where} was made by corrkit {baseline['corrkit']} with other {key} than those of {__version__}.",
                "Make it again with --update, from a checkpoint that you trust.",
            )
    return [
        Comparison(
            task=task,
            metric=metric,
            baseline=value,
            measured=measured["metrics"][task][metric],
            tolerance=baseline["tolerances"][task][metric],
        )
        for task, metrics in baseline["metrics"].items()
        for metric, value in metrics.items()
    ]


def read_baseline(path: Path) -> Baseline:
    """A baseline file. Raises RunError where it is missing or no baseline."""
    try:
        document = from_json(regular_text(path))
    except FileNotFoundError:
        raise RunError(f"{path} does not exist.", "Write it with --update, from a checkpoint that you trust.") from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path} can't be read as a baseline ({error}).", _AGAIN) from None
    faults = list(mismatches(document, Baseline, "it")) or _gaps(table_of(document))
    if faults:
        raise RunError(f"{path} is no baseline of corrkit regress: {' and '.join(faults[:3])}.", _AGAIN)
    return cast(Baseline, document)


def _gaps(document: Mapping[str, Json]) -> list[str]:
    """What no type says: a baseline compares something, and each number, a fraction, with a tolerance, another one."""
    tolerated = {task: table_of(values) for task, values in table_of(document["tolerances"]).items()}
    metrics = {task: table_of(values) for task, values in table_of(document["metrics"]).items()}
    named = [(task, metric) for task, values in metrics.items() for metric in values]
    faults = [] if named else ["it holds no metrics, so nothing could ever drop"]
    for task, metric in named:
        for what, value in (("value", metrics[task][metric]), ("tolerance", tolerated.get(task, {}).get(metric))):
            if not 0 <= number_of(value) <= 1:
                faults.append(f"it.metrics.{task}.{metric} has no {what} between 0 and 1")
        if task not in task_names() or metric not in tolerances(task):
            faults.append(f"it.metrics.{task}.{metric} is not measured")
    return faults


def write_baseline(path: Path, measured: Baseline) -> None:
    """Writes a baseline file; tolerances edited in an existing one are kept. Raises RunError where that fails."""
    document = measured.copy()
    if path.exists():
        document["tolerances"] = read_baseline(path)["tolerances"]
    write_atomic(path, json.dumps(document, indent=1) + "\n")


def junit(rows: Sequence[Comparison]) -> str:
    """The comparison as JUnit XML, one test case per metric."""
    from xml.etree import ElementTree

    dropped = sum(row.dropped for row in rows)
    suite = ElementTree.Element("testsuite", name="corrkit regress", tests=str(len(rows)), failures=str(dropped))
    for row in rows:
        case = ElementTree.SubElement(suite, "testcase", classname=f"corrkit.{row.task}", name=row.metric)
        if row.dropped:
            ElementTree.SubElement(case, "failure", message=describe(row))
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def describe(row: Comparison) -> str:
    """One line, in per cent."""
    verdict = "DROPPED" if row.dropped else "ok"
    return (
        f"{row.task:6} {row.metric:9} {100 * row.baseline:6.2f} -> {100 * row.measured:6.2f}  "
        f"{100 * row.change:+6.2f}  (tolerance {100 * row.tolerance:.2f})  {verdict}"
    )
