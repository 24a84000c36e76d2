"""Which clips of a data set one of several independent processes evaluates."""

import heapq
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

from corrkit.errors import UsageError

_MOST = 10_000  # shares


class _Long(Protocol):
    """As much of a clip as shares look at."""

    @property
    def num_files(self) -> int: ...


LongT = TypeVar("LongT", bound=_Long)


@dataclass(frozen=True, slots=True)
class Share:
    """Share `index` (from 0) of `count`; alike in frames, as far as whole clips allow."""

    index: int = 0
    count: int = 1

    @classmethod
    def read(cls, text: str) -> Self:
        """From "2/8", the second of eight. Raises UsageError."""
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]) <= _MOST:
            raise UsageError(
                f"{text!r} is no share of the clips.",
                f"--shard takes i/n with i from 1 to n, n up to {_MOST}, as in 2/8.",
            )
        return cls(int(match[1]) - 1, int(match[2]))

    @property
    def is_whole(self) -> bool:
        """Whether there are no others."""
        return self.count == 1

    def of(self, clips: Sequence[LongT]) -> list[LongT]:
        """This share's clips, in their order; the longest go first, each to the share that has the fewest frames."""
        loads = [(0, share) for share in range(self.count)]
        own = set()
        for place in sorted(range(len(clips)), key=lambda place: -clips[place].num_files):
            frames, share = heapq.heappop(loads)
            heapq.heappush(loads, (frames + clips[place].num_files, share))
            if share == self.index:
                own.add(place)
        return [clip for place, clip in enumerate(clips) if place in own]


WHOLE = Share()
"""All clips."""
