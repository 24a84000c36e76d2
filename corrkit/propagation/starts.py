"""Labels that are given in a frame, and where they go from there on."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from corrkit.propagation.affinity import SparseAffinity, transport
from corrkit.propagation.label_maps import LabelMaps, widened
from corrkit.propagation.memory import Copies, is_needed_later
from corrkit.protocols import Protocol
from corrkit.protocols.schema import PointLabels

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """A query frame with its context and the affinity to it; frames count from the first that was given."""

    frame: int
    context: list[Copies]
    affinity: SparseAffinity


class Start:
    """Labels that are given in one frame, on their way from there on, in a context of their own.

    Args:
        frame: where they are given.
        labels: the label map [h, w, L] of that frame.
        matched: where they go from there on.
        protocol: the rules.
        maps: the clip's label maps of later frames, as propagated.
    """

    def __init__(
        self, frame: int, labels: "Tensor", matched: Iterator[Matched], protocol: Protocol, maps: LabelMaps
    ) -> None:
        self.frame, self.matched = frame, matched
        given = labels.reshape(-1, labels.shape[2]).float()
        self._given, self._protocol, self._maps = given, protocol, maps
        self._channels = given.any(0).nonzero().flatten() if frame else slice(None)
        self._first: dict[str, Tensor] = dict.fromkeys(("padding", "long-term", "queue"), given)  # of `frame`, by role
        if protocol.labels.rescale == "classes" and frame == 0:
            # CRW rescales its prediction in place after storing it; at t = 0 that is a view of the long-term copy of
            # frame 0, while the copies before the clip stay as they were (ajabri/videowalk 047f3f4
            # code/test.py:146-152).
            self._first["long-term"] = rescaled_over_classes(given)

    def carried(self, step: Matched) -> "Tensor":
        """The start's own channels [N, l] in a query frame."""
        maps = [self._maps[self.frame + c.frame] if c.frame else self._first[c.role] for c in step.context]
        if self.frame:
            maps = [m[:, self._channels] for m in maps]
        return transport(self._maps.stacked(maps, step.affinity.weights.device), step.affinity)

    def joins(self, soft: "Tensor", frame: int) -> "Tensor":
        """Labels [N, L] of the clip's `frame` with the start's own in their place; frames come in order."""
        soft = soft.clone()
        if frame > self.frame:
            soft[:, self._channels] = self.carried(next(self.matched))
            return soft
        if self._protocol.memory.predict_first:
            next(self.matched)  # of the start's own frame, whose labels are given
        soft[:, self._channels] = 0
        if isinstance(self._protocol.labels, PointLabels):  # points share cells, masks don't
            return soft + self._given
        share = self._given.sum(1, keepdim=True)
        return (1 - share) * soft + share * self._given

    def is_replaced_by(self, other: "Start") -> bool:
        """Whether another start gives all that this one carries; the background stays with the first start."""
        if isinstance(self._channels, slice) or isinstance(other._channels, slice):
            return False
        return bool(torch.isin(self._channels, other._channels).all())

    def widen(self, count: int) -> None:
        """Adds empty channels up to `count`."""
        self._first = {role: widened(labels, count) for role, labels in self._first.items()}

    def keep(self, labels: "Tensor", frame: int) -> None:
        """Takes the labels [N, L] of the clip's `frame` as later frames read them, if that is the start's own."""
        if frame == self.frame:
            self._first |= dict.fromkeys(self._first if frame else ["queue"], labels.clone())

    def reads(self, frame: int, since: int) -> bool:
        """Whether the label map of the clip's `frame`, not the start's own, is read after frame `since`."""
        return frame > self.frame and is_needed_later(frame - self.frame, since - self.frame, self._protocol.memory)


def rescaled_over_classes(labels: "Tensor") -> "Tensor":
    """Min-max of each cell over its classes. Source: ajabri/videowalk 047f3f4 code/test.py:150-152."""
    shifted = labels - labels.amin(1, keepdim=True)
    return shifted / shifted.amax(1, keepdim=True)
