"""Callbacks of the caller's that misbehave: named once, and no clip, score or file is lost for them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from davis_folder import make_clips

import corrkit
from corrkit.errors import UsageError
from corrkit.listening import Listener, listening


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clips(tmp_path_factory.mktemp("listening") / "DAVIS")


def _raises(error: BaseException) -> Callable[..., object]:
    def told(*_: object) -> None:
        raise error

    return told


class _UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even that")


FAULTS: dict[str, Callable[..., object]] = {
    "error": _raises(ZeroDivisionError("theirs")),
    "hung up": _raises(BrokenPipeError(32, "Broken pipe")),
    "no connection": _raises(ConnectionError("no route")),
    "an error of ours": _raises(UsageError("theirs", "too")),
    "stop": _raises(StopIteration()),
    "exit": _raises(SystemExit(3)),
    "memory": _raises(MemoryError()),
    "recursion": lambda *given: FAULTS["recursion"](*given),
    "other arguments": lambda: None,
    "a silent error": _raises(_UnprintableError()),
    "steering": _raises(ValueError("\x1b[2Jwiped\nfaked")),
}


def evaluate(progress: Any, data: Path, out: Path) -> object:
    return corrkit.evaluate("davis", "rgb", data=data, size=[48], out=out, progress=progress).summary["metrics"]


def sweep(progress: Any, data: Path, out: Path) -> object:
    found = corrkit.sweep("davis", "rgb", data=data, size=[48], topk=[3, 5], out=out, progress=progress)
    return [result.summary["metrics"] for result in found.results]


@pytest.mark.parametrize("fault", FAULTS)
def test_what_it_raises_is_said_once(fault: str, capsys: pytest.CaptureFixture[str]):
    progress = listening(FAULTS[fault], "progress")
    assert progress is not None
    for _ in range(3):
        progress("a", 1, 2)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == said.err.count("progress is told no more, the work goes on") == 1
    assert "\x1b" not in said.err


@pytest.mark.parametrize("call", [evaluate, sweep])
def test_no_work_is_lost_for_it(call: Callable[..., object], data: Path, tmp_path: Path, capsys: Any):
    expected = call(None, data, tmp_path / "plain")
    assert capsys.readouterr().err == ""
    assert call(FAULTS["error"], data, tmp_path / "run") == expected
    assert "progress is told no more, the work goes on (ZeroDivisionError: theirs)" in capsys.readouterr().err
    files = [sorted(path.relative_to(root) for path in root.rglob("*")) for root in tmp_path.iterdir()]
    assert files[0] == files[1]


def test_what_it_returns_is_of_no_interest(data: Path, tmp_path: Path):
    seen: list[tuple[object, ...]] = []
    assert evaluate(lambda *told: seen.append(told) or "go on", data, tmp_path / "run") == evaluate(
        None, data, tmp_path / "other"
    )
    assert seen[:2] == [("a", 1, 4), ("a", 2, 4)]


@pytest.mark.parametrize("call", [evaluate, sweep])
@pytest.mark.parametrize("given", ["tqdm", 3, {}])
def test_what_cannot_be_called_is_refused_before_the_work(
    call: Callable[..., object], given: Any, data: Path, tmp_path
):
    with pytest.raises(UsageError, match=f"progress is {type(given).__name__}, which can't be called"):
        call(given, data, tmp_path / "run")
    assert not [*tmp_path.rglob("*.json")]


@pytest.mark.parametrize("call", [evaluate, sweep])
def test_an_interrupt_passes_and_the_run_is_resumed(call: Callable[..., object], data: Path, tmp_path: Path):
    def interrupts(clip: str, done: int, total: int) -> None:
        if clip == "b":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call(interrupts, data, tmp_path / "run")
    assert call(None, data, tmp_path / "run") == call(None, data, tmp_path / "other")


def test_a_stderr_that_is_gone_costs_nothing(monkeypatch: pytest.MonkeyPatch):
    class Gone:
        def write(self, _: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr("sys.stderr", Gone())
    listener = Listener("it")
    listener.tell(FAULTS["error"])
    assert not listener.works
