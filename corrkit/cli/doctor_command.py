"""`corrkit doctor`: what this machine and installation can do."""

import argparse

EXAMPLES = """\
examples:
  corrkit doctor"""

_PACKAGES = ("torch", "timm", "opencv-python", "scipy", "pillow", "pandas", "tqdm", "numpy")
_EXTRAS = {
    "av": "video", "huggingface_hub": "hub", "lightning": "lightning", "transformers": "hf", "tensorboard": "log",
    "wandb": "log", "trackio": "log",
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`corrkit doctor` has no options."""


def run(args: argparse.Namespace) -> int:
    """Prints one fact per line."""
    for name, value in _facts():
        print(f"{name:22} {value}")
    return 0


def _facts() -> list[tuple[str, str]]:
    import os
    import platform

    import torch

    from corrkit import __version__
    from corrkit.frames.pyav import decodes_alike
    from corrkit.propagation.probe import products_are_bit_equal
    from corrkit.tasks.sources import ENVIRONMENT

    facts = [("corrkit", __version__), ("python", platform.python_version()), ("platform", platform.platform())]
    facts += [(name, _version(name)) for name in _PACKAGES]
    facts += [(f"{name} (extra {extra})", _version(name)) for name, extra in _EXTRAS.items()]
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    bit_equal = "yes" if products_are_bit_equal() else "no: soft maps agree within 1e-6, near ties may flip"
    return [
        *facts,
        ("threads", str(torch.get_num_threads())),
        ("cuda", ", ".join(gpus) or "none"),
        ("mps", "yes" if torch.backends.mps.is_available() else "none"),
        ("products bit-equal", bit_equal),
        ("H.264 decoded by", "PyAV" if decodes_alike() else "OpenCV (no PyAV on the same FFmpeg)"),
        (f"${ENVIRONMENT}", os.environ.get(ENVIRONMENT, "not set (the embedded clips are used)")),
    ]


def _version(package: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
