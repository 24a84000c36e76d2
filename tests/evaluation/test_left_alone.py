"""Whoever gives a live network to the API has it, and torch, back as they were, and the numbers of any other call."""

import contextlib
import copy
import os
import pickle
import random
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from davis_folder import make_clip
from evaluator_ranks import SmallNet
from torch import nn

import corrkit
from corrkit.errors import UsageError
from corrkit.inference import exact_inference

SIZE = (48, 64)
FRAMES = [np.random.default_rng(number).integers(0, 255, (*SIZE, 3), np.uint8) for number in range(3)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("left") / "DAVIS", "a", 3, SIZE)


def evaluator(net: nn.Module, data: Path) -> object:
    return corrkit.Evaluator("davis", data=data, size=[48])(corrkit.wrap(net))


def evaluate(net: nn.Module, data: Path) -> object:
    return corrkit.evaluate("davis", corrkit.wrap(net), data=data, size=[48]).summary["metrics"]


def sweep(net: nn.Module, data: Path) -> object:
    found = corrkit.sweep("davis", corrkit.wrap(net), data=data, size=[48], topk=[3, 5])
    return [result.summary["metrics"] for result in found.results]


def features(net: nn.Module, data: Path) -> object:
    return [one.numpy().tobytes() for one in corrkit.features(corrkit.wrap(net), FRAMES, size=[48])]


def tracker(net: nn.Module, data: Path) -> object:
    labels = np.zeros(SIZE, np.uint8)
    labels[10:30, 10:30] = 1
    follower = corrkit.Tracker(corrkit.wrap(net), size=[48])
    follower.start(FRAMES[0], labels)
    return [follower.step(frame).tobytes() for frame in FRAMES[1:]]


CALLS: dict[str, Callable[[nn.Module, Path], object]] = {
    call.__name__: call for call in (evaluator, evaluate, sweep, features, tracker)
}


class Writing(SmallNet):
    """Writes its buffers in every way there is, draws numbers, and trains a part, in every forward pass."""

    counted: torch.Tensor
    last: torch.Tensor
    unseen: torch.Tensor
    grown: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("counted", "last", "unseen", "grown"):
            self.register_buffer(name, torch.zeros(1))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        self.counted += 1
        self.last = frames.mean()[None]
        self.unseen.data.add_(1)  # which autograd does not count
        self.grown.data = torch.ones(3)
        self.register_buffer("new", torch.ones(1))
        found = super().forward(frames + 0 * (torch.rand(1) + random.random() + np.random.rand()))  # noqa: NPY002
        self.norm.train()
        return found


class Merging(SmallNet):
    """As LoRA's layers: `eval` adds weights, `train` takes them out again, which floats do not do to the bit."""

    def train(self, mode: bool = True) -> "Merging":
        if mode != self.training:
            self.patches.weight.data.add_(0.1 if not mode else -0.1)
        return super().train(mode)


class Differentiating(SmallNet):
    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            return super().forward(frames)


def made(kind: type[SmallNet]) -> SmallNet:
    torch.manual_seed(1)
    net = kind()
    net.norm.eval()  # a frozen part inside a module that trains
    return net


def state(net: nn.Module) -> object:
    tensors = [*net.named_parameters(), *net.named_buffers()]
    return (
        [part.training for part in net.modules()],
        [(name, id(tensor), tensor.detach().numpy().tobytes()) for name, tensor in tensors],
        (random.getstate(), str(np.random.get_state()), torch.get_rng_state().numpy().tobytes()),  # noqa: NPY002
    )


@pytest.mark.parametrize("kind", [SmallNet, Writing, Merging, Differentiating])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_network_is_left_as_it_was(call: Callable[[nn.Module, Path], object], kind: type[SmallNet], data: Path):
    net = made(kind)
    before = state(net)
    first = call(net, data)
    assert state(net) == before
    assert call(net, data) == first == call(made(SmallNet).eval(), data)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_buffers_of_an_inference_mode_are_restored(call: Callable[[nn.Module, Path], object], data: Path):
    with torch.inference_mode():
        net = made(Writing)
        before = state(net)
        assert call(net, data) == call(made(SmallNet), data)
        assert state(net) == before


def test_a_network_of_torchscript_is_evaluated(data: Path):
    net = made(SmallNet)
    assert evaluator(torch.jit.script(net), data) == evaluator(net, data)


@pytest.mark.parametrize("net", [SmallNet().to("meta"), nn.LazyConv2d(8, 16, stride=16)], ids=["meta", "lazy"])
def test_a_network_without_values_is_refused(net: nn.Module):
    with pytest.raises(UsageError, match="has no values yet"):
        corrkit.wrap(net)


def test_a_tracker_under_way_is_not_copied():
    follower = copy.deepcopy(corrkit.Tracker("rgb", size=[48]))
    labels = np.zeros(SIZE, np.uint8)
    labels[10:30, 10:30] = 1
    follower.start(FRAMES[0], labels)
    for copied in (copy.deepcopy, pickle.dumps):
        with pytest.raises(UsageError, match="can't be copied"):
            copied(follower)
    assert follower.step(FRAMES[1]).any()


def test_a_process_forked_beside_an_evaluation_evaluates():
    """Its only thread is not the one that has the turn."""
    with ThreadPoolExecutor(1) as pool:
        begun, ended = threading.Event(), threading.Event()

        def busy() -> None:
            with exact_inference():
                begun.set()
                ended.wait(60)

        pool.submit(busy)
        begun.wait(60)
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            with exact_inference():
                os._exit(0)
        ended.set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@contextlib.contextmanager
def default_type(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def float32_precision(name: str) -> Iterator[None]:
    backends: Any = torch.backends
    before = backends.fp32_precision
    backends.fp32_precision = name
    try:
        yield
        assert backends.fp32_precision == name
    finally:
        backends.fp32_precision = before


AROUND: dict[str, Callable[[], contextlib.AbstractContextManager[object]]] = {
    "float64": lambda: default_type(torch.float64),
    "bfloat16": lambda: default_type(torch.bfloat16),
    "float16": lambda: default_type(torch.float16),
    "meta": lambda: torch.device("meta"),
    "tf32": lambda: float32_precision("tf32"),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "inference": torch.inference_mode,
}


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
def test_labels_are_propagated_the_same_in_any_state_of_torch(
    around: Callable[[], contextlib.AbstractContextManager[object]],
):
    inputs = torch.randn(3, 6, 8, 16, generator=torch.Generator().manual_seed(0))
    labels = torch.eye(2)[torch.arange(48).reshape(6, 8) % 2]
    propagated = lambda: [soft.numpy().tobytes() for soft in corrkit.propagate(inputs, labels, radius=2)]  # noqa: E731
    plain = propagated()
    with around():
        assert propagated() == plain
