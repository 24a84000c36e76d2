"""Names of tensors: flattened from a file's tree, freed of what wrappers of training add, and back for messages."""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from corrkit.checkpoints.system import Layout

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


def file_name(canonical: str, origins: Mapping[str, str], layout: Layout, prefix: str) -> str:
    """How a canonical tensor is called in a file, or would be called there if it is missing.

    Args:
        canonical: the name.
        origins: canonical names of the file's tensors (before fusing) to their names in the file.
        layout: the naming scheme.
        prefix: of the network.
    """
    for name in (canonical, *_sources(canonical)):
        if name in origins:
            return origins[name]
        analogous = _by_other_blocks(name, origins)
        if analogous is not None:
            return analogous
    return prefix + _spelled(canonical, layout)


def _sources(canonical: str) -> list[str]:
    """Names of what is fused into a tensor."""
    stem, _, kind = canonical.rpartition(".")
    if stem.endswith("attn.qkv"):
        stem = stem.removesuffix("qkv")
        return [f"{stem}q.{kind}", f"{stem}q.kernel", f"{stem}q_bias"]
    return [f"{stem.removesuffix('w12')}gate.{kind}"] if stem.endswith("mlp.w12") else []


def _by_other_blocks(canonical: str, origins: Mapping[str, str]) -> str | None:
    """The name in the file of the same tensor of another block, with its number replaced."""
    wanted = re.search(r"\.(\d+)\.", canonical)
    if wanted is None:
        return None
    for known, name in origins.items():
        number = re.search(r"\.(\d+)\.", known)
        if (
            number
            and known[: number.start()] == canonical[: wanted.start()]
            and known[number.end() :] == canonical[wanted.end() :]
        ):
            return re.sub(rf"(?<=[._]){number[1]}(?=\.(?!\d+\.))", wanted[1], name, count=1)
    return None


def _spelled(canonical: str, layout: Layout) -> str:
    """Undoes the renames that are plain words."""
    for pattern, replacement in reversed(layout.renames):
        plain = pattern.removesuffix("$").replace("\\.", ".")
        if (
            replacement
            and re.fullmatch(r"[\w.]+", plain)
            and re.fullmatch(r"[\w.]+", replacement)
            and canonical.startswith(replacement)
        ):
            canonical = plain + canonical.removeprefix(replacement)
    return canonical
