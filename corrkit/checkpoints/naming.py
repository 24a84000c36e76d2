"""Names of tensors: flattened from a file's tree, freed of what wrappers of training add, and back for messages."""

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING

from corrkit.checkpoints.opening.inert import Tree
from corrkit.checkpoints.system import Layout

if TYPE_CHECKING:
    from torch import Tensor

# Wrappers that insert a segment anywhere in a name: torch.compile, FSDP, activation checkpointing.
_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")


def flatten(tree: Tree) -> "dict[str, Tensor]":
    """All tensors of nested dicts and lists, by dotted name; slashes (JAX) become dots."""
    return {_WRAPPERS.sub("", name): tensor for name, tensor in _walk(tree, "")}


def _walk(tree: Tree, name: str) -> "Iterator[tuple[str, Tensor]]":
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
    """How a canonical tensor is called in a file, or would be called there if it is missing ("A or B" if unclear).

    Args:
        canonical: the name.
        origins: canonical names of the file's tensors (before fusing) to their names in the file.
        layout: the naming scheme.
        prefix: of the network.
    """
    for name in (canonical, *_sources(canonical)):
        known = origins.get(name) or _by_other_blocks(name, origins)
        if known is not None:
            return known
    return " or ".join(prefix + name for name in _spellings(canonical, layout))


def _sources(canonical: str) -> list[str]:
    """Names of what may have been fused or converted into a tensor."""
    stem, _, kind = canonical.rpartition(".")
    if stem.endswith("attn.qkv"):
        stem = stem.removesuffix("qkv")
        return [f"{stem}q.{kind}", f"{stem}q.kernel", f"{stem}q_bias"]
    if stem.endswith("mlp.w12"):
        return [f"{stem.removesuffix('w12')}gate.{kind}"]
    return [f"{stem}.kernel"] if kind == "weight" else []


def _by_other_blocks(canonical: str, origins: Mapping[str, str]) -> str | None:
    """By analogy: the same tensor of another block, under the name that this block has in the file."""
    block, leaf = _block(canonical)
    if not block:
        return None
    siblings = islice(((_block(name)[1], name) for name in origins if name.startswith(block)), _SIBLINGS)
    known = [(rest, origins[name]) for rest, name in siblings if _block(name)[0] == block]
    for other in origins:
        other_block, other_leaf = _block(other)
        if other_leaf != leaf or _shape(other_block) != _shape(block):
            continue
        for rest, name in known:
            twin = f"{other_block}{rest}"
            if twin in origins:
                shared = _common_end(name, origins[twin])
                here, there = name[: len(name) - shared], origins[twin][: len(origins[twin]) - shared]
                if origins[other].startswith(there):
                    return here + origins[other].removeprefix(there)
    return None


_SIBLINGS = 16  # tensors of a block that are compared; one tells how its names differ from those of another block


def _common_end(one: str, other: str) -> int:
    """Number of characters at the end that two texts share."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return next((count for count, (left, right) in enumerate(pairs) if left != right), min(len(one), len(other)))


def _block(canonical: str) -> tuple[str, str]:
    """A name up to its last number, and the rest: ("blocks.3.", "norm1.weight")."""
    match = re.match(r"(.*\.\d+\.)?(.*)", canonical)
    assert match is not None
    return match[1] or "", match[2]


def _shape(block: str) -> str:
    return re.sub(r"\d+", "#", block)


def _spellings(canonical: str, layout: Layout) -> list[str]:
    """Undoes the renames that are plain words; several may lead to the same canonical name."""
    found = []
    for pattern, replacement in layout.renames:
        plain = pattern.removesuffix("$").replace("\\.", ".")
        if all(re.fullmatch(r"[\w.]+", text) for text in (plain, replacement)) and canonical.startswith(replacement):
            found.append(plain + canonical.removeprefix(replacement))
    found = found or [canonical]
    if layout.convert is not None and layout.convert.__name__ == "from_jax":
        return [re.sub(r"weight$", "scale" if "norm" in canonical else "kernel", name) for name in found]
    return found
