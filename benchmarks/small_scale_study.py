"""Does the objective matter at the scale of a laptop? One row per (method, seed), each recorded as it is finished.

    python benchmarks/demo_checkpoint.py render CACHE
    python benchmarks/small_scale_study.py OUT --data CACHE/frames [--davis ROOT] [--seeds 0 1 2] [--methods mae ...]

Every method trains a ViT of 1.3 M parameters (patch 16) on 112-pixel views for the same number of steps and samples;
`random` is the network before training. Repeating the command goes on: finished rows of OUT/study.csv are kept,
unfinished runs are resumed; several processes may share OUT if their methods or seeds differ.
"""

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

import corrkit
from corrkit.runs.logs import read_log
from corrkit.training import checkpoint
from corrkit.training.loop import Options, pretrain
from corrkit.training.objectives import make_objective
from corrkit.training.recipe import load_recipe

COMMON = {
    "views.size": 112, "views.area": [0.08, 0.3], "views.repeat": 2, "encoder.patch": 16, "optimiser.rate": 1e-3,
    "optimiser.reference": 0, "optimiser.warmup": 20, "optimiser.epochs": 400,
}  # fmt: skip
PAIR = {"views.gap": [1, 12]}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "random": ("siammae", {}),
    "mae": ("mae", {}),
    "videomae-style": ("videomae", {"views.frames": 8, "views.frame_stride": 1}),
    "cropmae": ("cropmae", {"masks.1.ratio": 0.9}),
    "siammae": ("siammae", {**PAIR, "masks.1.ratio": 0.9}),
    "siammae, 75 % hidden": ("siammae", {**PAIR, "masks.1.ratio": 0.75}),
    "siammae, 95 % hidden": ("siammae", {**PAIR, "masks.1.ratio": 0.95}),
    "siammae, symmetric masks": (
        "siammae",
        {**PAIR, "masks.0.kind": "random", "masks.0.ratio": 0.75, "masks.1.ratio": 0.75},
    ),
    "siammae, cross decoder": ("siammae", {**PAIR, "masks.1.ratio": 0.9, "decoders.0.blocks": "cm"}),
    "siammae, joint decoder": (
        "siammae",
        {**PAIR, "masks.1.ratio": 0.9, "decoders.0.blocks": "sm", "decoders.0.concatenates": True,
         "decoders.0.frame_vectors": 1},
    ),
}  # fmt: skip
SCORES = ("davis/J&F-Mean", "vip/mIoU", "jhmdb/PCK@0.1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--davis", type=Path, help="a folder in DAVIS layout, scored too")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch", type=int, default=16)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    table = args.out / "study.csv"
    done = {(row["method"], int(row["seed"])) for row in rows_of(table)}
    evaluators = [corrkit.Evaluator(("davis", "vip", "jhmdb"))]
    names = list(SCORES)
    if args.davis:
        evaluators.append(corrkit.Evaluator("davis", data=args.davis, clips="all"))
        names.append("real davis/J&F-Mean")
    for seed in args.seeds:
        for method in args.methods:
            if (method, seed) not in done:
                found = scores(method, seed, args, evaluators)
                append(table, {"method": method, "seed": seed, **dict(zip(names, found, strict=True))})
    for method in METHODS:
        rows = [row for row in rows_of(table) if row["method"] == method]
        if not rows:
            continue
        values = np.array([[float(row[name]) for name in names] for row in rows])
        spread = values.std(0, ddof=1) if len(rows) > 1 else values[0] * np.nan
        triples = zip(names, values.mean(0), spread, strict=True)
        words = ", ".join(f"{name} {mean:.1%} ± {deviation:.1%}" for name, mean, deviation in triples)
        print(f"{method} ({len(rows)} seeds): {words}")


def scores(method: str, seed: int, args: argparse.Namespace, evaluators: list[corrkit.Evaluator]) -> list[float]:
    name, changes = METHODS[method]
    recipe = load_recipe(name, scale="demo", changes={**COMMON, **changes, "optimiser.batch": args.batch})
    torch.manual_seed(seed)
    objective = make_objective(recipe)
    if method != "random":
        out = args.out / f"{method.replace(' ', '-').replace(',', '').replace('%', 'percent')}-{seed}"
        options = Options(batch=args.batch, steps=args.steps, seed=seed, log_every=50, picture_every=0, save_every=100)
        tree = checkpoint.read(pretrain(recipe, args.data, out, options))
        checkpoint.load_model_state(objective, tree["model"])
        assert read_log(out / "log.csv")[-1]["step"] == args.steps
    backbone = checkpoint.backbone_of(objective)
    found = [evaluator(backbone) for evaluator in evaluators]
    return [found[0][score] for score in SCORES] + [extra[SCORES[0]] for extra in found[1:]]


def rows_of(table: Path) -> list[dict[str, str]]:
    if not table.is_file():
        return []
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def append(table: Path, row: dict[str, Any]) -> None:
    new = not table.is_file()
    with table.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)
    print(row, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
