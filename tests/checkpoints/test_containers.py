"""Containers and forms of weights that aren't read: each is named with what converts it."""

import json
import pickle
import sys
import zipfile
from types import ModuleType

import pytest
import torch
from safetensors.torch import save_file

from corrkit.backbones import load_backbone
from corrkit.errors import CheckpointError
from tests.checkpoints.test_layouts import random_vit


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("model.tflite", b"\x1c\0\0\0TFL3" + bytes(64), "TFLite"),
        ("flax_model.msgpack", b"\x81\xa6params\x80", "msgpack file of flax"),
        ("model.onnx", b"\x08\x08\x12\x07pytorch" + bytes(64), "ONNX"),
        ("model.gguf", b"GGUF" + bytes(64), "GGUF"),
        ("many_modules.bin", b"\xde\x00\x28\xa6layer0" + bytes(64), "msgpack file of flax"),
        ("saved_model.pb", b"\x08\x01\x12\xf4\x10\n" + bytes(64), "TensorFlow graph"),
        ("model.mlmodel", b"\x08\x05\x12\x10" + bytes(64), "Core ML"),
        ("model.engine", b"ptrt" + bytes(64), "TensorRT"),
        ("model.xml", b"<?xml version='1.0'?><net name='x' version='11'></net>", "OpenVINO"),
        ("pytorch_model.bin.index.json", b'{"weight_map": {}}', "no weight_map"),
        ("bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt", b"PK\x03\x04" + bytes(64), "belongs to the optimizer"),
        ("__0_0.distcp", b"PK\x03\x04" + bytes(64), r"one part[\s\S]*dcp_to_torch"),
    ],
)
def test_a_file_of_another_kind_is_named(name, content, words, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        load_backbone(tmp_path / name)


def test_an_exported_program_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.pt2", "w") as archive:
        archive.writestr("model/archive_format", "pt2")
    with pytest.raises(CheckpointError, match=r"torch\.export"):
        load_backbone(tmp_path / "model.pt2")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["saved_model.pb"], "SavedModel"),
        ([".metadata", "__0_0.distcp"], "dcp_to_torch"),
        (["pytorch_model_fsdp_0/.metadata", "pytorch_model_fsdp_0/__0_0.distcp"], r"dcp_to_torch \S*fsdp_0 model"),
        (["zero_pp_rank_0_mp_rank_00_model_states.pt"], "zero_to_fp32"),
        (["mp_rank_00_model_states.pt", "mp_rank_01_model_states.pt"], "divided among 2 parallel ranks"),
        (["_METADATA", "manifest.ocdbt"], "Orbax"),
        (["config.json", "flax_model.msgpack"], r"flax_model\.msgpack is a msgpack file"),
        (["config.json", "model.onnx"], r"model\.onnx is an ONNX file"),
    ],
)
def test_a_folder_of_another_kind_is_named(names, words, tmp_path):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\x08")
    with pytest.raises(CheckpointError, match=words):
        load_backbone(tmp_path)


def test_the_description_of_a_sharded_folder_is_a_part_of_it(tmp_path):
    for name in (".metadata", "__0_0.distcp"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(CheckpointError, match="dcp_to_torch"):
        load_backbone(tmp_path / ".metadata")


def test_a_run_of_deepspeed_gives_the_latest_weights_where_they_are_whole(tmp_path):
    for step in (10, 20):
        (tmp_path / f"global_step{step}").mkdir()
        state = {**random_vit(192, 12, "column"), "norm.bias": torch.full((192,), float(step))}
        torch.save({"module": state}, tmp_path / f"global_step{step}" / "mp_rank_00_model_states.pt")
        torch.save({}, tmp_path / f"global_step{step}" / "zero_pp_rank_0_mp_rank_00_optim_states.pt")
    (tmp_path / "latest").write_text("global_step20")
    assert load_backbone(tmp_path).network.norm.bias[0] == 20
    torch.save({**state, "norm.bias": torch.full((192,), 30.0)}, tmp_path / "pytorch_model.bin")  # by zero_to_fp32.py
    assert load_backbone(tmp_path).network.norm.bias[0] == 30
    (tmp_path / "pytorch_model.bin").unlink()
    (tmp_path / "latest").write_text("global_step40")
    with pytest.raises(CheckpointError, match="latest names 'global_step40'"):
        load_backbone(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("attn.qkv.weight", ["attn.qkv.base_layer.weight", "attn.qkv.lora_A.default.weight"], "merge_and_unload"),
        ("attn.proj.weight", ["attn.proj.weight_orig", "attn.proj.weight_mask"], "prune"),
        ("mlp.fc1.weight", ["mlp.fc1.parametrizations.weight.original"], "remove_parametrizations"),
        ("blocks.1.mlp.fc1.bias", ["blocks.1.mlp.fc1.bias_orig", "blocks.1.mlp.fc1.bias_mask"], "prune"),
        ("norm.weight", ["norm.original_module.weight", "norm.modules_to_save.default.weight"], "merge_and_unload"),
        ("mlp.fc1.weight", ["mlp.fc1.qweight", "mlp.fc1.qzeros"], "quantised"),
        ("mlp.fc1.weight", ["mlp.fc1.weight._data", "mlp.fc1.weight._scale"], "quantised"),
        ("mlp.fc1.weight", ["mlp.fc1.W_q", "mlp.fc1.scale"], "quantised"),
    ],
)
def test_weights_in_another_form_are_named(old, new, words, tmp_path):
    state: dict[str, torch.Tensor] = {}
    for name, tensor in random_vit(192, 2, "column").items():
        stem = name.removesuffix(old)
        state |= {f"{stem}{part}": tensor for part in new} if name.endswith(old) else {name: tensor}
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=words) as refusal:
        load_backbone(tmp_path / "a.pth")
    assert "incomplete" not in str(refusal.value)


