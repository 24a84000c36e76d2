"""What a file is that isn't a checkpoint, in words that say what to do about it."""

import difflib
import mmap
import re
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

from corrkit.documentation import see
from corrkit.errors import CheckpointError

SUFFIXES = (".pth", ".pt", ".ckpt", ".pyth", ".bin", ".tar", ".torch", ".safetensors", ".npz", ".pkl")

# Beginning of the file (or the bytes at an offset) -> what it is, and what to do.
_UNPACK = "Unpack it and name the file inside."
_ORIGINAL = "Name the weights that it was exported from: exports for inference aren't read."
_EXPORTS = {
    ".mlmodel": "a Core ML model",
    ".mlpackage": "a Core ML model",
    ".engine": "a TensorRT engine",
    ".plan": "a TensorRT engine",
    ".pb": "a TensorFlow graph",
}
"""Of exports without a signature: ending of the name to what it is."""
_SIGNATURES: tuple[tuple[int, bytes, str, str], ...] = (
    (257, b"ustar", "a tar archive", _UNPACK),
    (0, b"\x1f\x8b", "gzip-compressed", _UNPACK),
    (0, b"BZh", "bzip2-compressed", _UNPACK),
    (0, b"\xfd7zXZ", "xz-compressed", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "zstd-compressed", _UNPACK),
    (0, b"7z\xbc\xaf", "a 7-Zip archive", _UNPACK),
    (0, b"Rar!", "a RAR archive", _UNPACK),
    (0, b"\x89HDF", "an HDF5 (Keras) file", "Export its weights to .npz or .safetensors."),
    (0, b"GGUF", "a GGUF file", _ORIGINAL),
    (4, b"TFL3", "a TFLite file", _ORIGINAL),
    (0, b"\x93NUMPY", "a single array (.npy)", "Save the weights under their names: numpy.savez(FILE, **arrays)."),
    (0, b"\x89PNG", "a picture", "Name the checkpoint."),
    (0, b"\xff\xd8\xff", "a picture", "Name the checkpoint."),
    (0, b"%PDF", "a PDF document", "Name the checkpoint."),
)
_TENSORFLOW = struct.pack("<Q", 0xDB4775248B80FB57)  # the last 8 bytes of a tensor bundle's index (a LevelDB table)


def _is_onnx(path: Path, head: bytes) -> bool:
    """A protobuf whose field 1, ir_version, is a small number, and whose producer or operators are of ONNX."""
    return head[:1] == b"\x08" and (path.suffix == ".onnx" or b"pytorch" in head[:64] or b"onnx" in head[:64])


def _is_msgpack(path: Path, head: bytes) -> bool:
    """A map whose first key is a short string, as flax writes parameters."""
    is_small = b"\x81" <= head[:1] <= b"\x8f" and b"\xa1" <= head[1:2] <= b"\xbf"
    return path.suffix == ".msgpack" or is_small or head[:2] == b"\xde\0"


def _is_openvino(_: Path, head: bytes) -> bool:
    """An XML document whose root is a net."""
    return head.startswith(b"<?xml") and b"<net " in head


_BEGINNINGS: tuple[tuple[Callable[[Path, bytes], bool], str, str], ...] = (
    (_is_openvino, "an OpenVINO model", _ORIGINAL),
    (_is_onnx, "an ONNX file", _ORIGINAL),
    (
        _is_msgpack,
        "a msgpack file of flax",
        "Convert it: flax.serialization.msgpack_restore, then numpy.savez(FILE, **arrays) under dotted names.",
    ),
)


def require_plausible(path: Path, content: mmap.mmap) -> None:
    """Raises CheckpointError where the first bytes already tell that this is no checkpoint.

    Those of a safetensors file are the length of its header: any two bytes, msgpack's and gzip's among them.
    """
    if looks_like_safetensors(content) and int.from_bytes(content[:8], "little") <= len(content):
        return
    head = content[:1024]
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path} is a git-LFS pointer, not the file it stands for.", "Run: git lfs pull")
    for kind, remedy in ((kind, remedy) for fits, kind, remedy in _BEGINNINGS if fits(path, head)):
        raise CheckpointError(f"{path} is {kind}, not a checkpoint.", remedy)
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")):
        raise CheckpointError(
            f"{path} is a web page, not a checkpoint: the download gave an error or a login page.",
            "Open the address in a browser and save the file itself.",
        )
    for offset, signature, kind, remedy in _SIGNATURES:
        if content[offset : offset + len(signature)] == signature:
            raise CheckpointError(f"{path} is {kind}, not a checkpoint.", remedy)
    if path.suffix in _EXPORTS and head[:2] != b"PK" and head[:1] != b"\x80":
        raise CheckpointError(f"{path} is {_EXPORTS[path.suffix]}, not a checkpoint.", _ORIGINAL)
    if content[-8:] == _TENSORFLOW:
        raise CheckpointError(
            f"{path} is the index of a TensorFlow checkpoint, which corrkit doesn't read.",
            f"Convert it to .npz with TensorFlow (tf.train.load_checkpoint); for the names {see('checkpoints')}.",
        )


def looks_like_safetensors(content: mmap.mmap) -> bool:
    """Whether an 8-byte length and a JSON object begin the file, or the name says so and nothing else begins it."""
    return content[8:9] == b"{" and content[:2] != b"PK"


