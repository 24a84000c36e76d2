"""Small files that would grow: memory and time are bounded by a file's size, from opening to the message."""

import contextlib
import io
import json
import os
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints_watched import run_watched

BOUND = 200 << 20
SECONDS = 20  # of processor time
DEMO = Path(__file__).parents[2] / "corrkit" / "backbones" / "demo" / "demo.pth"


def torch_zip(path: Path, pickled: bytes, storage: bytes = bytes(64)) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", storage)


TENSOR = (  # leaves a tensor of one value on the stack
    b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x10tQ"
    b"K\x00K\x01\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR"
)


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def _long(value: int) -> bytes:
    return b"\x8a\x08" + value.to_bytes(8, "little", signed=True)


def colliding_pairs(number: int) -> Iterator[tuple[int, int]]:
    """Pairs of integers that share one hash (CPython's Objects/tupleobject.c, tuplehash, solved for the second)."""
    first, second, start = 11400714785074694791, 14029467366897019727, 2870177450012600261  # xxHash's primes 1, 2, 5
    whole = 2**64

    def lane(state: int, value: int) -> int:
        mixed = (state + value * second) % whole
        return (mixed << 31 | mixed >> 33) % whole * first % whole

    turned = lane(lane(start, 0), 0) * pow(first, -1, whole) % whole
    wanted = (turned >> 31 | turned << 33) % whole
    found, value = 0, 0
    while found < number:
        value += 1
        other = (wanted - lane(start, value)) * pow(second, -1, whole) % whole
        other -= whole if other >= whole // 2 else 0
        if abs(other) < 2**61 - 2:  # beyond it an integer's hash isn't itself
            found += 1
            yield value, other


def growing_pickles(folder: Path) -> None:
    """One file of each kind."""
    one = b"\x80\x02" + TENSOR + b"q\x000"
    rebuild = b"ctorch._utils\n_rebuild_parameter\nq\x010"
    torch_zip(
        folder / "tensors.pth",
        one + rebuild + b"}(" + b"".join(b"J" + i.to_bytes(4, "little") + b"h\x00" for i in range(400_000)) + b"u.",
    )
    numbers = b"".join(b"J" + i.to_bytes(4, "little") + b"}" for i in range(300_000))
    (folder / "dicts.pkl").write_bytes(b"\x80\x02}(" + numbers + b"u.")
    (folder / "sets.pkl").write_bytes(b"\x80\x04(" + b"\x8f" * 1_000_000 + b"l.")
    (folder / "stubs.pkl").write_bytes(b"\x80\x02ca\nB\nq\x000(" + b"h\x00)\x81" * 600_000 + b"l.")
    (folder / "wide_text.pkl").write_bytes(b"\x80\x02(" + text("a" * 60_000 + "😀") * 1000 + b"l.")
    (folder / "line.pkl").write_bytes(b"(" + b"V" + b"a" * (20 << 20) + b"\nl.")
    torch_zip(
        folder / "long_key.pth",
        one
        + b"}"
        + text("k" * 60_000)
        + b"}("
        + b"".join(b"J" + i.to_bytes(4, "little") + b"h\x00" for i in range(20_000))
        + b"us.",
    )
    nested = one + b"}"
    for level in range(8):
        nested += text("k" * 2_000 + str(level)) + b"}"
    torch_zip(
        folder / "nested_keys.pth",
        nested
        + b"("
        + b"".join(b"J" + i.to_bytes(4, "little") + b"h\x00" for i in range(20_000))
        + b"u"
        + b"s" * 8
        + b".",
    )
    shared = one + b"](" + b"h\x00" * 100 + b"eq\x020"
    torch_zip(folder / "shared.pth", shared + b"](" + b"h\x02" * 100_000 + b"e.")
    many = b"}(" + b"".join(text(f"k{i}") + b"N" for i in range(20_000)) + b"uq\x010"
    (folder / "stub_states.pkl").write_bytes(
        b"\x80\x02" + many + b"ca\nB\nq\x000(" + b"h\x00)\x81h\x01b" * 20_000 + b"l."
    )
    (folder / "size.pkl").write_bytes(
        b"\x80\x02(" + b"K\x01" * 200_000 + b"tq\x000ctorch\nSize\nq\x010(" + b"h\x01h\x00\x85R" * 20_000 + b"l."
    )
    blocks = b"".join(text(f"a.{i}.blocks.0.attn.qkv.weight") + b"h\x00" for i in range(20_000))
    torch_zip(folder / "networks.pth", one + b"}(" + blocks + b"u.")
    deep = b"".join(text("blocks.0a.ab." * 15 + f"{i:080d}.weight") + b"h\x00" for i in range(20_000))
    torch_zip(folder / "dotted.pth", one + b"}(" + deep + b"u.")
    (folder / "tuples.pkl").write_bytes(
        b"\x80\x02}(" + b"".join(_long(a) + _long(b) + b"\x86N" for a, b in colliding_pairs(60_000)) + b"u."
    )
    keys = (
        text("s" * 60_000)
        + b"q\x050}("
        + b"".join(b"(" + b"h\x05" * 15 + b"J" + i.to_bytes(4, "little") + b"tN" for i in range(20_000))
    )
    (folder / "keys.pkl").write_bytes(b"\x80\x02" + keys + b"u.")
    for name in ("torch.nn.modules.linear Linear", "__torch__.net Net"):
        module = f"c{name}\n".replace(" ", "\n").encode() + b")\x81}(" + text("_modules") + b"}" + text("_parameters")
        (folder / f"{name}.pkl").write_bytes(b"\x80\x02" + module + keys + b"uub.")


