"""Why no backbone was found: the nearest thing to one that a file holds, and what to do."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from corrkit.checkpoints.opening import Opened
from corrkit.checkpoints.registry import LAYOUTS
from corrkit.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

_TEXT = re.compile(r"(.*\.)?(word_embeddings|token_embedding|embed_tokens|wte|tok_embeddings)\.weight")
_TRAINING = re.compile(r"(.*\.)?(exp_avg|exp_avg_sq|momentum_buffer|step)")


def explain(opened: Opened, tensors: "Mapping[str, Tensor]", key: str | None) -> CheckpointError:
    """One error that says what the file holds instead of a backbone."""
    path = opened.path
    if key is not None and not any(name.startswith(key.rstrip(".") + ".") for name in tensors):
        tops = sorted({name.split(".")[0] for name in tensors})
        return CheckpointError(f"{path} has nothing under the key {key!r}.", f"It holds: {', '.join(tops[:12])}.")
    under = f" under {key!r}" if key is not None else ""
    if "" in tensors:
        return CheckpointError(
            f"{path} holds a single tensor of shape {list(tensors[''].shape)}.", "Name a state dict."
        )
    if not tensors:
        return CheckpointError(f"{path} holds no tensors ({opened.container}).", "Name a file with weights.")
    if all(_TRAINING.fullmatch(name) for name in tensors):
        return CheckpointError(
            f"{path} holds only the state of an optimizer.", "Name the file with the model's weights."
        )
    if all(re.match(r"(.*\.)?(decoder|dec)_", name) for name in tensors):
        return CheckpointError(f"{path} holds only a decoder of pre-training.", "Name the file with the encoder.")
    near = _nearest(tensors)
    if near is not None:
        return CheckpointError(
            f"{path} is incomplete: it looks like a network with {near[0]} names{under}, but {near[1]} is missing.",
            "Get the complete file; a network is never loaded in part.",
        )
    if any(map(_TEXT.fullmatch, tensors)):
        return CheckpointError(
            f"{path} is a text model: it has word embeddings, but no patches.", "Name a vision model."
        )
    shown = ", ".join(list(tensors)[:4])
    return CheckpointError(
        f"{path} ({opened.container}) has no backbone{under} that corrkit knows; its {len(tensors)} tensors start with "
        f"{shown}.",
        "Known systems: docs/checkpoints.md. Of timm: timm:NAME=FILE. Any other network: py:FILE.py:FUNCTION.",
    )


def _nearest(tensors: "Mapping[str, Tensor]") -> tuple[str, str] | None:
    """A layout of which some anchors are there and others not, and the first that is missing."""
    for layout in LAYOUTS:
        present = {anchor: any(re.search(rf"(?:^|\.){anchor}$", name) for name in tensors) for anchor in layout.anchors}
        if any(present.values()):
            missing = next((anchor for anchor, there in present.items() if not there), None)
            if missing is not None:
                return layout.name, re.sub(r"\\d\+", "0", missing).replace("\\", "")
    return None
