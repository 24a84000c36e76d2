"""Work beside the caller's own, in a thread: in the order it is given, with the same results."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Self, TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")

_WAITING = 8
"""Pieces of work that may wait; whoever gives more waits for the oldest."""
_AHEAD = 2
"""Items that `Beside.mapped` works on ahead of its reader."""


class Beside:
    """A thread that does one piece of work after the other; a context manager that drops what has not begun.

    What fails there is raised for whoever gave it: no later than at the end of `finished`.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=f"corrkit-{name}", initializer=_without_gradients)
        self._waiting: deque[Future[object]] = deque()

    def do(self, work: Callable[[], object]) -> None:
        """Takes a piece of work. Raises what an earlier one raised."""
        while self._waiting and (len(self._waiting) >= _WAITING or self._waiting[0].done()):
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(work))

    @contextmanager
    def finished(self) -> Iterator[None]:
        """Around whatever gives work: at the end all of it is done.

        What the work raises goes before what was raised later around it, as if it had been done at once.
        """
        try:
            yield
        except Exception:
            self._finish()
            raise
        self._finish()

    def _finish(self) -> None:
        while self._waiting:
            self._waiting.popleft().result()

    def ask(self, make: Callable[[], Made]) -> "Future[Made]":
        """Takes work whose result, or error, is for whoever looks at it."""
        return self._pool.submit(make)

    def mapped(self, make: Callable[[Given], Made], items: Iterator[Given]) -> Iterator[Made]:
        """What is made of each item, in order, worked on while the next items are asked for.

        Where an item can't be had, what is made of those before it comes first.
        """
        coming: deque[Future[Made]] = deque()
        failure = None
        while True:
            try:
                coming.append(self._pool.submit(make, next(items)))
            except StopIteration:
                break
            except Exception as error:
                failure = error
                break
            if len(coming) > _AHEAD:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
        if failure is not None:
            raise failure

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def _without_gradients() -> None:
    """Whether torch keeps gradients is each thread's own setting."""
    import torch

    torch.set_grad_enabled(False)
