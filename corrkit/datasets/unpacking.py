"""Unpacks a downloaded archive: files and folders only, below one folder only, and never over another file."""

import bz2
import contextlib
import gzip
import lzma
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from corrkit.errors import DataError
from corrkit.files.archive import require_end_mark, safe_name
from corrkit.files.reading import beginning

_TEMPORARY = ".corrkit-unpacking"
_LARGEST_RATIO, _LARGEST_REST = 20, 1 << 26
"""Bytes that an archive may unpack to: so many times its own, and so many more. Pictures hardly shrink."""
_LARGEST_HEADER = 1 << 20
_ZIP = b"PK"
_DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, gzip.BadGzipFile, lzma.LZMAError, EOFError,
    OverflowError, ValueError, struct.error,  # tarfile's and zipfile's headers
    RuntimeError,  # zipfile: encrypted
    NotImplementedError,  # zipfile: another compression
)  # fmt: skip


def unpack(archive: Path, folder: Path) -> tuple[int, list[Path]]:
    """Unpacks a .zip, .tar or compressed tar below `folder`.

    Files that are there already are kept, so that an interrupted call can be repeated.

    Args:
        archive: the file.
        folder: made if missing.

    Returns:
        The number of files in the archive, and those of the folder that were kept although their size differs.

    Raises:
        DataError: for a damaged archive; one that unpacks to far more than its own size; a member that is a link,
            device, or leads out of `folder` (nothing of it is written; what came before stays); no space.
    """
    count = 0
    differing = []
    left = _most_bytes(archive)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, size, content in _members(archive):
            target = _target(folder, name, archive)
            left -= size
            if left < 0:
                raise _refused(archive, name, "makes it unpack to far more than its own size")
            if not _write(target, size, content, folder / _TEMPORARY):
                differing.append(target)
            count += 1
    except _DAMAGE as error:
        raise DataError(f"{archive} is damaged ({error}).", "Delete it and download it again.") from None
    except OSError as error:
        place = error.filename or archive
        raise DataError(
            f"{place} can't be written ({error.strerror or error}).", "Free space or change --to."
        ) from None
    finally:
        with contextlib.suppress(OSError):
            (folder / _TEMPORARY).unlink(missing_ok=True)
    return count, differing


def _most_bytes(archive: Path) -> int:
    return _LARGEST_RATIO * archive.stat().st_size + _LARGEST_REST


def _members(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Name, size and content of each file, in order. Raises DataError for anything that is neither file nor folder."""
    if beginning(archive, len(_ZIP)) == _ZIP:  # tarfile.is_tarfile would read what a header claims
        yield from _zip_members(archive)
        return
    with _opened(archive) as stream, tarfile.open(fileobj=_Bounded(stream, _most_bytes(archive)), mode="r:") as tar:  # type: ignore[call-overload]
        while (member := tar.next()) is not None:
            tar.members.clear()  # a few bytes of a compressed file hold thousands of them
            if member.isdir():
                continue
            content = tar.extractfile(member) if member.isreg() else None
            if content is None:
                raise _refused(archive, member.name, "is a link or device")
            with content:
                yield member.name, member.size, content
        require_end_mark(tar)


def _opened(archive: Path) -> IO[bytes]:
    """A tar's content, decompressed as it is read."""
    with archive.open("rb") as file:
        start = file.read(6)
    for magic, opener in ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open)):
        if start.startswith(magic):
            return cast(IO[bytes], opener(archive))
    return archive.open("rb")


class _Bounded:
    """What tarfile reads through: a header may claim gigabytes, which tarfile would hold in memory.

    most: bytes that the headers and contents of all members may take.
    """

    def __init__(self, content: IO[bytes], most: int) -> None:
        self._content, self._most = content, most
        self.seek, self.tell = content.seek, content.tell

    def read(self, size: int) -> bytes:
        if size > _LARGEST_HEADER:
            raise tarfile.ReadError(f"a header claims {size} bytes")
        if self.tell() > self._most:
            raise tarfile.ReadError("it unpacks to far more than its own size")
        return self._content.read(size)


def _zip_members(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with zipfile.ZipFile(archive) as packed:
        for member in packed.infolist():
            if member.is_dir():
                continue
            if stat.S_IFMT(member.external_attr >> 16) not in {0, stat.S_IFREG}:
                raise _refused(archive, member.filename, "is a link or device")
            with packed.open(member) as content:
                yield member.filename, member.file_size, content


def _target(folder: Path, name: str, archive: Path) -> Path:
    inside = safe_name(name)
    if inside is None:
        raise _refused(archive, name, "leads out of the folder")
    target = folder / inside
    for parent in target.relative_to(folder).parents:
        if (folder / parent).is_symlink():
            raise _refused(archive, name, f"would be written through the link {folder / parent}")
    return target


def _write(target: Path, size: int, content: IO[bytes], temporary: Path) -> bool:
    """Writes a file that isn't there; False where another one is."""
    if target.exists() or target.is_symlink():
        return target.is_file() and not target.is_symlink() and target.stat().st_size == size
    target.parent.mkdir(parents=True, exist_ok=True)
    with temporary.open("wb") as file:
        shutil.copyfileobj(content, file, 1 << 20)
    if temporary.stat().st_size != size:
        raise EOFError(f"{target.name} ends after {temporary.stat().st_size} of {size} bytes")
    temporary.replace(target)
    return True


def _refused(archive: Path, name: str, reason: str) -> DataError:
    return DataError(
        f"{archive} holds {name!r}, which {reason}.", "Don't use this archive: a data set has no such member."
    )
