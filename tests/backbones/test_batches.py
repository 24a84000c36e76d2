"""Frames go through a network several at a time; fewer where memory runs out, and the run says so."""

import json
from pathlib import Path

import pytest
import torch
from davis_folder import make_clip
from torch import Tensor, nn

import corrkit
from corrkit.backbones.batches import FRAMES_AT_A_TIME, Batches
from corrkit.errors import UsageError

CPU = "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB."),
    RuntimeError(CPU),
    RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)."),
    MemoryError(),
]


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FRAMES_AT_A_TIME, "cpu", 8)


class Narrow(nn.Module):
    """A network with room for some frames at a time. Each frame's features are its own, whatever the batch."""

    def __init__(self, room: int, error: Exception) -> None:
        super().__init__()
        self.room, self.error = room, error
        self.seen: list[int] = []

    def forward(self, frames: Tensor) -> Tensor:
        self.seen.append(len(frames))
        if len(frames) > self.room:
            raise self.error
        return nn.functional.avg_pool2d(frames, 8)


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
def test_a_batch_that_does_not_fit_is_halved_until_it_does(eight: None, error: Exception):
    network, batches = Narrow(3, error), Batches()
    frames = [torch.full((3, 8, 8), float(number)) for number in range(11)]
    found = [float(features.mean()) for features in batches.through(network, frames)]
    assert found == list(range(11))
    assert network.seen == [8, 4, 2, 2, 2, 2, 2, 1]
    assert batches.shrunk_to == 2
    assert [float(features.mean()) for features in batches.through(network, frames)] == found
    assert network.seen[8:] == [2, 2, 2, 2, 2, 1]  # what did not fit once is not tried again


def test_one_frame_that_does_not_fit_is_an_error(eight: None):
    with pytest.raises(torch.OutOfMemoryError):
        list(Batches().through(Narrow(0, OUT_OF_MEMORY[0]), [torch.zeros(3, 8, 8)] * 3))


def test_another_error_is_raised_at_once(eight: None):
    network = Narrow(0, ValueError("frames are odd"))
    with pytest.raises(ValueError, match="odd"):
        list(Batches().through(network, [torch.zeros(3, 8, 8)] * 3))
    assert network.seen == [3]


def test_frames_are_read_as_they_are_needed(eight: None):
    read: list[int] = []

    def frames():
        for number in range(20):
            read.append(number)
            yield torch.zeros(3, 8, 8)

    stream = iter(Batches().through(Narrow(8, OUT_OF_MEMORY[0]), frames()))
    next(stream)
    assert len(read) == 8


@pytest.mark.parametrize("error", OUT_OF_MEMORY[:2], ids=lambda error: type(error).__name__)
def test_a_run_tells_that_memory_ran_out_and_gives_the_same_numbers(eight: None, tmp_path: Path, error: Exception):
    for name in ("a", "b"):
        make_clip(tmp_path / "data", name, frames=5, size=(48, 64))
    results = []
    for out, room in (("narrow", 2), ("wide", 8)):
        backbone = corrkit.wrap(Narrow(room, error), stride=8)
        results.append(
            corrkit.evaluate("davis", backbone, data=tmp_path / "data", out=tmp_path / out, size=[48], multiple=16)
        )
    narrow, wide = results
    assert narrow.summary == {**wide.summary, "checkpoint": narrow.summary["checkpoint"]}
    assert any("memory ran out: of 2 clip(s) as few as 2 frame(s)" in note for note in narrow.notes)
    assert not any("memory ran out" in note for note in wide.notes)
    timings = [
        json.loads((tmp_path / out / "clips" / "a.json").read_text())["record"]["timing"] for out in ("narrow", "wide")
    ]
    assert timings[0]["frames_at_a_time"] == 2
    assert "frames_at_a_time" not in timings[1]


def test_a_wrapped_module_that_runs_out_of_memory_is_not_called_faulty():
    backbone = corrkit.wrap(Narrow(0, RuntimeError(CPU)), stride=8)
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
        backbone(torch.zeros(1, 3, 8, 8))
    backbone = corrkit.wrap(Narrow(0, RuntimeError("shapes don't fit")), stride=8)
    with pytest.raises(UsageError, match="forward pass"):
        backbone(torch.zeros(1, 3, 8, 8))
