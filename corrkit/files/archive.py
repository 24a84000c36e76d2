"""A data root that is a .zip or .tar: its members behind the part of `pathlib.Path` that the readers use, read-only.

Zip members are inflated on demand; tar members are read at their place in the file. A compressed tar has no places to
read at: every frame would cost unpacking all that lies before it, so it is refused.
"""

import errno
import io
import lzma
import os
import posixpath
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import IO, Any, cast

from corrkit.errors import DataError, UnreadableError

ARCHIVE_SUFFIXES = (".zip", ".tar")
LARGEST_MEMBER = 1 << 28
"""Bytes of a member that are held in memory: pictures, lists and joints of data sets have far fewer."""
COMPRESSED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")


def open_root(path: str | Path) -> Path:
    """The data root at `path`: a folder as it is, an archive as a read-only `ArchivePath`.

    Raises:
        DataError: for a file that is no zip or tar, or a damaged, empty or compressed one.
    """
    path = Path(path)
    if not path.is_file():
        return path
    name = path.name.lower()
    if name.endswith(COMPRESSED_TARS):
        raise DataError(
            f"{path} is a compressed tar: frames in it can't be reached without unpacking all before them.",
            f"Unpack it (tar -xf {path.name}) and name the folder, or repack it as .tar or .zip.",
        )
    if path.suffix.lower() not in ARCHIVE_SUFFIXES:
        raise DataError(f"{path} is a file.", "Name a folder, a .zip or a .tar.")
    archive = ZipArchive(path) if path.suffix.lower() == ".zip" else TarArchive(path)
    # The readers are annotated with Path, and call nothing of it that ArchivePath lacks.
    return cast(Path, ArchivePath(archive))


def ignored_members(root: Path) -> list[str]:
    """Members of a root's archive that are links, devices, or lead out of it; none for a folder."""
    archive = getattr(root, "archive", None)
    return list(archive.ignored) if isinstance(archive, Archive) else []


def safe_name(name: str) -> str | None:
    """A member's name as a relative path; None where it is absolute, leads out with "..", or is the top itself."""
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if name.startswith("/") or ".." in parts or not parts or "\0" in name:
        return None
    return "/".join(parts)


def require_end_mark(archive: tarfile.TarFile) -> None:
    """Raises ReadError where a tar that has been read to its end lacks the block of zeros that ends it.

    tarfile takes a broken header, and the end of the file, for the end of the archive.
    """
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it is cut off or damaged: no end mark follows its last member")


class Archive:
    """An archive's members, indexed once. Reads don't disturb each other, from any thread or forked process.

    Args:
        file: the archive.

    Attributes:
        file: the archive.
        ignored: names of members that are links, devices, or lead out of the archive.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.ignored: list[str] = []
        self._members: dict[str, Any] = {}
        self._children: dict[str, dict[str, None]] = {"": {}}
        try:
            self._index()
        # zipfile and tarfile raise what their parsers do: struct.error, RuntimeError, UnicodeDecodeError, ...
        except Exception as error:
            raise DataError(
                f"{file} can't be read as a {file.suffix[1:]} archive ({error}).", "Copy or download it again."
            ) from None
        if not self._members:
            raise DataError(f"{file} holds no file.", "Name another archive.")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.file,)

    def is_dir(self, inside: str) -> bool:
        """Whether `inside` is a folder."""
        return inside in self._children

    def is_file(self, inside: str) -> bool:
        """Whether `inside` is a file."""
        return inside in self._members and inside not in self._children

    def children(self, inside: str) -> Sequence[str]:
        """Names of what lies directly in a folder, in the archive's order."""
        return tuple(self._children[inside])

    def size(self, inside: str) -> int:
        """Bytes of a file, unpacked."""
        raise NotImplementedError

    def read(self, inside: str) -> bytes:
        """A file's content. Raises DataError where it is damaged."""
        raise NotImplementedError

    def _index(self) -> None:
        raise NotImplementedError

    def _add(self, name: str, member: Any) -> None:
        """Takes a file, or a folder where `member` is None."""
        inside = safe_name(name)
        if inside is None:
            if name.strip("./"):
                self.ignored.append(name)
            return
        folder = inside if member is None else posixpath.dirname(inside)
        self._children.setdefault(folder, {})
        if member is not None:
            self._members[inside] = member
        while inside:
            parent, _, name = inside.rpartition("/")
            self._children.setdefault(parent, {})[name] = None
            inside = parent

    def _unreadable(self, error: OSError) -> UnreadableError:
        return UnreadableError(f"{self.file} can't be read ({error.strerror}).", "Check disk and permissions.")

    def _damaged(self, inside: str, error: object) -> DataError:
        return DataError(f"{self.file}/{inside} can't be read from the archive ({error}).", "Download it again.")


