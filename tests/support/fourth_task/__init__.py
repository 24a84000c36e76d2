"""A task of somebody else's package, without a line in corrkit: boxes around DAVIS's objects, scored by their IoU."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from corrkit.metrics.intervals import bootstrap_intervals
from corrkit.protocols import Protocol
from corrkit.protocols.schema import MaskLabels
from corrkit.task_table import Metric, TaskFacts
from corrkit.tasks.contract import DataSet, Evidence, Scores
from corrkit.tasks.davis import DavisTask
from corrkit.tasks.davis_clips import DavisClip

_SCHEMA = "corrkit.protocols.schema:"
FACTS = TaskFacts(
    name="boxes",
    title="boxes around objects",
    implementation="fourth_task:BoxTask",
    default_split="val",
    default_protocol="box",
    metrics=(Metric(name="Box-IoU", short="Box"), Metric(name="Box-Excess", lowest=-1.0)),
    part="box",
    parts="boxes",
    protocol_groups={
        "frames": f"{_SCHEMA}DavisFrames",
        **{name: f"{_SCHEMA}{name.capitalize()}" for name in ("features", "memory", "affinity")},
        "labels": f"{_SCHEMA}{MaskLabels.__name__}",
        "readout": f"{_SCHEMA}MaskReadout",
        "score": f"{_SCHEMA}DavisScore",
    },
)


class BoxTask(DavisTask):
    """Clips, masks and predictions as DAVIS has them; only the score is its own."""

    name = "boxes"

    def open(self, root: Path, *, split: str, dataset_name: str | None) -> DataSet[DavisClip]:
        return replace(super().open(root, split=split, dataset_name=dataset_name), task=self.name)

    def truth(self, clip: DavisClip, protocol: Protocol) -> Callable[[int], Any]:
        found: Callable[[int], Any] = clip.annotation
        return found

    def scorer(self, clip: DavisClip, protocol: Protocol, truth: Callable[[int], Any]) -> Any:
        return BoxScorer(truth)

    def scores(self, records: Mapping[str, Mapping[str, Any]], protocol: Protocol, *, split: str) -> Scores:
        evidence = self.evidence(records, protocol)
        intervals = bootstrap_intervals(evidence.statistics, evidence.estimate)
        per_clip = evidence.estimate(evidence.statistics)
        return Scores(
            metrics=dict(zip(evidence.names, evidence.estimate(evidence.statistics.sum(axis=0)).tolist(), strict=True)),
            intervals=dict(zip(evidence.names, intervals, strict=True)),
            per_clip={
                clip: dict(zip(evidence.names, row.tolist(), strict=True))
                for clip, row in zip(records, per_clip, strict=True)
            },
            objects=int(evidence.statistics[:, 2].sum()),
        )

    def evidence(self, records: Mapping[str, Mapping[str, Any]], protocol: Protocol) -> Evidence:
        sums = np.array([record["sums"] for record in records.values()], float)
        return Evidence(
            names=tuple(metric.name for metric in FACTS.metrics),
            units=tuple(records),
            statistics=sums,
            estimate=lambda sums: sums[..., :2] / sums[..., 2:],
        )


class BoxScorer:
    """Sums of IoU, of (predicted less true area) over their union, and boxes; of every frame but the first."""

    def __init__(self, truth: Callable[[int], Any]) -> None:
        self._truth, self._sums = truth, np.zeros(3)

    def takes(self, index: int) -> bool:
        return True

    def update(self, index: int, prediction: Any) -> None:
        truth = self._truth(index)
        for number in range(1, int(truth.max()) + 1 if index else 1):
            true, found = _box(truth == number), _box(prediction == number)
            union = int((true | found).sum())
            self._sums += ((true & found).sum() / union, (int(found.sum()) - int(true.sum())) / union, 1)

    def result(self) -> dict[str, Any]:
        return {"sums": self._sums.tolist()}


def _box(mask: Any) -> Any:
    """The smallest box around a mask, as a mask."""
    box = np.zeros_like(mask)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows):
        box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return box
