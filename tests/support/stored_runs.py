"""Finished runs without an evaluation: statistics made up to a skill, through the scores and files of real ones."""

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from corrkit.protocols import load_protocol, override
from corrkit.runs.folder import Run
from corrkit.runs.records import ClipRecord
from corrkit.runs.results import CheckpointFacts, Data, build_summary
from corrkit.tasks import load_task
from corrkit.tasks.contract import Origin

OFFICIAL = {"davis": ("DAVIS-2017", "val"), "vip": ("VIP", "val"), "jhmdb": ("JHMDB", "test")}
PROTOCOLS = {"davis": "davis/dino", "vip": "vip/cropmae", "jhmdb": "jhmdb/cropmae"}
CLIPS = tuple(f"clip{number}" for number in range(6))


def writer_of_runs(folder_of_all: Path) -> Callable[..., Path]:
    """write("davis", "a.pth", 0.6) writes a finished run whose scores are near 0.6, and returns its folder."""
    numbers = itertools.count()

    def write(
        task: str,
        spec: str,
        skill: Any,
        *,
        origin: Origin = "official",
        identity: str | None = None,
        changes: Mapping[str, object] | None = None,
        missing: Sequence[str] = (),
        seed: int = 0,
        **summary: Any,
    ) -> Path:
        folder = folder_of_all / f"run{next(numbers)}"
        protocol = override(load_protocol(summary.pop("protocol", PROTOCOLS[task])), changes or {})
        name, split = OFFICIAL[task]
        data = Data(
            name={"official": name, "embedded": f"embedded-{task}", "own": f"kitchen-{task}"}[origin],
            split=split,
            identity=identity or f"{origin}-{task}",
            origin=origin,
            complete=not missing,
        )
        run = Run.open(folder, {"folder": folder.name}, {})
        for clip in CLIPS:
            if clip not in missing:
                statistics, seconds = STATISTICS[task](skill, clip, seed), summary.get("seconds", 2.0)
                record = ClipRecord(clip=clip, frames=10, statistics=statistics, seconds=seconds)
                run.write_clip(clip, record.plain())
        statistics = {clip: record["statistics"] for clip, record in run.finished.items()}
        scores = load_task(task).scores(statistics, protocol, split=split)
        system = spec if spec in {"identity", "oracle"} else "dino"
        checkpoint = CheckpointFacts(spec=spec, digest=f"sha-of-{spec}", system=system, architecture="vit")
        built = build_summary(
            scores,
            protocol,
            checkpoint=replace(checkpoint, **summary.get("checkpoint", {})),
            data=data,
            precision=summary.get("precision", "float32"),
            device=summary.get("device", "cpu"),
            layer="last",
            stride=16,
            parameters=21_665_664,
            versions={"torch": "2.14.1"},
            missing=missing,
        )
        run.finish(built, scores.csvs)
        return folder

    return write


def davis(skill: float, clip: str, seed: int) -> dict[str, Any]:
    generator = random.Random(f"{clip} {seed}")
    return {part: [[min(max(skill + generator.uniform(-0.05, 0.05), 0), 1) for _ in range(8)]] for part in "JF"}


def vip(skill: float, clip: str, seed: int) -> dict[str, Any]:
    counts = np.zeros((22, 22), int)
    right = round(1000 * skill) + random.Random(f"{clip} {seed}").randrange(20)
    counts[np.arange(20), np.arange(20)] = right
    counts[np.arange(20), (np.arange(20) + 1) % 20] = 1000 - right
    return {"counts": counts.tolist(), "scored_frames": 9}


def jhmdb(skill: float, clip: str, seed: int) -> dict[str, Any]:
    hits = [min(round(100 * skill) + 5 * step + random.Random(f"{clip} {seed}").randrange(3), 100) for step in range(5)]
    counts = [[hit] * 15 for hit in [*hits, 100]]
    return {"counts": counts, "source": clip[:-1] + str(int(clip[-1]) // 2), "scored_frames": 100}


STATISTICS: dict[str, Callable[[Any, str, int], dict[str, Any]]] = {"davis": davis, "vip": vip, "jhmdb": jhmdb}
