"""What several processes gain over one: wall time of one evaluation by workers, and by ranks of torchrun.

Part "processes": the data of --data (embedded clips without), ViT-S/16 with random weights; ways take turns, the least
of the rounds counts, each process has one thread, and all must print the same table. Part "balance": how evenly ranks
are loaded by the clips of DAVIS val, computed.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from measuring import Bar, Row, Settings

from corrkit.manifests.clips import official_clips
from corrkit.processes.shares import Share

GAIN = Bar(relation=">=", must=1.8, aim=1.95)
BALANCE = Bar(relation="<=", must=1.25)
COUNT = 2


def rows(settings: Settings, part: str) -> Iterator[Row]:
    """One process over two, or the longest rank over the mean."""
    return _balance() if part == "balance" else _processes(settings)


def _processes(settings: Settings) -> Iterator[Row]:
    spec, size = ("rgb", ("--set", "size=128")) if settings.quick else ("random:vit_small_patch16_224", ())
    eval_command = ("-m", "corrkit", "eval", "davis", "--ckpt", spec, *size, "--device", settings.device, "-q")
    if settings.data:
        eval_command += ("--data", str(settings.data))
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(COUNT))
    ways = {
        "one process": (*eval_command, "--workers", "1"),
        f"{COUNT} workers": (*eval_command, "--workers", str(COUNT)),
        f"{COUNT} ranks of torchrun": (*torchrun, *eval_command),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    tables = set()
    for _ in range(1 if settings.quick else 2):
        for name, words in ways.items():
            with tempfile.TemporaryDirectory() as folder:
                began = time.perf_counter()
                table = subprocess.run(
                    [sys.executable, *words, "--out", str(Path(folder) / "run")],
                    check=True,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                ).stdout
                seconds[name].append(time.perf_counter() - began)
                tables.add(table)
    assert len(tables) == 1, "the tables differ"
    one = min(seconds.pop("one process"))
    for name, found in seconds.items():
        yield Row(what=f"one process over {name}", value=one / min(found), bar=GAIN if "workers" in name else None)


def _balance() -> Iterator[Row]:
    clips = [_Length(clip.num_frames or 0) for clip in official_clips("davis", "val")]
    mean = sum(clip.num_files for clip in clips)
    for count in (2, 4, 8, 16):
        loads = [sum(clip.num_files for clip in Share(rank, count).of(clips)) for rank in range(count)]
        bar = BALANCE if count == 8 else None
        yield Row(what=f"the longest of {count} ranks over their mean", value=max(loads) * count / mean, bar=bar)


class _Length:
    """As much of a clip as shares look at."""

    def __init__(self, num_files: int) -> None:
        self.num_files = num_files
