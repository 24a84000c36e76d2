"""Marks that tell a system from others with the same names: each gives what it found, in words, or None."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from corrkit.checkpoints.opening import Opened

Mark = Callable[["Opened"], str | None]


def either(*marks: Mark) -> Mark:
    """The first of several marks that is there."""

    def mark(opened: "Opened") -> str | None:
        return next((words for found in marks if (words := found(opened)) is not None), None)

    return mark


def file_name(pattern: str) -> Mark:
    """A published name of the file itself, which people rarely change and never give to another system's file."""

    def mark(opened: "Opened") -> str | None:
        return "the name of the file" if re.search(pattern, opened.path.name, re.IGNORECASE) else None

    return mark


def beside(pattern: str) -> Mark:
    """A tensor anywhere in the file."""

    def mark(opened: "Opened") -> str | None:
        from corrkit.checkpoints.naming import flatten

        return next((name for name in flatten(opened.tree) if re.fullmatch(pattern, name)), None)

    return mark


def of_type(model_type: str) -> Mark:
    """The model type of the config beside the file."""

    def mark(opened: "Opened") -> str | None:
        from corrkit.checkpoints import configuration

        return "its config" if configuration.model_type(opened.config) == model_type else None

    return mark


def norms_behind(opened: "Opened") -> str | None:
    """The order in which a module saves its parts, where that is neither a pre-norm block's nor the alphabet's.

    timm's ResPostBlock makes attention, its norm, the MLP, its norm; Block each norm in front of what it normalises
    (timm 1.0.31 models/vision_transformer.py). safetensors files are sorted, so they don't tell.
    """
    from corrkit.checkpoints.naming import flatten

    parts = r"(?:.*\.)?blocks\.0\.(attn|norm1|mlp|norm2)\..*"
    order = dict.fromkeys(match[1] for name in flatten(opened.tree) if (match := re.fullmatch(parts, name)))
    return "norms that were made behind attention and MLP" if [*order] == ["attn", "norm1", "mlp", "norm2"] else None


def by_config(_: "Opened") -> None:
    """Nothing in the file itself: only a config beside it tells, or the user."""
