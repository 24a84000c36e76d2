"""Kills the process that imports it at a named write point: "before-replace-3" is the third os.replace.

Or raises an OSError there, as a full or broken disk does: "before-fsync-2:ENOSPC"; "short-write-2" writes a half and
says so, as the system may. Only functions of the operating system are patched, so the code under test knows nothing of
it. A driver script calls `arm(point)` first; tests start the driver as a process of its own.
"""

import errno
import io
import os
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any


def forked(point: str, run: Callable[[], int]) -> int:
    """Exit status of `run` in a forked process that is armed with a point; minus the signal that killed it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            arm(point)
            code = run()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def arm(point: str) -> Counter[str]:
    """Installs the kill. point: "WHEN-OPERATION-N" with WHEN before, after or (write only) half; "never" only counts.

    With ":NAME" of an errno behind it, the point raises that error; with that of a signal it gets this one. Returns the
    count of each operation so far, which goes on counting.
    """
    seen: Counter[str] = Counter()
    point, _, name = point.partition(":")

    def reached(when: str, operation: str) -> bool:
        return point == f"{when}-{operation}-{seen[operation]}"

    def strike_if(condition: bool) -> None:
        if condition and name.startswith("SIG"):
            os.kill(os.getpid(), getattr(signal, name))
        elif condition and name:
            number = getattr(errno, name)
            raise OSError(number, os.strerror(number))
        elif condition:
            os.kill(os.getpid(), signal.SIGKILL)

    def patched(operation: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if operation == "open" and not args[1] & os.O_CREAT:
                return original(*args, **options)
            seen[operation] += 1
            strike_if(reached("before", operation))
            result = original(*args, **options)
            strike_if(reached("after", operation))
            return result

        return call

    for operation in ("mkdir", "open", "fsync", "link", "replace", "unlink"):
        setattr(os, operation, patched(operation, getattr(os, operation)))

    class HalfFile(io.FileIO):
        def write(self, data: Any) -> int:
            seen["write"] += 1
            strike_if(reached("before", "write"))
            if reached("short", "write"):
                return super().write(bytes(data)[: max(1, len(data) // 2)])
            if reached("half", "write"):
                super().write(bytes(data)[: len(data) // 2])
                strike_if(True)
            return super().write(data)

    vars(os)["fdopen"] = lambda descriptor, mode: io.BufferedWriter(HalfFile(descriptor, mode))
    return seen
