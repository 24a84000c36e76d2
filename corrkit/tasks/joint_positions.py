"""JHMDB's joint_positions.mat: one variable of a MATLAB file of version 5, read within a bound.

Read here, not by scipy.io.loadmat: a few kilobytes of a .mat can unpack to gigabytes, and scipy 1.17 reads beyond its
buffers where lengths are damaged, which ends the process. Format: MathWorks, "MAT-File Format", level 5.
"""

import itertools
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from corrkit.errors import DataError
from corrkit.files.reading import read_file
from corrkit.tasks.jhmdb_points import JOINTS, Points

_LARGEST = 1 << 24
"""Bytes of a file, and of all that it unpacks to; JHMDB's have some 10 kB (40 frames, 15 joints)."""
_FARTHEST = 1e6  # pixels; joints may lie outside the frame, but no frame is near this
_EXACT = 1.0  # pixels; JHMDB's files agree to some digits
_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15  # kinds of element
_NUMERIC = range(6, 16)  # classes of matrix: double, single, int8 to uint64
_COMPLEX = 0x800
_TYPES = MappingProxyType({1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"})
_RESTORE = "Copy it again from its source, or save it with MATLAB's -v7."


def read_joint_positions(path: Path) -> Points:
    """Joints of a joint_positions.mat: [T, J, 2] (x, y) in 0-based pixels.

    Raises:
        DataError: for a missing or undecodable file, one without `pos_img`, or values that are no positions.
    """
    positions = _matrices(path, ("pos_img",))["pos_img"]
    if positions.ndim == 2:  # MATLAB drops the last axis of a single frame
        positions = positions[..., None]
    if positions.ndim != 3 or positions.shape[:2] != (2, len(JOINTS)):
        raise DataError(f"{path}: pos_img has shape {list(positions.shape)}.", "Expected [2, 15, T] numbers.")
    if not positions.size:
        raise DataError(f"{path}: pos_img holds joints of no frame.", _RESTORE)
    if not (np.abs(positions) <= _FARTHEST).all():
        raise DataError(f"{path}: pos_img holds values that are no positions.", _RESTORE)
    # MATLAB counts pixels from 1 (ajabri/videowalk 047f3f4 code/data/jhmdb.py:233-234).
    return np.ascontiguousarray(positions.transpose(2, 1, 0) - 1)


def assumed_frame_size(path: Path) -> tuple[int, int] | None:
    """(height, width) of the frames in whose pixels a joint_positions.mat counts; None where the file does not tell.

    JHMDB stores each joint twice, in pixels and relative to the frame: with height H, width W and the person's scale s
    pos_world is ((x / W - 0.5) W / H / s, (y / H - 0.5) / s).
    """
    try:
        found = _matrices(path, ("pos_img", "pos_world", "scale"))
    except DataError:
        return None
    if len(found) < 3 or found["pos_img"].shape != found["pos_world"].shape or found["pos_img"].ndim != 3:
        return None
    (x, y), world = found["pos_img"], found["pos_world"]
    if found["scale"].size not in (1, x.shape[1]):
        return None
    from_centre = world * found["scale"].ravel()
    relative = from_centre[1] + 0.5
    height = float((y * relative).sum() / max((relative**2).sum(), 1e-9))
    width = float(2 * (x - from_centre[0] * height).mean())
    errors = np.abs(relative * height - y), np.abs(from_centre[0] * height + width / 2 - x)
    is_told = np.isfinite(height + width) and max(error.max() for error in errors) < _EXACT
    return (round(height), round(width)) if is_told else None


def _matrices(path: Path, names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Those of the named variables that are there. Raises DataError for a damaged file, or one without the first."""
    data = read_file(path, largest=_LARGEST)
    try:
        variables, order = dict(_variables(data)), _order(data)
        if names[0] not in variables:
            raise DataError(
                f"{path} has no {names[0]} (it holds {', '.join(sorted(variables)[:5]) or 'nothing'}).",
                "Use JHMDB's joint_positions.mat.",
            )
        return {name: _numbers(name, variables[name], order) for name in names if name in variables}
    except (ValueError, struct.error, zlib.error) as error:
        raise DataError(f"{path} can't be read as a MATLAB file ({error}).", _RESTORE) from None


def _order(data: bytes) -> str:
    """Byte order, as struct writes it. Raises ValueError for another format."""
    order = {b"IM": "<", b"MI": ">"}.get(data[126:_HEADER])
    if order is None or data[_HEADER : _HEADER + 4] == b"\x89HDF":
        raise ValueError("it is not of version 5 to 7")
    return order


def _variables(data: bytes) -> Iterator[tuple[str, list[tuple[int, bytes]]]]:
    """Name of each variable with its first parts: flags, shape, name, values. Raises ValueError beyond _LARGEST."""
    order, left = _order(data), _LARGEST
    for kind, content in _elements(data[_HEADER:], order):
        inner = [(kind, content)]
        if kind == _COMPRESSED:
            unpacked = zlib.decompressobj().decompress(content, left + 1)
            left -= len(unpacked)
            if left < 0:
                raise ValueError(f"it unpacks to more than {_LARGEST} bytes")
            inner = list(_elements(unpacked, order))
        for kind_inside, matrix in inner:
            if kind_inside == _MATRIX:
                parts = list(itertools.islice(_elements(matrix, order), 4))
                if len(parts) > 2:
                    yield parts[2][1].decode("latin-1"), parts


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Kind and content of each element. Raises ValueError where one claims more bytes than there are."""
    place = 0
    while place + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, place)
        start = place + 8
        if kind >> 16:  # up to four bytes lie within the tag
            kind, size, start = kind & 0xFFFF, kind >> 16, place + 4
        content = data[start : start + size]
        if len(content) != size or (start == place + 4 and size > 4):
            raise ValueError("it is cut off, or claims more bytes than it has")
        yield kind, content
        padding = 0 if kind == _COMPRESSED else -(start + size) % 8
        place = start + size + padding


def _numbers(name: str, parts: list[tuple[int, bytes]], order: str) -> NDArray[np.float64]:
    """A matrix of real numbers as float64. Raises ValueError for any other."""
    flags = struct.unpack_from(f"{order}I", parts[0][1])[0]
    kind = parts[3][0] if len(parts) == 4 else 0
    if flags & 0xFF not in _NUMERIC or flags & _COMPLEX or kind not in _TYPES:
        raise ValueError(f"{name} is no matrix of real numbers")
    shape = np.frombuffer(parts[1][1], f"{order}i4").tolist()
    values = np.frombuffer(parts[3][1], f"{order}{_TYPES[kind]}")
    if min(shape, default=-1) < 0 or math.prod(shape) != values.size:
        raise ValueError(f"{name} has {values.size} values and the shape {shape}")
    return values.astype(np.float64).reshape(shape, order="F")
