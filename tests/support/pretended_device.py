"""A device that is none: tensors on it work on the CPU, but mix with those of the CPU as little as a GPU's would."""

import threading
from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("privateuseone:0")
BROUGHT: Counter[str] = Counter()
"""How often something was brought from the device to the host, by the thread that asked for it."""


class _Module(backend_registration._DummyBackendModule):
    """What torch asks of a device's module."""

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        """There are no random numbers of its own."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        """Of what autocast may be asked for."""
        return [torch.bfloat16]


if not hasattr(torch, "privateuseone"):
    backend_registration._setup_privateuseone_for_python_backend(backend_module=_Module())


class There(Tensor):
    """A tensor on `DEVICE`; `here` holds its values."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> "There":
        there: There = Tensor._make_wrapper_subclass(
            cls,
            here.shape,
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            device=DEVICE,
        )
        there.here = here
        return there

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["here"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], meta: None, size: object, stride: object) -> "There":
        return There(inner["here"])

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]  # torch's has no annotations
        return f"There({self.here!r})"

    def tolist(self) -> Any:
        """As of a GPU, by way of the host."""
        BROUGHT[threading.current_thread().name] += 1
        return self.here.tolist()

    def numpy(self, *_: Any, **__: Any) -> Any:
        """As of a GPU, nothing without a copy."""
        raise TypeError("a tensor of the device has no values here; copy it to the host first")

    __array__ = numpy

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's stub leaves out the class
        cls, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[Any, Any] | None = None
    ) -> Any:
        return worked_there(func, args, kwargs or {})


def worked_there(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What an operation gives; on `DEVICE` if it is asked for there, or if anything that it is given lies there.

    Raises:
        RuntimeError: where tensors of both devices meet; those without dimensions may come from the CPU.
    """
    given = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, Tensor)]
    lies_there = any(isinstance(one, There) for one in given)
    name = func.overloadpacket.__name__
    if lies_there and name not in {"copy_", "_to_copy"}:
        strangers = [one for one in given if not isinstance(one, There) and one.dim()]
        if strangers:
            raise RuntimeError(f"{func}: a tensor {list(strangers[0].shape)} of the CPU meets some of the device")
    asked = kwargs.get("device")
    device = None if asked is None else torch.device(asked)
    here = {
        key: torch.device("cpu") if key == "device" and value is not None else value for key, value in kwargs.items()
    }
    found = func(*tree_map(_here, args), **tree_map(_here, here))
    if lies_there and (name == "_local_scalar_dense" or (device is not None and device.type == "cpu")):
        BROUGHT[threading.current_thread().name] += 1
        return found
    if name.endswith("_") or "out" in kwargs:  # what was changed in place is given back
        changed = kwargs.get("out", args[0] if args else None)
        if isinstance(changed, There):
            return changed
        if isinstance(changed, Tensor):
            return found
    goes_there = lies_there if device is None else device.type == DEVICE.type
    return tree_map(lambda one: There(one) if goes_there and isinstance(one, Tensor) else one, found)


def _here(one: Any) -> Any:
    return one.here if isinstance(one, There) else one


def _empty(size: Any, **asked: Any) -> Tensor:
    asked.pop("device", None), asked.pop("pin_memory", None)
    return There(torch.empty(size, **asked))


def _empty_strided(size: Any, stride: Any, **asked: Any) -> Tensor:
    asked.pop("device", None), asked.pop("pin_memory", None)
    return There(torch.empty_strided(size, stride, **asked))


_LIBRARY = torch.library.Library("aten", "IMPL")  # what is not made of other tensors is made of these
_LIBRARY.impl("empty.memory_format", _empty, "PrivateUse1")
_LIBRARY.impl("empty_strided", _empty_strided, "PrivateUse1")
