"""What commands say on stderr beside their result."""

import sys
from pathlib import Path

from corrkit.errors import UsageError
from corrkit.text import lines


def say(text: str) -> None:
    """Prints a remark; text from files can't steer the terminal."""
    print(lines(text), file=sys.stderr)


def agreed(folder: Path) -> bool:
    """Whether the user at the terminal wants a download to a folder. Raises UsageError where nobody can be asked."""
    if not sys.stdin.isatty():
        raise UsageError(
            "Nobody is there to be asked.", "Repeat the command with --yes if the licence allows your use."
        )
    print(f"Download to {folder}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
