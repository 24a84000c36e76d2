"""Containers and forms of weights that aren't read: each is named with what converts it."""

import zipfile

import pytest
import torch

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
        ("__0_0.distcp", b"PK\x03\x04" + bytes(64), r"one shard[\s\S]*dcp_to_torch"),
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
        (["zero_pp_rank_0_mp_rank_00_model_states.pt"], "zero_to_fp32"),
    ],
)
def test_a_folder_of_another_kind_is_named(names, words, tmp_path):
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(CheckpointError, match=words):
        load_backbone(tmp_path)


def test_a_run_of_deepspeed_gives_the_latest_weights_where_they_are_whole(tmp_path):
    for step in (10, 20):
        (tmp_path / f"global_step{step}").mkdir()
        state = {**random_vit(192, 12, "column"), "norm.bias": torch.full((192,), float(step))}
        torch.save({"module": state}, tmp_path / f"global_step{step}" / "mp_rank_00_model_states.pt")
    (tmp_path / "latest").write_text("global_step20")
    assert load_backbone(tmp_path).network.norm.bias[0] == 20


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("attn.qkv.weight", ["attn.qkv.base_layer.weight", "attn.qkv.lora_A.default.weight"], "merge_and_unload"),
        ("attn.proj.weight", ["attn.proj.weight_orig", "attn.proj.weight_mask"], "prune"),
        ("mlp.fc1.weight", ["mlp.fc1.parametrizations.weight.original"], "remove_parametrizations"),
        ("mlp.fc1.weight", ["mlp.fc1.qweight", "mlp.fc1.qzeros"], "quantised"),
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
