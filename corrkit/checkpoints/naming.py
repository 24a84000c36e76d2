"""Tensors of a tree under dotted names, freed of what wrappers of training add to names."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

# Wrappers that insert a segment anywhere in a name: torch.compile, FSDP, activation checkpointing.
_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")


def flatten(tree: Any) -> "dict[str, Tensor]":
    """All tensors of nested dicts and lists, by dotted name; slashes (JAX) become dots."""
    return {_WRAPPERS.sub("", name): tensor for name, tensor in _walk(tree, "")}


def _walk(tree: Any, name: str) -> "Iterator[tuple[str, Tensor]]":
    import torch

    if isinstance(tree, torch.Tensor):
        yield name, tree
    elif isinstance(tree, dict):
        for key, value in tree.items():
            yield from _walk(value, _join(name, str(key).replace("/", ".")))
    elif isinstance(tree, list | tuple):
        for index, value in enumerate(tree):
            yield from _walk(value, _join(name, str(index)))


def _join(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key
