"""Others who are told how the work goes, in code that isn't ours: what fails there never costs the work."""

import contextlib
import sys
from collections.abc import Callable
from typing import ParamSpec

from corrkit.errors import UsageError
from corrkit.text import one_line

Told = ParamSpec("Told")


class Listener:
    """One of them. What goes wrong there is said once, on stderr, and it is told nothing more.

    Args:
        name: of what is called, for that sentence.

    Attributes:
        works: whether it still listens.
    """

    def __init__(self, name: str) -> None:
        self.name, self.works = name, True

    def tell(self, call: Callable[[], object]) -> None:
        """Calls it, as long as it works; an interrupt by the user passes."""
        if not self.works:
            return
        try:
            call()
        except (Exception, SystemExit) as error:  # a network, a server, a disk, in code that raises whatever it likes
            self.works = False
            words = f"{self.name} is told no more, the work goes on ({_words(error)})"
            with contextlib.suppress(OSError, ValueError):  # stderr may be what is gone
                print(one_line(words), file=sys.stderr)


def _words(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # of an error's own words
        return type(error).__name__


def listening(call: Callable[Told, object] | None, name: str) -> Callable[Told, None] | None:
    """A callback of the caller's as one that never raises; None for None.

    Raises:
        UsageError: for what can't be called.
    """
    if call is None:
        return None
    if not callable(call):
        raise UsageError(
            f"{name} is {type(call).__name__}, which can't be called.", "Give a function, or leave it out."
        )
    given, listener = call, Listener(name)

    def tell(*args: Told.args, **kwargs: Told.kwargs) -> None:
        listener.tell(lambda: given(*args, **kwargs))

    return tell
