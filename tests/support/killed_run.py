"""Driver of tests/runs/test_killed.py: a made-up evaluation of four clips through `Run`.

Usage: killed_run.py FOLDER POINT.
"""

import json
import math
import sys
import time
from pathlib import Path

import kill_points

from corrkit.files.jsontext import number_of
from corrkit.protocols import load_protocol
from corrkit.runs.folder import Run
from corrkit.runs.results import CheckpointFacts, Data, build_summary
from corrkit.tasks.contract import Scores
from corrkit.tasks.official_csvs import davis_csvs

CLIPS = ("dog", "bike@2/left", "Käse 1", "empty")


def main(folder: Path, point: str) -> None:
    seen = kill_points.arm(point)
    run = Run.open(folder, {"protocol": "davis/dino@1", "clips": CLIPS}, {"host": "here"})
    computed = []
    for number, clip in enumerate(CLIPS):
        if clip not in run.finished:
            computed.append(clip)
            score = math.nan if clip == "empty" else 1 / (number + 3)
            run.write_clip(clip, {"J": score, "frames": 7 * number, "timing": {"seconds": time.perf_counter()}})
    j = {clip: number_of(run.finished[clip]["J"]) for clip in CLIPS}
    metrics = dict.fromkeys(("J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay"), j["dog"])
    scores = Scores(
        metrics=metrics, intervals={"J-Mean": None}, per_clip={c: {"J-Mean": j[c]} for c in CLIPS}, objects=4
    )
    summary = build_summary(
        scores,
        load_protocol("davis/dino"),
        checkpoint=CheckpointFacts(spec="made-up", digest=None, system="none", architecture="none"),
        data=Data(name="made-up", split="val", identity="0", origin="own"),
        precision="float32",
        device="cpu",
        layer=None,
        stride=None,
        parameters=None,
        versions={},
        missing=(),
    )
    run.finish(summary, davis_csvs(metrics, {clip: (j[clip], j[clip]) for clip in CLIPS}, "val"))
    print(json.dumps({"computed": computed, "notes": run.notes, "operations": seen}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
