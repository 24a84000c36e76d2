"""The processes that torchrun has started, which evaluate one run together."""

import datetime
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from corrkit.errors import RunError
from corrkit.processes.shares import WHOLE, Share

_LONGEST = datetime.timedelta(days=14)
"""How long the first rank to be ready waits for the last: a run's time, not a network's."""

Evaluated = TypeVar("Evaluated")


def rank_and_count() -> tuple[int, int] | None:
    """This process's rank and how many there are; None where torchrun has not started it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def evaluated_by_all(rank: int, count: int, evaluate: Callable[[Iterable[Share]], Evaluated]) -> Evaluated:
    """Evaluates this rank's share and waits for the others; rank 0 then sums up what all have done.

    The ranks meet in the run folder, which all of them must see; through torch's process group they only wait. A clip
    that failed on its rank is tried once more by rank 0. What `evaluate` raises ends this rank, and so all of them.

    Args:
        rank: of this process.
        count: of the ranks.
        evaluate: opens the run and then evaluates one share after the other (see `workers.Staff.shares`).

    Raises:
        RunError: where another rank has ended too early.
    """
    import torch.distributed

    if not torch.distributed.is_initialized():
        with _all_there():
            torch.distributed.init_process_group("gloo", timeout=_LONGEST)
    evaluated = evaluate(_shares(rank, count))
    _meet()  # the others stay until the sum is written
    return evaluated


def _shares(rank: int, count: int) -> Iterator[Share]:
    """Whoever asks for the next one meets all other ranks there."""
    _meet()  # all have opened the run: what it holds by now was there before this command
    yield Share(rank, count)
    _meet()
    if rank == 0:
        yield WHOLE


def _meet() -> None:
    import torch.distributed

    with _all_there():
        torch.distributed.barrier()


@contextmanager
def _all_there() -> Iterator[None]:
    """Raises RunError where another rank does not come."""
    try:
        yield
    except RuntimeError as error:  # all that torch has for a connection that is closed
        raise RunError(
            "Another rank ended before all were done: it was killed, or its own message says why.",
            "Mend that, and repeat the command; clips that are finished are kept.",
        ) from error


def device_of_rank(device: str) -> str:
    """The GPU of this process among those of its machine, unless one was named; elsewhere the device as it is."""
    import torch

    if rank_and_count() is None or device not in {"auto", "cuda"} or not torch.cuda.is_available():
        return device
    return f"cuda:{os.environ['LOCAL_RANK']}"