OPTIMISER = re.compile(r"_optim_states\.pt$")
"""Ends the names of DeepSpeed's files without a model."""
_DCP = "Convert it: python -m torch.distributed.checkpoint.format_utils dcp_to_torch {} model.pth"


def require_readable_folder(folder: Path) -> None:
    """Raises CheckpointError for folders of kinds that need a converter, with its command."""
    names = {entry.name for entry in folder.iterdir()}
    for inner in (folder, *(entry for entry in sorted(folder.iterdir()) if entry.is_dir())):  # as accelerate's runs
        if (inner / ".metadata").is_file() and any(inner.glob("*.distcp")):
            raise CheckpointError(
                f"{inner} is a sharded checkpoint of torch.distributed.checkpoint.", _DCP.format(inner)
            )
    if folder.suffix in _EXPORTS:
        raise CheckpointError(f"{folder} is {_EXPORTS[folder.suffix]}, not a checkpoint.", _ORIGINAL)
    if names & {"manifest.ocdbt", "_METADATA"}:
        raise CheckpointError(
            f"{folder} is a checkpoint of Orbax (JAX), which corrkit doesn't read.",
            "Convert it: orbax.checkpoint.PyTreeCheckpointer().restore(FOLDER), then numpy.savez(FILE, **arrays) under "
            "dotted names.",
        )
    if "saved_model.pb" in names:
        raise CheckpointError(
            f"{folder} is a TensorFlow SavedModel, which corrkit doesn't read.",
            f"Convert its variables to .npz with TensorFlow; for the names {see('checkpoints')}.",
        )
    if any(re.fullmatch(r"zero_pp_rank_\d+_mp_rank_\d+_model_states\.pt", name) for name in names):
        raise CheckpointError(
            f"{folder} is a checkpoint of DeepSpeed ZeRO-3, whose weights are divided among its files.",
            f"Put them together: python {folder.parent}/zero_to_fp32.py {folder.parent} pytorch_model.bin",
        )
    ranks = sorted(name for name in names if re.fullmatch(r"mp_rank_\d+_model_states\.pt", name))
    if len(ranks) > 1:
        raise CheckpointError(
            f"{folder} has weights that are divided among {len(ranks)} parallel ranks: {', '.join(ranks)}.",
            "Save it whole where it was trained.",
        )


def require_whole(path: Path) -> None:
    """Raises CheckpointError for a lone file of a sharded checkpoint."""
    if path.suffix == ".distcp" or (path.name == ".metadata" and any(path.parent.glob("*.distcp"))):
        raise CheckpointError(
            f"{path} is one part of a folder of torch.distributed.checkpoint.", _DCP.format(path.parent)
        )
    if OPTIMISER.search(path.name):
        raise CheckpointError(
            f"{path} is the part of a DeepSpeed checkpoint that belongs to the optimizer.",
            "Name the folder, or the file *_model_states.pt beside it.",
        )


def exported_zip(path: Path, names: Iterable[str]) -> CheckpointError | None:
    """The error for a zip archive of another kind, by the names inside; None where they tell nothing."""
    leaves = {name.rpartition("/")[2] for name in names}
    if leaves & {"archive_format", "serialized_exported_program.json"}:
        return CheckpointError(f"{path} is a program of torch.export (.pt2), not a checkpoint.", _ORIGINAL)
    if "model.weights.h5" in leaves:
        return CheckpointError(f"{path} is a Keras archive, not a checkpoint.", "Export its weights to .npz.")
    return None


def missing_remedy(path: Path) -> str:
    """What to do about a path that doesn't exist; names the nearest file beside it."""
    if path.with_name(path.name + ".index").is_file():
        return f"{path}.index is the index of a TensorFlow checkpoint, which corrkit doesn't read: convert it to .npz."
    beside = sorted(entry.name for entry in path.parent.iterdir()) if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, beside, n=1, cutoff=0.5)
    return f"Did you mean {path.with_name(near[0])}?" if near else "Check the path."


def no_pickle(path: Path, content: mmap.mmap, problem: str) -> CheckpointError:
    """The error for a file that is neither zip nor safetensors and that isn't a whole pickle either."""
    if content[:1] == b"\x80" and content[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        again = "Get the file again: the download or the copy was cut short."
        return CheckpointError(f"{path} is a truncated or damaged pickle ({problem}).", again)
    if path.suffix == ".safetensors":
        return CheckpointError(f"{path} is no safetensors file: it has no valid header.", "Get the file again.")
    kind = "text" if content[:1024].isascii() and b"\0" not in content[:1024] else "data of an unknown kind"
    return CheckpointError(
        f"{path} isn't a checkpoint: it is {kind}.",
        f"Checkpoints are files of torch.save, safetensors or .npz files ({', '.join(SUFFIXES)}).",
    )


def broken_zip(path: Path, content: mmap.mmap, problem: str) -> CheckpointError:
    """The error for a file that begins like a zip archive and can't be read as one."""
    if content.rfind(b"PK\x05\x06") < 0:
        return CheckpointError(
            f"{path} is truncated: it begins as a torch or .npz file, and its directory, at the end, is missing.",
            "Get the file again: the download or the copy was cut short.",
        )
    return CheckpointError(f"{path} is a damaged zip archive: {problem[:200]}.", "Get the file again.")
