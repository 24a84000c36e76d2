"""From what a pickle holds to what a reader expects: arrays and modules become tensors; no endless structures."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeGuard

import torch

from corrkit.checkpoints.opening.inert import MalformedError, Source, Stub, Tree
from corrkit.checkpoints.opening.tensors import Budget, Storage, numpy_array

_MAX_DEPTH = 100
# Of the tree written out in full; shared parts count as often as they occur.
_MAX_VALUES = 2_000_000
_MAX_TENSORS = 50_000  # a ViT-g with optimizer and averages has some 5,000
_MAX_NAME = 300  # characters of a tensor's name
_MAX_PARTS = 32  # of a name, between dots: patterns are tried at each
_NAME = 40  # bytes that a character of a name takes, in all the copies that are made of it, about


def tidy(tree: Tree, budget: Budget, content: Source) -> tuple[Tree, list[str]]:
    """The tree with tensors for numpy arrays and flat state dicts for pickled modules, and notes on what was changed.

    Everything else stays as it is in the file; stubs aren't looked into. The tree that comes back may be walked
    recursively without further care: it is no deeper than 100 levels, has no cycles and no more than 2 million values,
    and of 50,000 tensors each has a name of at most 300 characters and 32 parts.

    Raises:
        MalformedError: it is deeper, larger or cyclic.
        CheckpointError: names of its tensors take more than the budget.
    """
    walk = _Walk(budget, content)
    tidied, extent = walk.visit(tree, 0)
    budget.claim(extent.characters * _NAME, "the names of its tensors")
    return tidied, walk.notes


@dataclass(frozen=True, slots=True)
class _Extent:
    """Of a part of the tree, written out in full.

    longest, parts: characters and parts of a tensor's name below it, at most. characters: of all those names.
    """

    values: int = 1
    tensors: int = 0
    longest: int = 0
    parts: int = 0
    characters: int = 0

    def below(self, key: Tree) -> "_Extent":
        """The same under a key."""
        if not self.tensors:
            return self
        text = key if isinstance(key, str) else str(key)
        length = 1 + len(text)
        longest, parts = self.longest + length, self.parts + 1 + text.count(".") + text.count("/")
        if longest > _MAX_NAME or parts > _MAX_PARTS:
            raise MalformedError(f"a tensor's name of {longest} characters in {parts} parts")
        return _Extent(self.values, self.tensors, longest, parts, self.characters + length * self.tensors)


def _sum(below: Iterable[_Extent]) -> _Extent:
    values, tensors, longest, parts, characters = 1, 0, 0, 0, 0
    for part in below:
        values, tensors, characters = values + part.values, tensors + part.tensors, characters + part.characters
        longest, parts = max(longest, part.longest), max(parts, part.parts)
    if values > _MAX_VALUES:
        raise MalformedError(f"more than {_MAX_VALUES:,} values, counted as often as they are referred to")
    if tensors > _MAX_TENSORS:
        raise MalformedError(f"more than {_MAX_TENSORS:,} tensors, counted as often as they are referred to")
    return _Extent(values, tensors, longest, parts, characters)


_VALUE = _Extent()
_ONE_TENSOR = _Extent(tensors=1)


class _Walk:
    def __init__(self, budget: Budget, content: Source) -> None:
        self.budget = budget
        self.content = content
        self.done: dict[int, tuple[Tree, _Extent]] = {}
        self.alive: list[Tree] = []  # what `done` knows by its id
        self.open: set[int] = set()
        self.notes: list[str] = []

    def visit(self, value: Tree, depth: int) -> tuple[Tree, _Extent]:
        if not isinstance(value, dict | list | tuple | Stub | Storage):
            return value, _ONE_TENSOR if isinstance(value, torch.Tensor) else _VALUE
        if id(value) in self.done:
            return self.done[id(value)]
        if depth > _MAX_DEPTH or id(value) in self.open:
            raise MalformedError(
                "it contains itself" if id(value) in self.open else f"nested deeper than {_MAX_DEPTH} levels"
            )
        self.open.add(id(value))
        result = self.rebuild(value, depth + 1)
        self.open.remove(id(value))
        self.done[id(value)] = result
        self.alive.append(value)
        return result

    def rebuild(self, value: Tree, depth: int) -> tuple[Tree, _Extent]:
        if isinstance(value, Storage):
            content = value.content
            return (Stub("torch.Tensor") if content is None else content.view(value.dtype)), _ONE_TENSOR
        if isinstance(value, Stub):
            return self.rebuild_stub(value, depth)
        if not isinstance(value, dict | list | tuple):
            return value, _VALUE
        self.budget.claim(_ITEM * (1 + len(value)), "a copy of a list or dict")
        keys = value if isinstance(value, dict) else range(len(value))
        items = value.values() if isinstance(value, dict) else value
        visited = [self.visit(item, depth) for item in items]
        extent = _sum(part.below(key) for key, (_, part) in zip(keys, visited, strict=True))
        results = [item for item, _ in visited]
        if isinstance(value, dict):
            return dict(zip(value, results, strict=True)), extent
        return (results if isinstance(value, list) else tuple(results)), extent

    def rebuild_stub(self, stub: Stub, depth: int) -> tuple[Tree, _Extent]:
        if stub.name == "numpy.ndarray":
            array = numpy_array(stub, self.budget, self.content)
            return array, _VALUE if isinstance(array, Stub) else _ONE_TENSOR
        if _is_module(stub):
            self.notes.append(f"a whole {stub.name} was pickled; only its tensors are taken")
            return self.visit(_state_dict(stub, self.budget), depth)
        if any(isinstance(value, torch.Tensor) for value in stub.entries.values()):  # a subclass of dict
            return self.visit(stub.entries, depth)
        return stub, _VALUE


_ITEM = 56  # bytes that an item takes in the copy and on the way to it, about


def _is_module(value: Tree) -> TypeGuard[Stub]:
    return isinstance(value, Stub) and (
        (value.has("_modules") and value.has("_parameters")) or value.name.startswith("__torch__.")  # TorchScript
    )


def _state_dict(module: Stub, budget: Budget) -> dict[str, torch.Tensor]:
    """Tensors by dotted name of a pickled nn.Module (`_parameters`, `_buffers`, `_modules`) or TorchScript object."""
    found: dict[str, torch.Tensor] = {}
    waiting: list[tuple[str, Stub]] = [("", module)]
    while waiting:
        prefix, stub = waiting.pop()
        budget.claim(300 * (1 + len(stub.entries)), "the members of a module")
        for name, value in _members(stub).items():
            budget.claim(100 + len(prefix) + len(name), "the list of tensors of a module that contains itself")
            if isinstance(value, torch.Tensor):
                found[f"{prefix}{name}"] = value
            elif _is_module(value):
                waiting.append((f"{prefix}{name}.", value))
    return found


def _members(module: Stub) -> dict[str, Tree]:
    fields = module.fields
    groups = [fields.get(group) for group in ("_parameters", "_buffers", "_modules")]
    members = {str(name): value for group in groups if isinstance(group, dict) for name, value in group.items()}
    return members if "_modules" in fields else fields
