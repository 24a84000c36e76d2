"""Opening checkpoints: every container gives the tensors that were saved, and says what it was."""

import argparse
import collections
import hashlib
import io
import json
import os
import pathlib
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from corrkit.checkpoints.opening import Opened, Stub, open_checkpoint, require_usable
from corrkit.errors import CheckpointError

DTYPES = [
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool, torch.complex64, torch.uint16, torch.float8_e4m3fn,
]  # fmt: skip


def held(opened: Opened) -> Any:
    """What a file holds, whose form the test knows."""
    return opened.tree


def state_dict() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "embed.weight": torch.randn(4, 3, generator=generator),
        "transposed": torch.randn(5, 7, generator=generator).t(),
        "window": torch.randn(20, generator=generator)[3:9],
        "scalar": torch.tensor(3.5),
        "nothing": torch.empty(0, 4),
    }


def assert_same_tensors(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(actual) == list(expected)
    for name, tensor in expected.items():
        assert actual[name].dtype == tensor.dtype
        assert actual[name].shape == tensor.shape
        assert torch.equal(actual[name], tensor), name


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_torch_files_of_both_kinds_and_every_protocol(tmp_path: Path, zipped: bool, protocol: int) -> None:
    path = tmp_path / "a.pth"
    torch.save(
        {"model": state_dict(), "epoch": 3}, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol
    )
    opened = open_checkpoint(path)
    assert opened.container == ("torch zip" if zipped else "torch legacy")
    assert held(opened)["epoch"] == 3
    assert_same_tensors(held(opened)["model"], state_dict())
    assert opened.digest == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_type_of_numbers(tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "a.pth"
    values = torch.tensor([0, 1, 2, 1]).to(dtype)
    torch.save({"a": values}, path)
    opened = held(open_checkpoint(path))["a"]
    assert opened.dtype == dtype
    assert torch.equal(opened.view(torch.uint8), values.view(torch.uint8))


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "a.npz", "a.jpg", "noending"])
def test_the_content_decides_not_the_name(tmp_path: Path, name: str) -> None:
    torch.save(state_dict(), tmp_path / name)
    assert open_checkpoint(tmp_path / name).container == "torch zip"


