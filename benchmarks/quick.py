"""Whether `Evaluator(quick=True)` ranks backbones as the whole set does, and what it costs.

    OMP_NUM_THREADS=1 python benchmarks/quick.py --data DAVIS
    OMP_NUM_THREADS=1 python benchmarks/quick.py --task davis --cost random:vit_small_patch16_224

Prints the leading metric of every backbone on all frames of all clips and in quick mode, CPU seconds of both (of the
second call of quick: frames are then decoded), and how far the two orders agree: Spearman's rho, and Kendall's tau,
which is also given without pairs of backbones less than a point apart, who change places for nothing.
"""

import argparse
import itertools
import time
from dataclasses import dataclass

import numpy as np
import torch

import corrkit
from corrkit.task_table import task_facts

BACKBONES = (
    *("rgb", "hog", "demo"),
    *(f"random:vit_tiny_patch16_224@{seed}" for seed in (1, 2, 3)),
    *("random:vit_small_patch16_224@1", "random:vit_small_patch32_224@1"),
    *("random:resnet18@1", "random:resnet50@1", "random:convnext_atto@1"),
)
_APART = 0.01  # of the metric: pairs nearer than that tell nothing


@dataclass(frozen=True)
class Scored:
    """A backbone's score and the CPU seconds that it took."""

    score: float
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="davis")
    parser.add_argument("--data", help="default: the embedded clips")
    parser.add_argument("--backbones", type=lambda text: text.split(","), default=BACKBONES)
    parser.add_argument("--size", type=int, help="short side of the input on all frames; default: the protocol's")
    parser.add_argument("--cost", metavar="SPEC", help="only what a quick call costs, wall and CPU seconds")
    args = parser.parse_args()
    data = args.data or "embedded"
    if args.cost:
        print_cost(args.task, data, args.cost)
    else:
        print_agreement(args.task, data, args.backbones, {"size": [args.size]} if args.size else {})


def print_cost(task: str, data: str, spec: str) -> None:
    evaluator, backbone = corrkit.Evaluator(task, data=data, quick=True), corrkit.load_backbone(spec)
    for call in ("first", "second"):
        wall, cpu = time.perf_counter(), time.process_time()
        evaluator(backbone)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(f"{spec}, {call} call: {wall:.1f} s, {cpu:.1f} s of CPU, {torch.get_num_threads()} thread(s)")
    print(f"{evaluator.description[task]['frames']} frames of {len(evaluator.description[task]['clips'])} clips")


def print_agreement(task: str, data: str, specs: list[str], constants: dict[str, object]) -> None:
    torch.set_num_threads(1)
    full = corrkit.Evaluator(task, data=data, clips="all", **constants)
    quick = corrkit.Evaluator(task, data=data, quick=True, **constants)
    rows: list[tuple[Scored, Scored]] = []
    print(f"{'backbone':34} {'all':>7} {'s':>7} {'quick':>7} {'s':>6}")
    for spec in specs:
        backbone = corrkit.load_backbone(spec)
        quick(backbone)
        rows.append((scored(full, task, backbone), scored(quick, task, backbone)))
        whole, short = rows[-1]
        print(
            f"{spec:34} {100 * whole.score:7.2f} {whole.seconds:7.1f} {100 * short.score:7.2f} {short.seconds:6.1f}",
            flush=True,
        )
    pairs = np.array([(whole.score, short.score) for whole, short in rows])
    print(f"Spearman's rho {spearman(pairs):.2f}, Kendall's tau {kendall(pairs, 0.0):.2f}")
    print(f"Kendall's tau of pairs a point or more apart on all frames {kendall(pairs, _APART):.2f}")
    ratios = [short.seconds / whole.seconds for whole, short in rows]
    print(f"quick takes {min(ratios):.3f} to {max(ratios):.3f} of the time")


def scored(evaluator: corrkit.Evaluator, task: str, backbone) -> Scored:
    began = time.process_time()
    numbers = evaluator(backbone)
    seconds = time.process_time() - began
    leading = task_facts(task).leading.name
    return Scored(next(value for name, value in numbers.items() if name.endswith(f"/{leading}")), seconds)


def spearman(pairs: np.ndarray) -> float:
    ranks = pairs.argsort(0).argsort(0)
    return float(np.corrcoef(ranks.T)[0, 1])


def kendall(pairs: np.ndarray, apart: float) -> float:
    """Concordant less discordant pairs, over those whose first values lie `apart` or more."""
    signs = [
        np.sign((first - second).prod())
        for first, second in itertools.combinations(pairs, 2)
        if abs(first[0] - second[0]) >= apart
    ]
    return float(np.mean(signs))


if __name__ == "__main__":
    main()
