"""JHMDB's joint_positions.mat, read within a bound: a few kilobytes of a .mat can unpack to gigabytes."""

import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from corrkit.errors import DataError
from corrkit.frames.files import read_file
from corrkit.tasks.jhmdb_points import JOINTS, Points

_LARGEST = 1 << 24
"""Bytes of a file, and of all that it unpacks to; JHMDB's have some 10 kB (40 frames, 15 joints)."""
_FARTHEST = 1e6  # pixels; joints may lie outside the frame, but no frame is near this
_HEADER = 128
_COMPRESSED = 15
_NUMBERS = {"double", "single", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"}


def read_joint_positions(path: Path) -> Points:
    """Joints of a joint_positions.mat: [T, J, 2] (x, y) in 0-based pixels.

    Raises:
        DataError: for a missing or undecodable file, one without `pos_img`, or values that are no positions.
    """
    data = read_file(path, largest=_LARGEST)
    try:
        positions = _pos_img(_unpacked(data), path)
    except DataError:
        raise
    # scipy raises TypeError, KeyError, zlib.error and others from damaged files, NotImplementedError for MATLAB 7.3.
    except Exception as error:
        raise DataError(f"{path} can't be read as a MATLAB file ({error}).", "Copy it again from its source.") from None
    if positions.ndim == 2:  # MATLAB drops the last axis of a single frame
        positions = positions[..., None]
    if positions.ndim != 3 or positions.shape[:2] != (2, len(JOINTS)) or positions.dtype.kind not in "fiu":
        raise DataError(
            f"{path}: pos_img is {positions.dtype} of shape {list(positions.shape)}.", "Expected [2, 15, T] numbers."
        )
    if not positions.size:
        raise DataError(f"{path}: pos_img holds joints of no frame.", "Copy it again from its source.")
    positions = positions.astype(np.float64)
    if not (np.abs(positions) <= _FARTHEST).all():
        raise DataError(f"{path}: pos_img holds values that are no positions.", "Copy it again from its source.")
    # MATLAB counts pixels from 1 (ajabri/videowalk 047f3f4 code/data/jhmdb.py:233-234).
    return np.ascontiguousarray(positions.transpose(2, 1, 0) - 1)


def _pos_img(data: bytes, path: Path) -> np.ndarray[Any, Any]:
    """The variable; no other one is built, whatever the file holds."""
    from scipy.io import loadmat, whosmat

    kinds = {name: kind for name, _, kind in whosmat(io.BytesIO(data))}
    if "pos_img" not in kinds:
        raise DataError(
            f"{path} has no pos_img (it holds {', '.join(sorted(kinds)[:5]) or 'nothing'}).",
            "Use JHMDB's joint_positions.mat.",
        )
    if kinds["pos_img"] not in _NUMBERS:
        raise DataError(f"{path}: pos_img is {kinds['pos_img']}.", "Expected [2, 15, T] numbers.")
    return np.asarray(loadmat(io.BytesIO(data), variable_names=["pos_img"])["pos_img"])


def _unpacked(data: bytes) -> bytes:
    """The file with its compressed elements unpacked, where it is of version 5 (the format's own description).

    Raises ValueError where that is more than _LARGEST bytes.
    """
    order = {b"IM": "little", b"MI": "big"}.get(data[126:_HEADER])
    if order is None:
        return data
    number = np.dtype("<u4" if order == "little" else ">u4")
    parts, place, left = [data[:_HEADER]], _HEADER, _LARGEST
    while place + 8 <= len(data):
        kind, size = (int(value) for value in np.frombuffer(data, number, 2, place))
        element = data[place : place + 8 + size]
        if kind == _COMPRESSED:
            inflater = zlib.decompressobj()
            element = inflater.decompress(element[8:], left + 1)
            if not inflater.eof and len(element) <= left:
                raise ValueError("a compressed element is cut off")
        left -= len(element)
        if left < 0:
            raise ValueError(f"it unpacks to more than {_LARGEST} bytes")
        parts.append(element)
        place += 8 + size
    return b"".join(parts)
