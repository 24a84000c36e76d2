"""The context frames of query frames: each once, however many copies of it stand in a context."""

from collections.abc import Sequence
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
        self._is_closed = False

    def add(self, context: Context, query: int, number: int, *, windowed: int, free: int) -> None:
        """Notes that a query frame has this context frame under `number`."""
        for place, other in enumerate(self.frames):
            if other is context.features and self.numbers[place][query] < 0:
                break
        else:
            if self._is_closed:
                raise ValueError("a narrower context holds a frame that the widest does not; match them one by one")
            place = len(self.frames)
            self.frames.append(context.features)
            self.classes.append(context.classes)
            for column, empty in ((self.numbers, -1), (self.windowed, 0), (self.free, 0)):
                column.append([empty] * self.num_queries)
        self.numbers[place][query], self.windowed[place][query], self.free[place][query] = number, windowed, free

    def narrowed(self) -> "SharedContexts":
        """Other contexts of the same query frames, none added yet, that hold none but these context frames.

        They keep the places of the frames, so that one set of similarities serves both.
        """
        own = SharedContexts(self.num_queries)
        own.frames, own.classes, own._is_closed = self.frames, self.classes, True
        for column, empty in ((own.numbers, -1), (own.windowed, 0), (own.free, 0)):
            column.extend([empty] * self.num_queries for _ in self.frames)
        return own

    def hidden(self, others: "SharedContexts") -> list[tuple[int, Seen]]:
        """Place, and the frame with the span of query frames that see it in `others`, but not here."""
        lost = [
            [query for query in range(self.num_queries) if own[query] < 0 <= theirs[query]]
            for own, theirs in zip(self.numbers, others.numbers, strict=True)
        ]
        return [(place, _seen(self.frames[place], queries)) for place, queries in enumerate(lost) if queries]

    def seen(self) -> list[Seen]:
        """The frames with the span of query frames that see them."""
        queries = [[b for b, number in enumerate(row) if number >= 0] for row in self.numbers]
        return [_seen(frame, own) for frame, own in zip(self.frames, queries, strict=True)]


def _seen(frame: "Tensor", queries: Sequence[int]) -> Seen:
    if queries[-1] - queries[0] >= len(queries):
        raise ValueError("a context frame is missing between two query frames that see it; match them one by one")
    return Seen(features=frame, first=queries[0], last=queries[-1] + 1)
