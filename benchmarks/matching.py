"""Matching time and peak memory against dense passes and against the floor.

CPU time per query frame of one thread (corrkit: everything in `propagate`), the least of the rounds, default malloc,
synthetic unit features, full context, L = 3 labels. The dense passes (`reference_passes`) that take too long are run
for a spread sample of the query cells and scaled: their cost per query cell is constant, as they go through them piece
by piece. The DINO style takes all cells at once, and arrays of that size are part of its cost: it is run whole. The
floor is the products inside the window at the rate of a 1024 x 1024 x C product taken in the same rounds. Memory is the
peak of a process above what it held with the features that it hands in (Linux only).
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from measuring import Bar, Row, Settings, elsewhere, least, memory
from reference_passes import STYLES, Frame, pairs_in_window, window_mask
from torch import Tensor
from torch.nn import functional

from corrkit.propagation import propagate
from corrkit.protocols import load_protocol, override

GEMM_LOOPS = 8
BLOCK = 4  # query frames that `propagate` matches at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A grid with full context. styles: dense pass to the share of the query cells that it is run for."""

    height: int
    width: int
    channels: int
    contexts: int
    overrides: dict[str, object] = field(default_factory=dict)
    free: int = 0
    styles: dict[str, float] = field(default_factory=dict)
    bars: dict[str, Bar] = field(default_factory=dict)


CRW = {"shape": "circle", "inclusive": False, "ties": "exact", "topk": 10, "mask_first": False, "first_copies": "fill"}
SETTINGS = MappingProxyType(
    {
        "s16": Setting(
            height=30, width=54, channels=384, contexts=8,
            styles={"dino": 1, "crw": 1, "vfs": 1},
            bars={
                "dino": Bar(relation=">=", must=6, aim=8),
                "floor": Bar(relation="<=", must=3.3, aim=2.4),
            },
        ),
        "s8": Setting(
            height=60, width=107, channels=384, contexts=8,
            styles={"dino": 1, "crw": 1 / 16, "vfs": 1 / 16},
            bars={
                "dino": Bar(relation=">=", must=25, aim=42),
                "crw": Bar(relation=">=", must=11, aim=16),
                "vfs": Bar(relation=">=", must=16, aim=25),
                "floor": Bar(relation="<=", must=3.3, aim=2.4),
                "memory": Bar(relation="<=", must=170, aim=115),
            },
        ),
        "s4": Setting(height=120, width=214, channels=384, contexts=8, styles={"crw": 1 / 256, "vfs": 1 / 256}),
        "crw-rule": Setting(
            height=60, width=107, channels=256, contexts=21, overrides={**CRW, "context": 20}, free=1,
            styles={"crw": 1 / 32},
            bars={
                "crw": Bar(relation=">=", must=10, aim=17),
                "floor": Bar(relation="<=", must=4.2, aim=2.4),
                "memory": Bar(relation="<=", must=400),
            },
        ),
        "large": Setting(
            height=90, width=160, channels=1024, contexts=21, overrides={"context": 20},
            bars={"ring": Bar(relation="<=", must=1.10)},
        ),
    }
)  # fmt: skip
"""Part to setting; the bars are those of DESIGN.md, section 4."""


def rows(settings: Settings, part: str) -> Iterator[Row]:
    """Dense passes over corrkit, corrkit over the floor, and the peak of memory, for one of `SETTINGS`."""
    torch.set_num_threads(1)
    setting = SETTINGS[part]
    if "ring" not in setting.bars:
        yield from _times(setting, settings)
    if settings.device == "cpu" and not settings.quick:
        yield from _memory(part)


