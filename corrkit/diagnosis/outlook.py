"""How long DAVIS val will take here, from a short measured probe."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from corrkit.backbones.networks.vit import Parts, VisionTransformer
from corrkit.diagnosis.facts import Fact
from corrkit.inference import exact_inference
from corrkit.manifests.clips import official_clips
from corrkit.predictors.loading import resolve_device
from corrkit.processes.workers import suitable_workers
from corrkit.propagation.contexts import Context
from corrkit.propagation.matching import Matcher
from corrkit.protocols import load_protocol

if TYPE_CHECKING:
    import torch

SIZE = (480, 880)
"""Of the network's input, (height, width): published protocols show the 854x480 of DAVIS in 832x480 to 880x480."""
VIT_S = Parts(dim=384, depth=12, heads=6, patch=(16, 16), hidden=1536, grid=(14, 14))
PROTOCOL = "davis/dino"
LONGEST = 0.75
"""Seconds of each half of the probe; a slower machine runs fewer blocks of the network, and skips a rehearsal."""
BUSY = 1.25
"""Wall over processor time, from which on the estimate says that other programs want the processors, too."""


def facts() -> Iterator[Fact]:
    """The estimate, for as many workers of one thread as an evaluation would have."""
    clips = official_clips("davis", "val")
    frames = sum(clip.num_frames or 0 for clip in clips)
    device = resolve_device("auto")
    with _one_thread(), exact_inference():
        began, used = time.perf_counter(), _now(device)
        encoding, matching = seconds_of_encoding(device, SIZE), seconds_of_matching(device, SIZE)
        busy = (time.perf_counter() - began) / (_now(device) - used)
    alone = frames * (encoding + matching)
    workers = suitable_workers(alone, device.type)
    total = alone / workers
    slowed = f" Other programs are busy: here and now it takes {busy:.1f} times as long." if busy > BUSY else ""
    yield Fact(
        name="DAVIS val",
        text=f"about {_duration(total)} for a ViT-S/16 by {workers} worker(s): {len(clips)} clips, {frames:,} frames, "
        f"each {encoding * 1e3:.0f} ms to encode and {matching * 1e3:.0f} ms to match (measured here at "
        f"{SIZE[0]}x{SIZE[1]}). Assumed: all frames are of that size, workers don't slow each other, reading and "
        f"scoring (some per cent) don't count.{slowed}",
        value={
            "seconds": total,
            "frames": frames,
            "workers": workers,
            "encoding": encoding,
            "matching": matching,
            "busy": busy,
            "network": "ViT-S/16",
            "size": [*SIZE],
            "protocol": PROTOCOL,
        },
    )


def seconds_of_encoding(device: "torch.device", size: tuple[int, int]) -> float:
    """Of one frame by a ViT-S/16: its blocks one after the other, as many as there is time for."""
    import torch

    network = VisionTransformer(VIT_S).eval().to(device)
    for parameter in network.parameters():
        parameter.fill_(0.01)  # time depends on no weight, as long as it is a number of common size
    frame = torch.ones(1, 3, *size, device=device)
    next(network.outputs(frame, upto=1))  # what happens in a first call only
    ends, began, used = time.perf_counter() + LONGEST, _now(device), [0.0]
    for _ in network.outputs(frame, upto=VIT_S.depth):
        used.append(_now(device) - began)
        if time.perf_counter() > ends:
            break
    return used[-1] * VIT_S.depth / (len(used) - 1)


def seconds_of_matching(device: "torch.device", size: tuple[int, int]) -> float:
    """Of one frame with all its context frames, among as many as are matched at a time."""
    import torch
    from torch.nn.functional import normalize

    rules, together = load_protocol(PROTOCOL), 4
    grid = [side // VIT_S.patch[0] for side in size]
    generator = torch.Generator().manual_seed(0)
    shape = (1 + rules.memory.context + together, *grid, VIT_S.dim)
    frames = [*normalize(torch.randn(*shape, generator=generator), dim=-1).to(device)]
    queries = range(len(frames) - together, len(frames))
    contexts = [
        [Context(features=frames[index]) for index in (0, *range(query - rules.memory.context, query))]
        for query in queries
    ]
    matcher, ends = Matcher(rules.affinity), time.perf_counter() + LONGEST
    for _ in range(2):  # what happens in a first call only
        began = _now(device)
        matcher.match([frames[query] for query in queries], contexts)
        used = _now(device) - began
        if time.perf_counter() > ends:
            break
    return used / together


@contextmanager
def _one_thread() -> Iterator[None]:
    """As each of several workers has."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _now(device: "torch.device") -> float:
    """Seconds that the device has worked: of this thread on a CPU; on others the clock, when all is done."""
    import torch

    if device.type == "cpu":
        return time.thread_time()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
