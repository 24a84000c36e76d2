"""What can be wrong with a copy of a data set, said once per clip and kind of fault however many files have it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from corrkit.errors import DataError

RESTORE = "Restore it from the data set's archive."

Kind = Literal["missing", "damaged", "surplus", "noted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault.

    kind: "noted" is nothing wrong, but something that a score depends on. clip: None for the whole copy. what: is
    wrong, detail: of the first file. files: all that have it, below the data root, in order. stops: whether the clip
    can't be evaluated. consequence: what it means for the score of a clip that is evaluated all the same; empty where
    the score doesn't depend on it.
    """

    kind: Kind
    clip: str | None
    what: str
    remedy: str
    detail: str = ""
    files: tuple[str, ...] = ()
    stops: bool = False
    consequence: str = ""

    @property
    def problem(self) -> str:
        """What is wrong, with its detail."""
        return f"{self.what} ({self.detail})" if self.detail else self.what

    def error(self, root: Path) -> DataError:
        """The fault as an error that names the first files below `root`."""
        where = ", ".join(str(root / file) for file in self.files[:2]) + (", ..." if len(self.files) > 2 else "")
        return DataError(f"{where or self.clip}: {self.problem}.", self.remedy)


class FaultGroup:
    """Collects the files of one clip that have the same fault.

    Args:
        kind: of the fault.
        clip: name; None for the whole copy.
        what: each file is: "frame that can't be decoded".
        remedy: one sentence.
        root: of the data; files are named below it.
        stops: see `Fault`.
        consequence: see `Fault`.
    """

    def __init__(
        self,
        kind: Kind,
        clip: str | None,
        what: str,
        remedy: str,
        root: Path,
        *,
        stops: bool = False,
        consequence: str = "",
    ) -> None:
        self._kind, self._clip, self._what, self._remedy, self._root = kind, clip, what, remedy, root
        self._stops, self._consequence = stops, consequence
        self._files: list[str] = []
        self._detail = ""

    def add(self, path: Path, detail: str = "") -> None:
        """Takes a file; the detail of the first one becomes part of the problem."""
        if not self._files:
            self._detail = detail
        self._files.append(below(path, self._root))

    def extend(self, paths: Iterable[Path], detail: str = "") -> "FaultGroup":
        """Takes files with one detail for all."""
        for path in paths:
            self.add(path, detail)
        return self

    def faults(self) -> Iterator[Fault]:
        """The fault, or nothing where no file has it."""
        if self._files:
            yield Fault(
                kind=self._kind,
                clip=self._clip,
                what=self._what,
                remedy=self._remedy,
                detail=self._detail,
                files=tuple(self._files),
                stops=self._stops,
                consequence=self._consequence,
            )


def below(path: Path, root: Path) -> str:
    """The path seen from the data root; as it is where it lies elsewhere."""
    try:
        return str(path.relative_to(root))
    except ValueError:
        return str(path)
