"""What makes a network faster on this CPU, and whether its features stay the same: layout, batches, bf16, threads.

    OMP_NUM_THREADS=1 python benchmarks/encoder.py --size 240x432
    OMP_NUM_THREADS=2 python benchmarks/encoder.py --wall

Ratios of processor time of one thread (or of wall time, with several) to that of the network as corrkit runs it, taken
in turn in one run, the least of the rounds; and the largest 1 - cosine between their features.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch.nn import functional

import corrkit
from corrkit.backbones.precision import worked_in
from corrkit.inference import exact_inference

CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ckpt", default="random:vit_small_patch16_224")
    parser.add_argument("--size", default="480x864", help="height and width of the network's input")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--wall", action="store_true", help="wall time, for several threads on an idle machine")
    args = parser.parse_args()
    height, width = map(int, args.size.split("x"))
    clock = time.perf_counter if args.wall else time.process_time
    backbone = corrkit.load_backbone(args.ckpt)
    frames = torch.randn(4, 3, height, width, generator=torch.Generator().manual_seed(0))
    ways: dict[str, Callable[[], torch.Tensor]] = {
        "as it is": lambda: torch.cat([backbone(frame[None]) for frame in frames]),
        "channels last": lambda: torch.cat(
            [backbone(frame[None].contiguous(memory_format=torch.channels_last)) for frame in frames]
        ),
        "batches of 2": lambda: torch.cat([backbone(pair) for pair in frames.split(2)]),
        "batches of 4": lambda: backbone(frames),
        "bf16": lambda: torch.cat([*worked_in("bfloat16", CPU, (backbone(frame[None]) for frame in frames))]),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    features: dict[str, torch.Tensor] = {}
    with exact_inference():
        for _ in range(args.rounds):
            for name, work in ways.items():
                began = clock()
                features[name] = work()
                seconds[name].append(clock() - began)
    least = {name: min(found) for name, found in seconds.items()}
    print(
        f"{args.ckpt} at {args.size}, {torch.get_num_threads()} thread(s), {least['as it is'] / 4 * 1e3:.0f} ms a frame"
    )
    for name, found in least.items():
        off = 1 - functional.cosine_similarity(features[name], features["as it is"], dim=-1)
        same = "bit-equal" if torch.equal(features[name], features["as it is"]) else f"1 - cos {float(off.max()):.1e}"
        print(f"{name:14} {found / least['as it is']:6.3f} x   {same}", flush=True)


if __name__ == "__main__":
    main()