def synthetic(setting: Setting, frames: int) -> Tensor:
    """[frames, h, w, C]: a smooth field that moves by a cell per frame, plus noise."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, setting.channels, 16, 24, generator=generator)
    size = (setting.height, setting.width + frames)
    field_ = functional.interpolate(coarse, size, mode="bicubic")[0].permute(1, 2, 0)
    features = torch.empty(frames, setting.height, setting.width, setting.channels)
    for frame in range(frames):
        noise = torch.randn(features.shape[1:], generator=generator)
        features[frame] = functional.normalize(field_[:, frame : frame + setting.width] + 0.5 * noise, dim=-1)
    return features


def _times(setting: Setting, settings: Settings) -> Iterator[Row]:
    num_cells, device = setting.height * setting.width, settings.device
    features = synthetic(setting, setting.contexts + 5).to(device)
    labels = torch.rand(setting.contexts, num_cells, 3, device=device)
    affinity = override(load_protocol("davis/dino"), setting.overrides).affinity
    runs: dict[str, Callable[[], object]] = {"corrkit": stream(features, setting), "gemm": gemm(setting, device)}
    for style, share in setting.styles.items():
        cells = torch.arange(0, num_cells, round((8 if settings.quick else 1) / share), device=device)
        inside = window_mask(setting.height, setting.width, affinity, cells)
        frame = Frame(
            features=features, labels=labels, inside=inside, cells=cells, affinity=affinity, free=setting.free
        )
        runs[style] = STYLES[style](frame)
    if device != "cpu":
        for run in runs.values():
            run()
    times = least(runs, 1 if settings.quick else 3, device)
    ours = times["corrkit"] / BLOCK
    rate = 2 * 1024 * 1024 * setting.channels * GEMM_LOOPS / times["gemm"]
    windowed = pairs_in_window(setting.height, setting.width, affinity)
    pairs = windowed * (setting.contexts - setting.free) + setting.free * num_cells**2
    floor = 2 * setting.channels * pairs / rate
    yield Row(what="corrkit per query frame", value=1e3 * ours, unit="ms")
    yield Row(what="corrkit over the floor", value=ours / floor, bar=setting.bars.get("floor"))
    for style in setting.styles:
        sample = round(1 / setting.styles[style]) * (8 if settings.quick else 1)
        said = f"{style} style over corrkit" + (f" (1/{sample} of the query cells)" if sample > 1 else "")
        yield Row(what=said, value=times[style] * sample / ours, bar=setting.bars.get(style))


def stream(features: Tensor, setting: Setting) -> Callable[[], object]:
    """`propagate` of an endless clip at full context; a call takes one more block of query frames out of it."""
    frames = itertools.chain([features[0]], itertools.cycle(features[1:]))
    labels = torch.rand(setting.height, setting.width, 3, device=features.device)
    predictions = propagate(frames, labels, **setting.overrides)

    def take(count: int) -> None:
        for _ in range(count):
            next(predictions)

    take(1 + BLOCK * -(-setting.contexts // BLOCK))  # the first block is a single frame
    return lambda: take(BLOCK)


def gemm(setting: Setting, device: str) -> Callable[[], object]:
    a, b = torch.rand(2, 1024, setting.channels, device=device)

    def run() -> None:
        for _ in range(GEMM_LOOPS):
            a @ b.T

    return run


def _memory(part: str) -> Iterator[Row]:
    """Peak of a whole propagation above the given features, in a fresh process."""
    setting = SETTINGS[part]
    if not {"memory", "ring"} & set(setting.bars):
        return
    peak = elsewhere("matching:peak_memory", part)
    ring = setting.contexts * setting.height * setting.width * setting.channels * 4 / 1e6
    if "ring" in setting.bars:
        yield Row(what=f"peak memory over the ring of {ring:.0f} MB", value=peak / ring, bar=setting.bars["ring"])
    else:
        said = f"peak memory above the features (with the ring of {ring:.0f} MB)"
        yield Row(what=said, value=peak, unit="MB", bar=setting.bars["memory"])


def peak_memory(part: str) -> float:
    """MB above the features. Where they would take gigabytes, one frame's memory is handed in again and again."""
    torch.set_num_threads(1)
    setting = SETTINGS[part]
    labels = torch.rand(setting.height, setting.width, 3)
    features: Tensor | Iterator[Tensor]
    if "ring" in setting.bars:
        handed_in = synthetic(setting, 1)[0]
        features = (redrawn(handed_in) for _ in range(setting.contexts + 1))
    else:
        features = synthetic(setting, setting.contexts + 4)
    list(propagate(torch.rand(3, 20, 20, 8), torch.rand(20, 20, 2), **setting.overrides))  # first-call allocations
    before = memory("VmRSS")
    for _ in propagate(features, labels, **setting.overrides):
        pass
    return (memory("VmHWM") - before) / 1e6


def redrawn(frame: Tensor) -> Tensor:
    """The same memory with other unit features."""
    frame.normal_()
    return frame.div_(frame.norm(dim=-1, keepdim=True))
