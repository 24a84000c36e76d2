"""Going on with a run: what must be the same as before, what may be changed and is then recorded; when to stop."""

import contextlib
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from corrkit.errors import RunError, UsageError, closest
from corrkit.files.jsontext import Json
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


def accepted_changes(
    stored: dict[str, Json], current: dict[str, Json], allowed: Sequence[str], where: Path
) -> list[str]:
    """What differs between a stored run and this one, all of it allowed.

    Raises:
        RunError: something differs that isn't allowed; says what may be.
        UsageError: a name in `allowed` that nothing goes by.
    """
    if odd := sorted(set(allowed) - set(CHANGEABLE.values())):
        raise UsageError(f"Nothing called {odd[0]!r} may change in a run.", closest(odd[0], CHANGEABLE.values()))
    differing = differences(stored, current)
    named: dict[str, str | None] = {line: CHANGEABLE.get(line.split(" was ")[0]) for line in differing}
    refused = [line for line, name in named.items() if name not in allowed]
    if not refused:
        return differing
    may = sorted({name for line in refused if (name := named[line])})
    remedy = "Repeat its options, or choose another --out."
    if may and all(named[line] for line in refused):
        remedy = f"Repeat its options, or go on all the same with --resume-with {' --resume-with '.join(may)}."
    if any(line.startswith("data was") for line in refused):
        remedy += f" Where the data are as they were, {where / 'index.json'} is damaged: remove it, and repeat."
    raise RunError(f"{where} holds another run: {'; '.join(refused)}.", remedy)


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """SIGTERM and SIGUSR1 that came meanwhile: noted, to be obeyed between steps. Only the main thread can."""
    received: list[int] = []
    numbers = (signal.SIGTERM, signal.SIGUSR1) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, lambda which, _: received.append(which)) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
