"""Files that appear whole or not at all, whenever the process is killed and whoever else writes beside it."""

import contextlib
import errno
import fcntl
import io
import os
import secrets
import shutil
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from corrkit.errors import RunError

TEMPORARY = ".corrkit-tmp-"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}  # FAT, some network file systems


class _TakenError(Exception):
    """The name of a new file is taken."""


def write_atomic(path: Path, content: str | bytes) -> None:
    """Writes a file through a temporary one in the same folder, flushed to the disk before it takes the name.

    After a crash `path` holds either its old or its new content. Writers of the same path don't disturb each other:
    the last one wins. Missing parent folders are made.

    Raises:
        RunError: the folder can't be written or the disk is full; names the path and what to do.
    """
    _write(path, content, _replace)


def write_new(path: Path, content: str | bytes) -> bool:
    """As `write_atomic`, but never over a file that is there; of several processes at once exactly one writes.

    Returns:
        Whether this call has written the file; False where it was there already.

    Raises:
        RunError: as `write_atomic`.
    """
    try:
        _write(path, content, _link)
    except _TakenError:
        return False
    return True


@contextlib.contextmanager
def placing(path: Path) -> Iterator[Path]:
    """A temporary file for a library to write, which takes the name `path` at the end, flushed; see `write_atomic`."""
    with staging(path.parent) as stage, explained(path):
        yield stage / path.name
        _flush_file(stage / path.name)
        (stage / path.name).replace(path)
        _flush_folder(path.parent)


@contextlib.contextmanager
def placing_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder to be filled, which takes the name `folder` at the end, where no or an empty one is."""
    with staging(folder.parent) as stage, explained(folder):
        (stage / folder.name).mkdir()
        yield stage / folder.name
        (stage / folder.name).replace(folder)
        _flush_folder(folder.parent)


@contextlib.contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A new temporary folder in `folder` for files that `publish` moves to their places; removed at the end.

    Like a temporary file it is locked while its owner lives. Raises RunError where it can't be made.
    """
    with explained(folder):
        make_folder(folder)
        stage, descriptor = _new_temporary(folder, _open_stage)
    try:
        yield stage
    finally:
        os.close(descriptor)
        shutil.rmtree(stage, ignore_errors=True)


def publish(stage: Path, folder: Path) -> dict[str, bytes]:
    """Moves every file below `stage` to the same place below `folder`, content first flushed to the disk.

    Returns:
        Path below `folder` to content.

    Raises:
        RunError: a file can't be written.
    """
    published = {}
    with explained(folder):
        parents: dict[Path, None] = {}
        for path in sorted(path for path in stage.rglob("*") if path.is_file()):
            name = path.relative_to(stage)
            published[name.as_posix()] = path.read_bytes()
            _flush_file(path)
            parents[(folder / name).parent] = None
            make_folder((folder / name).parent)
            path.replace(folder / name)
        for parent in parents:
            _flush_folder(parent)
    return published


def make_folder(folder: Path) -> None:
    """Makes a folder and its missing parents, and flushes their entries. Raises RunError naming the folder."""
    if folder.is_dir():
        return
    with explained(folder):
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _flush_folder(folder.parent)


def remove_abandoned(folder: Path) -> None:
    """Removes temporary files and folders below `folder` whose writers were killed, none of a living writer."""
    for place, folders, files in os.walk(folder):  # which passes over what another process removes meanwhile
        found = {name for name in (*folders, *files) if name.startswith(TEMPORARY)}
        folders[:] = [name for name in folders if name not in found]
        for name in sorted(found):
            _remove_if_abandoned(Path(place, name))


@contextlib.contextmanager
def only_process(folder: Path) -> Iterator[None]:
    """Holds a run's folder; a second process that wants it is refused.

    The kernel lets go of the lock when the process dies. File systems without locks hold nothing.

    Raises:
        RunError: it is held, or its .lock is no file of its own: a link, a FIFO, a folder.
    """
    with _own_file(folder / ".lock") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = file.read(1000).decode(errors="replace").strip() or "unknown"
            raise RunError(
                f"{folder} is in use by another process ({owner}).",
                "Wait for it, end it, or choose another --out.",
            ) from None
        except OSError:
            pass
        with explained(folder / ".lock"):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield


@contextlib.contextmanager
def _own_file(path: Path) -> Iterator[io.FileIO]:
    """A file to be read and written, made where it isn't there; through a link another file would be."""
    with explained(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "it is no regular file")
    with io.FileIO(descriptor, "r+") as file:  # what a buffer couldn't write, closing would try again
        yield file


def _write(path: Path, content: str | bytes, place: Callable[[Path, Path], None]) -> None:
    # Half a character, which JSON's escapes can write, has no UTF-8: it stands as that escape.
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    with explained(path):
        make_folder(path.parent)
        _write_flushed(path, data, place)
        _flush_folder(path.parent)


def _replace(temporary: Path, path: Path) -> None:
    temporary.replace(path)


def _link(temporary: Path, path: Path) -> None:
    try:
        path.hardlink_to(temporary)  # atomic, and refused where the name is taken: a rename would replace the file
    except FileExistsError:
        raise _TakenError from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _reserve(path)
        temporary.replace(path)
    else:
        temporary.unlink()


def _reserve(path: Path) -> None:
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        raise _TakenError from None


def _write_flushed(path: Path, data: bytes, place: Callable[[Path, Path], None]) -> None:
    temporary, descriptor = _new_temporary(path.parent, _open_file)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            place(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _new_temporary(folder: Path, make: Callable[[Path], int]) -> tuple[Path, int]:
    """A file or folder of this writer's own and its descriptor; what killed writers have left in `folder` is removed.

    The descriptor's lock tells others that the writer is alive; the kernel drops it when the process dies. File systems
    without locks raise: there nothing is taken for abandoned.
    """
    for path in folder.glob(f"{TEMPORARY}*"):
        _remove_if_abandoned(path)
    while True:
        temporary = folder / f"{TEMPORARY}{secrets.token_hex(8)}"
        descriptor = make(temporary)
        is_taken = False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            is_taken = True
        except OSError:
            pass
        if not is_taken and temporary.exists():
            return temporary, descriptor
        os.close(descriptor)  # another process took it, not locked yet, for abandoned


def _open_file(path: Path) -> int:
    return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)


def _open_stage(path: Path) -> int:
    path.mkdir()
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:  # taken for abandoned already
        return _open_stage(path)


def _remove_if_abandoned(path: Path) -> None:
    """Removes a temporary whose lock can be had; it is held meanwhile, so that a writer who comes late sees it."""
    is_folder = path.is_dir()
    try:
        descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return
    else:
        if is_folder:
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _flush_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
def explained(path: Path) -> Iterator[None]:
    """Around what writes a path: turns an OSError, which seldom names the file, into a RunError with a remedy."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _FULL:
            remedy = "Free some space, then repeat the command."
        else:
            remedy = "Choose a folder that you can write to with --out."
        raise RunError(f"{path} can't be written: {reason}.", remedy) from error
