"""Matching time and peak memory against dense passes and against the floor, as ratios of one interleaved run.

    python benchmarks/matching.py              # all rows, some ten minutes on one quiet core
    python benchmarks/matching.py s16 --repeats 5

CPU time per query frame of one thread (corrkit: everything in `propagate`), the least of the repeats, default malloc,
synthetic unit features, full context, L = 3 labels. The dense passes are clean rewrites of the rules of
facebookresearch/dino 7c446df (eval_video_segmentation.py), ajabri/videowalk 047f3f4 (code/utils/test_utils.py) and
xvjiarui/VFS 8e055cc (local_attention.py); they are given normalised features and a ready mask. Those that take too long
are run for a sample of the query cells and scaled; their cost per query cell is constant. The floor is the products
inside the window at the rate of a 1024 x 1024 x C product. Memory is the peak of a process above what it held with the
features that it hands in (Linux only).
"""

import argparse
import itertools
import math
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional

from corrkit.propagation import propagate
from corrkit.protocols import load_protocol, override


@dataclass(frozen=True)
class Row:
    """A setting: the grid, its context frames, and the bars of each figure."""

    height: int
    width: int
    channels: int
    contexts: int
    overrides: dict
    free: int
    styles: dict  # style -> share of the query cells that is run
    bars: dict


