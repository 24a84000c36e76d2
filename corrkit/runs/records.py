"""What is known of one finished clip: its sufficient statistics, the predictions it has saved, how long it took."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from corrkit.files.jsontext import Json, number_of, table_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipRecord:
    """A finished clip.

    clip: its name. frames: how many it has. statistics: `Scorer.result()`, plain JSON values.
    seconds: of the computation, what it shares with others (passes of the network) counted in full; NaN where that
        wasn't noted.
    predictions: path below the run's folder of predictions to sha256 (hex), for every file saved; {} for none.
    """

    clip: str
    frames: int
    statistics: Mapping[str, Json]
    seconds: float
    predictions: Mapping[str, str] = field(default_factory=dict)

    def plain(self) -> dict[str, Json]:
        """As `Run.write_clip` stores it; what may differ between two runs stands under "timing" alone."""
        return {
            "clip": self.clip,
            "frames": self.frames,
            "predictions": dict(self.predictions),
            "statistics": self.statistics,
            "timing": {"seconds": self.seconds},
        }

    @classmethod
    def of(cls, plain: Mapping[str, Json]) -> "ClipRecord":
        """The record that `plain` gave. Raises KeyError, TypeError or ValueError where it can't be one."""
        return cls(
            clip=str(plain["clip"]),
            frames=int(number_of(plain["frames"])),
            statistics=dict(table_of(plain["statistics"])),
            seconds=_seconds(plain.get("timing")),
            predictions={name: str(digest) for name, digest in table_of(plain["predictions"]).items()},
        )


def _seconds(timing: Json) -> float:
    found = timing.get("seconds") if isinstance(timing, Mapping) else None
    return float(found) if isinstance(found, int | float) else math.nan
