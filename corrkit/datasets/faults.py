"""What can be wrong with a copy of a data set, said once per clip and kind of fault however many files have it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

RESTORE = "Restore it from the data set's archive."

Kind = Literal["missing", "damaged", "surplus"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault. clip: None for the whole copy. files: all that have it, below the data root, in order."""

    kind: Kind
    clip: str | None
    problem: str
    remedy: str
    files: tuple[str, ...] = ()


class FaultGroup:
    """Collects the files of one clip that have the same fault.

    Args:
        kind: of the fault.
        clip: name; None for the whole copy.
        what: each file is: "frame that can't be decoded".
        remedy: one sentence.
        root: of the data; files are named below it.
    """

    def __init__(self, kind: Kind, clip: str | None, what: str, remedy: str, root: Path) -> None:
        self._kind, self._clip, self._what, self._remedy, self._root = kind, clip, what, remedy, root
        self._files: list[str] = []
        self._detail = ""

    def add(self, path: Path, detail: str = "") -> None:
        """Takes a file; the detail of the first one becomes part of the problem."""
        if not self._files:
            self._detail = detail
        self._files.append(below(path, self._root))

    def extend(self, paths: Sequence[Path]) -> "FaultGroup":
        """Takes files without detail."""
        for path in paths:
            self.add(path)
        return self

    def faults(self) -> Iterator[Fault]:
        """The fault, or nothing where no file has it."""
        if self._files:
            yield Fault(
                kind=self._kind,
                clip=self._clip,
                problem=f"{self._what} ({self._detail})" if self._detail else self._what,
                remedy=self._remedy,
                files=tuple(self._files),
            )


def below(path: Path, root: Path) -> str:
    """The path seen from the data root; as it is where it lies elsewhere."""
    try:
        return str(path.relative_to(root))
    except ValueError:
        return str(path)
