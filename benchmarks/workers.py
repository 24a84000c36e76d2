"""What several processes gain over one: wall time of one evaluation by workers, and by ranks of torchrun.

    OMP_NUM_THREADS=1 python benchmarks/workers.py --data DAVIS --workers 2
    python benchmarks/workers.py --balance

Prints ratios of wall times, taken alternately in one run; the minimum of the rounds counts. Each process has one
thread, and all must print the same table. --balance computes how evenly ranks are loaded by DAVIS val.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from corrkit.manifests.clips import official_clips
from corrkit.processes.shares import Share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="DAVIS root; default: the embedded clips")
    parser.add_argument("--ckpt", default="random:vit_small_patch16_224")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--balance", action="store_true", help="frames of the longest rank over the mean, DAVIS val")
    args = parser.parse_args()
    if args.balance:
        print_balance()
    else:
        compare_times(args)


def compare_times(args: argparse.Namespace) -> None:
    eval_command = ("-m", "corrkit", "eval", "davis", "--ckpt", args.ckpt, "-q")
    if args.data:
        eval_command += ("--data", args.data)
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(args.workers))
    ways = {
        "one process": (*eval_command, "--workers", "1"),
        f"{args.workers} workers": (*eval_command, "--workers", str(args.workers)),
        f"{args.workers} ranks of torchrun": (*torchrun, *eval_command),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    tables = set()
    for _ in range(args.rounds):
        for name, words in ways.items():
            with tempfile.TemporaryDirectory() as folder:
                began = time.perf_counter()
                table = subprocess.run(
                    [sys.executable, *words, "--out", str(Path(folder) / "run")],
                    check=True,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                ).stdout
                seconds[name].append(time.perf_counter() - began)
                tables.add(table)
    assert len(tables) == 1, "the tables differ"
    one = min(seconds["one process"])
    for name, found in seconds.items():
        print(f"{name:24} {min(found):7.1f} s   one process takes {one / min(found):.2f} x as long")


def print_balance() -> None:
    clips = [_Length(clip.num_frames or 0) for clip in official_clips("davis", "val")]
    mean = sum(clip.num_files for clip in clips)
    for count in (2, 4, 8, 16):
        loads = [sum(clip.num_files for clip in Share(rank, count).of(clips)) for rank in range(count)]
        print(f"{count:2} ranks: the longest has {max(loads) * count / mean:.2f} x the mean")


class _Length:
    """As much of a clip as shares look at."""

    def __init__(self, num_files: int) -> None:
        self.num_files = num_files


if __name__ == "__main__":
    main()
