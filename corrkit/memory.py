"""How much memory there is, asked before much is taken: else the kernel ends the process without a word.

What the machine has left is an upper bound of what can be had, so nothing that fits is refused by it; the needs that it
is held against are lower bounds.
"""

import contextlib
import re
from pathlib import Path

from corrkit.errors import DataError

_GROUP = Path("/sys/fs/cgroup")
_CUDA = Path("/dev/nvidiactl")
_RESERVED = 1 << 30
"""Bytes that threads' stacks and allocators reserve and never touch."""

_READ_AHEAD = 6 * 15
"""Bytes per pixel of the frames that wait for the network: resized colours, and normalised in float32."""
_PASS = 20
"""Tensors of a block's size that are there at once, about: its input, queries, keys and values, its hidden layer."""
_SIMILARITIES = 24 << 20
_ALWAYS = 30 << 20
"""Stacks, decoders, and what libraries keep for themselves."""
FRAMES_AHEAD = 4
"""Frames with features beside those of the context: the current one and those that are matched with it."""


def memory_of_a_clip(*, cells: int, channels: int, context: int, pixels: int) -> int:
    """Bytes that a clip takes on a CPU beside program and weights, about; its labels, a few per cent, are left out.

    Measured for rgb, hog, ViT-S/16, ViT-S/8 and ViT-B/16 at short sides of 240 and 480: 0.9 to 1.3 times what it took.

    Args:
        cells: of the grid.
        channels: of the features.
        context: frames of it.
        pixels: of the network's input.
    """
    features = 4 * cells * channels
    return features * (context + FRAMES_AHEAD + _PASS) + _READ_AHEAD * pixels + _SIMILARITIES + _ALWAYS


def available_memory() -> int | None:
    """Bytes that can still be had, swap included, within the limit of a container; None where nothing tells it."""
    told = _numbers(Path("/proc/meminfo"), 1024)
    if "MemAvailable" not in told:
        return None
    free = told["MemAvailable"] + told.get("SwapFree", 0)
    limit, used = _number(_GROUP / "memory.max"), _number(_GROUP / "memory.current")
    if limit is None or used is None:
        return free
    cached = _numbers(_GROUP / "memory.stat", 1).get("file", 0)  # given back when somebody asks for memory
    return max(0, min(free, limit - used + cached + told.get("SwapFree", 0)))


def require_memory(needed: int, what: str, remedy: str) -> None:
    """Raises DataError where fewer bytes are left than `what` takes at the very least."""
    free = available_memory()
    if free is not None and needed > free:
        raise DataError(
            f"{what} takes at least {needed / 1e9:.1f} GB of memory; {free / 1e9:.1f} GB are free here.", remedy
        )


def refuse_what_is_not_there() -> None:
    """From here on asking for more memory than there is fails as an error of this process's own, which can be told.

    Linux grants any memory that is asked for, and ends the process that touches too much. Not where there is a GPU,
    whose driver reserves far more than it uses.
    """
    free = available_memory()
    own = _numbers(Path("/proc/self/status"), 1024).get("VmData")
    if free is None or own is None or _CUDA.exists():
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    _limit(min([own + free + _RESERVED, *(given for given in (soft, hard) if given != resource.RLIM_INFINITY)]), hard)


def admit_mapping(nbytes: int) -> None:
    """A file that is mapped takes no memory by that: the limit of `refuse_what_is_not_there` grows by its bytes."""
    if available_memory() is None:
        return  # there is no such limit, nor a module that tells it
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if soft != resource.RLIM_INFINITY:
        _limit(soft + nbytes if hard == resource.RLIM_INFINITY else min(soft + nbytes, hard), hard)


def _limit(soft: int, hard: int) -> None:
    import resource

    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _numbers(path: Path, unit: int) -> dict[str, int]:
    """Name to bytes of lines such as "MemFree: 12 kB"; nothing where there is no such file."""
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return {}
    return {name: int(number) * unit for name, number in re.findall(r"^(\w+):?\s+(\d+)", text, re.MULTILINE)}


def _number(path: Path) -> int | None:
    """The number in a file; None where there is none, or a word ("max")."""
    try:
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None
