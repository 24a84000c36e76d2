"""What all benchmarks share: rows with their bars, contenders that take turns, functions in processes of their own."""

import math
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

FOLDER = Path(__file__).resolve().parent
_CALL = "import sys, pkgutil; sys.path.insert(0, sys.argv[1]); print(pkgutil.resolve_name(sys.argv[2])(*sys.argv[3:]))"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """What a figure must hold, and what is aimed for (DESIGN.md, section 4); None where nothing is set."""

    relation: Literal["<=", ">="]
    must: float | None = None
    aim: float | None = None

    def meets(self, value: float, limit: float) -> bool:
        """Whether a figure is on the right side of one of the two."""
        return value <= limit if self.relation == "<=" else value >= limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure. unit: "x" for a ratio taken in one run; anything else depends on the machine."""

    what: str
    value: float
    unit: str = "x"
    bar: Bar | None = None

    @property
    def verdict(self) -> str:
        """One of aim, holds and MISSED; nothing without a bar."""
        if self.bar is None:
            return ""
        if self.bar.aim is not None and self.bar.meets(self.value, self.bar.aim):
            return "aim"
        return "holds" if self.bar.must is None or self.bar.meets(self.value, self.bar.must) else "MISSED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a benchmark is asked for.

    device: where matching and networks run. quick: fewer rounds and smaller inputs, to see that all works; its figures
    aren't those of the bars. data: a root in DAVIS layout. official: a checkout of davis2017-evaluation.
    """

    device: str = "cpu"
    quick: bool = False
    data: Path | None = None
    official: Path | None = None


def clock(device: str) -> float:
    """Seconds: of all threads of this process on a CPU; on others the wall's, when all that was asked for is done."""
    if device == "cpu":
        return time.process_time()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()


def least(contenders: Mapping[str, Callable[[], object]], rounds: int, device: str = "cpu") -> dict[str, float]:
    """The fewest seconds of each contender; they take turns, so that all see the same machine."""
    found = dict.fromkeys(contenders, math.inf)
    for _ in range(rounds):
        for name, run in contenders.items():
            began = clock(device)
            run()
            found[name] = min(found[name], clock(device) - began)
    return found


def elsewhere(target: str, *arguments: object) -> float:
    """What "module:function" of this folder returns in a process of its own, as a number; arguments arrive as text."""
    command = [sys.executable, "-c", _CALL, str(FOLDER), target, *map(str, arguments)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1])


def memory(field: str) -> float:
    """Bytes (Linux): VmRSS, the resident set now, or VmHWM, its peak (ru_maxrss would include the parent's)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return 1024 * float(next(line for line in lines if line.startswith(field)).split()[1])
