"""What an evaluation costs beside the bare network, and whether memory grows with the clip.

    OMP_NUM_THREADS=1 python benchmarks/evaluation.py --data DAVIS --clip dog
    OMP_NUM_THREADS=1 python benchmarks/evaluation.py --memory

Prints ratios of CPU times of one thread, taken alternately in one run; the minimum of the rounds counts.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import corrkit
from corrkit.backbones.contract import with_position
from corrkit.frames.preparation import FramePreparation
from corrkit.inference import exact_inference
from corrkit.passes import evaluate_clip
from corrkit.predictors.loading import make_predictor
from corrkit.predictors.propagator import Propagator
from corrkit.protocols import load_protocol
from corrkit.tasks import load_task
from corrkit.tasks.contract import select_clips
from corrkit.tasks.masks import write_mask
from corrkit.tasks.sources import open_data

MEMORY_LENGTHS = (100, 1000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="DAVIS root; default: the embedded clips")
    parser.add_argument("--clip", help="default: the first clip")
    parser.add_argument("--ckpt", default="random:vit_small_patch16_224")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="peak memory of long clips instead of times")
    parser.add_argument("--measure-clip-of", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure_clip_of:
        print(peak_memory(args.measure_clip_of))
    elif args.memory:
        compare_memory()
    else:
        compare_times(args)


def compare_times(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    task, protocol = load_task("davis"), load_protocol("davis/dino")
    dataset = open_data(task, args.data, None)
    clip = select_clips(dataset, [args.clip])[0] if args.clip else dataset.clips[0]
    predictor = make_predictor(args.ckpt, device="cpu")
    assert isinstance(predictor, Propagator)
    backbone = with_position(predictor.backbone, protocol.features.position)
    seen = predictor.network_input(clip, protocol)
    prepare = FramePreparation(seen.size, protocol.frames, seen.mean, seen.std, seen.colour)
    frames = [prepare(clip.frames[index]) for index in range(len(clip.frames))]
    whole, bare = [], []
    with exact_inference():
        for _ in range(args.rounds):
            whole.append(cpu_seconds(lambda: evaluate_clip([(predictor, protocol)], clip, task)))
            bare.append(cpu_seconds(lambda: [backbone(frame[None]) for frame in frames]))
    print(f"{args.ckpt}, {clip.name}: {len(frames)} frames, network input {seen.size[0]}x{seen.size[1]}, one thread")
    print(f"bare forward      {1000 * min(bare) / len(frames):8.1f} ms/frame")
    print(f"whole evaluation  {1000 * min(whole) / len(frames):8.1f} ms/frame")
    print(f"ratio             {min(whole) / min(bare):8.3f}   (bar 1.15, aim 1.07)")


def cpu_seconds(work) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def compare_memory() -> None:
    peaks = []
    for length in MEMORY_LENGTHS:
        command = [sys.executable, __file__, "--measure-clip-of", str(length)]
        peaks.append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        print(f"{length:5d} frames: peak {peaks[-1]:.0f} MB")
    print(f"ratio {peaks[1] / peaks[0]:.3f}   (bar 1.05)")


def peak_memory(length: int) -> float:
    """Peak resident memory in MB of evaluating a clip of `length` frames with the colour backbone."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        draw = np.random.default_rng(0)
        ground = draw.integers(0, 255, (240, 426, 3), np.uint8)
        for index in range(length):
            ids = np.zeros((240, 426), np.uint8)
            left = 10 + index * 300 // length
            ids[60:160, left : left + 80] = 1
            picture = np.where(ids[..., None] == 1, np.uint8(200), ground)
            write_mask(root / "Annotations/480p/long" / f"{index:05d}.png", ids)
            path = root / "JPEGImages/480p/long" / f"{index:05d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
        corrkit.evaluate("davis", "rgb", data=root, device="cpu", size=[128])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
