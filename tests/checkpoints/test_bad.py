"""Broken and hostile files (golden/checkpoints/_bad): each its own error; nothing is executed, written or allocated."""

import os
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints_watched import run_watched

from corrkit.backbones import load_backbone
from corrkit.checkpoints.naming import flatten
from corrkit.checkpoints.opening import open_checkpoint
from corrkit.errors import CheckpointError

# What the file can't be opened for; the others open, and it is for the recogniser to say what is wrong with them.
PROBLEMS = {
    "absurd_header.safetensors": "damaged safetensors",
    "bad_json.safetensors": "damaged safetensors",
    "bare_pickle_malicious.pkl": "unsafe: opening it would call io.open",
    "config_only.safetensors": "no safetensors file",
    "directory.pth": "is a directory",
    "empty.pth": "is empty",
    "expanded_tensor.pth": "far beyond its own size: a tensor of shape [50000, 50000]",
    "gdrive_quota.pth": "is a web page",
    "gz_of_checkpoint.pth": "gzip-compressed",
    "html_error.pth": "is a web page",
    "huge_storage.pth": "promised 4000000000000 bytes and has 8",
    "huge_tensor.safetensors": "is truncated",
    "legacy_malicious.pth": "unsafe: opening it would call io.open",
    "lfs_pointer.pth": "git-LFS pointer",
    "malicious_eval.pth": "unsafe: opening it would call builtins.eval",
    "malicious_zip.pth": "unsafe: opening it would call io.open",
    "notes.pth": "isn't a checkpoint: it is text",
    "objects.npz": "pickled Python objects in 'params.npy'",
    "objects_malicious.npz": "pickled Python objects in 'params.npy'",
    "overlap.safetensors": "damaged safetensors",
    "polyglot_tar_zip.pth": "a tar archive",
    "random.pth": "isn't a checkpoint: it is data of an unknown kind",
    "truncated.safetensors": "is truncated",
    "truncated_zip.pth": "is truncated",
    "zip_bomb.pth": "is compressed, which torch.save never does",
    "zip_of_tar.pth": "a zip archive, but no checkpoint",
}
OPEN = {
    *("bare_pickle_good.pkl", "decoder_only.pth", "empty_dict.pth", "four_channels.pth", "inf_weights.pth"),
    *("int8_weights.pth", "legacy_good.pth", "missing_block.pth", "missing_patch_embed.pth", "missing_tensor.pth"),
    *("nan_weights.pth", "optimizer_only.pth", "pos_not_square.pth", "scalar.pth", "text_model.pth"),
    *("torchscript.pth", "two_backbones.pth", "wrong_shape.pth"),
}
MEMORY = 100 << 20


@pytest.mark.golden
def test_every_bad_file_has_its_error_and_no_side_effect(golden: Callable[[str], Path], tmp_path: Path) -> None:
    folder = golden("checkpoints/_bad")
    files = sorted(entry for entry in folder.iterdir() if entry.name != "README.md")
    before = {entry: entry.stat().st_mtime_ns for entry in folder.rglob("*")}
    result = run_watched(tmp_path, "files", *files)
    assert result["events"] == []
    assert result["memory"] < MEMORY
    outcomes = result["outcomes"]
    assert {name for name, outcome in outcomes.items() if outcome == "opened"} == OPEN
    assert set(outcomes) == OPEN | set(PROBLEMS)
    for name, problem in PROBLEMS.items():
        sentence, remedy = outcomes[name].split("\n")
        assert name in sentence
        assert problem in sentence
        assert remedy.strip()
    assert {entry: entry.stat().st_mtime_ns for entry in folder.rglob("*")} == before


