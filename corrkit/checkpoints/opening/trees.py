"""From what a pickle holds to what a reader expects: arrays and modules become tensors; no endless structures."""

from typing import Any

import torch

from corrkit.checkpoints.opening.pickles import MalformedError, Stub
from corrkit.checkpoints.opening.tensors import Budget, Storage, numpy_array

_MAX_DEPTH = 100
_MAX_VALUES = 2_000_000  # of the tree written out in full; shared parts count as often as they occur


def tidy(tree: Any, budget: Budget) -> tuple[Any, list[str]]:
    """The tree with tensors for numpy arrays and flat state dicts for pickled modules, and notes on what was changed.

    Everything else stays as it is in the file; stubs aren't looked into. The tree that comes back may be walked
    recursively without further care: it is no deeper than 100 levels, has no cycles and no more than 2 million values.

    Raises:
        MalformedError: it is deeper, larger or cyclic.
    """
    walk = _Walk(budget)
    tidied, _ = walk.visit(tree, 0)
    return tidied, walk.notes


class _Walk:
    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.done: dict[int, tuple[Any, int]] = {}
        self.alive: list[Any] = []  # what `done` knows by its id
        self.open: set[int] = set()
        self.notes: list[str] = []

    def visit(self, value: Any, depth: int) -> tuple[Any, int]:
        if not isinstance(value, dict | list | tuple | Stub | Storage):
            return value, 1
        if id(value) in self.done:
            return self.done[id(value)]
        if depth > _MAX_DEPTH or id(value) in self.open:
            raise MalformedError(
                "it contains itself" if id(value) in self.open else f"nested deeper than {_MAX_DEPTH} levels"
            )
        self.open.add(id(value))
        result = self.rebuild(value, depth + 1)
        self.open.remove(id(value))
        if result[1] > _MAX_VALUES:
            raise MalformedError(f"more than {_MAX_VALUES:,} values, counted as often as they are referred to")
        self.done[id(value)] = result
        self.alive.append(value)
        return result

    def rebuild(self, value: Any, depth: int) -> tuple[Any, int]:
        if isinstance(value, Storage):
            return (Stub("torch.Tensor") if value.content is None else value.content.view(value.dtype)), 1
        if isinstance(value, Stub):
            return self.rebuild_stub(value, depth)
        items = value.values() if isinstance(value, dict) else value
        visited = [self.visit(item, depth) for item in items]
        size = 1 + sum(count for _, count in visited)
        results = [item for item, _ in visited]
        if isinstance(value, dict):
            return dict(zip(value, results, strict=True)), size
        return (results if isinstance(value, list) else tuple(results)), size

    def rebuild_stub(self, stub: Stub, depth: int) -> tuple[Any, int]:
        if stub.name == "numpy.ndarray":
            return numpy_array(stub, self.budget), 1
        if _is_module(stub):
            self.notes.append(f"a whole {stub.name} was pickled; only its tensors are taken")
            return self.visit(_state_dict(stub, self.budget), depth)
        if any(isinstance(value, torch.Tensor) for value in stub.entries.values()):  # a subclass of dict
            return self.visit(stub.entries, depth)
        return stub, 1


def _is_module(value: Any) -> bool:
    return isinstance(value, Stub) and (
        ("_modules" in value.fields and "_parameters" in value.fields)
        or value.name.startswith("__torch__.")  # TorchScript
    )


def _state_dict(module: Stub, budget: Budget) -> dict[str, torch.Tensor]:
    """Tensors by dotted name of a pickled nn.Module (`_parameters`, `_buffers`, `_modules`) or TorchScript object."""
    found: dict[str, torch.Tensor] = {}
    waiting: list[tuple[str, Stub]] = [("", module)]
    while waiting:
        prefix, stub = waiting.pop()
        for name, value in _members(stub).items():
            budget.claim(100 + len(prefix) + len(name), "the list of tensors of a module that contains itself")
            if isinstance(value, torch.Tensor):
                found[f"{prefix}{name}"] = value
            elif _is_module(value):
                waiting.append((f"{prefix}{name}.", value))
    return found


def _members(module: Stub) -> dict[str, Any]:
    fields = module.fields
    groups = [fields.get(group) for group in ("_parameters", "_buffers", "_modules")]
    members = {str(name): value for group in groups if isinstance(group, dict) for name, value in group.items()}
    return members if "_modules" in fields else fields
