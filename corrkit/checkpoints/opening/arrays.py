"""Files of arrays under names, without pickles: safetensors and .npz."""

import json
import math
import mmap
import zipfile
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch

from corrkit.checkpoints.opening.inert import MalformedError, Tree
from corrkit.checkpoints.opening.tensors import TENSOR, Budget, to_tensor
from corrkit.errors import CheckpointError
from corrkit.memory import admit_mapping

# Of safetensors' format, to the names of torch's.
_DTYPES = {
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    "BOOL": "bool",
    "BF16": "bfloat16",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
}


class _Entry(TypedDict):
    """Of a safetensors header."""

    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


_MAX_HEADER = 8 << 20  # bytes of a safetensors header: some 60,000 tensors
_PIECE = 1 << 20
_STRING = 64  # bytes that a str takes beside its text, about


def read_safetensors(path: Path, content: mmap.mmap, budget: Budget) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """All tensors of a safetensors file by name, and its metadata.

    Raises:
        CheckpointError: truncated, or a header that contradicts itself (the library checks sizes before it allocates).
    """
    from safetensors import SafetensorError, safe_open

    if int.from_bytes(content[:8], "little") > _MAX_HEADER:
        raise CheckpointError(
            f"{path} is a damaged safetensors file: its header claims more than {_MAX_HEADER >> 20} MiB.",
            "Get the file again.",
        )
    try:
        admit_mapping(len(content))  # a second time
        with safe_open(path, "pt") as file:  # checks the header, and gives types; the bytes are viewed in our own map
            start = 8 + int.from_bytes(content[:8], "little")
            header: dict[str, _Entry] = json.loads(content[8:start])
            names: list[str] = file.keys()
            return {name: _viewed(content, start, header[name], budget) for name in names}, file.metadata() or {}
    except (SafetensorError, OSError, ValueError, RuntimeError, AttributeError) as error:
        problem = str(error).removeprefix("Error while deserializing header: ")
        if "not fully covered" in problem:
            raise CheckpointError(
                f"{path} is truncated: it has {path.stat().st_size} bytes, its header promises more ({problem}).",
                "Get the file again: the download or the copy was cut short.",
            ) from error
        raise CheckpointError(
            f"{path} is a damaged safetensors file: {problem[:200]}.", "Get the file again."
        ) from error


def _viewed(content: mmap.mmap, start: int, entry: _Entry, budget: Budget) -> torch.Tensor:
    """The tensor of an entry of a header that was checked; its bytes are counted from `start`."""
    budget.claim(TENSOR, "so many tensors")
    dtype = getattr(torch, _DTYPES.get(entry["dtype"], ""), None)
    if dtype is None:
        raise ValueError(f"tensors of type {entry['dtype']}")
    first, last = entry["data_offsets"]
    if first == last:
        return torch.empty(entry["shape"], dtype=dtype)
    count = (last - first) // dtype.itemsize
    return torch.frombuffer(content, dtype=dtype, count=count, offset=start + first).view(entry["shape"])


def read_npz(path: Path, archive: zipfile.ZipFile, budget: Budget) -> dict[str, Tree]:
    """All arrays of an .npz file by name.

    Raises:
        CheckpointError: it holds no arrays, or pickled Python objects.
        CheckpointError: the arrays unpack to more than the file's size and 32 MiB.
        MalformedError: an array's header promises other sizes.
    """
    members = archive.infolist()
    if not members or not all(info.filename.endswith(".npy") for info in members):
        inside = ", ".join(repr(info.filename[:40]) for info in members[:4]) or "nothing"
        raise CheckpointError(
            f"{path} is a zip archive, but no checkpoint: it holds {inside}, and neither data.pkl nor arrays only.",
            "If it wraps a checkpoint, unpack it and name that file.",
        )
    return {info.filename.removesuffix(".npy"): _read_npy(path, archive, info, budget) for info in members}


def _read_npy(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: Budget) -> Tree:
    budget.claim(TENSOR, "so many arrays")
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise MalformedError(f"{info.filename[:80]!r} has the unknown version {version}")
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, column_major, dtype = read_header(file)
        if dtype.hasobject:
            raise CheckpointError(
                f"{path} holds pickled Python objects in {info.filename[:80]!r}, which loading would have to run.",
                "Save plain arrays: numpy.savez(FILE, **arrays).",
            )
        nbytes = math.prod(shape) * dtype.itemsize
        if dtype.names or dtype.itemsize == 0 or len(shape) > 16 or any(n < 0 for n in shape):
            raise MalformedError(f"{info.filename[:80]!r} isn't an array of numbers")
        if not file.tell() + nbytes == info.file_size:
            raise MalformedError(
                f"{info.filename[:80]!r} has shape {shape}, which its {info.file_size} bytes contradict"
            )
        budget.copy(nbytes, f"the array {info.filename[:80]!r}")
        content = bytearray(nbytes)
        for start in range(0, nbytes, _PIECE):
            piece = file.read(min(_PIECE, nbytes - start))
            if len(piece) != min(_PIECE, nbytes - start):
                raise MalformedError(f"{info.filename[:80]!r} ends early")
            content[start : start + len(piece)] = piece
    if dtype.kind in "US":
        budget.claim(math.prod(shape) * (_STRING + dtype.itemsize), f"the texts {info.filename[:80]!r}")
        return np.frombuffer(bytes(content), dtype).reshape(shape).tolist()
    array = np.frombuffer(content, dtype)
    return to_tensor(array.reshape(shape, order="F" if column_major else "C"))
