"""What commands print as text: results on stdout, talk on stderr; neither steers the terminal or fakes a line."""

import sys
from pathlib import Path

from corrkit.errors import UsageError
from corrkit.text import lines, one_line


def show(*results: str) -> None:
    """Prints lines of a result, whole; a line end within one is escaped as all that could steer the terminal is."""
    print(*map(one_line, results), sep="\n")


def say(*remarks: str) -> None:
    """Prints remarks, each on one line of bounded length."""
    print(*(lines(one_line(remark)) for remark in remarks), sep="\n", file=sys.stderr)


def agreed(folder: Path) -> bool:
    """Whether the user at the terminal wants a download to a folder. Raises UsageError where nobody can be asked."""
    if not sys.stdin.isatty():
        raise UsageError(
            "Nobody is there to be asked.", "Repeat the command with --yes if the licence allows your use."
        )
    print(f"Download to {one_line(str(folder))}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
