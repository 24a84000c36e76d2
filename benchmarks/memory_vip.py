"""Whether memory grows with the length of a clip in VIP layout.

    OMP_NUM_THREADS=1 python benchmarks/memory_vip.py [--frames 50 1000] [--model rgb]

Draws a moving figure of 640x360 pixels with a label on every 25th frame, as in VIP, evaluates first the short and then
the long clip under the default protocol (network size 128x320 instead of 448x880, for time) in one fresh process, and
prints the peak of its resident memory after each. Peaks of separate processes differ by up to 45 MB from run to run, as
reading threads meet the network's temporaries or not; in one process they share what is loaded and cached.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from corrkit.tasks.masks import write_mask

SIZE = (360, 640)
LABEL_STEP = 25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs=2, default=[50, 1000], metavar=("SHORT", "LONG"))
    parser.add_argument("--model", default="rgb", help="any spec, default: rgb")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(*(evaluate_and_measure(Path(root), args.model) for root in args.measure))
        return
    short, long = peak_memories(*args.frames, args.model)
    for length, peak in zip(args.frames, (short, long), strict=True):
        print(f"{length:5d} frames: peak {peak:.0f} MB")
    print(f"difference {long - short:.0f} MB   (bar 50), ratio {long / short:.3f}")


def peak_memories(short: int, long: int, model: str = "rgb") -> tuple[float, float]:
    """Peak resident memory in MB of a fresh process after a clip of `short` frames, and after one of `long` frames."""
    with tempfile.TemporaryDirectory() as folder:
        roots = [Path(folder) / str(length) for length in (short, long)]
        for root, length in zip(roots, (short, long), strict=True):
            draw_clip(root, length)
        command = [sys.executable, __file__, "--model", model, "--measure", *map(str, roots)]
        first, second = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        return float(first), float(second)


def draw_clip(root: Path, length: int) -> None:
    """A figure of three parts that moves over a textured ground."""
    ground = np.random.default_rng(0).integers(0, 200, (*SIZE, 3), np.uint8)
    frames, labels = root / "Images/long", root / "Annotations/Category_ids/long"
    frames.mkdir(parents=True)
    for index in range(length):
        ids = np.zeros(SIZE, np.uint8)
        left = 20 + index * 480 // length
        for part, top in ((13, 40), (5, 120), (16, 220)):
            ids[top : top + 80, left : left + 100] = part
        picture = np.where(ids[..., None] > 0, np.uint8(11) * ids[..., None], ground)
        Image.fromarray(picture).save(frames / f"{index + 1:012d}.jpg")
        if index % LABEL_STEP == 0:
            write_mask(labels / f"{index + 1:012d}.png", ids)


def evaluate_and_measure(root: Path, model: str) -> float:
    """Evaluates the clip in this process; the peak of its resident memory so far, in MB."""
    import corrkit

    result = corrkit.evaluate("vip", model, data=root, device="cpu", size=[320])
    assert not result.failures, result.failures
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)  # macOS counts bytes, Linux kilobytes


if __name__ == "__main__":
    main()