@pytest.mark.parametrize("name", ["oft_R.weight", "boft_R", "fourierft_spectrum", "hra_u", "ln_tuning_layers.bias"])
def test_an_adapter_alone_is_named(name, tmp_path):
    torch.save({f"base_model.model.blocks.0.attn.qkv.{name}": torch.ones(4, 4)}, tmp_path / "adapter_model.bin")
    with pytest.raises(CheckpointError, match=r"an adapter[\s\S]*merge_and_unload"):
        load_backbone(tmp_path)


def test_a_weight_normalised_head_of_an_unknown_network_is_not_what_it_is_refused_for(tmp_path):
    head = {f"head.last_layer.weight_{part}": torch.zeros(8, 8) for part in "gv"}
    torch.save({"stem.mix.weight": torch.zeros(8, 3, 4, 4), **head}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="has no backbone that corrkit knows"):
        load_backbone(tmp_path / "a.pth")


def test_quantised_tensors_of_torchao_are_no_parts_of_a_distributed_run(tmp_path, monkeypatch):
    """Both are rebuilt by one function of torch; the class that it is given tells."""
    module = ModuleType("torchao.quantization")
    kind = type("Int8Tensor", (), {"__module__": module.__name__})
    monkeypatch.setattr(module, kind.__name__, kind, raising=False)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(sys.modules, "torchao", ModuleType("torchao"))

    class Tensor:
        def __reduce__(self):
            return torch._utils._rebuild_wrapper_subclass, (kind, torch.float32, (4, 4))

    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"weight": Tensor()}))
    with pytest.raises(CheckpointError, match=r"holds quantised tensors[\s\S]*float32") as refusal:
        load_backbone(tmp_path / "a.pkl")
    assert "DTensor" not in str(refusal.value)


SCALES = {
    "numbers": lambda names: {"scales": dict.fromkeys(names, 0.02)},
    "a list": lambda names: {"per_layer": [0.02] * len(names)},
    "under the weights' names": lambda names: {"multipliers": {name: torch.tensor(0.02) for name in names}},
    "an array": lambda names: {"inverse": torch.full((len(names),), 0.02)},
    "a description": lambda names: {"config": {"quantization": "fp8"}},
}


@pytest.mark.parametrize("beside", SCALES.values(), ids=SCALES)
def test_float8_weights_are_refused_beside_whatever_may_be_their_scales(beside, tmp_path):
    state = random_vit(192, 2, "column")
    large = [name for name in state if name.endswith(("fc1.weight", "fc2.weight"))]
    narrow = {**state, **{name: state[name].to(torch.float8_e4m3fn) for name in large}}
    torch.save({"model": narrow, "epoch": 3}, tmp_path / "plain.pth")
    assert any("float8" in note for note in load_backbone(tmp_path / "plain.pth").report.notes)
    torch.save({"model": narrow, "epoch": 3, **beside(large)}, tmp_path / "scaled.pth")
    with pytest.raises(CheckpointError, match=r"float8 weights[\s\S]*scales for them"):
        load_backbone(tmp_path / "scaled.pth")


def test_float8_weights_are_refused_where_the_header_or_the_config_tells_of_scales(tmp_path):
    state = {name: tensor.contiguous() for name, tensor in random_vit(192, 2, "column").items()}
    state["blocks.0.mlp.fc1.weight"] = state["blocks.0.mlp.fc1.weight"].to(torch.float8_e4m3fn)
    save_file(state, tmp_path / "model.safetensors", metadata={"blocks.0.mlp.fc1.weight_scale": "0.02"})
    with pytest.raises(CheckpointError, match="scales for them"):
        load_backbone(tmp_path)
    save_file(state, tmp_path / "model.safetensors")
    assert load_backbone(tmp_path).report.notes
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "fp8"}}))
    with pytest.raises(CheckpointError, match="scales for them"):
        load_backbone(tmp_path)