class ZipArchive(Archive):
    """A .zip, stored or deflated."""

    def size(self, inside: str) -> int:
        """Bytes of a file, unpacked."""
        return int(self._members[inside].file_size)

    def read(self, inside: str) -> bytes:
        """A file's content, its checksum verified. Raises DataError where it is damaged or encrypted."""
        try:
            return self._handle().read(self._members[inside])
        # zipfile raises RuntimeError for encrypted members, NotImplementedError (its child) for other compressions, and
        # what its decompressors raise.
        except (
            zipfile.BadZipFile,
            zlib.error,
            lzma.LZMAError,
            EOFError,
            RuntimeError,
            ValueError,
            struct.error,
        ) as error:
            raise self._damaged(inside, error) from None
        except OSError as error:
            if error.errno is None:  # bz2's "Invalid data stream"
                raise self._damaged(inside, error) from None
            raise UnreadableError(
                f"{self.file} can't be read ({error.strerror}).", "Check disk and permissions."
            ) from None

    def _index(self) -> None:
        self._handles: dict[int, zipfile.ZipFile] = {}
        for member in self._handle().infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
                self.ignored.append(member.filename)
            else:
                self._add(member.filename, None if member.is_dir() else member)

    def _handle(self) -> zipfile.ZipFile:
        """One per process: forked processes would share the position in one open file."""
        process = os.getpid()
        if process not in self._handles:
            self._handles.setdefault(process, zipfile.ZipFile(self.file))
        return self._handles[process]


class TarArchive(Archive):
    """An uncompressed .tar."""

    @property
    def places(self) -> Mapping[str, tuple[int, int]]:
        """Path of each file to the byte at which its content begins and the number of its bytes."""
        return MappingProxyType(self._members)

    def size(self, inside: str) -> int:
        """Bytes of a file."""
        return int(self._members[inside][1])

    def read(self, inside: str) -> bytes:
        """A file's content. Raises DataError where the archive is cut off."""
        offset, size = self._members[inside]
        try:
            with self.file.open("rb") as file:
                file.seek(offset)
                content = file.read(size)
        except OSError as error:
            raise UnreadableError(
                f"{self.file} can't be read ({error.strerror}).", "Check disk and permissions."
            ) from None
        if len(content) != size:
            raise self._damaged(inside, f"{len(content)} of {size} bytes are there")
        return content

    def _index(self) -> None:
        with tarfile.open(self.file, "r:") as archive:
            for member in archive:
                source = self._members.get(safe_name(member.linkname) or "") if member.islnk() else None
                if member.isdir():
                    self._add(member.name, None)
                elif member.isreg() and not member.issparse():
                    self._add(member.name, (member.offset_data, member.size))
                elif source is not None:  # tar packs the second name of a file as a link to the first
                    self._add(member.name, source)
                else:
                    self.ignored.append(member.name)
            require_end_mark(archive)


class TarPart(TarArchive):
    """Files of an uncompressed .tar whose places are known already: none of its headers is read.

    Args:
        file: the archive.
        places: as `TarArchive.places` gives them.
    """

    def __init__(self, file: Path, places: Mapping[str, tuple[int, int]]) -> None:
        self._known = dict(places)
        super().__init__(file)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.file, self._known)

    def _index(self) -> None:
        for name, place in self._known.items():
            self._add(name, place)


@dataclass(frozen=True, slots=True)
class MemberStat:
    """What `ArchivePath.stat` knows. st_size: bytes, unpacked. st_mtime_ns: of the archive."""

    st_size: int
    st_mtime_ns: int


