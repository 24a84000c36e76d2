"""Opening a checkpoint: bytes of any published container to tensors and inert data, or one clear error.

The content decides what a file is, not its name. Nothing from a file is imported or called, and time and memory are
bounded by the file's size.
"""

import hashlib
import io
import mmap
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from corrkit.checkpoints.opening import arrays, copies, torchfiles, trees, unreadable
from corrkit.checkpoints.opening.inert import MalformedError, Names, Tree, UnsupportedError
from corrkit.checkpoints.opening.tensors import Budget, Pages
from corrkit.errors import CheckpointError
from corrkit.files.jsontext import Json, from_others_json
from corrkit.files.reading import is_folder, is_there
from corrkit.memory import admit_mapping

# What zipfile and the readers of its entries raise on damaged archives, by experience of fuzzing.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OSError,
)
_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
)
"""The first that a folder holds is taken: transformers' order (5.24.0 modeling_utils.py:592-614)."""
_CONVENTIONAL = re.compile(r"(model|pytorch_model|open_clip_model|open_clip_pytorch_model)\b.*")
_DESCRIBING = ("", ".json", ".md", ".txt", ".py", ".yaml", ".yml", ".csv", ".log", ".model", ".jinja")
"""Endings of the files in a model's folder that are no weights."""
_MAX_JSON = 4 << 20  # bytes; objects made of them take some 25 times as much
_MAX_READ = 4 << 20
_MAX_TAG = 256  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What is in a checkpoint, before anybody decides what it means.

    tree: nested dicts, lists and tuples of tensors, plain values and inert `Stub`s, as in the file. Pickled modules and
        TorchScript archives give flat state dicts; .npz and safetensors files flat dicts.
    container: "torch zip", "torch legacy", "TorchScript archive", "pickle", "safetensors", "npz", with the number of
        shards where there are several.
    digest: sha256 (hex) of the bytes; of shards, of their digests by name.
    config, preprocessor: config.json (of open_clip's weights: open_clip_config.json) and preprocessor_config.json
        beside conventionally named weights, else None.
    metadata: the text entries of a safetensors header.
    notes: what was stubbed or changed on the way, as sentences.
    pages: the mapped files that tensors are views of.
    """

    tree: Tree
    container: str
    digest: str
    path: Path
    config: dict[str, Json] | None = None
    preprocessor: dict[str, Json] | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    pages: Pages = field(default_factory=Pages)


def open_checkpoint(path: str | Path) -> Opened:
    """Opens a checkpoint file, or a folder of model.safetensors or pytorch_model.bin (sharded or not) with config.json.

    Raises:
        CheckpointError: missing, empty, truncated, a git-LFS pointer, a web page, no checkpoint, damaged, a file that
            would call functions, or a folder that holds two different sets of weights under the same names.
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"{path} doesn't exist.", unreadable.missing_remedy(path))
    if path.is_dir():
        path, others = _weights_in(path)
        opened = _open_named(path)
        return replace(opened, notes=(*opened.notes, *(_beside(path, opened, other) for other in others)))
    return _open_named(path)


def _beside(path: Path, opened: Opened, other: str) -> str:
    """What is said of weights that stand beside those that are read. Raises CheckpointError where they contradict."""
    try:
        tree = _open_named(path.with_name(other)).tree
    except CheckpointError as error:
        return f"{path.name} is read; {other} beside it can't be, so the two weren't compared: {error.problem}"
    return f"{path.name} is read; {copies.compared(path.name, opened.tree, other, tree)}"


def _open_named(path: Path) -> Opened:
    """Opens a file, or the shards that an index names."""
    if path.name.endswith(".index.json"):
        return _open_shards(path)
    opened = _open_file(path)
    if _CONVENTIONAL.fullmatch(path.name):
        return _with_configs(opened)
    return opened


def _weights_in(folder: Path) -> tuple[Path, list[str]]:
    """The weights that a folder is opened for, and the names of others that it holds too."""
    for place in (folder, folder := _latest_of_deepspeed(folder)):
        if there := [name for name in _WEIGHTS if os.path.lexists(place / name) and not (place / name).is_dir()]:
            return place / there[0], there[1:]
    unreadable.require_readable_folder(folder)
    files = sorted(entry.name for entry in folder.iterdir() if not entry.is_dir() and entry.suffix not in _DESCRIBING)
    files = [name for name in files if not unreadable.OPTIMISER.search(name)]
    inside = [name for name in files if Path(name).suffix in unreadable.SUFFIXES] or files
    if len(inside) == 1:
        return folder / inside[0], []
    found = f"It holds {', '.join(inside[:8])}: name one of them." if inside else "Name the checkpoint file itself."
    raise CheckpointError(f"{folder} is a directory without model.safetensors or pytorch_model.bin.", found)


def _latest_of_deepspeed(folder: Path) -> Path:
    """The folder that the file `latest` of a DeepSpeed run names, else the folder itself."""
    latest = folder / "latest"
    if not latest.is_file() or latest.stat().st_size > _MAX_TAG:
        return folder
    tag = latest.read_text(encoding="utf-8", errors="replace").strip()
    named = folder / tag
    if not tag or named.parent != folder or tag == "..":
        return folder
    if not is_folder(named):
        raise CheckpointError(f"{latest} names {tag!r}, and there is no such folder.", "Name the checkpoint itself.")
    return named


