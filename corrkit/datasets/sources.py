"""Where data sets are offered: data_manifests/sources.toml, or a list of the same form (a mirror)."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from urllib.parse import unquote, urlsplit

from corrkit.errors import DataError
from corrkit.files.jsontext import Json
from corrkit.files.reading import read_file
from corrkit.manifests import manifest

_LARGEST = 1 << 20
_HEX = {"sha256": 64, "md5": 32}


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One archive. splits: that need it, empty for all. size: bytes; None where not known, as the digests (hex)."""

    url: str
    source: str
    splits: tuple[str, ...] = ()
    size: int | None = None
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
        tables = tomllib.loads(data.decode())
    except (UnicodeDecodeError, RecursionError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{where} can't be read ({error}).", "Correct --sources.") from None
    if not isinstance(tables.get(task), dict):
        raise DataError(f"{where} has no table [{task}].", "Add it, or leave out --sources.")
    table = dict(tables[task])
    files = table.pop("files", [])
    if not isinstance(files, list):
        raise DataError(f"{where}: files of [{task}] is no list of tables.", "Correct it.")
    numbered = [_file(entry, f"{where} [[{task}.files]] {number}") for number, entry in enumerate(files, start=1)]
    _require(table, Source, f"{where} [{task}]", required=("title", "page", "licence", "licence_verified"))
    return Source(**table, files=tuple(numbered))


def _file(entry: Json, where: str) -> SourceFile:
    if not isinstance(entry, dict):
        raise DataError(f"{where} is no table.", "Correct --sources.")
    _require(entry, SourceFile, where, required=("url", "source"))
    splits = entry.get("splits", [])
    texts = [entry["url"], entry["source"], *(splits if isinstance(splits, list) else [None])]
    if not all(isinstance(text, str) for text in texts):
        raise DataError(f"{where}: url, source or splits is no text.", "Correct it.")
    file = SourceFile(**{**entry, "splits": tuple(splits)})
    problem = ""
    if urlsplit(file.url).scheme not in {"http", "https"}:
        problem = f"url {file.url!r} is neither http nor https"
    elif not file.name or file.name in {".", ".."} or "/" in file.name or "\0" in file.name:
        problem = f"url {file.url!r} names no file"
    elif file.size is not None and (not isinstance(file.size, int) or file.size <= 0):
        problem = f"size is {file.size!r}, not a number of bytes"
    for key, digits in _HEX.items():
        value = getattr(file, key)
        if value is not None and not re.fullmatch(rf"[0-9a-f]{{{digits}}}", str(value)):
            problem = f"{key} is {value!r}, not {digits} lower-case hex digits"
    if problem:
        raise DataError(f"{where}: {problem}.", "Correct it.")
    return file


def _require(table: Mapping[str, Json], kind: type, where: str, *, required: tuple[str, ...]) -> None:
    known = {field.name for field in fields(kind)}
    unknown, missing = sorted(set(table) - known), [key for key in required if key not in table]
    if unknown or missing:
        what = f"the unknown key {unknown[0]!r}" if unknown else f"no {missing[0]}"
        raise DataError(f"{where} has {what}.", f"Its keys are {', '.join(sorted(known))}.")
