"""Why no backbone was found: the nearest thing to one that a file holds, and what to do."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from corrkit.checkpoints.branches import is_secondary
from corrkit.checkpoints.opening import Opened
from corrkit.checkpoints.registry import LAYOUTS, SYSTEMS
from corrkit.checkpoints.system import Layout
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
    near = nearest(tensors)
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


def ways_on() -> str:
    """How any network can be evaluated that corrkit doesn't know by its names."""
    return "A model of timm: timm:NAME=FILE. Any other: py:FILE.py:FUNCTION, which builds it with its own code."


def nearest(tensors: "Mapping[str, Tensor]", only: str | None = None) -> tuple[str, str] | None:
    """The layout that fits best though anchors are missing, and the names of these; None where nothing fits.

    Best: fewest missing, then most names that the layout renames, then most systems that use it. `only`: the prefix to
    look at.
    """
    best: tuple[tuple[int, ...], str, str] | None = None
    for layout in LAYOUTS:
        renamed = re.compile("|".join(f"(?:{pattern})" for pattern, _ in layout.renames) or r"$.")
        for prefix in _prefixes(layout, tensors) if only is None else {only}:
            relative = [name.removeprefix(prefix) for name in tensors if name.startswith(prefix)]
            absent = [anchor for anchor in layout.anchors if not any(re.fullmatch(anchor, name) for name in relative)]
            rank = (
                len(absent),
                sum(map(is_secondary, prefix.split("."))),
                -sum(renamed.match(name) is not None for name in relative),
                -sum(layout in system.layouts for system in SYSTEMS.values()),
                -len(prefix),
            )
            found = (rank, layout.name, ", ".join(prefix + plain(anchor) for anchor in absent))
            best = min(best or found, found)
    return None if best is None else best[1:]


def _prefixes(layout: Layout, tensors: "Mapping[str, Tensor]") -> set[str]:
    """Prefixes under which some anchor stands."""
    pattern = re.compile("|".join(rf"(?:^|(?<=\.))(?:{anchor})$" for anchor in layout.anchors))
    return {name[: match.start()] for name in tensors if (match := pattern.search(name))}


def plain(pattern: str) -> str:
    """A pattern of names as one name that it fits: "blocks.0.attn.qkv.weight"."""
    text = re.sub(r"\([^()]*\)\?", "", pattern).replace(r"\d+", "0").replace("\\", "")
    return re.sub(r"\(([^()|]*)[^()]*\)", r"\1", text)
