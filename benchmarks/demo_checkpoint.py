"""The demo checkpoint: training frames, the command that trained it, and its comparison on unseen clips.

    python benchmarks/demo_checkpoint.py render CACHE            # training frames, from TRAINING_SEEDS alone
    python benchmarks/demo_checkpoint.py train CACHE OUT         # the very command, resumable
    python benchmarks/demo_checkpoint.py export OUT/checkpoint.pth demo.pth
    python benchmarks/demo_checkpoint.py evaluate demo.pth CACHE # against rgb, identity, hog, its own initialisation

Unseen clips have seeds from 2,000,000 on: neither embedded ones nor seen in training.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import cv2
import torch

from corrkit.clips import TRAINING_SEEDS, render
from corrkit.clips.layouts import write_clips
from corrkit.evaluation import evaluate
from corrkit.files.atomic import write_atomic
from corrkit.predictors.loading import make_predictor
from corrkit.runs.comparable import StoredRun, read_runs
from corrkit.runs.pairing import compare_runs
from corrkit.training import checkpoint
from corrkit.training.objectives import make_objective
from corrkit.training.recipe import load_recipe

TASKS = ("davis", "vip", "jhmdb")
CLIPS_OF_A_TASK, FRAMES = 25, 16
UNSEEN_SEED, UNSEEN = 2_000_000, {"davis": 8, "vip": 7, "jhmdb": 7}
RECIPE = {
    "views.size": 96, "views.area": [0.04, 0.15], "views.gap": [1, 6], "views.repeat": 4, "masks.1.ratio": 0.5,
    "encoder.heads": 4,
    "optimiser.batch": 8, "optimiser.rate": 1e-3, "optimiser.reference": 0, "optimiser.warmup": 20,
}  # fmt: skip
STEPS = 400
METRICS = {"davis": "J&F-Mean", "vip": "mIoU", "jhmdb": "PCK@0.1"}


def render_training(cache: Path) -> None:
    """Frames as BMP, which costs next to nothing to decode: one folder per clip."""
    for number in range(CLIPS_OF_A_TASK):
        for task in TASKS:
            folder = cache / "frames" / f"{task}-{TRAINING_SEEDS[number]}"
            if (folder / f"{FRAMES - 1:05d}.bmp").is_file():
                continue
            folder.mkdir(parents=True, exist_ok=True)
            for index, frame in enumerate(render(task, TRAINING_SEEDS[number], num_frames=FRAMES).frames):
                cv2.imwrite(str(folder / f"{index:05d}.bmp"), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))


def train(cache: Path, out: Path) -> int:
    changes = [part for name, value in RECIPE.items() for part in ("--set", f"{name}={value}")]
    command = [
        sys.executable, "-m", "corrkit", "pretrain", "siammae", "--scale", "demo", "--data", str(cache / "frames"),
        "--out", str(out), "--steps", str(STEPS), "--log-every", "20", "--save-every", "100", "--picture-every", "400",
        *changes,
    ]  # fmt: skip
    print(" ".join(command), file=sys.stderr)
    return subprocess.call(command)


def export(trained: Path, target: Path) -> None:
    """The encoder alone, in half precision, with its recipe."""
    tree = checkpoint.read(trained)
    model = {name: value.half() for name, value in tree["model"].items() if not name.startswith("decoder.")}
    kept = {name: tree[name] for name in ("corrkit_pretrain", "recipe", "step", "fingerprint")}
    checkpoint.save(target, {"model": model, **kept})
    print(f"{target}: {target.stat().st_size:,} bytes")


def compare(trained: Path, cache: Path) -> None:
    """Paired differences on unseen clips, printed and written to CACHE/comparison.json."""
    initial = cache / "initial.pth"
    torch.manual_seed(0)
    objective = make_objective(load_recipe("siammae", scale="demo", changes=RECIPE))
    checkpoint.save(initial, checkpoint.checkpoint_tree(objective))
    rows = []
    for task in TASKS:
        root = cache / "unseen" / task
        if not root.is_dir():
            root.mkdir(parents=True)
            write_clips(root, task, [render(task, UNSEEN_SEED + index) for index in range(UNSEEN[task])])
        specs = {"demo": trained, "initial": initial, "rgb": "rgb", "hog": "hog", "identity": "identity"}
        folders = [cache / "runs" / f"{task}-{name}" for name in specs]
        for folder, spec in zip(folders, specs.values(), strict=True):
            evaluate(task, make_predictor(str(spec), device="cpu"), data=root, dataset_name="unseen", out=folder)
        demo, *others = read_runs(folders)[0]
        for name, other in zip(list(specs)[1:], others, strict=True):
            found = compare_runs(demo, other)
            rows.append({"task": task, "other": name, "demo": _score(demo, task), "score": _score(other, task),
                         **dataclasses.asdict(found)})  # fmt: skip
            print(rows[-1], flush=True)
    write_atomic(cache / "comparison.json", json.dumps(rows, indent=1))


def _score(run: StoredRun, task: str) -> float:
    return run.summary["metrics"][METRICS[task]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["render", "train", "export", "evaluate"])
    parser.add_argument("paths", nargs="+", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    actions = {"render": render_training, "train": train, "export": export, "evaluate": compare}
    return actions[args.action](*args.paths) or 0


if __name__ == "__main__":
    sys.exit(main())
