"""The context frames of query frames: each once, however many copies of it stand in a context."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from corrkit.propagation.scoring import Seen

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One context frame. It is matched once, however many copies of it stand in the context.

    Attributes:
        features: [h, w, C] as `prepare` returns them.
        windowed: copies that the window restricts.
        free: copies whose every cell may be chosen.
        classes: None, or [h, w] int64: cells of the query are matched with none of another class; -1 is any.
    """

    features: "Tensor"
    windowed: int = 1
    free: int = 0
    classes: "Tensor | None" = None


class SharedContexts:
    """The context frames of a block of B query frames, each once, with its number and copies for each query frame."""

    def __init__(self, num_queries: int) -> None:
        self.num_queries = num_queries
        self.frames: list[Tensor] = []
        self.classes: list[Tensor | None] = []
        self.numbers: list[list[int]] = []  # [F][B], -1 where a query frame does not see the frame
        self.windowed: list[list[int]] = []
        self.free: list[list[int]] = []

    def add(self, context: Context, query: int, number: int, *, windowed: int, free: int) -> None:
        """Notes that a query frame has this context frame under `number`."""
        for place, other in enumerate(self.frames):
            if other is context.features and self.numbers[place][query] < 0:
                break
        else:
            place = len(self.frames)
            self.frames.append(context.features)
            self.classes.append(context.classes)
            for column, empty in ((self.numbers, -1), (self.windowed, 0), (self.free, 0)):
                column.append([empty] * self.num_queries)
        self.numbers[place][query], self.windowed[place][query], self.free[place][query] = number, windowed, free

    def seen(self) -> list[Seen]:
        """The frames with the span of query frames that see them."""
        spans = [[b for b, number in enumerate(row) if number >= 0] for row in self.numbers]
        if any(span[-1] - span[0] >= len(span) for span in spans):
            raise ValueError("a context frame is missing between two query frames that see it; match them one by one")
        return [
            Seen(features=frame, first=span[0], last=span[-1] + 1)
            for frame, span in zip(self.frames, spans, strict=True)
        ]
