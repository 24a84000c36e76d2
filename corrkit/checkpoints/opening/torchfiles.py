"""Files of torch.save (zip and legacy), TorchScript archives and bare pickles."""

import mmap
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from corrkit.checkpoints.opening.inert import MalformedError, Names, Source, Span, Stub, Tree
from corrkit.checkpoints.opening.pickles import Window, unpickle
from corrkit.checkpoints.opening.tensors import Budget, Storage, mapped, rebuilders, storage_dtype
from corrkit.errors import CheckpointError

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # torch/serialization.py MAGIC_NUMBER
_PIECE = 1 << 20
_STORAGES_IN_PICKLES = 2  # a plain pickle holds a legacy file per storage; those hold no further ones


def is_torch_zip(archive: zipfile.ZipFile) -> bool:
    """Whether a zip archive is of torch: NAME/data.pkl, the first and only one."""
    return _root(archive) is not None


def read_zip(
    path: Path, content: mmap.mmap, archive: zipfile.ZipFile, names: Names, budget: Budget
) -> tuple[Tree, str]:
    """What a zip file of torch.save or a TorchScript archive holds, and which of them it is.

    Tensors are views of the mapped file. `names` is filled with what the file names and calls.

    Raises:
        CheckpointError: it claims more than it holds.
        MalformedError: it is damaged.
    """
    root = _root(archive)
    records = {info.filename: info for info in archive.infolist()}
    _require_disjoint(archive)
    _require_checksums(path, content, archive)
    order = records.get(f"{root}/byteorder")
    if order is not None and _record(content, order).read(16).strip() == b"big":
        raise CheckpointError(f"{path} was saved on a big-endian machine.", "Save it again on a usual one.")

    def place(key: str, nbytes: int) -> torch.Tensor:
        info = records.get(f"{root}/data/{key}")
        if info is None or info.file_size != nbytes:
            promised = f"the storage {key[:40]!r} is promised {nbytes} bytes"
            raise MalformedError(f"{promised} and {'is missing' if info is None else f'has {info.file_size}'}")
        return mapped(content, _data_offset(content, info), nbytes, budget)

    loader = _Loader(names, budget, place)
    tree = loader.unpickle(_record(content, records[f"{root}/data.pkl"]))
    scripted = any(name.startswith(f"{root}/code/") for name in records)
    return tree, "TorchScript archive" if scripted else "torch zip"


def read_pickle(path: Path, content: mmap.mmap, names: Names, budget: Budget) -> tuple[Tree, str]:
    """What a legacy file of torch.save or a bare pickle (numpy arrays, tensors, plain values) holds, and which it is.

    Raises:
        CheckpointError: it claims more than it holds.
        MalformedError: it is damaged, or no pickle.
    """
    tree, legacy = _read_stream(Window(content, 0, len(content)), names, budget, depth=0)
    return tree, "torch legacy" if legacy else "pickle"


@dataclass(slots=True)
class _Loader:
    """Unpickles with torch's persistent ids. place: (key, bytes) -> uint8 tensor, None while it isn't known where."""

    names: Names
    budget: Budget
    place: Callable[[str, int], torch.Tensor | None]
    depth: int = 0
    storages: dict[str, Storage] = field(default_factory=dict)

    def unpickle(self, stream: Window) -> Tree:
        def load_bytes(content: Tree) -> Tree:
            return self.load_bytes(content, stream.source)

        calls = rebuilders(self.budget, load_bytes, stream.source)
        return unpickle(stream, claim=self.budget.claim, calls=calls, names=self.names, persistent=self.resolve)

    def resolve(self, identifier: Tree) -> Storage:
        """("storage", type, key, location, values, view): torch/serialization.py persistent_id."""
        if not isinstance(identifier, tuple) or len(identifier) < 5:
            raise MalformedError("an unknown kind of persistent id")
        tag, kind, key, _, numel, *view = identifier
        if [type(part) for part in (tag, kind, key, numel)] != [str, Stub, str, int] or tag != "storage" or numel < 0:
            raise MalformedError("a storage without type, key or size")
        dtype = storage_dtype(kind.name)
        if key not in self.storages:
            self.storages[key] = Storage(dtype, self.place(key, numel * dtype.itemsize))
        whole = self.storages[key]
        if not view or view[0] is None:
            return whole
        _, offset, length = view[0]  # torch 0.x: storages that are windows of others
        if whole.content is None or type(offset) is not int or type(length) is not int or min(offset, length) < 0:
            return whole
        return Storage(dtype, whole.content[offset * dtype.itemsize : (offset + length) * dtype.itemsize])

    def load_bytes(self, content: Tree, source: Source) -> Tree:
        if self.depth + 1 >= _STORAGES_IN_PICKLES:
            raise MalformedError("a storage that isn't a legacy file of its own")
        if isinstance(content, Span) and content.encoding == "bytes":
            window = Window(source, content.start, content.start + content.length)
        elif isinstance(content, bytes):
            self.budget.claim(len(content), "a storage")
            window = Window(bytearray(content), 0, len(content))
        else:
            raise MalformedError("a storage that isn't a legacy file of its own")
        storage, _ = _read_stream(window, self.names, self.budget, self.depth + 1)
        return storage


