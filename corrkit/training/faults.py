"""Items that couldn't be read while training: counted, named once, and at some point too many."""

import sys
from collections.abc import Sequence
from typing import TypedDict

from corrkit.errors import DataError
from corrkit.text import one_line
from corrkit.training.data import Fault
from corrkit.training.parallel import gather


class StoredFaults(TypedDict):
    """What a checkpoint holds of them."""

    replaced: int
    reasons: dict[str, str]


class Faults:
    """All ranks' faults of a run.

    Args:
        entries: items of the data.
        limit: largest share of them that may turn out unreadable; one always may.
        stored: `state` of an earlier process.
    """

    def __init__(self, entries: int, limit: float, stored: StoredFaults | None) -> None:
        self.entries, self.limit = entries, limit
        self.replaced: int = stored["replaced"] if stored else 0
        self.reasons: dict[str, str] = dict(stored["reasons"]) if stored else {}

    @property
    def state(self) -> StoredFaults:
        """For the checkpoint."""
        return {"replaced": self.replaced, "reasons": self.reasons}

    def add(self, mine: Sequence[Fault], rank: int) -> None:
        """Faults of a step; every rank calls this with its own where any rank has one.

        Raises:
            DataError: too many items can't be read; lists them.
        """
        for path, why in (fault for part in gather(list(mine)) for fault in part):
            self.replaced += 1
            if path not in self.reasons and rank == 0:
                print(one_line(f"left out, the next takes its place: {why}"), file=sys.stderr)
            self.reasons.setdefault(path, why)
        if len(self.reasons) > max(1.0, self.limit * self.entries):
            listed = "\n".join(f"  {why}" for why in self.reasons.values())
            raise DataError(
                f"{len(self.reasons)} of {self.entries} items can't be read, more than {self.limit:.1%}:\n{listed}",
                "Repair or remove them, or allow more with --damaged SHARE.",
            )
