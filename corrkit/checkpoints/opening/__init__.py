"""Bytes to tensors, safely: `open_checkpoint` reads any published container and runs nothing from it."""

from corrkit.checkpoints.opening.files import Opened, open_checkpoint
from corrkit.checkpoints.opening.inert import Stub
from corrkit.checkpoints.opening.tensors import Pages
from corrkit.checkpoints.opening.weights import require_usable

__all__ = ["Opened", "Pages", "Stub", "open_checkpoint", "require_usable"]
