"""Rendered clips with exact ground truth for all three tasks; each name is imported on first use."""

import importlib
from typing import Any

_LAZY = {
    "EVALUATION_SEEDS": "corrkit.clips.rendering",
    "TRAINING_SEEDS": "corrkit.clips.rendering",
    "RenderedClip": "corrkit.clips.rendering",
    "embedded_root": "corrkit.clips.embedded",
    "export": "corrkit.clips.embedded",
    "render": "corrkit.clips.rendering",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'corrkit.clips' has no attribute {name!r}")
