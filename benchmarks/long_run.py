"""A long training that everything happens to, beside an undisturbed one: does it finish, with the same losses?

    mount -t tmpfs -o size=64m none OUT/disturbed     # a small file system, so that its disk can be filled
    python benchmarks/long_run.py OUT [--steps 10000] [--every 500]

Data are small clips of frames of which one in twenty is damaged. Both trainings (MAE, a ViT of width 32 at 32 pixels)
take the same items, two a step. The undisturbed one is one process. The other has two at its beginning and at its end,
between them one that accumulates; every `--every` steps a process that decodes is killed, every third time one that
trains; once the disk is full. After each, the same command is repeated. It prints what happened, and how far the losses
of each step are apart.
"""

import argparse
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from corrkit.runs.logs import Row, read_log

CLIPS, FRAMES, DAMAGED = 80, 6, 20
"""Clips, frames of each, and one in how many of them is damaged."""
SMALL = ("views.size=32", "encoder.dim=32", "encoder.depth=1")
COMMON = (
    *("--scale", "tiny", "--device", "cpu", "--log-every", "1", "--picture-every", "0"),
    *("--save-every", "50", "--keep", "2", "--damaged", "1", "--resume-with", "ranks"),
)
OF_RANKS = {1: ("--batch", "1", "--accumulate", "2"), 2: ("--batch", "1", "--accumulate", "1")}
LARGEST_DISK = 1 << 28  # bytes; a larger one is not filled
PATIENCE = 20
"""Starts in a row that may add no step."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--every", type=int, default=500)
    args = parser.parse_args()
    data = make_data(args.out / "data")
    with ThreadPoolExecutor() as both:  # each waits for processes
        runs = [("undisturbed", None), ("disturbed", Trouble(args.steps, args.every))]
        for done in [both.submit(train, data, args.out / name, args.steps, trouble) for name, trouble in runs]:
            done.result()
    for line in compared(args.out / "undisturbed", args.out / "disturbed"):
        print(line, flush=True)


def make_data(folder: Path) -> Path:
    """Moving noise as PNG files; the damaged ones are cut off in the middle."""
    dice = np.random.default_rng(0)
    for number, frame in itertools.product(range(CLIPS), range(FRAMES)):
        path = folder / f"{number:03d}" / f"{frame}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = np.random.default_rng(number).integers(0, 255, (10, 12, 3), dtype=np.uint8)
        Image.fromarray(np.roll(coarse.repeat(4, 0).repeat(4, 1), 2 * frame, axis=1)).save(path)
    files = sorted(folder.rglob("*.png"))
    for place in dice.permutation(len(files))[: len(files) // DAMAGED]:
        content = files[place].read_bytes()
        files[place].write_bytes(content[: len(content) // 2])
    return folder


@dataclass
class Trouble:
    """What happens to a training, by step."""

    steps: int
    every: int
    reached: int = 0
    full: bool = False
    told: int = 0

    def __post_init__(self) -> None:
        self.kills = iter(range(self.every, self.steps, self.every))
        self.next_kill = next(self.kills, self.steps)
        self.kinds = itertools.cycle(("decoding", "decoding", "training"))
        self.full_at = self.steps // 2 + self.every // 3

    @property
    def ranks(self) -> int:
        """Two, then one, then two again."""
        edge = self.steps // 20 + self.every // 2
        return 1 if edge <= self.reached < self.steps - edge else 2

    def strike(self, out: Path, launched: int, started_with: int, step: int) -> None:
        """Does what is due at a step that a run has reached."""
        self.reached = max(self.reached, step)
        if step >= self.next_kill:
            self._kill(launched, step)
        elif self.ranks != started_with and self.told != launched:
            self.told = launched
            send(signal.SIGTERM, trainers(launched))  # saves, and ends with 0
            note(f"step {step}: told to stop, to go on with {self.ranks} rank(s)")
        elif step >= self.full_at and not self.full:
            self.full = True
            note(f"step {step}: {fill_disk(out)}")

    def ended(self, out: Path, code: int, said: str) -> None:
        """A process has ended: makes room, and keeps what it said last."""
        (out / "ballast").unlink(missing_ok=True)
        told = [line for line in said.splitlines() if line.startswith(("corrkit:", "told to stop"))]
        note(f"  ended with {code}: {' | '.join(told)[:300] or said.strip()[-200:]}")

    def _kill(self, launched: int, step: int) -> None:
        kind = next(self.kinds)
        if send(signal.SIGKILL, decoders(launched) if kind == "decoding" else trainers(launched)):
            note(f"step {step}: killed a process that is {kind}")
        self.next_kill = next(self.kills, self.steps)


def note(line: str) -> None:
    print(line, flush=True)


def send(number: signal.Signals, processes: list[int]) -> bool:
    """A signal to the last of some processes, of which none may be left; gives it time."""
    with contextlib.suppress(ProcessLookupError, IndexError):
        os.kill(processes[-1], number)
        time.sleep(2)
        return True
    return False


def train(data: Path, out: Path, steps: int, trouble: Trouble | None) -> None:
    """Repeats the command until all steps are done. Raises RuntimeError where a start adds none again and again."""
    before, idle, started = -1, 0, time.monotonic()
    while (done := finished(out)) < steps:
        idle = 0 if done > before else idle + 1
        if idle > PATIENCE:
            raise RuntimeError(f"{out} stays at step {done}")
        before = done
        ranks = 1 if trouble is None else trouble.ranks
        launch = ["-m", "corrkit"] if ranks == 1 else (
            ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), "-m", "corrkit"]
        )  # fmt: skip
        sets = [part for one in SMALL for part in ("--set", one)]
        arguments = ["pretrain", "mae", "--data", str(data), "--out", str(out), "--steps", str(steps)]
        workers = ["--workers", "0" if trouble is None else "1"]
        command = [sys.executable, *launch, *arguments, *COMMON, *workers, *OF_RANKS[ranks], *sets]
        environment = {**os.environ, "XDG_CACHE_HOME": str(out.parent / "cache"), "OMP_NUM_THREADS": "1"}
        with tempfile.TemporaryFile("w+") as file:  # not on the disk that gets full
            with subprocess.Popen(command, stdout=file, stderr=file, env=environment) as run:
                while run.poll() is None:
                    time.sleep(0.2)
                    if trouble is not None and (step := last_step(out)) > done:
                        trouble.strike(out, run.pid, ranks, step)
            file.seek(0)
            said = file.read()
        if trouble is not None:
            trouble.ended(out, run.returncode, said)
        elif run.returncode:
            raise RuntimeError(said[-2000:])
    note(f"{out.name}: {steps} steps after {time.monotonic() - started:.0f} s")


def finished(out: Path) -> int:
    """Step of the last checkpoint."""
    with contextlib.suppress(FileNotFoundError):
        return int(json.loads((out / "run.json").read_text())["step"])
    return 0


def last_step(out: Path) -> int:
    """Of log.csv, which is written after each step; 0 where there is none."""
    with contextlib.suppress(FileNotFoundError, ValueError, OSError), (out / "log.csv").open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 400))
        return int(file.read().splitlines()[-2].split(b",")[0])
    return 0


def fill_disk(folder: Path) -> str:
    """Leaves no room beside what is there; says so, or that the file system is too large for that."""
    usage = shutil.disk_usage(folder)
    if usage.total > LARGEST_DISK:
        return f"disk NOT filled, it has {usage.total >> 30} GiB: mount a small one"
    with contextlib.suppress(OSError), (folder / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return "the disk is full"


def trainers(launched: int) -> list[int]:
    """Processes that train, below the one that was launched or itself, by rank."""
    return [process for process in below(launched) if b"pretrain" in words_of(process)
            and b"torch.distributed.run" not in words_of(process)]  # fmt: skip


def decoders(launched: int) -> list[int]:
    """Processes that decode."""
    return [process for process in below(launched) if any(b"spawn_main" in word for word in words_of(process))]


def below(process: int) -> Iterator[int]:
    """A process, its children, theirs, ..."""
    yield process
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
            yield from below(int(child))


def words_of(process: int) -> list[bytes]:
    """The command line of a process."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    return []


def compared(undisturbed: Path, disturbed: Path) -> Iterator[str]:
    """How far two runs are apart: sums of two ranks are rounded otherwise than those of one."""
    one, other = (read_log(folder / "log.csv") for folder in (undisturbed, disturbed))
    yield f"steps: {len(one)} and {len(other)}"
    same = sum(a["replaced"] == b["replaced"] for a, b in zip(one, other, strict=True))
    yield f"steps with the same samples replaced: {same}; replaced in all: {one[-1]['replaced']:.0f}"
    apart = [abs(a["loss"] - b["loss"]) / a["loss"] for a, b in zip(one, other, strict=True)]
    yield f"losses apart, relative: median {np.median(apart):.1e}, largest {max(apart):.1e}"
    yield f"mean loss of the last tenth: {last_tenth(one):.6f} and {last_tenth(other):.6f}"
    history = json.loads((disturbed / "run.json").read_text())["history"]
    yield f"changes in the run's history: {[(row['step'], row['changes']) for row in history]}"


def last_tenth(rows: list[Row]) -> float:
    """Mean loss at the end."""
    return float(np.mean([row["loss"] for row in rows[-max(1, len(rows) // 10) :]]))


if __name__ == "__main__":
    main()
