"""The state in which numbers are computed: as the goldens have it, whatever the program around has set; put back after.

Torch's settings belong to the whole process, so evaluations of several threads take turns.
"""

import os
import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

_TURN = threading.RLock()


def _new_turn() -> None:
    global _TURN
    _TURN = threading.RLock()


os.register_at_fork(after_in_child=_new_turn)  # the thread that has the turn may be none of the child's


@contextmanager
def exact_inference() -> Iterator[None]:
    """No gradients, no autocast, full float32 products; torch's own default type and device."""
    import torch

    with _TURN, torch.no_grad(), standard_defaults(), _full_products(), ExitStack() as stack:
        for kind in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
            stack.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextmanager
def standard_defaults() -> Iterator[None]:
    """Torch's own default type and device."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        # Only where another is set: the context costs time in every call.
        with ExitStack() as stack:
            if torch.get_default_device().type != "cpu":
                stack.enter_context(torch.device("cpu"))
            yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def training_state_untouched(*modules: "torch.nn.Module | None") -> Iterator[None]:
    """Evaluation mode within; afterwards submodules' modes, buffers, all generators and cuDNN's flags are as before.

    A module's own `eval` is not called: those that merge weights in it (LoRA) would train on with other ones.
    """
    import torch

    with _TURN:
        parts = dict.fromkeys(part for module in modules if module is not None for part in module.modules())
        modes = {part: part.training for part in parts}
        buffers = [_Buffers(part) for part in parts]
        generators = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 - the global one
        on_gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else None
        cudnn = torch.backends.cudnn
        flags = cudnn.enabled, cudnn.benchmark, cudnn.deterministic
        for part in parts:
            part.training = False
        try:
            yield
        finally:
            for part, was_training in modes.items():
                part.training = was_training
            for kept in buffers:
                kept.restore()
            random.setstate(generators[0])
            np.random.set_state(generators[1])  # noqa: NPY002
            torch.set_rng_state(generators[2])
            if on_gpu is not None:
                torch.cuda.set_rng_state_all(on_gpu)
            cudnn.enabled, cudnn.benchmark, cudnn.deterministic = flags


class _Buffers:
    """One module's buffers as they were: the same tensors with the same values.

    They are written back through `data`: autograd counts every other write, and a backward pass may be waiting.
    """

    def __init__(self, part: "torch.nn.Module") -> None:
        self._part, self._tensors = part, dict(part._buffers)
        self._values = {name: tensor.clone() for name, tensor in self._tensors.items() if tensor is not None}

    def restore(self) -> None:
        import torch

        buffers = self._part._buffers
        if isinstance(buffers, dict):  # TorchScript's own table has fixed names
            buffers.clear()
        for name, tensor in self._tensors.items():
            buffers[name] = tensor
        with torch.inference_mode():  # for tensors that were made in it; others take it, too
            for name, value in self._values.items():
                tensor = self._tensors[name]
                if tensor is not None and tensor.shape == value.shape:
                    tensor.data.copy_(value)
                elif tensor is not None:
                    tensor.data = value


@contextmanager
def _full_products() -> Iterator[None]:
    """float32 products and convolutions in full precision (torch's "ieee"), on every backend."""
    before = [(backend, name) for backend in _backends() for name in (_own_precision(backend),)]
    for backend, _ in before:
        backend.fp32_precision = "ieee"
    try:
        yield
    finally:
        for backend, name in reversed(before):
            backend.fp32_precision = name


def _own_precision(backend: Any) -> str:
    """The setting of a backend, which is also what those below it report that have none of their own.

    It is set to "none" by the way, so that the next ones down report their own.
    """
    name: str = backend.fp32_precision
    backend.fp32_precision = "none"
    return name


def _backends() -> list[Any]:
    """Everything with a precision of its own, from the general to the special."""
    import torch

    backends: Any = torch.backends
    return [
        *(backends, backends.cudnn, backends.mkldnn, backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn),
        *(backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn),
    ]
