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
    frames_at_a_time: how many went through the network where memory had run out; None where it had not.
    predictions: path below the run's folder of predictions to sha256 (hex), for every file saved; {} for none.
    """

    clip: str
    frames: int
    statistics: Mapping[str, Json]
    seconds: float
    frames_at_a_time: int | None = None
    predictions: Mapping[str, str] = field(default_factory=dict)

    def plain(self) -> dict[str, Json]:
        """As `Run.write_clip` stores it; what may differ between two runs stands under "timing" alone."""
        timing: dict[str, Json] = {"seconds": self.seconds}
        if self.frames_at_a_time is not None:
            timing["frames_at_a_time"] = self.frames_at_a_time
        return {
            "clip": self.clip,
            "frames": self.frames,
            "predictions": dict(self.predictions),
            "statistics": self.statistics,
            "timing": timing,
        }

    @classmethod
    def of(cls, plain: Mapping[str, Json]) -> "ClipRecord":
        """The record that `plain` gave. Raises KeyError, TypeError or ValueError where it can't be one."""
        return cls(
            clip=str(plain["clip"]),
            frames=int(number_of(plain["frames"])),
            statistics=dict(table_of(plain["statistics"])),
            seconds=_seconds(plain.get("timing")),
            frames_at_a_time=_frames_at_a_time(plain.get("timing")),
            predictions={name: str(digest) for name, digest in table_of(plain["predictions"]).items()},
        )


def _seconds(timing: Json) -> float:
    found = timing.get("seconds") if isinstance(timing, Mapping) else None
    return float(found) if isinstance(found, int | float) and found >= 0 else math.nan


def _frames_at_a_time(timing: Json) -> int | None:
    found = timing.get("frames_at_a_time") if isinstance(timing, Mapping) else None
    return found if isinstance(found, int) else None