def growing_files(folder: Path) -> None:
    """The same of other containers, and of folders."""
    np.savez_compressed(folder / "zeros.npz", a=np.zeros(100 << 20, np.uint8))
    np.savez_compressed(folder / "texts.npz", a=np.full(4_000_000, "a"))
    header = {str(i): {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(150_000)}
    packed = json.dumps(header).encode()
    (folder / "empty_tensors.safetensors").write_bytes(len(packed).to_bytes(8, "little") + packed)
    directory = io.BytesIO()
    with zipfile.ZipFile(directory, "w") as archive:
        for index in range(100_000):
            archive.writestr(zipfile.ZipInfo(f"a/data/{index}"), b"")
        archive.writestr("a/data.pkl", pickle.dumps({}, 2))
    (folder / "entries.pth").write_bytes(directory.getvalue())
    place = folder / "configured"
    place.mkdir()
    torch.save({"a": torch.ones(2)}, place / "pytorch_model.bin")
    (place / "config.json").write_text("[" + "{}," * 1_300_000 + "{}]")
    demo = torch.load(DEMO)
    block = next(name for name in demo["model"] if name.startswith("blocks.0."))
    demo["model"][block.replace("blocks.0.", "blocks.90000000.")] = demo["model"][block]
    torch.save(demo, folder / "a_distant_block.pth")


def test_no_small_file_grows(tmp_path: Path) -> None:
    files, work = tmp_path / "files", tmp_path / "work"
    files.mkdir()
    work.mkdir()
    growing_pickles(files)
    growing_files(files)
    given = Path(os.environ.get("CORRKIT_SHARED", "../shared")) / "attack" / "mem"
    specs = [*sorted(files.iterdir()), *(sorted(given.iterdir()) if given.is_dir() else [])]
    result = run_watched(work, "load", DEMO, *specs)
    assert result["events"] == []
    assert len(result["outcomes"]) == len(specs) + 1
    assert {Path(spec).name: seconds for spec, seconds in result["seconds"].items() if seconds > SECONDS} == {}
    assert result["memory"] < BOUND, result["grown"]


@pytest.mark.parametrize(("shards", "fits"), [(2, True), (4, False)])
def test_shards_share_one_bound(tmp_path: Path, shards: int, fits: bool) -> None:
    from corrkit.checkpoints.opening import open_checkpoint
    from corrkit.errors import CheckpointError

    for shard in range(shards):
        names = {f"{shard}{'a' * 250}{index}": torch.ones(1) for index in range(2_500)}
        torch.save(names, tmp_path / f"{shard}.bin")
    weight_map = {f"{shard}{'a' * 250}0": f"{shard}.bin" for shard in range(shards)}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with contextlib.nullcontext() if fits else pytest.raises(CheckpointError, match="unfold far beyond"):
        open_checkpoint(tmp_path)


def test_numpy_pickles_of_every_protocol_are_read_where_they_are(tmp_path: Path) -> None:
    """Long strings stay in the file until an array needs them."""
    from corrkit.checkpoints.naming import flatten
    from corrkit.checkpoints.opening import open_checkpoint

    generator = np.random.default_rng(0)
    arrays = {
        "large": generator.standard_normal((300, 400)).astype("f4"),
        "column": np.asfortranarray(generator.standard_normal((200, 300))),
        "small": generator.standard_normal(3).astype("f2"),
        "whole": generator.integers(-9, 9, 20_000),
    }
    for protocol in range(6):
        path = tmp_path / f"{protocol}.pkl"
        path.write_bytes(pickle.dumps(arrays, protocol))
        tree = flatten(open_checkpoint(path).tree)
        for name, array in arrays.items():
            assert np.array_equal(tree[name].numpy(), array), (protocol, name)


@pytest.mark.parametrize("ending", [b"", b"\x80", b"\xff\xfe"])
def test_text_that_is_no_latin_1_is_damage(tmp_path: Path, ending: bytes) -> None:
    from corrkit.checkpoints.opening import open_checkpoint
    from corrkit.errors import CheckpointError

    content = "é".encode() * 50_000 + (ending or "€".encode())
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01J" + (100_002).to_bytes(4, "little") + b"\x85cnumpy\ndtype\n"
        + text("u1") + b"\x85R\x89c_codecs\nencode\nX" + len(content).to_bytes(4, "little") + content + text("latin1")
        + b"\x86Rtb"
    )  # fmt: skip
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02" + array + b".")
    with pytest.raises(CheckpointError, match=r"can't be built|damaged"):
        open_checkpoint(tmp_path / "a.pkl")
