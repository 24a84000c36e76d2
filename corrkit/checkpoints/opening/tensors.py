"""Storages, and the fixed list of functions that a checkpoint's pickle may call: they rebuild tensors and plain values.

A tensor is a view of the file's mapped bytes, checked against the bytes that are there. Only what can't be viewed is
copied: storages at odd places and numpy's arrays, at most as many bytes as the file has.
"""

import codecs
import math
import mmap
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch

from corrkit.checkpoints.opening.inert import (
    QUANTISED_REMEDY,
    MalformedError,
    Source,
    Span,
    Stub,
    Tree,
    UnsupportedError,
)
from corrkit.checkpoints.opening.pickles import require_key
from corrkit.errors import CheckpointError

_MIB = 1 << 20
_PIECE = 4 * _MIB
TENSOR = 2048
"""Bytes that a tensor takes apart from its values, on the way through recognition, about."""
_MAX_AXES = 64
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
    """Bounds what is made from one file, by the file's size.

    Views of its bytes are counted apart, in full, as if each were copied: whoever takes them may copy them.
    """

    def __init__(self, path: object, file_size: int) -> None:
        self.path = path
        self.views = 64 * _MIB + _VIEWS * file_size
        self.memory = 80 * _MIB + file_size // 8
        self.copies = file_size + 32 * _MIB

    def view(self, nbytes: int, what: str) -> None:
        """Counts a tensor that is a view of the file. Raises CheckpointError where all of them are too large."""
        self.views -= nbytes
        if self.views < 0:
            raise self._too_much(nbytes, what)

    def claim(self, nbytes: int, what: str) -> None:
        """Counts memory of objects. Raises CheckpointError where they take too much."""
        self.memory -= nbytes
        if self.memory < 0:
            raise self._too_much(nbytes, what)

    def copy(self, nbytes: int, what: str) -> None:
        """Counts a copy of some of the file's bytes. Raises CheckpointError where all of them exceed the file."""
        self.copies -= nbytes
        if self.copies < 0:
            raise self._too_much(nbytes, what)

    def _too_much(self, nbytes: int, what: str) -> CheckpointError:
        return CheckpointError(
            f"{self.path} would unfold far beyond its own size: {what} takes {nbytes / _MIB:,.3g} MiB.",
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


def mapped(content: Source, offset: int, nbytes: int, budget: Budget) -> torch.Tensor:
    """The bytes [offset, offset + nbytes) of a copy-on-write map as uint8 [nbytes]; a copy only where unaligned.

    Raises:
        MalformedError: they aren't there.
        CheckpointError: copies exceed the file.
    """
    if offset < 0 or nbytes < 0 or offset + nbytes > len(content):
        raise MalformedError(f"{nbytes} bytes are promised at {offset}, the file ends at {len(content)}")
    if nbytes == 0:
        return torch.empty(0, dtype=torch.uint8)
    view = torch.frombuffer(content, dtype=torch.uint8, offset=offset, count=nbytes)
    if offset % _ALIGNMENT == 0:
        return view
    budget.copy(nbytes, "a copy of a storage")
    copy = view.clone()
    release(content, offset, nbytes)
    return copy


def release(content: Source, offset: int, nbytes: int) -> None:
    """Lets the system take back the memory of mapped bytes that have been copied; reading them again is possible."""
    start, stop = -(-offset // mmap.PAGESIZE) * mmap.PAGESIZE, (offset + nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if isinstance(content, mmap.mmap) and stop > start and hasattr(mmap, "MADV_DONTNEED"):
        content.madvise(mmap.MADV_DONTNEED, start, stop - start)


@dataclass(frozen=True, slots=True)
class Pages:
    """The maps that tensors of an opened checkpoint are views of."""

    maps: tuple[mmap.mmap, ...] = ()

    def release(self, tensor: torch.Tensor) -> None:
        """Gives the memory of a tensor's mapped bytes back, once it has been copied; nothing for other tensors.

        Reading them again is possible; what was written to them is lost.
        """
        for content in self.maps:
            offset = tensor.data_ptr() - torch.frombuffer(content, dtype=torch.uint8, count=1).data_ptr()
            if 0 <= offset < len(content):
                release(content, offset, tensor.nbytes)


def rebuilders(
    budget: Budget, load_bytes: Callable[[Tree], Tree], content: Source
) -> MappingProxyType[str, Callable[..., Tree]]:
    """The fixed list: dotted name -> what stands in for it.

    Args:
        budget: claimed from for each tensor.
        load_bytes: opens the legacy torch file that a plain pickle holds for each storage.
        content: what spans of the pickle are spans of.
    """

    def tensor(storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Tree) -> Tree:
        return _view(budget, storage, storage.dtype, offset, size, stride)

    def typed_tensor(storage: Storage, offset: int, size: Tree, stride: Tree, *rest: Tree) -> Tree:
        return _view(budget, storage, _dtype(rest[2]), offset, size, stride)  # rest: requires_grad, hooks, dtype

    calls: dict[str, Callable[..., Tree]] = {
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
        calls[f"{module}.multiarray.scalar"] = lambda *parts: _numpy_scalar(budget, content, *parts)
        calls[f"{module}.numeric._frombuffer"] = lambda *parts: _numpy_frombuffer(budget, content, *parts)
    return MappingProxyType(calls)


def numpy_array(stub: Stub, budget: Budget, source: Source) -> torch.Tensor | Stub:
    """The tensor of a pickled numpy array; the stub itself where it holds Python objects or was left unfilled.

    Raises MalformedError where its parts don't fit.
    """
    if not isinstance(stub.state, tuple) or len(stub.state) != 5:
        return stub
    _, shape, dtype, column_major, content = stub.state
    if isinstance(content, list):
        return stub
    try:
        return _numpy_tensor(budget, source, content, _numpy_dtype(dtype), shape, column_major)
    except (TypeError, ValueError) as error:
        raise MalformedError(f"an array that can't be built: {error}") from error


def to_tensor(array: npt.NDArray[np.generic]) -> torch.Tensor:
    """A tensor of a numpy array that owns its memory; bfloat16 where JAX wrote 2-byte voids. Raises MalformedError."""
    if array.dtype == np.dtype("V2"):
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    try:
        return torch.from_numpy(native)
    except TypeError:
        raise MalformedError(f"an array of type {array.dtype} isn't supported") from None


def _view(budget: Budget, storage: Storage, dtype: torch.dtype, offset: Tree, size: Tree, stride: Tree) -> Tree:
    if not isinstance(storage, Storage):
        raise MalformedError("a tensor without a storage")
    size, stride = _extents(size), _extents(stride)
    if len(size) != len(stride) or len(size) > 16 or not isinstance(offset, int) or offset < 0:
        raise MalformedError(f"a tensor of shape {size[:16]} and strides {stride[:16]}")
    budget.claim(TENSOR, "so many tensors")
    nbytes = math.prod(size) * dtype.itemsize
    budget.view(nbytes, f"a tensor of shape {list(size)}")
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
    if nbytes > content.numel():  # an expanded view: whoever uses it makes a copy
        budget.claim(nbytes, f"a tensor of shape {list(size)}")
    whole = content[: content.numel() // dtype.itemsize * dtype.itemsize]
    return whole.view(dtype).as_strided(size, stride, offset)


def _extents(values: Tree) -> tuple[int, ...]:
    if not isinstance(values, list | tuple):
        raise MalformedError("a tensor whose shape or stride is no list")
    if len(values) > _MAX_AXES:
        raise MalformedError("a tensor with endlessly many axes")
    if not all(type(value) is int and 0 <= value < 1 << 40 for value in values):
        raise MalformedError("a tensor with an impossible shape or stride")
    return tuple(values)


def _dtype(named: Tree) -> torch.dtype:
    dtype = getattr(torch, named.name.rpartition(".")[2], None) if isinstance(named, Stub) else None
    if not isinstance(dtype, torch.dtype):
        raise MalformedError("a tensor of a type of numbers that this torch doesn't know")
    return dtype


_ITEM = 100  # bytes that one item of a dict or set takes, about


def _dict(budget: Budget, pairs: Tree = (), *_: Tree) -> dict[Tree, Tree]:
    if not isinstance(pairs, list | tuple):
        raise MalformedError("a dict that isn't built from pairs")
    budget.claim(len(pairs) * _ITEM, "a dict")
    return {require_key(pair[0]): pair[1] for pair in pairs}


def _set(budget: Budget, items: Tree = (), *_: Tree) -> set[Tree]:
    if not isinstance(items, list | tuple):
        raise MalformedError("a set that isn't built from a list")
    budget.claim(len(items) * _ITEM, "a set")
    return {require_key(item) for item in items}


def _bytes(budget: Budget, text: Tree, *_: Tree) -> bytes | Span:
    if isinstance(text, Span):
        return replace(text, encoding="latin-1 as utf-8") if text.encoding == "utf-8" else text
    if not isinstance(text, str | bytes | bytearray):
        raise MalformedError("bytes that aren't built from text")
    budget.claim(len(text), "a string of bytes")
    return text.encode("latin-1") if isinstance(text, str) else bytes(text)


def _numpy_dtype(stub: Tree) -> np.dtype[np.generic]:
    if not isinstance(stub, Stub) or not stub.arguments or not isinstance(stub.arguments[0], str):
        raise MalformedError("an array without a type of numbers")
    if len(stub.arguments[0]) > 4:  # "f4", "i8", "V2", "c16"; longer ones describe records
        raise MalformedError("an array of records")
    dtype = np.dtype(stub.arguments[0])
    order = stub.state[1] if isinstance(stub.state, tuple) and len(stub.state) > 1 else "="
    return dtype.newbyteorder(">") if order == ">" else dtype


def _numpy_scalar(budget: Budget, source: Source, dtype: Tree, content: Tree, *_: Tree) -> Tree:
    return _numpy_tensor(budget, source, content, _numpy_dtype(dtype), (1,), False)[0].item()


def _numpy_frombuffer(
    budget: Budget, source: Source, content: Tree, dtype: Tree, shape: Tree, order: Tree, *_: Tree
) -> Tree:
    return _numpy_tensor(budget, source, content, _numpy_dtype(dtype), shape, order == "F")


def _numpy_tensor(
    budget: Budget, source: Source, content: Tree, dtype: np.dtype[np.generic], shape: Tree, column_major: Tree
) -> torch.Tensor:
    shape = _extents(shape)
    budget.claim(TENSOR, "so many arrays")
    held = _bytes(budget, content)
    whole = _copied(held, source, budget) if isinstance(held, Span) else bytearray(held)
    if dtype.hasobject or dtype.itemsize == 0 or len(whole) != math.prod(shape) * dtype.itemsize or len(shape) > 16:
        raise MalformedError(f"an array of shape {shape[:16]} and type {dtype} on {len(whole)} bytes")
    array = np.frombuffer(whole, dtype)
    return to_tensor(array.reshape(shape, order="F" if column_major is True else "C"))


def _copied(span: Span, source: Source, budget: Budget) -> bytearray:
    """The bytes of a span, read piece by piece."""
    budget.copy(span.length, "a copy of an array")
    whole = bytearray()
    decode = codecs.getincrementaldecoder("utf-8")().decode
    for start in range(span.start, span.start + span.length, _PIECE):
        size = min(_PIECE, span.start + span.length - start)
        piece = source[start : start + size]
        whole += piece if span.encoding == "bytes" else decode(bytes(piece)).encode("latin-1")
        release(source, start, size)
    return whole
