"""Downloads archives: resumed where they broke off, checked against size and digest where these are known.

While a download runs its bytes lie in NAME.part, and what the server called that version of the file in
NAME.part.version; NAME appears when the file is whole and verified.
"""

import contextlib
import hashlib
import http.client
import os
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from corrkit import __version__
from corrkit.datasets.connection import LEAST_BYTES, PATIENCE_SECONDS, Watch, open_address
from corrkit.datasets.sources import SourceFile
from corrkit.errors import DataError

_BLOCK = 1 << 20
_LOOK = 64 << 20
_RESERVE = 1 << 30
"""Bytes that a file of unknown size leaves free, looked at after every so many bytes."""
_REPEAT = "Repeat the command: it goes on where it stopped."

Progress = Callable[[str, int, int | None], None]
"""Called with a file's name, bytes on disk and bytes in all (None where not known)."""


def download(file: SourceFile, folder: Path, progress: Progress = lambda name, done, total: None) -> Path:
    """Downloads one archive to `folder`, which is made if missing; a verified one that is there already is kept.

    Args:
        file: what and from where.
        folder: where to.
        progress: called now and then.

    Returns:
        The file.

    Raises:
        DataError: for a server that can't be reached or refuses, a broken-off transfer (kept for the next call), a
            file of another size or digest (kept as NAME.rejected), or a folder without space or rights.
    """
    target, part = folder / file.name, folder / f"{file.name}.part"
    with _explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if target.exists():
            verify(file, target, kept_as=target.name)
            return target
        if file.size is not None:
            _require_space(file.name, file.size - (part.stat().st_size if part.exists() else 0), folder)
        _transfer(file, part, progress)
        rejected = folder / f"{file.name}.rejected"
        try:
            verify(file, part, kept_as=rejected.name)
        except DataError:
            part.replace(rejected)
            _version_file(part).unlink(missing_ok=True)
            raise
        part.replace(target)
        _version_file(part).unlink(missing_ok=True)
    return target


def verify(file: SourceFile, path: Path, *, kept_as: str) -> None:
    """Compares the digests that are known, or the size where none is. Raises DataError naming both values."""
    size = path.stat().st_size
    remedy = f"It is kept as {kept_as}: look at it, delete it, and repeat the command."
    if file.size not in {None, size} and file.sha256 is None and file.md5 is None:
        raise DataError(f"{file.url} gave {size} bytes, expected {file.size}.", remedy)
    for kind, known in (("sha256", file.sha256), ("md5", file.md5)):
        if known is not None:
            digest = hashlib.new(kind, usedforsecurity=False)
            with path.open("rb") as content:
                while block := content.read(_BLOCK):
                    digest.update(block)
            if digest.hexdigest() != known:
                raise DataError(f"{file.url} has {kind} {digest.hexdigest()}, expected {known}.", remedy)


def _transfer(file: SourceFile, part: Path, progress: Progress) -> None:
    """Fetches what `part` lacks."""
    done = part.stat().st_size if part.exists() else 0
    if file.size is not None and done == file.size:
        return
    watch = Watch()
    try:
        with watch.watching(), _request(file, part, done, watch) as response:
            _require_plain(file, response)
            if response.status == http.client.PARTIAL_CONTENT:
                total = _whole_of_part(response, done, file, part)
            else:
                done = 0  # the server sends the whole file: it can't resume, or the file has changed
                total = _length(response.headers.get("Content-Length", ""))
                part.write_bytes(b"")  # so that no interruption leaves the old bytes under the new version's name
            _version_file(part).write_text(_version(response), encoding="utf-8")
            if total is not None:
                _require_space(file.name, total - done, part.parent)

            def arrived(count: int) -> None:
                watch.count = count
                progress(file.name, count, total)

            done = _append(response, part, done, file, arrived)
    except urllib.error.HTTPError as error:
        error.close()
        told = error.headers.get("Content-Range", "").removeprefix("bytes */")
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and (_is_known(file) or _length(told) == done):
            return  # nothing is left to fetch; whether the bytes are right, their size and digest tell
        raise DataError(f"{file.url} answered {error.code} {error.reason}.", "See the data set's page.") from None
    except urllib.error.URLError as error:
        _require_pace(file, watch)
        raise DataError(f"{file.url} can't be reached ({error.reason}).", _REPEAT) from None
    except ValueError as error:  # of urllib, for addresses and headers; UnicodeError is one
        _require_pace(file, watch)
        raise DataError(f"{file.url} is no address, or leads to none ({error}).", "Correct --sources.") from None
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        _require_pace(file, watch)
        kept = part.stat().st_size if part.exists() else 0
        raise DataError(f"{file.url} broke off after {kept} bytes ({type(error).__name__}).", _REPEAT) from None
    _require_pace(file, watch)
    if total is not None and done < total:
        raise DataError(f"{file.url} broke off after {done} of {total} bytes.", _REPEAT)


