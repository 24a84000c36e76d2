"""A sweep of 75 settings against one run: time, and that every number is the same.

    OMP_NUM_THREADS=1 python benchmarks/sweep.py --data DAVIS --clip dog

Five temperatures, five k, three contexts (7 is the run's own) in one pass, and the run by itself, taken alternately;
prints the ratio of CPU times (all threads), the minimum of the rounds. --profile says where the sweep's time goes.
"""

import argparse
import cProfile
import pstats
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from measuring import Bar, Row, Settings

from corrkit.evaluation import evaluate_together
from corrkit.predictors.loading import make_predictor
from corrkit.subject import open_subject
from corrkit.sweeping.grid import grid_of

AXES = {
    "temperature": [0.05, 0.07, 0.1, 0.2, 0.7],
    "topk": [3, 5, 7, 10, 15],
    "context": [4, 7, 15],
}
BAR = Bar(relation="<=", must=2.0, aim=1.3)


def rows(settings: Settings, part: str) -> Iterator[Row]:
    """The sweep over one run, on the first clip."""
    size = 96 if settings.quick else 480
    found = compared(data=settings.data, size=size, rounds=1 if settings.quick else 2, device=settings.device)
    yield Row(
        what=f"sweep of {found.settings} settings over one run, {found.frames} frames", value=found.ratio, bar=BAR
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="DAVIS root; default: the embedded clips")
    parser.add_argument("--clip", help="default: the first clip")
    parser.add_argument("--ckpt", default="random:vit_small_patch16_224")
    parser.add_argument("--size", type=int, default=480, help="short side")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--checked", type=int, default=2, help="settings whose own runs are compared")
    parser.add_argument("--profile", action="store_true")
    found = compared(**vars(parser.parse_args()))
    each = 1000 * (found.swept - found.alone) / found.frames / (found.settings - 1)
    print(f"{found.frames} frames, {found.settings} settings: sweep {found.swept:.1f} s, one run {found.alone:.1f} s")
    print(f"ratio {found.ratio:.3f}   (bar {BAR.must}, aim {BAR.aim}); {each:.2f} ms for each setting and frame")


@dataclass(frozen=True, slots=True)
class Comparison:
    """CPU seconds of the sweep and of one run, the least of the rounds."""

    settings: int
    frames: int
    swept: float
    alone: float

    @property
    def ratio(self) -> float:
        """The sweep over one run."""
        return self.swept / self.alone


def compared(
    *,
    data: str | Path | None = None,
    clip: str | None = None,
    ckpt: str = "random:vit_small_patch16_224",
    size: int = 480,
    rounds: int = 2,
    checked: int = 2,
    profile: bool = False,
    device: str = "cpu",
) -> Comparison:
    """The sweep and one run in turn; the numbers of the default and of `checked` settings must be those of own runs."""
    torch.set_num_threads(1)
    predictor = make_predictor(ckpt, device=device)
    subject = open_subject("davis", data=data, overrides={"size": [size]})
    grid = grid_of(subject.protocol, AXES)
    subject = open_subject("davis", data=data, clips=[clip or subject.clips[0].name])
    settings = grid.settings
    swept, alone = [], []
    for _ in range(rounds):
        seconds, results = timed(subject, [(predictor, setting) for setting in settings], profile)
        swept.append(seconds)
        seconds, (own,) = timed(subject, [(predictor, settings[grid.default])])
        alone.append(seconds)
        assert own.summary == results[grid.default].summary, "the default's number is not that of its own run"
    for place in range(0, len(settings), max(1, len(settings) // max(1, checked)))[:checked]:
        _, (own,) = timed(subject, [(predictor, settings[place])])
        assert own.summary == results[place].summary, "a number of the sweep is not that of its own run"
    return Comparison(len(settings), len(subject.clips[0].frames), min(swept), min(alone))


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
