"""corrkit: evaluate self-supervised vision checkpoints on video correspondence.

The names below are the stable Python API. Each is imported on first use, so that `import corrkit` stays light.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_API = {
    "CorrkitError": "corrkit.errors",
    "Evaluator": "corrkit.evaluator",
    "Tracker": "corrkit.tracking.tracker",
    "evaluate": "corrkit.evaluation",
    "features": "corrkit.tracking.features",
    "leaderboard": "corrkit.runs.leaderboard",
    "load_backbone": "corrkit.backbones",
    "propagate": "corrkit.propagation",
    "score": "corrkit.scoring",
    "sweep": "corrkit.sweeping",
    "wrap": "corrkit.backbones",
}

__all__ = [
    "__version__",
    *sorted(_API),
]


def __getattr__(name: str) -> Any:
    if name in _API:
        return getattr(importlib.import_module(_API[name]), name)
    raise AttributeError(f"module 'corrkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
