"""What commands say on stderr beside their result."""

import sys

from corrkit.text import lines


def say(text: str) -> None:
    """Prints a remark; text from files can't steer the terminal."""
    print(lines(text), file=sys.stderr)
