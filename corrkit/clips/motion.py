"""Smooth seeded motions: a drift and a swing, of one number each."""

import math
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Wave:
    """value(t) = start + drift t + swing sin(rate t + phase), t in frames."""

    start: float = 0.0
    drift: float = 0.0
    swing: float = 0.0
    rate: float = 0.0
    phase: float = 0.0

    def __call__(self, moment: float) -> float:
        """The value at a moment in frames."""
        return self.start + self.drift * moment + self.swing * math.sin(self.rate * moment + self.phase)


def swinging(dice: Random, start: float, swing: float, *, drift: float = 0.0, period: float = 9.0) -> Wave:
    """A wave of about one `period` (in frames; within a third of it) and a seeded phase and swing (60 to 100 %)."""
    rate = 2 * math.pi / (period * dice.uniform(0.75, 1.35))
    return Wave(start, drift, swing * dice.uniform(0.6, 1.0), rate, dice.uniform(0, 2 * math.pi))


def either(dice: Random, low: float, high: float) -> float:
    """A number of size low..high, of either sign."""
    return dice.choice((-1, 1)) * dice.uniform(low, high)
