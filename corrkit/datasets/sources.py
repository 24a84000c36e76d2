"""Where data sets are offered: data_manifests/sources.toml, or a list of the same form (a mirror)."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from corrkit.constants import AT_LEAST_ONE, Reader, parse_toml
from corrkit.errors import DataError
from corrkit.files.reading import read_file
from corrkit.manifests import manifest

_LARGEST = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One archive. splits: that need it, empty for all. size: bytes; None where not known, as the digests (hex)."""

    url: str
    source: str
    splits: tuple[str, ...] = ()
    size: int | None = field(default=None, metadata=AT_LEAST_ONE)
    sha256: str | None = None
    md5: str | None = None

    @property
    def name(self) -> str:
        """The address's last part: the file's name on disk."""
        return unquote(urlsplit(self.url).path).rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One data set. by_hand: how to get it where no address can be downloaded from, else empty."""

    title: str
    page: str
    licence: str
    licence_verified: bool
    by_hand: str = ""
    files: tuple[SourceFile, ...] = ()

    def files_for(self, split: str | None) -> tuple[SourceFile, ...]:
        """The archives that a split needs; all for None. Raises DataError for a split that no archive holds."""
        found = tuple(file for file in self.files if split is None or not file.splits or split in file.splits)
        if self.files and not found:
            known = sorted({name for file in self.files for name in file.splits})
            raise DataError(
                f"No archive of {self.title} is known to hold split {split!r}.", f"Known: {', '.join(known)}."
            )
        return found


def read_source(task: str, path: Path | None = None) -> Source:
    """The source of a task's data.

    Args:
        task: davis, vip or jhmdb.
        path: a list of one's own; None for data_manifests/sources.toml.

    Raises:
        DataError: for a file that can't be read, lacks the task, or has unknown, missing or wrong entries.
    """
    where = str(path or "sources.toml")
    try:
        data = read_file(path, largest=_LARGEST) if path else manifest("sources.toml").read_bytes()
        tables = parse_toml(data.decode())
    except ValueError as error:
        raise DataError(f"{where} can't be read ({error}).", "Correct --sources.") from None
    if task not in tables:
        raise DataError(f"{where} has no table [{task}].", "Add it, or leave out --sources.")
    reader = Reader(where, DataError)
    source = reader.read(Source, tables[task], task)
    for number, file in enumerate(source.files):
        if problem := _problem(file):
            raise DataError(f"{reader.place(f'{task}.files.{number}')}: {problem}.", "Correct it.")
    return source


def _problem(file: SourceFile) -> str:
    """What no type says: an address on the web that ends with a file's name, digests of the right length; else ""."""
    if urlsplit(file.url).scheme not in {"http", "https"}:
        return f"url {file.url!r} is neither http nor https"
    if not file.name or file.name in {".", ".."} or "/" in file.name or "\0" in file.name:
        return f"url {file.url!r} names no file"
    for key, value, digits in (("sha256", file.sha256, 64), ("md5", file.md5, 32)):
        if value is not None and not re.fullmatch(rf"[0-9a-f]{{{digits}}}", value):
            return f"{key} is {value!r}, not {digits} lower-case hex digits"
    return ""
