"""Sweeps: many settings of one checkpoint in one pass, the best of them chosen and honestly reported."""

from corrkit.sweeping.running import Sweep
from corrkit.sweeping.sweep import sweep

__all__ = ["Sweep", "sweep"]
