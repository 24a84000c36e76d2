"""`corrkit.evaluate` at a size at which a test takes a fraction of a second."""

from typing import Any

import corrkit


def evaluate(model: Any, **options: Any) -> Any:
    """Of DAVIS, at network inputs of 64 pixels."""
    return corrkit.evaluate("davis", model, **{"size": [64], "multiple": 16, **options})
