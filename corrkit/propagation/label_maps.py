"""Label maps of the frames that later frames read."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


class LabelMaps:
    """Label maps [N, L] by frame, copied to places that are allocated a few times in a clip and then used again.

    Memory taken anew for each frame would lie between what its matching takes for a moment, and cut that into pieces.
    """

    def __init__(self) -> None:
        self._held: dict[int, Tensor] = {}
        self._vacant: list[Tensor] = []
        self._stacked: Tensor | None = None

    def __getitem__(self, frame: int) -> "Tensor":
        """The label map of a frame that is kept; it changes once the frame no longer is."""
        return self._held[frame]

    def keep(self, frame: int, labels: "Tensor") -> None:
        """Takes a frame's label map."""
        if not self._vacant:
            with torch.inference_mode(mode=False):  # it may be written to inside and outside of one
                self._vacant += [*labels.new_empty(max(1, len(self._held)), *labels.shape)]
        self._held[frame] = self._vacant.pop().copy_(labels)

    def drop(self, is_read: Callable[[int], bool]) -> None:
        """Keeps only the frames that are still read."""
        for frame in [frame for frame in self._held if not is_read(frame)]:
            self._vacant.append(self._held.pop(frame))

    def stacked(self, maps: "Sequence[Tensor]", device: "torch.device") -> "Tensor":
        """Label maps of one shape [N, l] as [F, N, l] on a device; valid until the next call."""
        shape = len(maps), *maps[0].shape
        if self._stacked is None or self._stacked.numel() < math.prod(shape):
            self._stacked = None
            with torch.inference_mode(mode=False):
                self._stacked = torch.empty(2 * math.prod(shape), dtype=maps[0].dtype, device=device)
        stacked = self._stacked[: math.prod(shape)].view(shape)
        return torch.stack([labels.to(device) for labels in maps], out=stacked)

    def widen(self, count: int) -> None:
        """Adds empty channels up to `count`."""
        held, self._held, self._vacant = self._held, {}, []
        for frame, labels in held.items():
            self.keep(frame, widened(labels, count))


def widened(labels: "Tensor", count: int) -> "Tensor":
    """Labels [N, L] with empty channels behind, up to `count`."""
    return functional.pad(labels, (0, count - labels.shape[1]))
