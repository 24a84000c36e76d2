"""Storages, and the fixed list of functions that a checkpoint's pickle may call: they rebuild tensors and plain values.

A tensor is a view of the file's mapped bytes, checked against the bytes that are there; nothing is copied or allocated.
"""

import math
import mmap
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from corrkit.checkpoints.opening.pickles import QUANTISED_REMEDY, MalformedError, Stub, UnsupportedError, require_key
from corrkit.errors import CheckpointError

_MIB = 1 << 20
_ALIGNMENT = 16  # bytes, of the largest number (complex128)
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
    """Bounds what the tensors and copies made from one file occupy together: a few times the file's size.

    Tensors count in full, as if each were copied, though they are views: whoever takes them may copy them.
    """

    def __init__(self, path: object, file_size: int) -> None:
        self.path = path
        self.limit = 64 * _MIB + _VIEWS * file_size
        self.claimed = 0

    def claim(self, nbytes: int, what: str) -> None:
        """Raises CheckpointError where this goes beyond the limit."""
        self.claimed += nbytes
        if self.claimed > self.limit:
            raise CheckpointError(
                f"{self.path} would unfold far beyond its own size: {what} takes {nbytes / _MIB:,.0f} MiB.",
                "Save plain copies (tensor.clone()) instead of expanded views, or get the file again.",
            )


def storage_dtype(name: str) -> torch.dtype:
    """The type of "torch.FloatStorage", "torch.cuda.HalfStorage", "torch.storage.UntypedStorage" ..."""
    try:
        return _STORAGE_DTYPES[name.rpartition(".")[2]]
    except KeyError:
        if re.search(r"\.Q(U?Int)\d+(x\d)?Storage$", name):
            raise UnsupportedError(f"quantised tensors ({name})", QUANTISED_REMEDY) from None
        raise MalformedError(f"storages of type {name} aren't supported") from None


def mapped(content: mmap.mmap, offset: int, nbytes: int) -> torch.Tensor:
    """The bytes [offset, offset + nbytes) of a copy-on-write map as uint8 [nbytes]; a copy only where unaligned.

    Raises MalformedError where they aren't there.
    """
    if offset < 0 or nbytes < 0 or offset + nbytes > len(content):
        raise MalformedError(f"{nbytes} bytes are promised at {offset}, the file ends at {len(content)}")
    if nbytes == 0:
        return torch.empty(0, dtype=torch.uint8)
    view = torch.frombuffer(content, dtype=torch.uint8, offset=offset, count=nbytes)
    return view.clone() if offset % _ALIGNMENT else view


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
        "torch.Size": lambda *sizes: _extents(sizes[0]) if sizes else (),
        "collections.OrderedDict": lambda *items: _dict(budget, *items),
        "builtins.dict": lambda *items: _dict(budget, *items),
        "builtins.set": lambda *items: _set(budget, *items),
        "builtins.frozenset": lambda *items: _set(budget, *items),
        "builtins.bytearray": lambda *text: _bytes(budget, *text),
        "_codecs.encode": lambda *text: _bytes(budget, *text),
    }
    calls |= {
        f"torch.jit._pickle.build_{kind}list": lambda items: items for kind in ("int", "tensor", "double", "bool")
    }
    calls["torch.jit._pickle.restore_type_tag"] = lambda value, _: value
    calls["numpy.dtype"] = lambda *arguments: Stub("numpy.dtype", instantiated=True, arguments=arguments)
    for module in ("numpy.core", "numpy._core"):
        calls[f"{module}.multiarray._reconstruct"] = lambda *_: Stub("numpy.ndarray", instantiated=True)
        calls[f"{module}.multiarray.scalar"] = lambda *parts: _numpy_scalar(budget, *parts)
        calls[f"{module}.numeric._frombuffer"] = lambda *parts: _numpy_frombuffer(budget, *parts)
    return MappingProxyType(calls)