def test_parameters_buffers_and_shared_storages(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    shared = torch.arange(12.0)
    torch.save({"module": dict(module.named_parameters()), "a": shared[:6], "b": shared[3:].view(3, 3)}, tmp_path / "a")
    tree = held(open_checkpoint(tmp_path / "a"))
    assert_same_tensors(tree["module"], {name: value.data for name, value in module.named_parameters()})
    assert torch.equal(tree["a"], shared[:6])
    assert torch.equal(tree["b"], shared[3:].view(3, 3))


class CfgNode(dict):  # stands for yacs.config.CfgNode: a dict with attributes
    def __init__(self, entries: dict[str, object]) -> None:
        super().__init__(entries)
        self.frozen = True


def test_side_entries_become_inert_data(tmp_path: Path) -> None:
    arguments = argparse.Namespace(model="vit_small", folder=pathlib.PurePosixPath("/data"), lr=np.float64(0.5))
    torch.save(
        {
            "model": state_dict(),
            "args": arguments,
            "config": CfgNode({"PATCH": 16}),
            "counts": collections.Counter("aab"),
            "shape": torch.Size([1, 2]),
            "device": torch.device("cpu"),
            "seen": {1, 2},
            "type": torch.float16,
        },
        tmp_path / "a.pth",
    )
    opened = open_checkpoint(tmp_path / "a.pth")
    assert isinstance(held(opened)["args"], Stub)
    assert held(opened)["args"].name == "argparse.Namespace"
    assert held(opened)["args"].fields["model"] == "vit_small"
    assert held(opened)["args"].fields["lr"] == 0.5
    assert held(opened)["config"].fields == {"PATCH": 16, "frozen": True}
    assert held(opened)["shape"] == (1, 2)
    assert held(opened)["seen"] == {1, 2}
    assert held(opened)["type"].name == "torch.float16"
    assert "argparse.Namespace" in " ".join(opened.notes)
    assert_same_tensors(held(opened)["model"], state_dict())


def test_a_pickled_module_gives_its_state_dict(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Sequential(torch.nn.BatchNorm1d(2)))
    torch.save({"model": module}, tmp_path / "a.pth")
    opened = open_checkpoint(tmp_path / "a.pth")
    expected = module.state_dict()
    assert set(held(opened)["model"]) == set(expected)
    assert all(torch.equal(held(opened)["model"][name], expected[name]) for name in expected)
    assert any("whole torch.nn.modules.container.Sequential" in note for note in opened.notes)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_torchscript_gives_its_state_dict(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2)).eval()
    torch.jit.script(module).save(str(tmp_path / "a.pt"))
    opened = open_checkpoint(tmp_path / "a.pt")
    assert opened.container == "TorchScript archive"
    expected = module.state_dict()
    assert set(held(opened)) == set(expected)
    assert all(torch.equal(held(opened)[name], expected[name]) for name in expected)


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_bare_pickles_of_arrays_and_tensors(tmp_path: Path, protocol: int) -> None:
    array = np.arange(6, dtype=">f4").reshape(2, 3)
    tree = {"model": {"a": array, "t": array.T, "n": np.float32(2.5)}, "tensor": torch.arange(3.0), "epoch": 1}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(tree, protocol))
    opened = open_checkpoint(tmp_path / "a.pkl")
    assert opened.container == "pickle"
    assert torch.equal(held(opened)["model"]["a"], torch.arange(6.0).view(2, 3))
    assert torch.equal(held(opened)["model"]["t"], torch.arange(6.0).view(2, 3).t())
    assert held(opened)["model"]["n"] == 2.5
    assert torch.equal(held(opened)["tensor"], torch.arange(3.0))
    assert held(opened)["epoch"] == 1


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path: Path, save: Callable[..., None]) -> None:
    arrays = {"Transformer/kernel": np.arange(6.0).reshape(2, 3), "columns": np.asfortranarray(np.ones((2, 3), "f2"))}
    save(tmp_path / "a.npz", **arrays, text=np.array(["a", "b"]))
    opened = open_checkpoint(tmp_path / "a.npz")
    assert opened.container == "npz"
    assert held(opened)["text"] == ["a", "b"]
    for name, array in arrays.items():
        assert np.array_equal(held(opened)[name].numpy(), array)


def test_npz_with_bfloat16_as_jax_writes_it(tmp_path: Path) -> None:
    values = torch.tensor([1.5, -2.0], dtype=torch.bfloat16)
    np.savez(tmp_path / "a.npz", a=values.view(torch.int16).numpy().view("V2"))
    assert torch.equal(held(open_checkpoint(tmp_path / "a.npz"))["a"], values)


def save_safetensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> None:
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata)


def test_safetensors_with_metadata(tmp_path: Path) -> None:
    save_safetensors(tmp_path / "a.bin", state_dict(), {"format": "pt"})
    opened = open_checkpoint(tmp_path / "a.bin")
    assert opened.container == "safetensors"
    assert opened.metadata == {"format": "pt"}
    assert_same_tensors(dict(sorted(held(opened).items())), dict(sorted(state_dict().items())))


def shard(folder: Path, ending: str) -> dict[str, torch.Tensor]:
    tensors = state_dict()
    halves = {f"model-0000{n}-of-00002.{ending}": dict(list(tensors.items())[n::2]) for n in range(2)}
    for name, half in halves.items():
        save_safetensors(folder / name, half) if ending == "safetensors" else torch.save(half, folder / name)
    weight_map = {tensor: name for name, half in halves.items() for tensor in half}
    index = "model.safetensors.index.json" if ending == "safetensors" else "pytorch_model.bin.index.json"
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "config.json").write_text('{"num_attention_heads": 3}')
    return tensors