class ArchivePath:
    """A file or folder inside an archive: what the readers use of `pathlib.Path`. The top is its own parent.

    Args:
        archive: its index.
        inside: path below the archive's top, "" for the top.
    """

    __slots__ = ("_inside", "archive")

    def __init__(self, archive: Archive, inside: str = "") -> None:
        self.archive = archive
        self._inside = inside

    @property
    def place(self) -> tuple[int, int] | None:
        """First byte and number of bytes of a file that lies in a tar as it is; None of others."""
        return self.archive.places.get(self._inside) if isinstance(self.archive, TarArchive) else None

    @property
    def name(self) -> str:
        """Last part; the archive's own name without suffix for the top."""
        return posixpath.basename(self._inside) or self.archive.file.stem

    @property
    def stem(self) -> str:
        """Name without suffix."""
        return PurePosixPath(self.name).stem if self._inside else self.name

    @property
    def suffix(self) -> str:
        """Suffix with its dot, or an empty string."""
        return PurePosixPath(self._inside).suffix

    @property
    def parent(self) -> "ArchivePath":
        """The folder that it lies in."""
        return ArchivePath(self.archive, posixpath.dirname(self._inside))

    def __truediv__(self, other: str) -> "ArchivePath":
        joined = posixpath.normpath(posixpath.join(self._inside, str(other)))
        return ArchivePath(self.archive, "" if joined == "." else joined)

    def exists(self) -> bool:
        """Whether the archive holds it."""
        return self.is_dir() or self.is_file()

    def is_dir(self) -> bool:
        """Whether it is a folder."""
        return self.archive.is_dir(self._inside)

    def is_file(self) -> bool:
        """Whether it is a file."""
        return self.archive.is_file(self._inside)

    def is_symlink(self) -> bool:
        """Never: links are not in the index."""
        return False

    def iterdir(self) -> Iterator["ArchivePath"]:
        """What lies directly in the folder. Raises FileNotFoundError or NotADirectoryError."""
        if not self.is_dir():
            raise self._error(errno.ENOTDIR if self.is_file() else errno.ENOENT)
        for name in self.archive.children(self._inside):
            yield ArchivePath(self.archive, f"{self._inside}/{name}" if self._inside else name)

    def read_bytes(self) -> bytes:
        """The file's content. Raises FileNotFoundError, IsADirectoryError, or DataError where it is damaged."""
        self._require_file()
        size = self.archive.size(self._inside)
        if size > LARGEST_MEMBER:
            raise DataError(
                f"{self} unpacks to {size} bytes; {LARGEST_MEMBER} are the most that are read.",
                "Don't use this archive.",
            )
        return self.archive.read(self._inside)

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """The file's content, decoded."""
        with self.open("r", encoding=encoding, errors=errors) as file:
            return str(file.read())

    def open(self, mode: str = "r", *, encoding: str = "utf-8", errors: str = "strict") -> IO[Any]:
        """The file's content as a file object in memory, for mode "r" or "rb"."""
        if mode not in {"r", "rt", "rb"}:
            raise io.UnsupportedOperation(f"{self} lies in an archive, which is never written to")
        content = io.BytesIO(self.read_bytes())
        return content if mode == "rb" else io.TextIOWrapper(content, encoding=encoding, errors=errors)

    def stat(self) -> MemberStat:
        """The file's size; 0 for a folder. Raises FileNotFoundError."""
        if self.is_dir():
            return MemberStat(0, self.archive.file.stat().st_mtime_ns)
        self._require_file()
        return MemberStat(self.archive.size(self._inside), self.archive.file.stat().st_mtime_ns)

    def relative_to(self, other: "ArchivePath") -> PurePosixPath:
        """Its path seen from a folder of the same archive. Raises ValueError where it doesn't lie there."""
        if not isinstance(other, ArchivePath) or other.archive.file != self.archive.file:
            raise ValueError(f"{self} does not lie in {other}")
        return PurePosixPath("/", self._inside).relative_to(PurePosixPath("/", other._inside))

    def __str__(self) -> str:
        return f"{self.archive.file}/{self._inside}" if self._inside else str(self.archive.file)

    def __repr__(self) -> str:
        return f"ArchivePath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ArchivePath) and str(self) == str(other)

    def __lt__(self, other: "ArchivePath") -> bool:
        return self._inside.split("/") < other._inside.split("/")

    def __hash__(self) -> int:
        return hash(str(self))

    def _require_file(self) -> None:
        if not self.is_file():
            raise self._error(errno.EISDIR if self.is_dir() else errno.ENOENT)

    def _error(self, number: int) -> OSError:
        return OSError(number, os.strerror(number), str(self))
