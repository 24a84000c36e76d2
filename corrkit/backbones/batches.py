"""How many frames go through a network at a time: fewer once memory has run out."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from corrkit.errors import is_out_of_memory

if TYPE_CHECKING:
    from torch import Tensor

    Item = TypeVar("Item")

FRAMES_AT_A_TIME = {"cpu": 1}
"""By kind of device; on a CPU a batch gains nothing and costs memory."""
ON_AN_ACCELERATOR = 8


class Batches:
    """The batches of one network, whatever protocols it runs under.

    Attributes:
        shrunk_to: frames at a time since memory ran out; None while it has not.
    """

    def __init__(self) -> None:
        self.shrunk_to: int | None = None

    def through(self, forward: "Callable[[Tensor], Iterable[Item]]", frames: "Iterable[Tensor]") -> "Iterator[Item]":
        """What a network gives for each of a clip's frames, streaming.

        Where memory runs out, the same frames are tried again half as many at a time, down to single ones; what fails
        then is raised.

        Args:
            forward: frames [B, 3, H, W] to one item for each.
            frames: [3, H, W] each, in order.
        """
        stream = iter(frames)
        waiting = list(islice(stream, 1))
        while waiting:
            size = self._size(waiting[0].device.type)
            waiting += islice(stream, max(0, size - len(waiting)))
            found = self._tried(forward, waiting[:size])
            if found is None:
                continue
            del waiting[:size]
            yield from found
            del found
            waiting = waiting or list(islice(stream, 1))

    def _size(self, device_type: str) -> int:
        most = FRAMES_AT_A_TIME.get(device_type, ON_AN_ACCELERATOR)
        return min(most, self.shrunk_to or most)

    def _tried(self, forward: "Callable[[Tensor], Iterable[Item]]", batch: "list[Tensor]") -> "Iterable[Item] | None":
        """What the network gives; None where memory ran out and fewer frames may fit."""
        import torch

        try:
            return forward(torch.stack(batch))
        except Exception as error:
            if len(batch) == 1 or not is_out_of_memory(error):
                raise
        # Not in the handler: there the traceback still holds what has to go.
        self.shrunk_to = len(batch) // 2
        if batch[0].device.type == "cuda":
            torch.cuda.empty_cache()
        return None
