"""A sweep of 75 settings against one run: time, and that every number is the same.

    OMP_NUM_THREADS=1 python benchmarks/sweep.py --data DAVIS --clip dog

Five temperatures, five k, three contexts (7 is the run's own) in one pass, and the run by itself, taken alternately;
prints the ratio of CPU times (all threads), the minimum of the rounds. --profile says where the sweep's time goes.
"""

import argparse
import cProfile
import pstats
import time

import torch

from corrkit.evaluation import evaluate_together
from corrkit.predictors.loading import make_predictor
from corrkit.protocols import load_protocol
from corrkit.subject import open_subject
from corrkit.sweeping.grid import grid_of

AXES = {
    "temperature": [0.05, 0.07, 0.1, 0.2, 0.7],
    "topk": [3, 5, 7, 10, 15],
    "context": [4, 7, 15],
}
BAR, AIM = 2.0, 1.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="DAVIS root; default: the embedded clips")
    parser.add_argument("--clip", help="default: the first clip")
    parser.add_argument("--ckpt", default="random:vit_small_patch16_224")
    parser.add_argument("--size", type=int, default=480, help="short side")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--checked", type=int, default=2, help="settings whose own runs are compared")
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    predictor = make_predictor(args.ckpt, device="cpu")
    subject = open_subject("davis", data=args.data, overrides={"size": [args.size]})
    clip = args.clip or subject.clips[0].name
    subject = open_subject("davis", data=args.data, clips=[clip])
    base = load_protocol("davis/dino")
    grid = grid_of(open_subject("davis", protocol=base, overrides={"size": [args.size]}).protocol, AXES)
    settings = grid.settings
    frames = len(subject.clips[0].frames)
    print(f"{args.ckpt}, {clip}: {frames} frames at {args.size}, {len(settings)} settings")
    swept, alone = [], []
    for _ in range(args.rounds):
        seconds, results = timed(subject, [(predictor, setting) for setting in settings], args.profile)
        swept.append(seconds)
        seconds, (own,) = timed(subject, [(predictor, settings[grid.default])])
        alone.append(seconds)
        assert own.summary == results[grid.default].summary, "the default's number is not that of its own run"
        print(f"  sweep {swept[-1]:7.1f} s, one run {alone[-1]:7.1f} s")
    for place in range(0, len(settings), max(1, len(settings) // max(1, args.checked)))[: args.checked]:
        _, (own,) = timed(subject, [(predictor, settings[place])])
        assert own.summary == results[place].summary, "a number of the sweep is not that of its own run"
    per_frame = 1000 * (min(swept) - min(alone)) / frames / (len(settings) - 1)
    print(
        f"ratio {min(swept) / min(alone):.3f}   (bar {BAR}, aim {AIM}); {per_frame:.2f} ms for each setting and frame"
    )


def timed(subject, lanes, profile=False):
    """CPU seconds and results."""
    profiler = cProfile.Profile() if profile else None
    start = time.process_time()
    if profiler:
        profiler.enable()
    results = evaluate_together(subject, lanes, outs=[None] * len(lanes))
    if profiler:
        profiler.disable()
        pstats.Stats(profiler).sort_stats("tottime").print_stats(25)
    return time.process_time() - start, results


if __name__ == "__main__":
    main()
