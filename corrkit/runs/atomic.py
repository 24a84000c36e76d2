"""Files that appear whole or not at all, whenever the process is killed and whoever else writes beside it."""

import contextlib
import errno
import fcntl
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

from corrkit.errors import RunError

TEMPORARY = ".corrkit-tmp-"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_atomic(path: Path, content: str | bytes) -> None:
    """Writes a file through a temporary one in the same folder, flushed to the disk before it takes the name.

    After a crash `path` holds either its old or its new content. Writers of the same path don't disturb each other:
    the last one wins. Missing parent folders are made.

    Raises:
        RunError: the folder can't be written or the disk is full; names the path and what to do.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    with _explained(path):
        make_folder(path.parent)
        try:
            _write_flushed(path, data)
        except FileNotFoundError:  # a starting process took the temporary file, not locked yet, for abandoned
            _write_flushed(path, data)
        _flush_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Makes a folder and its missing parents, and flushes their entries. Raises RunError naming the folder."""
    if folder.is_dir():
        return
    with _explained(folder):
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _flush_folder(folder.parent)


def remove_abandoned(folder: Path) -> None:
    """Removes temporary files below `folder` whose writers were killed; those of living writers are left alone."""
    for path in sorted(folder.rglob(f"{TEMPORARY}*")):
        if _is_abandoned(path):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def only_process(folder: Path) -> Iterator[None]:
    """Holds a run's folder; a second process that wants it is refused.

    The kernel lets go of the lock when the process dies. File systems without locks hold nothing.
    """
    with (folder / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise RunError(
                f"{folder} is in use by another process ({file.read().strip() or 'unknown'}).",
                "Wait for it, end it, or choose another --out.",
            ) from None
        except OSError:
            pass
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def _write_flushed(path: Path, data: bytes) -> None:
    temporary = path.parent / f"{TEMPORARY}{secrets.token_hex(8)}"
    try:
        _fill_and_rename(temporary, data, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _fill_and_rename(temporary: Path, data: bytes, path: Path) -> None:
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    with os.fdopen(descriptor, "wb") as file:
        # The lock tells `remove_abandoned` that this writer is alive; the kernel drops it when the process dies.
        # File systems without locks raise: there nothing is taken for abandoned either.
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        temporary.replace(path)


def _is_abandoned(path: Path) -> bool:
    try:
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # some network file systems can't flush folders
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns an OSError into a RunError with a remedy."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _FULL:
            remedy = "Free some space, then repeat the command: finished clips are kept."
        else:
            remedy = "Choose a folder that you can write to with --out."
        raise RunError(f"{path} can't be written: {reason}.", remedy) from error
