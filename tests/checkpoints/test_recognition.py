"""Which network a file holds: any nesting, any precision, complete or refused."""

import importlib
import json
import random
import re
from dataclasses import replace

import pytest
import torch

from corrkit.backbones import load_backbone
from corrkit.checkpoints.naming import flatten
from corrkit.checkpoints.opening import open_checkpoint
from corrkit.checkpoints.recognition import recognise
from corrkit.checkpoints.registry import PREFERS, SYSTEMS
from corrkit.errors import CheckpointError
from tests.checkpoints.test_goldens import GOLDENS, TOLERANCE, distance, loaded

WRAPPERS = ["module", "_orig_mod", "backbone", "model", "encoder", "net", "state_dict", "my_model", "student", "trunk"]

# Without these tensors a file is, as far as names and shapes go, a complete file of another published system.
ANOTHER_SYSTEM = {
    ("aimv2", "preprocessor.pos_embed"): "aimv2_native",
    ("dinov2_reg", "register_tokens"): "dinov2",
    ("tips", "register_tokens"): "dinov2",
}


def opened(golden, name):
    folder = golden(f"checkpoints/{name}")
    meta = json.loads((folder / "meta.json").read_text())
    heads = meta.get("heads")
    return open_checkpoint(folder / meta["file"]), heads if isinstance(heads, int) else None


def built(recognised, heads):
    module, function = recognised.system.build.split(":")
    return getattr(importlib.import_module(module), function)(recognised, heads=heads)


@pytest.mark.golden
@pytest.mark.parametrize("name", GOLDENS)
def test_wrappers_around_a_file_change_nothing(golden, name):
    checkpoint, _ = opened(golden, name)
    tensors, plain = flatten(checkpoint.tree), recognise(checkpoint)
    choose = random.Random(name)
    for _ in range(5):
        outer = [choose.choice(WRAPPERS) for _ in range(choose.randint(1, 4))]
        wrapped = recognise(replace(checkpoint, tree={"epoch": 3, ".".join(outer): tensors}))
        assert wrapped.system is plain.system
        assert wrapped.prefix.endswith(plain.prefix)
        assert (wrapped.used, wrapped.total) == (plain.used, plain.total)
        assert wrapped.state.keys() == plain.state.keys()
        assert all(torch.equal(wrapped.state[key], plain.state[key]) for key in plain.state)


@pytest.mark.golden
@pytest.mark.parametrize("name", GOLDENS)
def test_wrappers_inside_names_change_nothing(golden, name):
    checkpoint, _ = opened(golden, name)
    plain = recognise(checkpoint)
    tensors = {
        re.sub(r"(blocks|layers?|resblocks)\.(\d+)\.(?!\d)", r"\1.\2._checkpoint_wrapped_module.", key): tensor
        for key, tensor in flatten(checkpoint.tree).items()
    }
    wrapped = recognise(replace(checkpoint, tree={"_orig_mod." + key: tensor for key, tensor in tensors.items()}))
    assert wrapped.system is plain.system
    assert wrapped.state.keys() == plain.state.keys()


def deletions(golden, name):
    """Every used tensor of a file, and the file without it."""
    checkpoint, heads = opened(golden, name)
    tensors = flatten(checkpoint.tree)
    for key in sorted(set(recognise(checkpoint).origins.values())):
        rest = {other: tensor for other, tensor in tensors.items() if other != key}
        yield key, replace(checkpoint, tree=rest), heads


def assert_refused(name, key, checkpoint, heads):
    if (name, key) in ANOTHER_SYSTEM:
        assert recognise(checkpoint).system.name == ANOTHER_SYSTEM[name, key]
        return
    with pytest.raises(CheckpointError) as raised:
        built(recognise(checkpoint), heads)
    assert "missing" in str(raised.value) or "tensors of unknown meaning" in str(raised.value), key


@pytest.mark.golden
@pytest.mark.parametrize("name", GOLDENS)
def test_a_file_without_one_of_its_tensors_is_refused(golden, name):
    every = list(deletions(golden, name))
    for key, checkpoint, heads in random.Random(name).sample(every, min(8, len(every))):
        assert_refused(name, key, checkpoint, heads)


@pytest.mark.slow
@pytest.mark.golden
@pytest.mark.parametrize("name", GOLDENS)
def test_a_file_without_any_of_its_tensors_is_refused(golden, name):
    for key, checkpoint, heads in deletions(golden, name):
        assert_refused(name, key, checkpoint, heads)


@pytest.mark.golden
@pytest.mark.parametrize("name", ["mae", "dino", "hf_dinov2", "clip_openai", "vit_jax_npz", "eva02", "croco_v2"])
def test_a_missing_tensor_is_named_as_the_file_would_name_it(golden, name):
    for key, checkpoint, heads in deletions(golden, name):
        with pytest.raises(CheckpointError) as raised:
            built(recognise(checkpoint), heads)
        assert key in str(raised.value)


