"""Going on with a run: what must be the same as before, what may be changed and is then recorded, and one at a time."""

import contextlib
import fcntl
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from corrkit.errors import RunError, UsageError, closest
from corrkit.training.checkpoint import differences

CHANGEABLE = {
    **{f"recipe.optimiser.{name}": f"optimiser.{name}" for name in ("rate", "last_rate", "clip", "clip_each")},
    "precision": "precision",
    "steps": "steps",
    "corrkit": "versions",
    "torch": "versions",
    "device": "device",
    **dict.fromkeys(("batch", "accumulate", "ranks"), "ranks"),  # the product, "items", must stay
}
"""Dotted name in a run's fingerprint to the name by which `--resume-with` allows it to differ."""


def accepted_changes(stored: dict[str, Any], current: dict[str, Any], allowed: Sequence[str], where: Path) -> list[str]:
    """What differs between a stored run and this one, all of it allowed.

    Raises:
        RunError: something differs that isn't allowed; says what may be.
        UsageError: a name in `allowed` that nothing goes by.
    """
    for given in allowed:
        if given not in CHANGEABLE.values():
            raise UsageError(f"Nothing called {given!r} may change in a run.", closest(given, CHANGEABLE.values()))
    differing = differences(stored, current)
    named: dict[str, str | None] = {line: CHANGEABLE.get(line.split(" was ")[0]) for line in differing}
    refused = [line for line, name in named.items() if name not in allowed]
    if not refused:
        return differing
    may = sorted({name for line in refused if (name := named[line])})
    remedy = "Repeat its options, or choose another --out."
    if may and all(named[line] for line in refused):
        remedy = f"Repeat its options, or go on all the same with --resume-with {' --resume-with '.join(may)}."
    raise RunError(f"{where} holds another run: {'; '.join(refused)}.", remedy)


@contextlib.contextmanager
def only_process(folder: Path) -> Iterator[None]:
    """Holds a run's folder; a second process that wants it is refused.

    The kernel lets go of the lock when the process dies. File systems without locks hold nothing.
    """
    with (folder / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise RunError(
                f"{folder} is being trained by another process ({file.read().strip() or 'unknown'}).",
                "Wait for it, end it, or choose another --out.",
            ) from None
        except OSError:
            pass
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


class Stop:
    """Whether the process was told to end: SIGTERM and SIGUSR1 are noted within, and obeyed between steps."""

    SIGNALS = (signal.SIGTERM, signal.SIGUSR1)

    def __init__(self) -> None:
        self.received = ""

    def __enter__(self) -> "Stop":
        self._before = {}
        if threading.current_thread() is threading.main_thread():  # no other may set handlers
            self._before = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: object) -> None:
        self.received = signal.Signals(number).name
