"""Storages, and the fixed list of functions that a checkpoint's pickle may call: they rebuild tensors and plain values.

A tensor is a view of the file's mapped bytes, checked against the bytes that are there; nothing is copied or allocated.
"""

import math
import mmap
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from corrkit.checkpoints.opening.pickles import MalformedError, Stub
from corrkit.errors import CheckpointError

_MIB = 1 << 20
_VIEWS = 8  # tensors that share storages (tied weights, aliased branches) may add up to this multiple of the file

_STORAGE_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}


@dataclass(frozen=True, eq=False, slots=True)
class Storage:
    """Bytes of the file under a type. content: uint8 [n]; None while their place isn't known yet (legacy files)."""

    dtype: torch.dtype
    content: torch.Tensor | None


class Budget:
    """Bounds what the tensors of one file would occupy if each were copied: a few times the file's size."""

    def __init__(self, path: object, file_size: int) -> None:
        self.path = path
        self.limit = 64 * _MIB + _VIEWS * file_size
        self.claimed = 0

    def claim(self, shape: tuple[int, ...], itemsize: int) -> None:
        """Raises CheckpointError where a tensor of this shape goes beyond the limit."""
        nbytes = math.prod(shape) * itemsize
        self.claimed += nbytes
        if self.claimed > self.limit:
            raise CheckpointError(
                f"{self.path} claims tensors far larger than itself: one of shape {list(shape)} "
                f"({nbytes / _MIB:,.0f} MiB) on fewer bytes.",
                "Save plain copies (tensor.clone()) instead of expanded views, or get the file again.",
            )


def storage_dtype(name: str) -> torch.dtype:
    """The type of "torch.FloatStorage", "torch.cuda.HalfStorage", "torch.storage.UntypedStorage" ..."""
    try:
        return _STORAGE_DTYPES[name.rpartition(".")[2]]
    except KeyError:
        raise MalformedError(f"storages of type {name} aren't supported") from None


def mapped(content: mmap.mmap, offset: int, nbytes: int) -> torch.Tensor:
    """The bytes [offset, offset + nbytes) of a copy-on-write map as uint8 [nbytes], without copying.

    Raises MalformedError where they aren't there.
    """
    if offset < 0 or nbytes < 0 or offset + nbytes > len(content):
        raise MalformedError(f"{nbytes} bytes are promised at {offset}, the file ends at {len(content)}")
    if nbytes == 0:
        return torch.empty(0, dtype=torch.uint8)
    return torch.frombuffer(content, dtype=torch.uint8, offset=offset, count=nbytes)


