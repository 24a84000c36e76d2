"""The processes that torchrun has started, which evaluate one run together."""

import datetime
import os
from collections.abc import Callable
from typing import TypeVar

from corrkit.processes.shares import WHOLE, Share

_LONGEST = datetime.timedelta(days=14)
"""How long the first rank to be ready waits for the last: a run's time, not a network's."""

Evaluated = TypeVar("Evaluated")


def rank_and_count() -> tuple[int, int] | None:
    """This process's rank and how many there are; None where torchrun has not started it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def evaluated_by_all(rank: int, count: int, evaluate: Callable[[Share], Evaluated]) -> Evaluated:
    """Evaluates this rank's share and waits for the others; rank 0 then sums up what all have done.

    The ranks meet in the run folder, which all of them must see; through torch's process group they only wait. A clip
    that failed on its rank is tried once more by rank 0. What `evaluate` raises ends this rank, and so all of them.
    """
    import torch.distributed

    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo", timeout=_LONGEST)
    evaluated = evaluate(Share(rank, count))
    torch.distributed.barrier()
    if rank == 0:
        evaluated = evaluate(WHOLE)
    torch.distributed.barrier()  # the others stay until the sum is written
    return evaluated


def device_of_rank(device: str) -> str:
    """The GPU of this process among those of its machine, unless one was named; elsewhere the device as it is."""
    import torch

    if rank_and_count() is None or device not in {"auto", "cuda"} or not torch.cuda.is_available():
        return device
    return f"cuda:{os.environ['LOCAL_RANK']}"
