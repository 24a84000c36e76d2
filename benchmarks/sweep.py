"""A sweep of 75 settings over one run: time, and that every number is that of its own run.

CPU time of the first clip of --data (embedded clips without) for a ViT-S/16 with random weights at 480p: five
temperatures, five k and three contexts (those of davis/dino among them) in one pass over the run by itself, taken
alternately; the least of the rounds counts. The first, the last and the default setting are held against their own
runs to the bit.
"""

from collections.abc import Iterator
from types import MappingProxyType

import torch
from measuring import Bar, Row, Settings, least

from corrkit.evaluation import Result, evaluate_together
from corrkit.predictors.loading import make_predictor
from corrkit.protocols import load_protocol, override
from corrkit.subject import open_subject
from corrkit.sweeping.grid import grid_of

AXES = MappingProxyType({"temperature": [0.05, 0.07, 0.1, 0.2, 0.7], "topk": [3, 5, 7, 10, 15], "context": [4, 7, 15]})
BAR = Bar(relation="<=", must=2.0, aim=1.3)


def rows(settings: Settings, part: str) -> Iterator[Row]:
    """The sweep over one run, and what a setting costs."""
    torch.set_num_threads(1)
    predictor = make_predictor("random:vit_small_patch16_224", device=settings.device)
    subject = open_subject("davis", data=settings.data)
    subject = open_subject("davis", data=settings.data, clips=[subject.clips[0].name])
    grid = grid_of(override(load_protocol("davis/dino"), {"size": [128]} if settings.quick else {}), AXES)
    results: dict[str, list[Result]] = {}

    def evaluated(name: str, places: range | list[int]) -> None:
        lanes = [(predictor, grid.settings[place]) for place in places]
        results[name] = evaluate_together(subject, lanes, outs=[None] * len(lanes))

    times = least(
        {
            "sweep": lambda: evaluated("sweep", range(len(grid.settings))),
            "alone": lambda: evaluated("alone", [grid.default]),
        },
        1 if settings.quick else 2,
        settings.device,
    )
    for place in (grid.default, 0, len(grid.settings) - 1):
        if place != grid.default:
            evaluated("alone", [place])
        assert results["alone"][0].summary == results["sweep"][place].summary, "a number is not that of its own run"
    said = f"sweep of {len(grid.settings)} settings over one run"
    yield Row(what=said, value=times["sweep"] / times["alone"], bar=BAR)
    frames = len(subject.clips[0].frames)
    more = 1000 * (times["sweep"] - times["alone"]) / frames / (len(grid.settings) - 1)
    yield Row(what="a further setting, for each frame", value=more, unit="ms")