@pytest.mark.parametrize("length", [0xA188, 0x8B1F, 0x00DE])
def test_the_length_of_a_safetensors_header_is_no_signature(tmp_path: Path, length: int) -> None:
    """These begin like msgpack and gzip."""
    header = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'.ljust(length)
    (tmp_path / "a.safetensors").write_bytes(length.to_bytes(8, "little") + header + bytes(8))
    tree: Any = open_checkpoint(tmp_path / "a.safetensors").tree
    assert tree["a"].tolist() == [0, 0]


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_a_folder_of_shards_with_its_config(tmp_path: Path, ending: str) -> None:
    tensors = shard(tmp_path, ending)
    opened = open_checkpoint(tmp_path)
    assert opened.container.endswith(", 2 shards")
    assert opened.config == {"num_attention_heads": 3}
    assert_same_tensors(dict(sorted(held(opened).items())), dict(sorted(tensors.items())))
    (index,) = tmp_path.glob("*.index.json")
    assert open_checkpoint(index).digest == opened.digest


def test_shards_that_are_missing_or_elsewhere_are_errors(tmp_path: Path) -> None:
    shard(tmp_path, "safetensors")
    (tmp_path / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"lacks model-00001-of-00002\.safetensors"):
        open_checkpoint(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../a.safetensors"}}')
    with pytest.raises(CheckpointError, match="outside its folder"):
        open_checkpoint(tmp_path)


def test_a_config_beside_a_conventional_name_only(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"hidden_size": 24}')
    for name in ("model.safetensors", "other.safetensors"):
        save_safetensors(tmp_path / name, state_dict())
    assert open_checkpoint(tmp_path / "model.safetensors").config == {"hidden_size": 24}
    assert open_checkpoint(tmp_path / "other.safetensors").config is None
    assert open_checkpoint(tmp_path).config == {"hidden_size": 24}


NAMES_THAT_LEAD_NOWHERE = ("model.safetensors", "config.json", "preprocessor_config.json")


@pytest.mark.parametrize("name", NAMES_THAT_LEAD_NOWHERE)
@pytest.mark.parametrize("kind", ["link", "loop", "fifo"])
def test_what_is_there_and_no_file_is_never_passed_over(tmp_path: Path, name: str, kind: str) -> None:
    """A hub's cache that lost a blob: without its config the same weights would give other features."""
    save_safetensors(tmp_path / "model.safetensors", state_dict())
    torch.save(state_dict(), tmp_path / "pytorch_model.bin")
    path = tmp_path / name
    path.unlink(missing_ok=True)
    os.mkfifo(path) if kind == "fifo" else path.symlink_to(path if kind == "loop" else "nowhere")
    with pytest.raises(CheckpointError, match=rf"{name} is (a link that leads nowhere|no file|a FIFO)"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b", "\ud800"])
def test_names_that_no_system_takes_are_those_of_missing_files(tmp_path: Path, name: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(CheckpointError, match="lacks "):
        open_checkpoint(tmp_path)
    (tmp_path / "model.safetensors.index.json").unlink()
    (tmp_path / "latest").write_bytes(name[:256].encode(errors="surrogatepass"))
    with pytest.raises(CheckpointError, match=r"there is no such folder|directory without"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_numbers_and_depths_of_a_config_stay_plain(tmp_path: Path, name: str) -> None:
    save_safetensors(tmp_path / "model.safetensors", state_dict())
    (tmp_path / name).write_text(f'{{"a": 1{"0" * 30}, "b": 1{"0" * 400}, "c": {2**63 - 1}}}')
    opened = open_checkpoint(tmp_path)
    assert (opened.config or opened.preprocessor) == {"a": 1e30, "b": float("inf"), "c": 2**63 - 1}
    for depth, inner in ((95, "[]"), (120, "[]"), (950, "[]"), (950, "{}"), (100_000, "[]")):
        (tmp_path / name).write_text('{"a": ' + "[" * depth + inner + "]" * depth + "}")
        if depth == 95:
            open_checkpoint(tmp_path)
        else:
            with pytest.raises(CheckpointError, match="nested too deeply"):
                open_checkpoint(tmp_path)


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "checkpoint.pth")
    with pytest.raises(CheckpointError, match=r"doesn't exist.\nDid you mean .*checkpoint\.pth"):
        open_checkpoint(tmp_path / "chekpoint.pth")


def test_a_folder_names_what_it_holds(tmp_path: Path) -> None:
    for name in ("a.pth", "b.pth"):
        torch.save({}, tmp_path / name)
    with pytest.raises(CheckpointError, match=r"is a directory(.|\n)*a\.pth, b\.pth"):
        open_checkpoint(tmp_path)


def test_the_file_is_mapped_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"a": torch.ones(4)}, path)
    before = path.read_bytes()
    held(open_checkpoint(path))["a"].add_(1)
    assert path.read_bytes() == before


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e5m2])
def test_weights_that_are_not_finite_are_named(value: float, dtype: torch.dtype) -> None:
    weights = {"fine.weight": torch.ones(3), "blocks.1.weight": torch.tensor([1.0, value]).to(dtype)}
    with pytest.raises(CheckpointError, match=r"aren't finite: blocks\.1\.weight"):
        require_usable(weights, "a.pth")