# What is wrong with those that open, once a network is asked of them; "" loads.
CONTENTS = {
    "bare_pickle_good.pkl": "",
    "decoder_only.pth": "only a decoder",
    "empty_dict.pth": "holds no tensors",
    "four_channels.pth": "takes 4 input channels",
    "inf_weights.pth": r"aren't finite: model\.blocks\.0\.mlp\.fc1\.weight \(infinite\)",
    "int8_weights.pth": "quantised weights",
    "legacy_good.pth": "",
    "missing_block.pth": r"incomplete: model\.blocks\.2\.",
    "missing_patch_embed.pth": r"model\.patch_embed\.proj\.weight is missing",
    "missing_tensor.pth": r"incomplete: model\.blocks\.1\.mlp\.fc2\.weight, model\.blocks\.1\.mlp\.fc2\.bias missing",
    "nan_weights.pth": r"aren't finite: model\.blocks\.1\.attn\.proj\.weight \(NaN\)",
    "optimizer_only.pth": "only the state of an optimizer",
    "pos_not_square.pth": "has 18 rows, which is no square grid",
    "scalar.pth": "holds a single tensor",
    "text_model.pth": "is a text model",
    "torchscript.pth": "TorchScript archive.* no backbone",
    "two_backbones.pth": r"several backbones that are equally good: 'state_dict\.backbone_a', 'state_dict\.backbone_b'",
    "wrong_shape.pth": r"model\.blocks\.1\.mlp\.fc1\.weight is \[60, 16\], not \[64, 16\]",
}


@pytest.mark.golden
@pytest.mark.parametrize("name", sorted(CONTENTS))
def test_of_those_that_open_only_the_good_ones_load(golden: Callable[[str], Path], name: str) -> None:
    assert set(CONTENTS) == OPEN
    path = golden(f"checkpoints/_bad/{name}")
    if not CONTENTS[name]:
        assert load_backbone(path, heads=2).report.tensors_used > 10
        return
    with pytest.raises(CheckpointError, match=CONTENTS[name]) as caught:
        load_backbone(path, heads=2)
    assert name in caught.value.problem
    assert caught.value.remedy
    assert caught.value.exit_code == 2


class Payload:
    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