def _read_stream(content: Window, names: Names, budget: Budget, depth: int) -> tuple[Tree, bool]:
    """The object at the map's position, and whether it was a legacy torch file."""
    plain = _Loader(names, budget, _nowhere, depth)
    first = plain.unpickle(content)
    if not isinstance(first, int) or first != _LEGACY_MAGIC:
        if plain.storages:
            raise MalformedError("a pickle with persistent ids, but no storages")
        return first, False
    plain.unpickle(content)  # the version of the format, always 1001
    system = plain.unpickle(content)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise MalformedError("a legacy file of an unknown byte order")
    start = content.tell()
    plain.unpickle(content)  # once for the sizes of the storages, whose bytes follow the pickles ...
    places = _legacy_places(content, plain)
    loader = _Loader(
        names, budget, lambda key, nbytes: mapped(content.source, content.start + places[key], nbytes, budget), depth
    )
    content.seek(start)
    return loader.unpickle(content), True  # ... and once with them


def _nowhere(key: str, nbytes: int) -> None:
    return None


def _legacy_places(content: Window, sizes: _Loader) -> dict[str, int]:
    """Storage key -> offset of its bytes, behind an int64 number of values (torch/serialization.py _legacy_save)."""
    keys = sizes.unpickle(content)
    if not isinstance(keys, list):
        raise MalformedError("no list of storages behind the pickle")
    places: dict[str, int] = {}
    for key in keys:
        header = content.read(8)
        if len(header) < 8 or not isinstance(key, str) or key in places or key not in sizes.storages:
            raise MalformedError("fewer storages than promised")
        places[key] = content.tell()
        end = content.tell() + struct.unpack("<q", header)[0] * sizes.storages[key].dtype.itemsize
        if not content.tell() <= end <= len(content):
            raise MalformedError(f"the storage {key[:40]!r} goes beyond the end")
        content.seek(end)
    return places


def _root(archive: zipfile.ZipFile) -> str | None:
    pickles = [name for name in archive.namelist() if re.fullmatch(r"[^/]+/data\.pkl", name)]
    return pickles[0].rpartition("/")[0] if len(pickles) == 1 else None


def _require_disjoint(archive: zipfile.ZipFile) -> None:
    """Records that share bytes multiply what a small file holds; torch never writes them."""
    end = -1
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise MalformedError(f"the record {info.filename[:80]!r} overlaps another")
        end = info.header_offset + 30 + info.compress_size


def _require_checksums(path: Path, content: mmap.mmap, archive: zipfile.ZipFile) -> None:
    """A bit that flipped in a weight is no error to torch. Where its switch for checksums is off, it writes 0."""
    with path.open("rb") as file:  # not through the map: its pages would count as memory
        for info in archive.infolist():
            if info.CRC == 0 or info.compress_type != zipfile.ZIP_STORED:
                continue
            file.seek(_data_offset(content, info))
            found, left = 0, info.file_size
            while left > 0 and (piece := file.read(min(_PIECE, left))):
                found, left = zlib.crc32(piece, found), left - len(piece)
            if found != info.CRC:
                raise MalformedError(f"the record {info.filename[:80]!r} has another checksum than was written")


def _record(content: mmap.mmap, info: zipfile.ZipInfo) -> Window:
    start = _data_offset(content, info)
    return Window(content, start, start + info.file_size)


def _data_offset(content: mmap.mmap, info: zipfile.ZipInfo) -> int:
    """Where a stored record's bytes begin: behind its local header, name and extra field."""
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 0x1:
        raise MalformedError(f"the record {info.filename[:80]!r} is compressed, which torch.save never does")
    header = content[info.header_offset : info.header_offset + 30]
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
        raise MalformedError(f"the record {info.filename[:80]!r} isn't where the directory says")
    name, extra = struct.unpack("<HH", header[26:30])
    start: int = info.header_offset + 30 + name + extra
    if start + info.file_size > len(content):
        raise MalformedError(f"the record {info.filename[:80]!r} goes beyond the end")
    return start
