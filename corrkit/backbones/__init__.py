"""Networks that turn frames into features; `load_backbone` and `wrap` are imported on first use."""

import importlib
from typing import Any

_LAZY = {"load_backbone": "corrkit.backbones.loading", "wrap": "corrkit.backbones.wrapped"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'corrkit.backbones' has no attribute {name!r}")
