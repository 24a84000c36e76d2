"""How the cost of a frame grows with the length of the clip, the resolution, the patch and the context.

CPU time per frame of one thread, taken alternately, each over the first of its kind: matching with synthetic features
(davis/dino, C 384), and a ViT-S/16 or a ViT-S/8 with random weights. docs/scale.md is written from it.
"""

import itertools
from collections.abc import Callable, Iterator
from types import MappingProxyType

import torch
from matching import BLOCK, Setting, stream, synthetic
from measuring import Row, Settings, least

from corrkit.backbones.loading import load_backbone
from corrkit.inference import exact_inference
from corrkit.propagation import propagate

CONTEXTS = (4, 7, 15, 20)
GRIDS = MappingProxyType(
    {"240 pixels, stride 16": (15, 27), "480": (30, 54), "720": (45, 80), "480, stride 8": (60, 107)}
)
SIZES = MappingProxyType({"240x432": (240, 432), "480x864": (480, 864), "720x1280": (720, 1280)})


def rows(settings: Settings, part: str) -> Iterator[Row]:
    """Each cost over the first of its part, and the first in milliseconds."""
    torch.set_num_threads(1)
    with exact_inference():
        runs = {"context": _contexts, "grid": _grids, "encoder": _encoders, "frames": _lengths}[part](settings)
        times = least({name: run for name, (_, run) in runs.items()}, 1 if settings.quick else 3, settings.device)
    each = {name: times[name] / frames for name, (frames, _) in runs.items()}
    first = next(iter(each))
    yield Row(what=f"{first}, per frame", value=1e3 * each[first], unit="ms")
    for name in itertools.islice(each, 1, None):
        yield Row(what=f"{name}, over {first}", value=each[name] / each[first])


Runs = dict[str, tuple[int, Callable[[], object]]]
"""Name to how many frames a run takes, and the run."""


def _matching(settings: Settings, grid: tuple[int, int], context: int) -> Callable[[], object]:
    setting = Setting(height=grid[0], width=grid[1], channels=384, contexts=context + 1, overrides={"context": context})
    return stream(synthetic(setting, setting.contexts + 5).to(settings.device), setting)


def _contexts(settings: Settings) -> Runs:
    grid = (15, 27) if settings.quick else (30, 54)
    return {f"context of {context} frames": (BLOCK, _matching(settings, grid, context)) for context in CONTEXTS}


def _grids(settings: Settings) -> Runs:
    grids = dict(itertools.islice(GRIDS.items(), 2)) if settings.quick else GRIDS
    return {f"matching at {name}": (BLOCK, _matching(settings, grid, 7)) for name, grid in grids.items()}


def _encoders(settings: Settings) -> Runs:
    """ViT-S/8 sees four times the tokens."""
    sizes = dict(itertools.islice(SIZES.items(), 1)) if settings.quick else SIZES
    small = load_backbone("random:vit_small_patch16_224").to(settings.device)
    runs: Runs = {f"ViT-S/16 at {name}": (1, _encoding(small, size, settings)) for name, size in sizes.items()}
    fine = load_backbone("random:vit_small_patch8_224").to(settings.device)
    return runs | {"ViT-S/8 at 240x432": (1, _encoding(fine, (240, 432), settings))}


def _encoding(backbone: Callable[[torch.Tensor], torch.Tensor], size: tuple[int, int], settings: Settings):
    frame = torch.randn(1, 3, *size, device=settings.device)
    return lambda: backbone(frame)


def _lengths(settings: Settings) -> Runs:
    """Whole clips of drawn features on a small grid, so that a thousand frames take seconds."""
    setting = Setting(height=15, width=27, channels=384, contexts=8)
    features = synthetic(setting, 32).to(settings.device)
    labels = torch.rand(15, 27, 3, device=settings.device)

    def run(length: int) -> Callable[[], object]:
        return lambda: [None for _ in propagate(itertools.islice(itertools.cycle(features), length), labels)]

    lengths = (50, 100) if settings.quick else (50, 200, 1000)
    return {f"clip of {length} frames": (length, run(length)) for length in lengths}
