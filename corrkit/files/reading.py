"""Files of a data set, read whole and within a bound; which files of a folder are meant, and in which order."""

import contextlib
import errno
import hashlib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from corrkit.errors import DataError, UnreadableError

_LFS_POINTER = b"version https://git-lfs"
_LARGEST_TEXT = 64 << 20  # bytes
_NUMBER = re.compile("([0-9]+)")


def read_file(path: Path, *, largest: int) -> bytes:
    """The content of a regular file, or of an archive's member.

    Args:
        path: the file.
        largest: bytes; a file of its kind holds no more.

    Raises:
        DataError: missing, no regular file (folder, FIFO, device, socket), larger than `largest`, or a git-LFS pointer.
        UnreadableError: where the system fails to read it.
    """
    require_regular(path)
    with _explained(path):
        size = path.stat().st_size
        if size > largest:
            raise DataError(f"{path} has {size} bytes; {largest} are the most that are read.", "Replace it.")
        content = path.read_bytes()
    return _no_pointer(path, content)


def beginning(path: Path, count: int, start: int = 0) -> bytes:
    """The first bytes of a regular file of any size, or those from `start` on.

    Raises:
        DataError: as `read_file`, as is UnreadableError.
    """
    require_regular(path)
    with _explained(path), path.open("rb") as file:
        file.seek(start)
        return _no_pointer(path, file.read(count))


def _no_pointer(path: Path, content: bytes) -> bytes:
    if content.startswith(_LFS_POINTER):
        raise DataError(f"{path} is a git-LFS pointer, not the file it stands for.", "Run: git lfs pull")
    return content


def require_regular(path: Path) -> None:
    """Raises DataError where a path is missing, or something whose reading may wait forever or never end."""
    with _explained(path):
        if path.is_file():
            return
        kind = "a folder" if path.is_dir() else "a FIFO, socket or device" if path.exists() else None
    if kind is None:
        raise DataError(f"{path} is missing.", "Restore it, or leave the clip out with --clips.")
    raise DataError(f"{path} is {kind}, not a file.", "Replace it by the data set's file.")


def regular_text(path: Path, *, encoding: str = "utf-8") -> str:
    """The text of a file that a user names, for a reader with errors of its own.

    Raises:
        OSError: missing, no regular file (reading a FIFO waits forever, a device never ends), or of more than 64 MiB.
        UnicodeDecodeError: of another encoding.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    if path.stat().st_size > _LARGEST_TEXT:
        raise OSError(errno.EFBIG, f"it is larger than {_LARGEST_TEXT >> 20} MiB", str(path))
    return path.read_bytes().decode(encoding)


def file_sha256(path: Path) -> str:
    """sha256 hex of a regular file's content. Raises DataError or UnreadableError as `read_file`."""
    require_regular(path)
    with _explained(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_size(path: Path) -> int:
    """Bytes of a regular file. Raises DataError or UnreadableError as `read_file`."""
    require_regular(path)
    with _explained(path):
        return path.stat().st_size


def is_folder(path: Path) -> bool:
    """Whether a path is a folder; False for names that no file system takes. Raises UnreadableError."""
    try:
        return path.is_dir()
    except OSError as error:
        return _no_such_name(path, error)


def is_there(path: Path) -> bool:
    """Whether a path names something that is no folder, a dead link too; False for names that no file system takes."""
    try:
        return (path.exists() or path.is_symlink()) and not path.is_dir()
    except OSError as error:
        return _no_such_name(path, error)


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, in no order; empty where there is no folder. Raises UnreadableError."""
    if not is_folder(folder):
        return []
    with _explained(folder):
        return list(folder.iterdir())


def files_below(folder: Path) -> Iterator[Path]:
    """All files below a folder, in no order; folders that other processes remove meanwhile are passed over."""
    for place, _, names in os.walk(folder):
        yield from (Path(place, name) for name in names)


def is_plain_name(name: str) -> bool:
    """Whether a name stays in its folder."""
    return name not in {"", ".", ".."} and "/" not in name and "\0" not in name


def natural_order(name: str) -> tuple[tuple[str, int], ...]:
    """A sorting key by which numbers within names count as numbers: a2, a10; 00002 before 10."""
    parts = _NUMBER.split(name)
    return tuple(zip(parts[::2], [*map(_number, parts[1::2]), -1], strict=True))


def _number(digits: str) -> int:
    """Python refuses to read thousands of digits, which a tar's names may have: the first ones, as large as all."""
    most = sys.int_info.default_max_str_digits
    return int(digits) if len(digits) <= most else int(digits[:most]) * 10 ** (len(digits) - most)


def ordered(paths: Iterable[Path]) -> list[Path]:
    """Paths in the natural order of their names; equal numbers (1, 01) in that of the text."""
    return sorted(paths, key=lambda path: (natural_order(path.name), path.name))


def numbered_files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Files of a folder with one of the suffixes (lower case, with dot), in natural order.

    Hidden files (macOS "._" copies) are left out. Empty where there is no folder.
    """
    files = [p for p in entries(folder) if p.suffix.lower() in suffixes and not p.name.startswith(".")]
    return sorted(files, key=lambda path: (natural_order(path.stem), path.name))


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> UnreadableError:
    return UnreadableError(f"{path} can't be read ({error.strerror or error}).", "Check disk and permissions.")


def _no_such_name(path: Path, error: OSError) -> bool:
    """False for a name too long for the file system. Raises UnreadableError for any other error."""
    if error.errno != errno.ENAMETOOLONG:
        raise _unreadable(path, error)
    return False