@pytest.mark.parametrize(
    ("payload", "name"),
    [
        (Payload(eval, "open('PWNED', 'w')"), "builtins.eval"),
        (Payload(os.system, "touch PWNED"), "posix.system"),
        (Payload(subprocess.Popen, ["touch", "PWNED"]), "subprocess.Popen"),
        (Payload(getattr, os, "system"), "builtins.getattr"),
        (Payload(torch.load, "x"), "torch.serialization.load"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
def test_calls_are_refused_and_named(tmp_path: Path, kind: str, payload: Payload, name: str) -> None:
    if name == "builtins.getattr":
        payload = Payload(getattr, "text", "upper")
    path = tmp_path / "a.pth"
    tree = {"model": {"a": 1}, "extra": payload}
    if kind == "pickle":
        path.write_bytes(pickle.dumps(tree))
    else:
        torch.save(tree, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(CheckpointError, match=f"would call {name.replace('.', '[.]')}"):
        open_checkpoint(path)


def test_all_refused_calls_are_listed(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([Payload(eval, "1"), Payload(os.system, "true")]))
    with pytest.raises(CheckpointError, match=r"builtins\.eval, posix\.system"):
        open_checkpoint(tmp_path / "a.pkl")


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


HOSTILE = {
    "a call of protocol 0": b"(S'true'\nios\nsystem\n.",
    "a call by OBJ": b"\x80\x02(cos\nsystem\n" + text("true") + b"o.",
    "a call of what a call gave": b"\x80\x02cbuiltins\ngetattr\n)R)R.",
    "a huge memo index": b"\x80\x02Nr\xff\xff\xff\x7f0j\xff\xff\xff\x7f.",
    "a huge promised string": b"\x80\x04\x8e" + (2**62).to_bytes(8, "little") + b"ab.",
    "a huge promised array": b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"ab.",
    "lists within lists": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "tuples within tuples as a key": b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"Ns.",
    "a doubling key": b"\x80\x02})" + b"q\x00h\x00\x86" * 60 + b"Ns.",
    "a doubling list": b"\x80\x02]" + b"q\x00]h\x00ah\x00a" * 60 + b".",
    "a list within itself": b"\x80\x02]q\x00h\x00a.",
    "the same large bytes again and again": (
        b"\x80\x02]" + text("x" * 200_000) + b"q\x000" + b"(" + b"c_codecs\nencode\nh\x00\x85R" * 20_000 + b"e."
    ),
    "the same bytes again and again": (
        b"\x80\x02]" + text("x" * 60_000) + b"q\x000" + b"(" + b"c_codecs\nencode\nh\x00\x85R" * 20_000 + b"e."
    ),
    "colliding keys": b"\x80\x02}(" + b"".join(
        b"\x8a\x10" + (k * (2**61 - 1)).to_bytes(16, "little") + b"N" for k in range(2, 50_000)
    ) + b"u.",
    "endless names": b"\x80\x04" + text("x" * 200_000) + b"\x94(" + b"h\x00h\x00\x93" * 20_000 + b"l.",
    "an array far larger than its bytes": (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R(K\x01J\xff\xff\xff\x7f\x85cnumpy\ndtype\n"
        + text("f8") + b"\x85R\x89" + text("ab") + b"tb."
    ),
    "a dtype of records": (
        b"\x80\x02cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n" + text("f8," * 50_000) + b"\x85R"
        + text("ab") + b"\x86R."
    ),
    "an endless number": b"\x80\x02}" + text("step") + b"\x8b\x00\x08\x00\x00" + b"\x7f" * 2048 + b"s.",
    "an extension code": b"\x80\x02\x82\x01.",
}  # fmt: skip


def test_hostile_pickles_are_refused_at_the_cost_of_their_size(tmp_path: Path) -> None:
    files = tmp_path / "files"
    current = tmp_path / "current"
    files.mkdir()
    current.mkdir()
    for name, content in HOSTILE.items():
        (files / f"{name}.pth").write_bytes(content)
    result = run_watched(current, "files", *sorted(files.iterdir()))
    assert result["events"] == []
    assert result["memory"] < 200 << 20
    opened = {name for name, outcome in result["outcomes"].items() if outcome == "opened"}
    # Well-formed; the standard library's reader would allocate 32 GiB. Large bytes stay in the file.
    assert opened == {"a huge memo index.pth", "the same large bytes again and again.pth"}


def test_an_expanded_view_of_a_storage_may_not_outgrow_the_file(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1).expand(10, 10)}, tmp_path / "small.pth")
    assert torch.equal(flatten(open_checkpoint(tmp_path / "small.pth").tree)["a"], torch.ones(10, 10))
    torch.save({"a": torch.ones(1).expand(20_000, 20_000)}, tmp_path / "large.pth")
    with pytest.raises(CheckpointError, match="far beyond its own size"):
        open_checkpoint(tmp_path / "large.pth")


def test_a_flipped_bit_in_a_weight_is_damage_where_a_checksum_tells(tmp_path: Path) -> None:
    path, tensors = tmp_path / "a.pth", {"a.weight": torch.randn(40, 30)}
    torch.save(tensors, path)
    whole = path.read_bytes()
    place = whole.index(tensors["a.weight"].numpy().tobytes()) + 1001
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(CheckpointError, match=r"'a/data/0' has another checksum than was written"):
        open_checkpoint(path)
    try:
        torch.serialization.set_crc32_options(False)
        torch.save(tensors, path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(flatten(open_checkpoint(path).tree)["a.weight"], tensors["a.weight"])


def test_every_file_of_one_byte_is_an_error(tmp_path: Path) -> None:
    for value in range(256):
        (tmp_path / "a.pth").write_bytes(bytes([value]))
        with pytest.raises(CheckpointError, match=r"a\.pth"):
            open_checkpoint(tmp_path / "a.pth")


def test_every_truncation_is_an_error(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.pth", tmp_path / "cut.pth"
    for zipped in (True, False):
        torch.save({"a": torch.arange(5.0), "b": {"c": "text"}}, whole, _use_new_zipfile_serialization=zipped)
        content = whole.read_bytes()
        for length in range(len(content)):
            cut.write_bytes(content[:length])
            with pytest.raises(CheckpointError):
                open_checkpoint(cut)
