"""What commands print as text: results on stdout, talk on stderr; neither steers the terminal or fakes a line."""

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from corrkit.errors import UsageError
from corrkit.text import lines, one_line

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def show(*results: str) -> None:
    """Prints lines of a result, whole; a line end within one is escaped as all that could steer the terminal is."""
    print(*map(one_line, results), sep="\n")


def say(*remarks: str) -> None:
    """Prints remarks, each on one line of bounded length."""
    print(*(lines(one_line(remark)) for remark in remarks), sep="\n", file=sys.stderr)


def talk_costs_nothing() -> None:
    """What can't be written to stderr is lost from now on, where it fails today: no result is lost to a remark.

    A full device, or a reader that went away; progress bars and warnings write there, too.
    """
    stderr = sys.stderr
    if isinstance(stderr, io.TextIOWrapper) and _is_of_the_process(stderr):
        raw = io.BufferedWriter(_Unheard(2, "w", closefd=False))
        sys.stderr = io.TextIOWrapper(raw, stderr.encoding, "backslashreplace", line_buffering=True)


def _is_of_the_process(stream: io.TextIOWrapper) -> bool:
    try:
        return stream.fileno() == 2
    except (OSError, ValueError):  # somebody's text in memory; a closed stream
        return False


class _Unheard(io.FileIO):
    def write(self, content: "ReadableBuffer", /) -> int:
        try:
            return super().write(content)
        except OSError:
            return memoryview(content).nbytes


def agreed(folder: Path) -> bool:
    """Whether the user at the terminal wants a download to a folder. Raises UsageError where nobody can be asked."""
    if not sys.stdin.isatty():
        raise UsageError(
            "Nobody is there to be asked.", "Repeat the command with --yes if the licence allows your use."
        )
    print(f"Download to {one_line(str(folder))}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
