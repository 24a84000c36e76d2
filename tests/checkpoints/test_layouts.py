"""Naming schemes without a golden of their own: the same weights under other names give the same features."""

import json
import re
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from corrkit.backbones import load_backbone
from corrkit.checkpoints.naming import flatten
from corrkit.checkpoints.opening import open_checkpoint
from corrkit.errors import CheckpointError
from tests.checkpoints.test_goldens import TOLERANCE, distance

MMPRETRAIN = (
    (r"^patch_embed\.proj\.", "patch_embed.projection."),
    (r"^norm\.", "ln1."),
    (r"^blocks\.(\d+)\.norm(\d)\.", r"layers.\1.ln\2."),
    (r"^blocks\.(\d+)\.mlp\.fc1\.", r"layers.\1.ffn.layers.0.0."),
    (r"^blocks\.(\d+)\.mlp\.fc2\.", r"layers.\1.ffn.layers.1."),
    (r"^blocks\.", "layers."),
)
CHUNKED = ((r"^blocks\.(\d+)\.", r"blocks.0.\1."),)
HF_MEMORY = (  # transformers 5: reference checkpoints-image.md, section 7
    (r"^encoder\.layer\.(\d+)\.", r"layers.\1."),
    (r"attention\.attention\.(query|key|value)\.", lambda match: f"attention.{match[1][0]}_proj."),
    (r"attention\.output\.dense\.", "attention.o_proj."),
    (r"intermediate\.dense\.", "mlp.fc1."),
    (r"(layers\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
)
TIMM_SWIGLU = ((r"mlp\.w12\.", "mlp.fc1."), (r"mlp\.w3\.", "mlp.fc2."))


def weights(golden, name):
    """Encoder tensors of a golden under their own names, heads, and arrays."""
    folder = golden(f"checkpoints/{name}")
    meta = json.loads((folder / "meta.json").read_text())
    tree: Any = open_checkpoint(folder / meta["file"]).tree
    state = flatten(tree.get("model", tree))
    state = {key: tensor for key, tensor in state.items() if not re.match(r"decoder", key)}
    with np.load(folder / "golden.npz") as arrays:
        return state, meta["heads"], torch.from_numpy(arrays["x"]), arrays["f"]


def renamed(state, renames):
    changed = {}
    for key, tensor in state.items():
        for pattern, replacement in renames:
            key = re.sub(pattern, replacement, key)
        changed[key] = tensor
    assert changed.keys() != state.keys()
    return changed


@pytest.mark.golden
@pytest.mark.parametrize(
    ("name", "renames", "system"),
    [
        ("mae", MMPRETRAIN, "mmpretrain_vit_normed"),
        ("dinov2", CHUNKED, "dinov2"),
        ("dinov2_swiglu", TIMM_SWIGLU, "dinov2"),
        ("hf_vit", HF_MEMORY, "hf_vit"),
    ],
)
@torch.no_grad()
def test_other_names_of_the_same_weights(golden, name, renames, system, tmp_path):
    state, heads, frames, features = weights(golden, name)
    torch.save(
        {"state_dict": {f"backbone.{key}": tensor for key, tensor in renamed(state, renames).items()}},
        tmp_path / "a.ckpt",
    )
    backbone = load_backbone(tmp_path / "a.ckpt", heads=heads)
    assert backbone.report.system == system
    assert distance(backbone(frames).numpy(), features) < TOLERANCE


@pytest.mark.golden
@torch.no_grad()
def test_lightning_files_give_the_online_backbone(golden, tmp_path):
    state, heads, frames, features = weights(golden, "mae")
    content = {
        **{f"backbone.{key}": tensor for key, tensor in state.items()},
        **{f"momentum_backbone.{key}": tensor + 1 for key, tensor in state.items()},
        "projector.0.weight": torch.zeros(2, 2),
        "classifier.weight": torch.zeros(2, 2),
    }
    torch.save(
        {"state_dict": content, "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}}]}, tmp_path / "a.ckpt"
    )
    backbone = load_backbone(tmp_path / "a.ckpt", heads=heads)
    assert distance(backbone(frames).numpy(), features) < TOLERANCE
    groups = dict(backbone.report.dropped)
    assert "another network" in groups["state_dict.momentum_backbone"]
    assert "state of training" in groups["optimizer_states"]


@pytest.mark.golden
@torch.no_grad()
def test_q_k_and_v_apart_are_put_together(golden, tmp_path):
    state, heads, frames, features = weights(golden, "mae")
    apart: dict[str, torch.Tensor] = {}
    for key, tensor in state.items():
        if ".qkv." in key:
            parts = zip("qkv", tensor.chunk(3), strict=True)
            apart |= {key.replace("qkv", part): piece.clone() for part, piece in parts}
        else:
            apart[key] = tensor
    torch.save(apart, tmp_path / "a.pth")
    assert distance(load_backbone(tmp_path / "a.pth", heads=heads)(frames).numpy(), features) < TOLERANCE


@pytest.mark.golden
@torch.no_grad()
def test_shards_with_an_index_are_one_file(golden, tmp_path):
    state, heads, frames, features = weights(golden, "mae")
    names = sorted(state)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for shard, keys in shards.items():
        save_file({key: state[key].contiguous() for key in keys}, tmp_path / shard)
    index = {"weight_map": {key: shard for shard, keys in shards.items() for key in keys}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert distance(load_backbone(tmp_path, heads=heads)(frames).numpy(), features) < TOLERANCE


@pytest.mark.golden
@torch.no_grad()
def test_a_sine_cosine_table_tells_a_grid_that_is_not_square(golden, tmp_path):
    from corrkit.backbones.networks.positions import sincos

    state, heads, *_ = weights(golden, "mae")
    table = torch.cat([torch.zeros(1, 32), sincos((4, 6), 32, "column").flatten(0, 1)])[None]
    torch.save({**state, "pos_embed": table}, tmp_path / "a.pth")
    backbone = load_backbone(tmp_path / "a.pth", heads=heads)
    assert backbone.network.parts.grid == (4, 6)
    assert backbone(torch.zeros(1, 3, 64, 96)).shape == (1, 4, 6, 32)


def random_vit(dim, depth, order, stem=None):
    """A ViT's tensors in timm's names, with a sine-cosine table."""
    from corrkit.backbones.networks.positions import sincos

    generator = torch.Generator().manual_seed(0)

    def tensor(*shape):
        return torch.randn(*shape, generator=generator) * 0.1

    state = {"cls_token": tensor(1, 1, dim), "norm.weight": tensor(dim), "norm.bias": tensor(dim)}
    state["pos_embed"] = torch.cat([torch.zeros(1, dim), sincos((2, 2), dim, order).flatten(0, 1)])[None]
    if stem is None:
        state |= {"patch_embed.proj.weight": tensor(dim, 3, 16, 16), "patch_embed.proj.bias": tensor(dim)}
    for index in range(depth):
        for name, rows, columns in (("attn.qkv", 3, 1), ("attn.proj", 1, 1), ("mlp.fc1", 1, 1), ("mlp.fc2", 1, 1)):
            state[f"blocks.{index}.{name}.weight"] = tensor(rows * dim, columns * dim)
            state[f"blocks.{index}.{name}.bias"] = tensor(rows * dim)
        for name in ("norm1", "norm2"):
            state |= {f"blocks.{index}.{name}.weight": tensor(dim), f"blocks.{index}.{name}.bias": tensor(dim)}
    return state | (stem(tensor) if stem else {})


@pytest.mark.parametrize(("order", "heads"), [("column", 6), ("row", 12)])
def test_moco_v3_small_is_told_from_its_positions(order, heads, tmp_path):
    torch.save(random_vit(384, 12, order), tmp_path / "a.pth")
    assert load_backbone(tmp_path / "a.pth").network.parts.heads == heads


@torch.no_grad()
def test_a_convolutional_stem_in_evaluation_mode(tmp_path):
    def stem(tensor):
        found, before = {}, 3
        for index, width in zip((0, 3, 6, 9), (4, 8, 16, 32), strict=True):
            found[f"patch_embed.proj.{index}.weight"] = tensor(width, before, 3, 3)
            norm = f"patch_embed.proj.{index + 1}"
            found |= {
                f"{norm}.weight": tensor(width),
                f"{norm}.bias": tensor(width),
                f"{norm}.running_mean": tensor(width),
            }
            found |= {f"{norm}.running_var": 1 + tensor(width) ** 2, f"{norm}.num_batches_tracked": torch.tensor(7)}
            before = width
        return {**found, "patch_embed.proj.12.weight": tensor(32, 32, 1, 1), "patch_embed.proj.12.bias": tensor(32)}

    state = random_vit(32, 1, "row", stem)
    torch.save(
        {"state_dict": {f"module.base_encoder.{key}": tensor for key, tensor in state.items()}}, tmp_path / "a.pth"
    )
    backbone = load_backbone(tmp_path / "a.pth", heads=4)
    assert (backbone.report.system, backbone.stride) == ("mocov3", 16)
    layers = backbone.network.patch_embed.proj
    x = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    expected = x
    for index in (0, 3, 6, 9):  # convolution, normalisation by stored statistics, rectification, from the definition
        norm = layers[index + 1]
        expected = torch.nn.functional.conv2d(expected, state[f"patch_embed.proj.{index}.weight"], stride=2, padding=1)
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        expected = ((expected.movedim(1, -1) - norm.running_mean) * scale + norm.bias).clamp(min=0).movedim(-1, 1)
    expected = torch.nn.functional.conv2d(
        expected, state["patch_embed.proj.12.weight"], state["patch_embed.proj.12.bias"]
    )
    torch.testing.assert_close(layers(x), expected)
    assert backbone(x).shape == (2, 2, 3, 32)


@torch.no_grad()
def test_a_resnet_as_a_numbered_sequence_gives_the_same(tmp_path):
    """As lightly's examples build their backbones: nn.Sequential(*list(resnet.children())[:-1])."""
    from torchvision.models import resnet18

    torch.manual_seed(0)
    named = resnet18()
    for buffer in named.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 2)
    numbered = torch.nn.Sequential(*list(named.children())[:-1])
    head = {"projection_head.layers.0.weight": torch.ones(3, 3)}
    lightly = {f"backbone.{name}": tensor for name, tensor in numbered.state_dict().items()}
    torch.save(named.state_dict(), tmp_path / "named.pth")
    torch.save({"state_dict": {**lightly, **head}}, tmp_path / "numbered.ckpt")
    frames = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    backbone = load_backbone(tmp_path / "numbered.ckpt")
    assert backbone.report.system == "resnet"
    assert torch.equal(backbone(frames), load_backbone(tmp_path / "named.pth")(frames))


@pytest.mark.golden
def test_twins_of_student_and_teacher_are_asked_about(golden, tmp_path):
    """Of self-distillation the teacher is evaluated, of a smaller network's distillation the student."""
    state, heads, frames, features = weights(golden, "mae")
    twins = {f"student_backbone.vit.{key}": tensor + 1 for key, tensor in state.items()}
    twins |= {f"teacher_backbone.vit.{key}": tensor for key, tensor in state.items()}
    torch.save({"state_dict": twins}, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=r"equally good: '.*student_backbone\.vit', '.*teacher_backbone\.vit'"):
        load_backbone(tmp_path / "a.ckpt", heads=heads)
    backbone = load_backbone(tmp_path / "a.ckpt", heads=heads, key="teacher_backbone")
    with torch.no_grad():
        assert distance(backbone(frames).numpy(), features) < TOLERANCE


def test_flattened_parameters_of_fsdp_name_what_unflattens_them(tmp_path):
    torch.save({"_flat_param": torch.zeros(9), "blocks.0._flat_param": torch.zeros(9)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"FSDP has flattened[\s\S]*FULL_STATE_DICT"):
        load_backbone(tmp_path / "a.pth")
