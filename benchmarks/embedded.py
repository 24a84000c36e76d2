"""What the weight-free backbones and a random network score on the embedded clips, and whether the ladder holds.

    python benchmarks/embedded.py [TASK ...] [--ckpt SPEC ...]

Prints one row per task and backbone: the task's first metric in per cent, and the paired difference to the row above
with its 95 % interval. The ladder identity, rgb, hog must rise by 5 points a step, and hog must stay below 85.
"""

import argparse
import tempfile
from pathlib import Path

import corrkit
from corrkit.clips.embedded import TASKS
from corrkit.metrics.intervals import PairedDifference
from corrkit.runs.comparable import read_runs
from corrkit.runs.pairing import compare_runs
from corrkit.task_table import task_facts

LADDER = ("identity", "rgb", "hog")
SMALLEST_STEP = 0.05
HIGHEST_HOG = 0.85


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="davis, vip, jhmdb (default: all)")
    parser.add_argument("--ckpt", nargs="*", default=["random:vit_small_patch16_224@0", "oracle"], help="more rows")
    args = parser.parse_args()
    for task in args.tasks or TASKS:
        with tempfile.TemporaryDirectory() as folder:
            print_rows(task, (*LADDER, *args.ckpt), Path(folder))


def print_rows(task: str, specs: tuple[str, ...], folder: Path) -> None:
    metric = task_facts(task).leading.name
    before = None
    for index, spec in enumerate(specs):
        out = folder / str(index)
        value = corrkit.evaluate(task, spec, out=out, device="cpu").summary["metrics"][metric]
        row = f"{task:6} {metric:9} {100 * value:5.1f}  {spec:32}"
        if spec in LADDER:
            (run,), _ = read_runs([out])
            if before is not None:
                row += step(compare_runs(run, before))
            if spec == "hog" and value > HIGHEST_HOG:
                row += "  TOO EASY"
            before = run
        print(row, flush=True)


def step(found: PairedDifference | str) -> str:
    assert isinstance(found, PairedDifference)
    assert found.interval is not None
    low, high = found.interval
    holds = found.difference >= SMALLEST_STEP and low > 0
    verdict = "" if holds else "  TOO SMALL A STEP"
    return f"{100 * found.difference:+5.1f} [{100 * low:.1f}, {100 * high:.1f}]{verdict}"


if __name__ == "__main__":
    main()