CRW = {"shape": "circle", "inclusive": False, "ties": "exact", "topk": 10, "mask_first": False, "first_copies": "fill"}
ROWS = {
    "s16": Row(30, 54, 384, 8, {}, 0, {"dino": 1, "crw": 1, "vfs": 1}, {"dino": 6, "floor": 3.3}),
    "s8": Row(
        60, 107, 384, 8, {}, 0, {"dino": 1 / 8, "crw": 1 / 16, "vfs": 1 / 16},
        {"dino": 25, "crw": 11, "vfs": 16, "floor": 3.3, "memory": 170},
    ),
    "s8-crw-rule": Row(
        60, 107, 256, 21, {**CRW, "context": 20}, 1, {"crw": 1 / 32}, {"crw": 10, "floor": 4.2, "memory": 400}
    ),
    "large": Row(90, 160, 1024, 21, {"context": 20}, 0, {}, {"ring": 1.10}),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", help=f"of {', '.join(ROWS)}; default: all")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--full", action="store_true", help="run every dense pass for all query cells (minutes, 4 GB)")
    parser.add_argument("--peak-of", nargs=2, metavar=("ROW", "FRAMES"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.peak_of:
        print(peak_memory(ROWS[arguments.peak_of[0]], int(arguments.peak_of[1])))
        return
    for name in arguments.rows or ROWS:
        print(f"{name}: {describe(ROWS[name])}")
        if "floor" in ROWS[name].bars:
            report_times(ROWS[name], arguments.repeats, arguments.full)
        report_memory(name, ROWS[name])


def describe(row: Row) -> str:
    return f"grid {row.height}x{row.width}, C {row.channels}, {row.contexts} contexts, {row.overrides or 'dino rule'}"


def synthetic(row: Row, frames: int) -> torch.Tensor:
    """[frames, h, w, C]: a smooth field that moves by a cell per frame, plus noise."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, row.channels, 16, 24, generator=generator)
    field = functional.interpolate(coarse, (row.height, row.width + frames), mode="bicubic")[0].permute(1, 2, 0)
    features = torch.empty(frames, row.height, row.width, row.channels)
    for frame in range(frames):
        noise = torch.randn(row.height, row.width, row.channels, generator=generator)
        features[frame] = functional.normalize(field[:, frame : frame + row.width] + 0.5 * noise, dim=-1)
    return features


def report_times(row: Row, repeats: int, full: bool) -> None:
    features, labels = synthetic(row, row.contexts + 5), torch.rand(row.contexts, row.height * row.width, 3)
    affinity = override(load_protocol("davis/dino"), row.overrides).affinity
    inside = window_mask(row, affinity)
    passes = {"corrkit": (4, stream(features, row)), "gemm": (1, gemm(row.channels))}
    for style, share in row.styles.items():
        share = 1.0 if full else share
        cells = spread(row.height * row.width, share)
        passes[style] = (share, STYLES[style](features, labels, inside, cells, affinity, row.free))
    times = dict.fromkeys(passes, math.inf)
    for _ in range(repeats):
        for name, (share, run) in passes.items():
            start = time.process_time()
            run()
            times[name] = min(times[name], (time.process_time() - start) / share)
    rate = 2 * 1024 * 1024 * row.channels * GEMM_LOOPS / times.pop("gemm")
    pairs = int(inside.sum()) * (row.contexts - row.free) + row.free * (row.height * row.width) ** 2
    floor = 2 * row.channels * pairs / rate
    ours = times.pop("corrkit")
    print(f"  corrkit {ours * 1e3:.0f} ms per query frame; floor {floor * 1e3:.0f} ms at {rate / 1e9:.0f} GFLOP/s")
    print(verdict("corrkit over the floor", ours / floor, "<=", row.bars["floor"]))
    for style, seconds in times.items():
        share = "" if passes[style][0] == 1 else f" (1/{1 / passes[style][0]:.0f} of the query cells, scaled)"
        print(verdict(f"{style} style over corrkit{share}", seconds / ours, ">=", row.bars.get(style)))


def stream(features: torch.Tensor, row: Row):
    """`propagate` of an endless clip at full context; a call takes one more block of four frames out of it."""
    frames = itertools.chain([features[0]], itertools.cycle(features[1:]))
    predictions = propagate(frames, torch.rand(row.height, row.width, 3), **row.overrides)
    take = lambda count: [next(predictions) for _ in range(count)]  # noqa: E731
    take(1 + 4 * -(-row.contexts // 4))  # the first block is a single frame
    return lambda: take(4)


def verdict(what: str, ratio: float, relation: str, bar: float | None, unit: str = "x") -> str:
    if bar is None:
        return f"  {what}: {ratio:.2f}{unit}"
    is_met = ratio <= bar if relation == "<=" else ratio >= bar
    return f"  {what}: {ratio:.2f}{unit}, bar {relation} {bar}: {'met' if is_met else 'MISSED'}"


def window_mask(row: Row, affinity) -> torch.Tensor:
    """[N, N] bool."""
    y, x = torch.meshgrid(torch.arange(row.height), torch.arange(row.width), indexing="ij")
    dy, dx = (c.reshape(-1, 1) - c.reshape(1, -1) for c in (y, x))
    if affinity.shape == "square":
        return (dy.abs() <= affinity.radius) & (dx.abs() <= affinity.radius)
    return dy**2 + dx**2 < affinity.radius**2


def spread(cells: int, share: float) -> torch.Tensor:
    return torch.arange(0, cells, round(1 / share))


GEMM_LOOPS = 8


def gemm(channels: int):
    a, b = torch.rand(1024, channels), torch.rand(1024, channels)

    def run() -> None:
        for _ in range(GEMM_LOOPS):
            a @ b.T

    return run


def dino_style(features, labels, inside, cells, affinity, free):
    keys = features[: len(labels)].flatten(1, 2)  # [n, N, C]
    query = features[-1].flatten(0, 1)[cells].T  # [C, Q]
    mask = inside[:, cells].float().unsqueeze(0)  # [1, N, Q]
    flat_labels = labels.flatten(0, 1).T.contiguous()  # [L, n N]

    def run() -> None:
        weights = torch.exp(torch.bmm(keys, query.expand(len(keys), -1, -1)) / affinity.temperature)
        weights = weights * mask.repeat(len(keys), 1, 1)
        weights = weights.reshape(-1, weights.shape[-1])  # [n N, Q]
        threshold = torch.topk(weights, dim=0, k=affinity.topk).values[-1]
        weights[weights < threshold] = 0
        weights = weights / weights.sum(0, keepdim=True)
        flat_labels @ weights

    return run


def crw_style(features, labels, inside, cells, affinity, free):
    keys = features[: len(labels)].flatten(1, 2)
    query = features[-1].flatten(0, 1)[cells]
    bias = torch.where(inside[:, cells], 0.0, -1e10)  # [N, Q]

    def run() -> None:
        for start in range(0, len(cells), 100):
            part = slice(start, start + 100)
            scores = torch.einsum("nkc,qc->nkq", keys, query[part])
            scores[free:] += bias[:, part]
            scores = scores.flatten(0, 1) / affinity.temperature
            best = torch.topk(scores, affinity.topk, dim=0)
            functional.softmax(best.values, dim=0)

    return run


def vfs_style(features, labels, inside, cells, affinity, free):
    keys = features[: len(labels)].flatten(0, 2).T.contiguous()  # [C, n N]
    query = features[-1].flatten(0, 1)[cells]
    outside = ~inside[:, cells]
    flat_labels = labels.flatten(0, 1)

    def run() -> None:
        for start in range(0, len(cells), 32):
            part = slice(start, start + 32)
            scores = (keys.T @ query[part].T / affinity.temperature).view(len(labels), -1, len(query[part]))
            scores[free:].masked_fill_(outside[:, part], -torch.inf)
            best = torch.topk(scores.flatten(0, 1), affinity.topk, dim=0)
            weights = functional.softmax(best.values, dim=0)
            (flat_labels[best.indices] * weights.unsqueeze(-1)).sum(0)

    return run


STYLES = {"dino": dino_style, "crw": crw_style, "vfs": vfs_style}


def report_memory(name: str, row: Row) -> None:
    """Peak of a whole propagation above the given features, in a fresh process."""
    frames = row.contexts + 4 if "memory" in row.bars else row.contexts + 1
    command = [sys.executable, __file__, "--peak-of", name, str(frames)]
    peak = float(subprocess.run(command, check=True, capture_output=True, text=True, env=dict(os.environ)).stdout)
    ring = row.contexts * row.height * row.width * row.channels * 4 / 1e6
    if "ring" in row.bars:
        print(verdict(f"peak memory over the context ring of {ring:.0f} MB", peak / ring, "<=", row.bars["ring"]))
    else:
        above = f"peak memory above the features (the ring is {ring:.0f} MB of it)"
        print(verdict(above, peak, "<=", row.bars.get("memory"), " MB"))


def peak_memory(row: Row, frames: int) -> float:
    """MB above the features. Where they would take gigabytes, one frame's memory is handed in again and again."""
    labels = torch.rand(row.height, row.width, 3)
    if "ring" in row.bars:
        handed_in = synthetic(row, 1)[0]
        features = (redrawn(handed_in) for _ in range(frames))
    else:
        features = synthetic(row, frames)
    list(propagate(torch.rand(3, 20, 20, 8), torch.rand(20, 20, 2), **row.overrides))  # torch's first-call allocations
    before = memory("VmRSS")
    for _ in propagate(features, labels, **row.overrides):
        pass
    return (memory("VmHWM") - before) / 1e6


def redrawn(frame: torch.Tensor) -> torch.Tensor:
    """The same memory with other unit features."""
    frame.normal_()
    return frame.div_(frame.norm(dim=-1, keepdim=True))


def memory(field: str) -> float:
    """Bytes: VmRSS, the resident set now, or VmHWM, its peak (ru_maxrss would include the parent's before exec)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * float(next(line for line in lines if line.startswith(field)).split()[1])


if __name__ == "__main__":
    main()
