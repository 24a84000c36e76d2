"""Correspondence scores as callbacks of training frameworks: Lightning (extra `lightning`), Hugging Face (extra `hf`).

Each is imported on first use, with its framework.
"""

import importlib
from typing import Any

_CALLBACKS = {"LightningCallback": "lightning", "TrainerCallback": "hf_trainer"}

__all__ = ["LightningCallback", "TrainerCallback"]


def __getattr__(name: str) -> Any:
    if name in _CALLBACKS:
        return getattr(importlib.import_module(f"corrkit.callbacks.{_CALLBACKS[name]}"), name)
    raise AttributeError(f"module 'corrkit.callbacks' has no attribute {name!r}")