def _open_file(path: Path, budget: Budget | None = None) -> Opened:
    """Opens one file, with a budget by its size where it has none in common with others."""
    unreadable.require_whole(path)
    if not path.exists():
        raise CheckpointError(f"{path} is a link that leads nowhere.", "Get the file again.")
    if not path.is_file():
        raise CheckpointError(f"{path} is a FIFO, socket or device, not a file.", "Name the checkpoint file itself.")
    names = Names()
    budget = budget or Budget(path, path.stat().st_size)
    with _mapped(path) as content:
        unreadable.require_plausible(path, content)
        with path.open("rb") as file:  # not through the map: its pages would count as memory
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        try:
            tree, container, metadata = _read(path, content, names, budget)
            tree, notes = trees.tidy(tree, budget, content)
        except MalformedError as error:
            names.require_no_calls(path)
            if isinstance(error, UnsupportedError):
                raise CheckpointError(f"{path} holds {error}.", error.remedy) from error
            raise CheckpointError(f"{path} is damaged: {error}.", "Get the file again.") from error
        names.require_no_calls(path)
    stubs = sorted(names.instantiated)
    if stubs:
        notes.append(f"kept as inert data: {', '.join(stubs[:8])}{', ...' if len(stubs) > 8 else ''}")
    return Opened(
        tree=tree,
        container=container,
        digest=digest,
        path=path,
        metadata=metadata,
        notes=tuple(notes),
        pages=Pages((content,)),
    )


def _read(path: Path, content: mmap.mmap, names: Names, budget: Budget) -> tuple[Tree, str, dict[str, str]]:
    """Tree, container and metadata."""
    if unreadable.looks_like_safetensors(content):
        tensors, metadata = arrays.read_safetensors(path, content, budget)
        return tensors, "safetensors", metadata
    if content[:2] != b"PK":
        try:
            return *torchfiles.read_pickle(path, content, names, budget), {}
        except MalformedError as error:
            names.require_no_calls(path)
            raise unreadable.no_pickle(path, content, str(error)) from error
    try:
        with _ShortReads(path) as file, zipfile.ZipFile(file) as archive:
            if torchfiles.is_torch_zip(archive):
                return *torchfiles.read_zip(path, content, archive, names, budget), {}
            if (exported := unreadable.exported_zip(path, archive.namelist())) is not None:
                raise exported
            return arrays.read_npz(path, archive, budget), "npz", {}
    except _ZIP_ERRORS as error:
        raise unreadable.broken_zip(path, content, str(error)) from error


class _ShortReads(io.FileIO):
    """A file that isn't read in large pieces: zipfile reads a whole directory, at its claimed size, at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        """At most 4 MiB. Raises BadZipFile for more."""
        if size is not None and size > _MAX_READ:
            raise zipfile.BadZipFile(f"a directory of {size:,} bytes")
        return super().read(_MAX_READ if size is None or size < 0 else size)


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    """A copy-on-write map of the file; it lives on as long as tensors view it."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if size == 0:
                raise CheckpointError(
                    f"{path} is empty (0 bytes).", "Get the file again: the download or the copy failed."
                )
            admit_mapping(size)
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except OSError as error:
        raise CheckpointError(
            f"{path} can't be read: {error.strerror or error}.", "Check its type and rights."
        ) from error
    yield content


def _open_shards(index: Path) -> Opened:
    """Merges the shards that an index names (`weight_map`: tensor -> file in the same folder)."""
    weight_map = _json(index).get("weight_map")
    if (
        not isinstance(weight_map, dict)
        or not weight_map
        or not all(isinstance(name, str) for name in weight_map.values())
    ):
        raise CheckpointError(f"{index} has no weight_map from tensors to files.", "Get the index again.")
    names = sorted(set(weight_map.values()))
    if any(Path(name).name != name for name in names):
        raise CheckpointError(f"{index} names files outside its folder.", "Get the index again.")
    missing = [name for name in names if not is_there(index.parent / name)]
    if missing:
        raise CheckpointError(
            f"{index.parent} lacks {', '.join(missing[:5])}, which {index.name} names.", "Get all shards."
        )
    paths = [index.parent / name for name in names]
    budget = Budget(index, sum(path.stat().st_size for path in paths if path.is_file()))
    shards = {path.name: _open_file(path, budget) for path in paths}
    tree: dict[str, Tree] = {}
    for tensor, name in weight_map.items():
        held = shards[name].tree
        if not isinstance(held, dict) or tensor not in held:
            raise CheckpointError(
                f"{index.parent / name} lacks {tensor}, which {index.name} promises.", "Get it again."
            )
        tree[tensor] = held[tensor]
    digests = "".join(f"{name} {shard.digest}\n" for name, shard in shards.items())
    first = shards[names[0]]
    return _with_configs(
        Opened(
            tree=tree,
            container=f"{first.container}, {len(names)} shards",
            digest=hashlib.sha256(digests.encode()).hexdigest(),
            path=index.parent,
            metadata=first.metadata,
            notes=tuple(dict.fromkeys(note for shard in shards.values() for note in shard.notes)),
            pages=Pages(tuple(content for shard in shards.values() for content in shard.pages.maps)),
        )
    )


def _with_configs(opened: Opened) -> Opened:
    folder = opened.path if opened.path.is_dir() else opened.path.parent
    own = "open_clip_config.json" if opened.path.name.startswith("open_clip_") else "config.json"
    config, preprocessor = (
        _json(folder / name) if os.path.lexists(folder / name) else None for name in (own, "preprocessor_config.json")
    )
    return replace(opened, config=config, preprocessor=preprocessor)


def _json(path: Path) -> dict[str, Json]:
    if not path.is_file():
        kind = "no file" if path.exists() else "a link that leads nowhere"
        raise CheckpointError(f"{path} is {kind}.", "Get it again: what it says changes features.")
    try:
        if path.stat().st_size > _MAX_JSON:
            raise ValueError("larger than 4 MiB")
        value = from_others_json(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path} isn't valid JSON: {str(error)[:200]}.", "Get it again.") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds no JSON object.", "Get it again.")
    return value
