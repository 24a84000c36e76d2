"""Every error that a user can mend, as one tree. `cli` turns them into two sentences and exit code 2."""

import difflib
import errno
from collections.abc import Iterable
from typing import Self

from corrkit.text import lines, one_line


class CorrkitError(Exception):
    """Something the user can mend: one sentence on what is wrong with which file, one on what to do.

    Args:
        problem: what is wrong, with the file and the actual value; characters that could steer a terminal are escaped.
        remedy: what to do about it.
    """

    exit_code = 2

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem = lines(one_line(problem))
        self.remedy = lines(remedy)
        super().__init__(f"{self.problem}\n{self.remedy}" if remedy else self.problem)

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        return type(self), (self.problem, self.remedy)  # from a worker to the process that asked


class DataError(CorrkitError):
    """A data set, frame, annotation or prediction is missing, damaged or inconsistent."""


class UnreadableError(DataError):
    """A file or folder is there, but the system can't read it: permissions or a failing disk, which may pass."""


class CheckpointError(CorrkitError):
    """A checkpoint can't be opened, recognised or loaded completely."""


class ProtocolError(CorrkitError):
    """A protocol or an override is unknown, or its value is out of range."""


class RunError(CorrkitError):
    """A run folder belongs to another run, or can't be written."""


class UsageError(CorrkitError):
    """Arguments that contradict each other or name something unknown."""


LESS_MEMORY = (
    "Make the input smaller (--set size=[...] for short-side resizing), take a smaller network or --window, or another "
    "--device."
)


def is_out_of_memory(error: BaseException) -> bool:
    """Python's, the system's, OpenCV's, and torch's on every device; none of them is imported for it.

    A thread needs memory for its stack, a library some to be loaded.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    of_torch = ("DefaultCPUAllocator", "out of memory", "not enough memory", "could not create a primitive")
    if isinstance(error, RuntimeError) and any(word in str(error) for word in of_torch):
        return True
    # cv2.error, ImportError, ...
    of_others = ("Insufficient memory", "Cannot allocate memory", "failed to map segment", "can't start new thread")
    return any(word in str(error) for word in of_others)


def closest(name: str, known: Iterable[str]) -> str:
    """A sentence that names the nearest match and the whole list: "Did you mean 'radius'? Known: ..."."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return f"{hint}Known: {', '.join(names)}."