def rebuilders(budget: Budget, load_bytes: Callable[[bytes], Any]) -> MappingProxyType[str, Callable[..., Any]]:
    """The fixed list: dotted name -> what stands in for it.

    Args:
        budget: claimed from for each tensor.
        load_bytes: opens the legacy torch file that a plain pickle holds for each storage.
    """

    def tensor(storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Any:
        return _view(budget, storage, storage.dtype, offset, size, stride)

    def typed_tensor(storage: Storage, offset: int, size: Any, stride: Any, *rest: Any) -> Any:
        return _view(budget, storage, _dtype(rest[2]), offset, size, stride)  # rest: requires_grad, hooks, dtype

    calls: dict[str, Callable[..., Any]] = {
        "torch._utils._rebuild_tensor": tensor,
        "torch._utils._rebuild_tensor_v2": tensor,
        "torch._utils._rebuild_tensor_v3": typed_tensor,
        "torch._utils._rebuild_parameter": lambda data, *_: data,
        "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
        "torch._utils._rebuild_device_tensor_from_numpy": lambda array, *_: array,
        "torch.nn.parameter.Parameter": lambda data, *_: data,
        "torch.storage._load_from_bytes": load_bytes,
        "torch.Size": lambda *sizes: tuple(sizes[0]) if sizes else (),
        "collections.OrderedDict": _dict,
        "builtins.dict": _dict,
        "builtins.set": _set,
        "builtins.frozenset": _set,
        "builtins.bytearray": _bytes,
        "_codecs.encode": _bytes,
    }
    calls |= {f"torch.jit._pickle.build_{kind}list": list for kind in ("int", "tensor", "double", "bool")}
    calls["torch.jit._pickle.restore_type_tag"] = lambda value, _: value
    calls["numpy.dtype"] = lambda *arguments: Stub("numpy.dtype", instantiated=True, arguments=arguments)
    for module in ("numpy.core", "numpy._core"):
        calls[f"{module}.multiarray._reconstruct"] = lambda *_: Stub("numpy.ndarray", instantiated=True)
        calls[f"{module}.multiarray.scalar"] = _numpy_scalar
        calls[f"{module}.numeric._frombuffer"] = _numpy_frombuffer
    return MappingProxyType(calls)


def numpy_array(stub: Stub) -> torch.Tensor | Stub:
    """The tensor of a pickled numpy array; the stub itself where it holds Python objects or was left unfilled."""
    if not isinstance(stub.state, tuple) or len(stub.state) != 5:
        return stub
    _, shape, dtype, column_major, content = stub.state
    return _numpy_tensor(content, _numpy_dtype(dtype), shape, column_major) if content.__class__ is not list else stub


def to_tensor(array: npt.NDArray[Any]) -> torch.Tensor:
    """A tensor of a numpy array that owns its memory; bfloat16 where JAX wrote 2-byte voids. Raises MalformedError."""
    if array.dtype == np.dtype("V2"):
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    try:
        return torch.from_numpy(native)
    except TypeError:
        raise MalformedError(f"an array of type {array.dtype} isn't supported") from None


def _view(budget: Budget, storage: Storage, dtype: torch.dtype, offset: Any, size: Any, stride: Any) -> Any:
    if not isinstance(storage, Storage):
        raise MalformedError("a tensor without a storage")
    size, stride = _extents(size), _extents(stride)
    if len(size) != len(stride) or len(size) > 16 or not isinstance(offset, int) or offset < 0:
        raise MalformedError(f"a tensor of shape {size[:16]} and strides {stride[:16]}")
    budget.claim(size, dtype.itemsize)
    if storage.content is None:
        return Stub("torch.Tensor", instantiated=True)
    content = storage.content
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 in size:
        return torch.empty(size, dtype=dtype)
    if (last + 1) * dtype.itemsize > content.numel():
        raise MalformedError(
            f"a tensor of shape {list(size)} needs {last + 1} values, its storage has {content.numel()} bytes"
        )
    whole = content[: content.numel() // dtype.itemsize * dtype.itemsize]
    if whole.data_ptr() % dtype.itemsize:
        whole = whole.clone()
    return whole.view(dtype).as_strided(size, stride, offset)


def _extents(values: Any) -> tuple[int, ...]:
    extents: tuple[int, ...] = tuple(values)
    if not all(type(value) is int and 0 <= value < 1 << 40 for value in extents):
        raise MalformedError("a tensor with an impossible shape or stride")
    return extents


def _dtype(named: Any) -> torch.dtype:
    dtype = getattr(torch, named.name.rpartition(".")[2], None) if isinstance(named, Stub) else None
    if not isinstance(dtype, torch.dtype):
        raise MalformedError(f"{named!r} isn't a type of numbers that this torch knows")
    return dtype


def _dict(*arguments: Any) -> dict[Any, Any]:
    if not arguments:
        return {}
    pairs = arguments[0]
    if not isinstance(pairs, list) or not all(isinstance(pair[0], str | int) for pair in pairs):
        raise MalformedError("a dict that isn't built from pairs")
    return {pair[0]: pair[1] for pair in pairs}


def _set(*arguments: Any) -> set[Any]:
    items = arguments[0] if arguments else ()
    if not isinstance(items, list | tuple) or not all(isinstance(item, str | int | float) for item in items):
        raise MalformedError("a set of something else than plain values")
    return set(items)


def _bytes(*arguments: Any) -> bytes:
    if not arguments or not isinstance(arguments[0], str | bytes | bytearray):
        raise MalformedError("bytes that aren't built from text")
    return arguments[0].encode("latin-1") if isinstance(arguments[0], str) else bytes(arguments[0])


def _numpy_dtype(stub: Any) -> np.dtype[Any]:
    if not isinstance(stub, Stub) or not stub.arguments or not isinstance(stub.arguments[0], str):
        raise MalformedError("an array without a type of numbers")
    if len(stub.arguments[0]) > 4:  # "f4", "i8", "V2", "c16"; longer ones describe records
        raise MalformedError("an array of records")
    dtype = np.dtype(stub.arguments[0])
    order = stub.state[1] if isinstance(stub.state, tuple) and len(stub.state) > 1 else "="
    return dtype.newbyteorder(">") if order == ">" else dtype


def _numpy_scalar(dtype: Any, content: Any = None, *_: Any) -> Any:
    flat = _numpy_tensor(content, _numpy_dtype(dtype), (1,), False)
    return flat[0].item()


def _numpy_frombuffer(content: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> Any:
    return _numpy_tensor(content, _numpy_dtype(dtype), shape, order == "F")


def _numpy_tensor(content: Any, dtype: np.dtype[Any], shape: Any, column_major: Any) -> torch.Tensor:
    shape = _extents(shape)
    content = _bytes(content)
    if dtype.hasobject or dtype.itemsize == 0 or len(content) != math.prod(shape) * dtype.itemsize or len(shape) > 16:
        raise MalformedError(f"an array of shape {shape[:16]} and type {dtype} on {len(content)} bytes")
    array = np.frombuffer(bytearray(content), dtype)
    return to_tensor(array.reshape(shape, order="F" if column_major is True else "C"))
