"""What a file holds beside tensors, as data: names, instances and long strings that nothing can be done with.

Also what it tried to do, and the two errors of files that can't be read.
"""

import mmap
import re
from dataclasses import dataclass, field
from typing import TypeAlias

from corrkit.errors import CheckpointError

Tree: TypeAlias = object
"""What a checkpoint file holds, or a part of it: a dict, a list, a tensor, a stub, a plain value."""
Source: TypeAlias = mmap.mmap | bytearray
"""What holds a file's bytes."""


@dataclass(eq=False, slots=True)
class Stub:
    """What a file names or instantiates, kept as data.

    name: dotted, e.g. "argparse.Namespace". instantiated: False where the file merely names it. arguments: of the
    constructor. state: what `__setstate__` would have got. entries, elements: of subclasses of dict and list.
    """

    name: str
    instantiated: bool = False
    arguments: tuple[Tree, ...] = ()
    state: Tree = None
    entries: dict[Tree, Tree] = field(default_factory=dict)
    elements: list[Tree] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"<{'instance of ' if self.instantiated else ''}{self.name}>"  # never the content: it may be endless

    def has(self, name: str) -> bool:
        """Whether `fields` has the name; without merging them, since many stubs may share one large state."""
        states = self.state if isinstance(self.state, tuple) else (self.state,)
        return name in self.entries or any(isinstance(state, dict) and name in state for state in states)

    @property
    def fields(self) -> dict[str, Tree]:
        """Attributes and items by name: `args.model` of a Namespace, `config["MODEL"]` of a CfgNode."""
        states = self.state if isinstance(self.state, tuple) else (self.state,)  # (attributes, slots)
        merged = {name: value for state in states if isinstance(state, dict) for name, value in state.items()}
        return {str(name): value for name, value in (merged | self.entries).items()}


@dataclass(frozen=True, slots=True)
class Span:
    """A long string of a pickle that stays where it is: `start` in the stream's source, bytes of `encoding`.

    encoding: "bytes"; "utf-8" of a str; "latin-1 as utf-8" of the bytes that a latin-1 str stands for.
    """

    start: int
    length: int
    encoding: str


class MalformedError(Exception):
    """The bytes aren't what their beginning promises; the caller knows the file and says so."""


QUANTISED_REMEDY = "Get the weights in float32, float16 or bfloat16."


class UnsupportedError(MalformedError):
    """Sound bytes of a kind that isn't read: what it is, and what to do."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


# Beginnings of the names of functions that whole files of known kinds call, what these hold, and what to do.
_KINDS = (
    (
        r"torch(ao)?\..*(quant|per_(tensor|channel)_affine|qint|quint)|torch\._utils\._rebuild_qtensor|torchao\.",
        "holds quantised tensors",
        QUANTISED_REMEDY,
    ),
    (
        r"torch\.distributed\.",
        "holds DTensors, the parts of a distributed run",
        "Save it again from whole tensors where it was made: torch.distributed.checkpoint.state_dict."
        "get_model_state_dict(model, options=StateDictOptions(full_state_dict=True)).",
    ),
    (
        r"torch\._utils\._rebuild_wrapper_subclass",
        "holds tensors of a class of their own",
        "Save plain tensors where it was made.",
    ),
)


@dataclass(slots=True)
class Names:
    """What a file instantiated, what it tried to call, and the classes that it would have given to these calls."""

    instantiated: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    given: set[str] = field(default_factory=set)

    def require_no_calls(self, path: object) -> None:
        """Raises CheckpointError, listing them, where functions outside the fixed list would have been called."""
        of_torch = bool(self.refused) and all(re.match(r"torch(ao)?\.", name) for name in self.refused)
        for pattern, what, remedy in _KINDS if of_torch else ():
            if any(re.match(pattern, name) for name in self.refused | self.instantiated | self.given):
                calls = ", ".join(sorted(self.refused)[:3])
                raise CheckpointError(f"{path} {what}; opening it would call {calls}, which corrkit doesn't.", remedy)
        if self.refused:
            listed = ", ".join(sorted(self.refused)[:8]) + (", ..." if len(self.refused) > 8 else "")
            raise CheckpointError(
                f"{path} is unsafe: opening it would call {listed}. Nothing was executed.",
                "Get the file from its authors. If you trust it, save its state dict alone where it was made: "
                "torch.save(model.state_dict(), FILE).",
            )
