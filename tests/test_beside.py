"""Work beside the caller's: in order, with the same results and errors."""

import threading
from collections.abc import Iterator

import pytest
import torch

from corrkit.beside import Beside


def test_what_is_made_of_items_comes_in_their_order():
    with Beside("test") as beside:
        assert list(beside.mapped(lambda number: number**2, iter(range(20)))) == [number**2 for number in range(20)]


def test_the_caller_goes_on_meanwhile():
    """The first item can be made only once the third was asked for."""
    third_asked = threading.Event()

    def items() -> Iterator[int]:
        for number in range(5):
            if number == 2:
                third_asked.set()
            yield number

    def make(number: int) -> bool:
        return third_asked.wait(20)

    with Beside("test") as beside:
        assert list(beside.mapped(make, items())) == [True] * 5


def test_no_more_than_a_few_items_are_asked_for_ahead():
    asked: list[int] = []

    def items() -> Iterator[int]:
        for number in range(20):
            asked.append(number)
            yield number

    with Beside("test") as beside:
        made = beside.mapped(str, items())
        next(made)
        assert asked == [0, 1, 2]


def test_an_item_that_cannot_be_had_is_raised_after_those_before_it():
    def items() -> Iterator[int]:
        yield 0
        yield 1
        raise ValueError("the third")

    made: list[int] = []

    def read(beside: Beside) -> None:
        for number in beside.mapped(lambda number: number, items()):
            made.append(number)

    with Beside("test") as beside, pytest.raises(ValueError, match="the third"):
        read(beside)
    assert made == [0, 1]


@pytest.mark.parametrize("later", [None, RuntimeError("later")])
def test_the_first_failure_is_the_one_raised(later: Exception | None):
    def fail(message: str) -> None:
        raise ValueError(message)

    def work(beside: Beside) -> None:
        with beside.finished():
            beside.do(lambda: None)
            beside.do(lambda: fail("first"))
            beside.do(lambda: fail("second"))
            if later is not None:
                raise later

    with Beside("test") as beside, pytest.raises(ValueError, match="first"):
        work(beside)


def test_an_interrupt_waits_for_nothing_that_has_not_begun():
    begun, go_on, done = threading.Event(), threading.Event(), list[int]()

    def slow() -> None:
        begun.set()
        go_on.wait(20)
        done.append(0)

    def work() -> None:
        with Beside("test") as beside, beside.finished():
            beside.do(slow)
            beside.do(lambda: done.append(1))
            begun.wait(20)
            threading.Timer(0.05, go_on.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == [0]


def test_no_gradients_are_kept_there():
    with Beside("test") as beside:
        assert beside.ask(torch.is_grad_enabled).result() is False