def test_integers_are_no_weights_but_may_count() -> None:
    require_usable({"bn.num_batches_tracked": torch.tensor(3), "a.weight": torch.ones(1)}, "a.pth")
    with pytest.raises(CheckpointError, match=r"quantised weights: a\.weight \(torch\.int8\)"):
        require_usable({"a.weight": torch.ones(1, dtype=torch.int8)}, "a.pth")


def checkpoints(golden_root: Path) -> list[Path]:
    return sorted(
        folder / json.loads((folder / "meta.json").read_text())["file"]
        for folder in golden_root.iterdir()
        if (folder / "meta.json").is_file() and not (folder / "keys.json").is_file()
    )


@pytest.mark.golden
def test_every_golden_checkpoint_opens_with_the_same_tensors_as_its_own_library(golden: Callable[[str], Path]) -> None:
    root = golden("checkpoints")  # the copies; every folder of $CORRKIT_SHARED is opened by the recogniser's tests
    paths = checkpoints(root)
    assert len(paths) >= 20
    for path in paths:
        tree = held(open_checkpoint(path))
        if path.suffix == ".npz":
            expected = dict(np.load(path))
        elif path.suffix == ".safetensors":
            from safetensors.torch import load_file

            expected = load_file(path)
        else:
            expected = torch.load(path, weights_only=False, pickle_module=_TolerantPickle)
        assert _count_equal(tree, expected) > 10, path


class _TolerantPickle:
    """For torch.load on the project's own goldens: classes that aren't installed are empty."""

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> object:
            try:
                return super().find_class(module, name)
            except ModuleNotFoundError:
                return type(name, (dict,), {})

    load = staticmethod(pickle.load)


def _count_equal(actual: Any, expected: Any) -> int:
    """Number of tensors, all equal, in two trees of the same structure."""
    if isinstance(expected, torch.Tensor | np.ndarray):
        assert torch.equal(actual, torch.as_tensor(expected))
        return 1
    if type(expected) in (dict, collections.OrderedDict):
        assert list(map(str, actual)) == list(map(str, expected))
        return sum(_count_equal(actual[name], expected[name]) for name in expected)
    return 0


def test_a_record_that_shares_bytes_with_another_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.arange(40.0), "b": torch.arange(40.0) + 1}, buffer)
    content = bytearray(buffer.getvalue())
    with zipfile.ZipFile(buffer) as archive:
        first, second = (archive.getinfo(f"archive/data/{key}").header_offset for key in "01")
    place = content.rindex(second.to_bytes(4, "little"))
    content[place : place + 4] = first.to_bytes(4, "little")
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match="overlaps another"):
        open_checkpoint(tmp_path / "a.pth")