@pytest.mark.golden
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@torch.no_grad()
def test_other_precisions_are_computed_in_float32(golden, dtype, tmp_path):
    checkpoint, heads = opened(golden, "mae")
    torch.save({key: tensor.to(dtype) for key, tensor in flatten(checkpoint.tree).items()}, tmp_path / "other.pth")
    backbone = load_backbone(tmp_path / "other.pth", heads=heads)
    _, _, arrays = loaded(golden, "mae")
    features = backbone(torch.from_numpy(arrays["x"]))
    assert features.dtype == torch.float32
    assert distance(features.numpy(), arrays["f"]) < (TOLERANCE if dtype == torch.float64 else 0.1)


@pytest.mark.golden
@pytest.mark.parametrize(
    ("name", "key", "array"),
    [
        ("bootmae", "model_ema", "f_ema"),
        ("data2vec_vision", "model_ema", "f_ema"),
        ("ijepa", "encoder", "f_online"),
        ("sdae", "model_teacher", "f_teacher"),
    ],
)
@torch.no_grad()
def test_a_key_chooses_another_branch(golden, name, key, array):
    backbone, _, arrays = loaded(golden, name, key=key)
    assert distance(backbone(torch.from_numpy(arrays["x"])).numpy(), arrays[array]) < TOLERANCE


@pytest.mark.golden
def test_a_key_that_is_not_there_lists_those_that_are(golden):
    with pytest.raises(CheckpointError, match=r"nothing under the key 'teacher'[\s\S]*It holds: model"):
        loaded(golden, "mae", key="teacher")


@pytest.mark.golden
def test_two_equal_backbones_are_a_question(golden):
    checkpoint, heads = opened(golden, "mae")
    tensors = flatten(checkpoint.tree["model"])
    twice = replace(checkpoint, tree={"left": tensors, "right": tensors})
    with pytest.raises(CheckpointError, match=r"equally good: 'left', 'right'[\s\S]*--ckpt-key left"):
        recognise(twice)
    assert built(recognise(twice, key="right"), heads).network is not None


@pytest.mark.golden
def test_tensors_of_unknown_meaning_are_refused(golden):
    checkpoint, heads = opened(golden, "mae")
    tensors = {**flatten(checkpoint.tree), "model.blocks.0.attn.surprise": torch.zeros(3)}
    with pytest.raises(CheckpointError, match=r"unknown meaning[^\n]*model\.blocks\.0\.attn\.surprise"):
        built(recognise(replace(checkpoint, tree=tensors)), heads)


@pytest.mark.golden
@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["encoder_blocks.0.attention.Wq.weight", "encoder_blocks.0.attention.Wk.weight"], "averages over tokens"),
        (["mae.patch_embed.proj.weight", "mae.blocks.0.attn.qkv.weight", "cross_decoder.a"], "whole pickled modules"),
    ],
)
def test_reimplementations_of_siammae_are_refused_with_the_reason(golden, names, words):
    checkpoint, _ = opened(golden, "mae")
    shapes = {"patch_embed.proj.weight": (8, 3, 4, 4)}
    tree = {name: torch.zeros(shapes.get(name.removeprefix("mae."), (8, 8))) for name in names}
    with pytest.raises(CheckpointError, match=words):
        recognise(replace(checkpoint, tree=tree))


@pytest.mark.golden
def test_unknown_heads_are_asked_for(golden):
    folder = golden("checkpoints/mae")
    with pytest.raises(CheckpointError, match=r"attention heads[\s\S]*--heads N"):
        load_backbone(folder / "checkpoint-799.pth")
    with pytest.raises(CheckpointError, match="7 heads don't divide the width 32"):
        load_backbone(folder / "checkpoint-799.pth", heads=7)


def test_no_rule_of_branches_contradicts_another():
    assert not {(good, other) for good, other in PREFERS if (other, good) in PREFERS}


@pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS.keys())
def test_an_entry_is_well_formed(system):
    for pattern in (*system.signs, *system.beside, *system.without, *system.drop, *system.shapes):
        re.compile(pattern)
    assert system.source
    if system.refuse is None:
        module, function = system.build.split(":")
        assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.golden
def test_a_key_may_be_the_end_of_a_branchs_path(golden):
    checkpoint, heads = opened(golden, "mae")
    tensors = flatten(checkpoint.tree["model"])
    nested = replace(checkpoint, tree={"state": {"left": {"encoder": tensors}, "right": {"backbone": tensors}}})
    for key in ("right", "right.backbone", "backbone", "state.right.backbone", "state.right.backbone."):
        found = recognise(nested, key=key)
        assert found.prefix == "state.right.backbone."
        assert built(found, heads).network is not None
    twice = replace(checkpoint, tree={"left": {"encoder": tensors}, "right": {"encoder": tensors}})
    with pytest.raises(CheckpointError, match=r"several branches that end in 'encoder'[\s\S]*--ckpt-key left\.encoder"):
        recognise(twice, key="encoder")
    with pytest.raises(CheckpointError, match="nothing under the key 'decoder'"):
        recognise(twice, key="decoder")
