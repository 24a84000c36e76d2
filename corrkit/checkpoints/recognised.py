"""What recognising finds out about a file: one network's tensors under canonical names, and every decision."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from corrkit.checkpoints import heads
from corrkit.checkpoints.completeness import Tensors, contradiction, gap
from corrkit.checkpoints.conversions import ContradictionError, of_rank
from corrkit.checkpoints.naming import file_name
from corrkit.checkpoints.opening.inert import Tree
from corrkit.checkpoints.system import Layout, System
from corrkit.errors import CheckpointError
from corrkit.files.jsontext import Json

if TYPE_CHECKING:
    from torch import Tensor

CONVERTED = "corrkit"  # the header's entry in files of `corrkit convert`


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """One network of a file.

    prefix: of its names, "" or ending in a dot. state: canonical name to tensor, in the file's precision (asking for
    one that isn't there raises a CheckpointError which names it); origins:
    canonical name (before fusing) to name in the file. shapes: of all tensors under the prefix, by relative name.
    total: tensors in the file; used: of these, how many went into `state`. dropped: group to reason.
    mean, std: of the input, per channel. evidence: decision to what it rests on. config: `configuration.vision_part`
    of the configuration beside it.
    tree: the whole file, for what its container says about training.
    """

    path: Path
    system: System
    layout: Layout
    prefix: str
    state: "dict[str, Tensor]"
    origins: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    used: int
    total: int
    dropped: tuple[tuple[str, str], ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    evidence: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()
    config: Mapping[str, Json] = field(default_factory=dict)
    tree: Tree = None

    def file_name(self, canonical: str) -> str:
        """How a tensor is called in the file, or would be called if it is missing."""
        return file_name(canonical, self.origins, self.layout, self.prefix)

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", Tensors(self.state, self.missing))

    def missing(self, names: Iterable[str]) -> CheckpointError:
        """The error for canonical names that the file lacks, under the names that the file would give them."""
        return gap(self.path, self.system, list(names), self.state, self.file_name)

    def tensor(self, name: str, *ranks: int) -> "Tensor":
        """The tensor of a canonical name, which must have one of these numbers of axes. Raises CheckpointError."""
        try:
            return of_rank(name, self.state[name], *ranks)
        except ContradictionError as error:
            raise contradiction(self.path, self.system, self.file_name(name), error.problem) from error

    def depth(self, stem: str) -> int:
        """One more than the highest index of `stem`, e.g. "blocks"; gaps come out as missing tensors."""
        found = (re.match(rf"{re.escape(stem)}\.(\d+)\.", name) for name in self.state)
        return max((int(match[1]) for match in found if match), default=-1) + 1

    def stored_heads(self, dim: int) -> tuple[int, str] | None:
        """Attention heads of a network of width `dim` as far as file or config tell, and where."""
        return heads.stored(self.shapes, dim, self.config, self.tree)