def _require_pace(file: SourceFile, watch: Watch) -> None:
    if watch.gave_up:
        raise DataError(f"{file.url} sent less than {LEAST_BYTES} bytes in {PATIENCE_SECONDS} s.", _REPEAT)


def _require_plain(file: SourceFile, response: http.client.HTTPResponse) -> None:
    """Raises DataError for a body in another form than the file's, which was not asked for and has another digest.

    Some servers say of a .gz file that it is one; then the body is the file.
    """
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    is_own = encoding in {"gzip", "x-gzip"} and file.name.endswith((".gz", ".tgz"))
    if encoding not in {"", "identity"} and not is_own:
        raise DataError(
            f"{file.url} answers in the encoding {encoding!r}, which was not asked for.", "See the data set's page."
        )


def _request(file: SourceFile, part: Path, done: int, watch: Watch) -> http.client.HTTPResponse:
    request = urllib.request.Request(file.url, headers={"User-Agent": f"corrkit/{__version__}"})
    known = _version_file(part)
    version = known.read_text(encoding="utf-8", errors="ignore") if known.exists() else None
    # Where neither the server nor a digest tells whether what follows belongs to what is here, all is fetched again.
    if done and (version != "" or file.sha256 is not None or file.md5 is not None):
        request.add_header("Range", f"bytes={done}-")
        if version:
            request.add_header("If-Range", version)
    return open_address(request, watch)


def _whole_of_part(response: http.client.HTTPResponse, done: int, file: SourceFile, part: Path) -> int | None:
    """Bytes of the whole file, None where the server doesn't know: of a partial answer, which may end before it.

    Raises:
        DataError: where it is not the part that was asked for.
    """
    told = response.headers.get("Content-Range", "")
    if not told.startswith(f"bytes {done}-"):
        raise DataError(
            f"{file.url} answered with {told or 'an unknown part'!r}, not with what follows byte {done}.",
            f"Delete {part} and repeat the command.",
        )
    whole, rest = _length(told.rpartition("/")[2]), _length(response.headers.get("Content-Length", ""))
    return whole if whole is not None or rest is None else done + rest


def _append(
    response: http.client.HTTPResponse, part: Path, done: int, file: SourceFile, progress: Callable[[int], None]
) -> int:
    """Writes the response behind the first `done` bytes, no more than file.size; returns the bytes on disk."""
    with part.open("r+b" if done else "wb") as target:
        if done:
            target.truncate(done)
            target.seek(done)
        while block := response.read1(_BLOCK):  # what has come: read() holds back a slow server's bytes
            if file.size is not None and done + len(block) > file.size:
                raise DataError(
                    f"{file.url} sends more than the {file.size} bytes that it has.", "See the data set's page."
                )
            if file.size is None and done // _LOOK != (done + len(block)) // _LOOK:
                _require_end(file, done, part.parent)
            target.write(block)
            done += len(block)
            progress(done)
    return done


def _require_end(file: SourceFile, done: int, folder: Path) -> None:
    """Raises DataError before a file without known size takes the last of the disk."""
    free = shutil.disk_usage(folder).free
    if free < _RESERVE:
        raise DataError(
            f"{file.url} has sent {done} bytes and no end; {folder} has {free} left.",
            f"Free space, or delete {file.name}.part if the file can't be so large.",
        )


def _length(told: str) -> int | None:
    """A number of bytes in a header, None for anything else."""
    return int(told) if re.fullmatch(r"[0-9]{1,18}", told) else None


def _is_known(file: SourceFile) -> bool:
    """Whether anything tells afterwards that the bytes are the right ones."""
    return (file.size, file.sha256, file.md5) != (None, None, None)


def _version(response: http.client.HTTPResponse) -> str:
    """What identifies this version of the file: a strong ETag, else the date; empty where the server tells neither."""
    tag = response.headers.get("ETag", "")
    return str(tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", ""))


def _version_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")


def _require_space(name: str, needed: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(f"{name} needs {needed} more bytes; {folder} has {free}.", "Free space, or change --to.")


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        name = os.fspath(error.filename) if error.filename else folder
        raise DataError(
            f"{name} can't be written ({error.strerror or error}).", "Free space, or choose another --to."
        ) from None
