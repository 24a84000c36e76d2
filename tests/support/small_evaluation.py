"""An evaluation at a size at which a test takes a fraction of a second."""

from pathlib import Path
from typing import Any

import corrkit


def evaluate(model: Any, **options: Any) -> Any:
    """Of DAVIS, at network inputs of 64 pixels."""
    return corrkit.evaluate("davis", model, **{"size": [64], "multiple": 16, **options})


def evaluation_words(task: str, network: str, data: Path, out: Path, side: int) -> list[str]:
    """A command line of `corrkit eval` at network inputs of so many pixels."""
    size = [f"size=[{side},{side}]"] if task == "jhmdb" else [f"size=[{side}]", "multiple=8"]
    settings = [word for setting in size for word in ("--set", setting)]
    options = ["--dataset-name", "x", "--quiet", "--device", "cpu", "--workers", "1", *settings]
    return ["eval", task, "--ckpt", network, "--data", str(data), "--out", str(out), *options]