def numpy_array(stub: Stub, budget: Budget) -> torch.Tensor | Stub:
    """The tensor of a pickled numpy array; the stub itself where it holds Python objects or was left unfilled.

    Raises MalformedError where its parts don't fit.
    """
    if not isinstance(stub.state, tuple) or len(stub.state) != 5:
        return stub
    _, shape, dtype, column_major, content = stub.state
    if isinstance(content, list):
        return stub
    try:
        return _numpy_tensor(budget, content, _numpy_dtype(dtype), shape, column_major)
    except (TypeError, ValueError) as error:
        raise MalformedError(f"an array that can't be built: {error}") from error


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
    budget.claim(math.prod(size) * dtype.itemsize, f"a tensor of shape {list(size)}")
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
    return whole.view(dtype).as_strided(size, stride, offset)


def _extents(values: Any) -> tuple[int, ...]:
    extents: tuple[int, ...] = tuple(values)
    if not all(type(value) is int and 0 <= value < 1 << 40 for value in extents):
        raise MalformedError("a tensor with an impossible shape or stride")
    return extents


def _dtype(named: Any) -> torch.dtype:
    dtype = getattr(torch, named.name.rpartition(".")[2], None) if isinstance(named, Stub) else None
    if not isinstance(dtype, torch.dtype):
        raise MalformedError("a tensor of a type of numbers that this torch doesn't know")
    return dtype


_ITEM = 100  # bytes that one item of a dict or set takes, about


def _dict(budget: Budget, pairs: Any = (), *_: Any) -> dict[Any, Any]:
    if not isinstance(pairs, list | tuple):
        raise MalformedError("a dict that isn't built from pairs")
    budget.claim(len(pairs) * _ITEM, "a dict")
    return {require_key(pair[0]): pair[1] for pair in pairs}


def _set(budget: Budget, items: Any = (), *_: Any) -> set[Any]:
    if not isinstance(items, list | tuple):
        raise MalformedError("a set that isn't built from a list")
    budget.claim(len(items) * _ITEM, "a set")
    return {require_key(item) for item in items}


def _bytes(budget: Budget, text: Any, *_: Any) -> bytes:
    if not isinstance(text, str | bytes | bytearray):
        raise MalformedError("bytes that aren't built from text")
    budget.claim(len(text), "a string of bytes")
    return text.encode("latin-1") if isinstance(text, str) else bytes(text)


def _numpy_dtype(stub: Any) -> np.dtype[Any]:
    if not isinstance(stub, Stub) or not stub.arguments or not isinstance(stub.arguments[0], str):
        raise MalformedError("an array without a type of numbers")
    if len(stub.arguments[0]) > 4:  # "f4", "i8", "V2", "c16"; longer ones describe records
        raise MalformedError("an array of records")
    dtype = np.dtype(stub.arguments[0])
    order = stub.state[1] if isinstance(stub.state, tuple) and len(stub.state) > 1 else "="
    return dtype.newbyteorder(">") if order == ">" else dtype


def _numpy_scalar(budget: Budget, dtype: Any, content: Any, *_: Any) -> Any:
    return _numpy_tensor(budget, content, _numpy_dtype(dtype), (1,), False)[0].item()


def _numpy_frombuffer(budget: Budget, content: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> Any:
    return _numpy_tensor(budget, content, _numpy_dtype(dtype), shape, order == "F")


def _numpy_tensor(budget: Budget, content: Any, dtype: np.dtype[Any], shape: Any, column_major: Any) -> torch.Tensor:
    shape = _extents(shape)
    content = _bytes(budget, content)
    if dtype.hasobject or dtype.itemsize == 0 or len(content) != math.prod(shape) * dtype.itemsize or len(shape) > 16:
        raise MalformedError(f"an array of shape {shape[:16]} and type {dtype} on {len(content)} bytes")
    array = np.frombuffer(bytearray(content), dtype)
    return to_tensor(array.reshape(shape, order="F" if column_major is True else "C"))
