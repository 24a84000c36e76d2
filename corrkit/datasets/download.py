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
from typing import IO
from urllib.parse import urlsplit

from corrkit import __version__
from corrkit.datasets.sources import SourceFile
from corrkit.errors import DataError

_BLOCK = 1 << 20
_TIMEOUT_SECONDS = 60
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
        _require_space(file, part)
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
    try:
        with _request(file, part, done) as response:
            if response.status == http.client.PARTIAL_CONTENT:
                total = _whole_of_part(response, done, file, part)
            else:
                done = 0  # the server sends the whole file: it can't resume, or the file has changed
                total = _length(response.headers.get("Content-Length", ""))
                part.write_bytes(b"")  # so that no interruption leaves the old bytes under the new version's name
            _version_file(part).write_text(_version(response), encoding="utf-8")
            done = _append(response, part, done, file, lambda count: progress(file.name, count, total))
    except urllib.error.HTTPError as error:
        error.close()
        told = error.headers.get("Content-Range", "").removeprefix("bytes */")
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and (_is_known(file) or _length(told) == done):
            return  # nothing is left to fetch; whether the bytes are right, their size and digest tell
        raise DataError(f"{file.url} answered {error.code} {error.reason}.", "See the data set's page.") from None
    except urllib.error.URLError as error:
        raise DataError(f"{file.url} can't be reached ({error.reason}).", _REPEAT) from None
    except ValueError as error:  # of urllib, for addresses and headers; UnicodeError is one
        raise DataError(f"{file.url} is no address, or leads to none ({error}).", "Correct --sources.") from None
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        kept = part.stat().st_size if part.exists() else 0
        raise DataError(f"{file.url} broke off after {kept} bytes ({type(error).__name__}).", _REPEAT) from None
    if total is not None and done < total:
        raise DataError(f"{file.url} broke off after {done} of {total} bytes.", _REPEAT)


def _request(file: SourceFile, part: Path, done: int) -> http.client.HTTPResponse:
    request = urllib.request.Request(file.url, headers={"User-Agent": f"corrkit/{__version__}"})
    if done:
        request.add_header("Range", f"bytes={done}-")
        version = (
            _version_file(part).read_text(encoding="utf-8", errors="ignore") if _version_file(part).exists() else ""
        )
        if version:
            request.add_header("If-Range", version)
    response: http.client.HTTPResponse = urllib.request.build_opener(_Redirects).open(request, timeout=_TIMEOUT_SECONDS)
    return response


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects over the web only, and none that gives up encryption."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """See urllib. Raises DataError for another scheme."""
        allowed = {"https"} if req.type == "https" else {"http", "https"}
        if urlsplit(newurl).scheme not in allowed:
            raise DataError(f"{req.full_url} redirects to {newurl!r}.", "Don't use this address: correct --sources.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


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
            target.write(block)
            done += len(block)
            progress(done)
    return done


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


def _require_space(file: SourceFile, part: Path) -> None:
    if file.size is None:
        return
    needed = file.size - (part.stat().st_size if part.exists() else 0)
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise DataError(
            f"{file.name} needs {needed} more bytes; {part.parent} has {free}.", "Free space, or change --to."
        )


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        name = os.fspath(error.filename) if error.filename else folder
        raise DataError(
            f"{name} can't be written ({error.strerror or error}).", "Free space, or choose another --to."
        ) from None
