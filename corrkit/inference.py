"""The state in which numbers are computed: as the goldens have it, whatever the program around has set; put back after.

Torch's settings belong to the whole process, so evaluations of several threads take turns.
"""

import os
import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, TypeGuard

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

    So are tensors, numbers and words that modules keep as plain attributes (a count, a table of positions for a size).
    A module's own `eval` is not called: those that merge weights in it (LoRA) would train on with other ones.
    """
    import torch

    from corrkit.in_training import plain_passes

    live = [module for module in modules if module is not None]
    with _TURN, plain_passes(*live):
        parts = dict.fromkeys(part for module in live for part in module.modules())
        modes = {part: part.training for part in parts}
        kept = [_Kept(part) for part in parts]
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
            for one in kept:
                one.restore()
            random.setstate(generators[0])
            np.random.set_state(generators[1])  # noqa: NPY002
            torch.set_rng_state(generators[2])
            if on_gpu is not None:
                torch.cuda.set_rng_state_all(on_gpu)
            cudnn.enabled, cudnn.benchmark, cudnn.deterministic = flags


class _Kept:
    """One module's buffers and plain attributes as they were: the same tensors with the same values.

    They are written back through `data`: autograd counts every other write, and a backward pass may be waiting.
    """

    def __init__(self, part: "torch.nn.Module") -> None:
        self._part, self._tensors, self._plain = part, dict(part._buffers), _attributes(part)
        tensors = [tensor for tensor in self._tensors.values() if tensor is not None]
        tensors += filter(_is_tensor_of_its_own, self._plain.values())
        self._values = [(tensor, tensor.clone()) for tensor in tensors]

    def restore(self) -> None:
        import torch

        buffers = self._part._buffers
        if isinstance(buffers, dict):  # TorchScript's own table has fixed names
            buffers.clear()
        for name, tensor in self._tensors.items():
            buffers[name] = tensor
        self._restore_attributes()
        with torch.inference_mode():  # for tensors that were made in it; others take it, too
            for tensor, value in self._values:
                if tensor.shape == value.shape:
                    tensor.data.copy_(value)
                else:
                    tensor.data = value

    def _restore_attributes(self) -> None:
        """Objects of other kinds are left: what they hold was never taken down."""
        own = vars(self._part)
        for name, value in _attributes(self._part).items():
            if name not in self._plain and isinstance(value, _plain_kinds()):
                del own[name]
        for name, value in self._plain.items():
            if isinstance(value, _plain_kinds()) or isinstance(own.get(name), _plain_kinds()):
                own[name] = value


def _attributes(part: "torch.nn.Module") -> dict[str, object]:
    """What a module's own code may set; none of those that count how a network runs on several processes."""
    import torch

    from corrkit.in_training import runs_another

    return {} if runs_another(part) or isinstance(part, torch.jit.ScriptModule) else dict(vars(part))


def _plain_kinds() -> tuple[type, ...]:
    import torch

    return (torch.Tensor, int, float, str, tuple, type(None))


def _is_tensor_of_its_own(value: object) -> "TypeGuard[torch.Tensor]":
    """No part of another, which FSDP may have freed, and nothing that a waiting backward pass goes through."""
    import torch

    return isinstance(value, torch.Tensor) and not value._is_view() and value.grad_fn is None


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
