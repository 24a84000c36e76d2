"""A checkpoint folder's config.json and timm: arguments of the architecture pass, and nothing else happens."""

import dataclasses
import inspect
import json
import os
import pickle
from typing import Any

import pytest
import timm
import torch
from checkpoints_watched import run_watched
from timm.models import PretrainedCfg, build_model_with_cfg

from corrkit.backbones import load_backbone
from corrkit.backbones.timm_arguments import _ALLOWED
from corrkit.errors import CheckpointError

ADDRESS = "http://127.0.0.1:9/weights.pth"
NAME = "vit_tiny_patch16_224"
SMALL: dict[str, Any] = {"embed_dim": 48, "depth": 2, "num_heads": 3, "img_size": 64}


class Call:
    """Makes a folder when it is unpickled."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (str(self.place),)


@pytest.fixture
def folder(tmp_path):
    """Writes a folder of a small ViT with timm's config.json; the architecture's own arguments are there."""
    model = timm.create_model(NAME, num_classes=0, **SMALL)

    def write(name, arguments, architecture=NAME, statistics=None):
        place = tmp_path / name
        place.mkdir()
        torch.save(model.state_dict(), place / "pytorch_model.bin")
        config = {
            "architecture": architecture,
            "model_args": arguments,
            "pretrained_cfg": statistics or {"mean": [0.5, 0.4, 0.3], "std": [0.1, 0.2, 0.3]},
        }
        (place / "config.json").write_text(json.dumps(config))
        return place

    vars(write)["model"] = model
    return write


def hostile(evil):
    """Arguments that reach for something outside, by how timm 1.0.21 to 1.0.31 would take them."""
    file, cache = str(evil), str(evil.parent / "cache")
    sources = {
        "url": {"url": ADDRESS},
        "file": {"file": file},
        "hub": {"hf_hub_id": "owner/name", "source": "hf-hub"},
        "custom": {"file": file, "custom_load": True},
    }
    yield "pretrained", {"pretrained": True}
    yield "pretrained_1", {"pretrained": 1}
    yield "pretrained_text", {"pretrained": "yes"}
    for name, source in sources.items():
        for argument in ("pretrained_cfg", "pretrained_cfg_overlay"):
            yield f"{argument}_{name}", {"pretrained": True, argument: source, "cache_dir": cache}
            yield f"{argument}_{name}_alone", {argument: source}
    yield "pretrained_cfg_tag", {"pretrained": True, "pretrained_cfg": "augreg_in21k"}
    yield "checkpoint_path", {"checkpoint_path": file}
    yield "cache_dir", {"cache_dir": cache}
    yield "pretrained_model_args", {"pretrained_model_args": {"checkpoint_path": file}}
    yield "features_only", {"features_only": True, "feature_cls": "fx"}
    yield "pruned", {"pruned": True}
    yield "device", {"device": "cuda:0"}
    yield "dtype", {"dtype": "float64"}
    yield "scriptable", {"scriptable": True}
    for argument in ("act_layer", "norm_layer", "weight_init", "pos_embed", "global_pool"):
        yield f"{argument}_path", {argument: file}
        yield f"{argument}_call", {argument: "os.system"}
        yield f"{argument}_nested", {argument: {"checkpoint_path": file}}
    yield "img_size_nested", {"img_size": {"checkpoint_path": file}}
    yield "depth_nested", {"depth": [{"pretrained": True}]}
    yield "embed_layer", {"embed_layer": "timm.models.load_checkpoint"}
    yield "model_name", {"model_name": f"local-dir:{evil.parent}"}
    yield "kwargs", {"kwargs": {"checkpoint_path": file}}


def test_nothing_in_a_config_reaches_outside(folder, tmp_path):
    """Run by itself, under an audit hook: no socket, no process, no pickle run, nothing written."""
    ran = tmp_path / "ran"
    (tmp_path / "evil").mkdir()
    evil = tmp_path / "evil" / "weights.pth"
    evil.write_bytes(pickle.dumps({"state_dict": Call(ran)}, protocol=2))
    cases = dict(hostile(evil))
    folders = {name: folder(name, {**SMALL, **arguments}) for name, arguments in cases.items()}
    for name, architecture in {
        "hub_name": "hf-hub:owner/name",
        "old_hub_name": "hf_hub:owner/name",
        "local_name": f"local-dir:{folders['pretrained']}",
        "path_name": f"{NAME}.x/../{NAME}",
        "query_name": f"{NAME}.x?a=b#c",
        "unknown_tag": f"{NAME}.nosuchtag",
    }.items():
        folders[name] = folder(name, SMALL, architecture)
    for name, source in {"url": {"url": ADDRESS}, "file": {"file": str(evil)}, "id": {"hf_hub_id": "a/b"}}.items():
        folders[f"outside_{name}"] = folder(f"outside_{name}", SMALL, statistics=source)
    sound = folder("sound", SMALL)
    work = tmp_path / "work"
    work.mkdir()
    specs = [sound, *folders.values(), *(f"timm:{NAME}={folders[name]}" for name in cases)]
    result = run_watched(work, "load", *specs)
    assert result["events"] == []
    assert not ran.exists()
    outcomes = result["outcomes"]
    assert len(outcomes) == len(specs)
    assert outcomes[str(sound)] == "opened"
    for name in cases:
        for spec in (str(folders[name]), f"timm:{NAME}={folders[name]}"):
            assert "model_args in config.json sets" in outcomes[spec], spec


def test_nothing_in_a_config_of_the_hub_reaches_outside(folder, tmp_path, monkeypatch):
    """As the test before, of models in the hub's own cache, without a network."""
    pytest.importorskip("huggingface_hub")
    ran, evil, commit = tmp_path / "ran", tmp_path / "evil.pth", "1" * 40
    evil.write_bytes(pickle.dumps({"state_dict": Call(ran)}, protocol=2))
    cases = {"sound": {}, **dict(hostile(evil))}
    for name, arguments in cases.items():
        place = tmp_path / "hub" / f"models--owner--{name}"
        (place / "refs").mkdir(parents=True)
        (place / "refs" / "main").write_text(commit)
        (place / "snapshots").mkdir()
        folder(name, {**SMALL, **arguments}).rename(place / "snapshots" / commit)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    work = tmp_path / "work"
    work.mkdir()
    result = run_watched(work, "load", *(f"hf:owner/{name}" for name in cases))
    assert result["events"] == []
    assert not ran.exists()
    outcomes = result["outcomes"]
    assert outcomes.pop("hf:owner/sound") == "opened"
    assert all("model_args in config.json sets" in outcome for outcome in outcomes.values())


def test_arguments_of_the_architecture_are_obeyed(folder):
    backbone = load_backbone(folder("sound", {**SMALL, "drop_rate": 0.1, "act_layer": None, "num_classes": 7}))
    assert (backbone.mean, backbone.std) == ((0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
    frames = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = folder.model.eval().forward_features(frames)[:, 1:].unflatten(1, (4, 4))
        torch.testing.assert_close(backbone(frames), expected)


def test_the_hub_has_the_same_rule(folder, monkeypatch):
    place = folder("fetched", {**SMALL, "checkpoint_path": "/nowhere"})
    monkeypatch.setattr("corrkit.backbones.hub.download", lambda name: place)
    with pytest.raises(CheckpointError, match="sets 'checkpoint_path', which isn't passed on"):
        load_backbone("hf:owner/name")


def test_no_argument_of_timms_own_machinery_is_allowed():
    """Whatever a later timm adds to these: an argument of theirs isn't one of an architecture."""
    machinery = {*inspect.signature(timm.create_model).parameters, *inspect.signature(build_model_with_cfg).parameters}
    description = {field.name for field in dataclasses.fields(PretrainedCfg)}
    assert _ALLOWED.keys() & (machinery | description) == {"num_classes"}
    assert not {"device", "dtype", "out_indices", "feature_cls", "pruned"} & _ALLOWED.keys()


@pytest.mark.parametrize(
    ("arguments", "architecture", "words"),
    [
        ({"depth": 10**9}, NAME, "sets depth to 1000000000"),
        ({"embed_dim": 2**40}, NAME, "sets embed_dim"),
        ({"embed_dim": True}, NAME, "sets embed_dim to True"),
        ({"embed_dim": 48.0}, NAME, "sets embed_dim to 48.0"),
        ({"mlp_ratio": float("nan")}, NAME, "sets mlp_ratio to nan"),
        ({"in_chans": 1}, NAME, "sets in_chans"),
        ({"embed_dim": 16384, "depth": 24, "num_heads": 1}, NAME, "doesn't fill"),
        ({"depth": 256}, NAME, "asks for 256 blocks"),
        ({"img_size": 4096, "patch_size": 1}, NAME, "doesn't fill"),
        ({"num_heads": 7}, NAME, "can't make"),
        ({"depths": [2, 2]}, NAME, "can't make"),
        ({"embed_dim": [48, 96]}, NAME, "can't make"),
        ({"embed_dim": 96, "depths": [256, 256, 256, 256]}, "swin_tiny_patch4_window7_224", "asks for 1024 blocks"),
        ([["img_size", 64]], NAME, "no JSON object"),
        ({"class_token": False, "global_pool": "avg"}, NAME, "doesn't fill"),
    ],
)
def test_wrong_sizes_end_before_memory_is_taken(folder, arguments, architecture, words):
    given = {**SMALL, **arguments} if isinstance(arguments, dict) and architecture == NAME else arguments
    place = folder("wrong", given, architecture)
    tracked = torch.random.get_rng_state()
    with pytest.raises(CheckpointError, match=words) as raised:
        load_backbone(place)
    assert raised.value.remedy
    assert torch.equal(tracked, torch.random.get_rng_state())


def test_masks_beside_the_weights_are_bounded(tmp_path):
    """The attention masks of this Swin follow img_size (15 GB here), and no tensor of the file does."""
    name = "swinv2_cr_tiny_224"
    arguments: dict[str, Any] = {"embed_dim": 24, "depths": [2, 2], "num_heads": [1, 2]}
    model = timm.create_model(name, num_classes=0, **arguments)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"architecture": name, "pretrained_cfg": {}, "model_args": arguments}))
    assert load_backbone(tmp_path).report.tensors_used == len(model.state_dict())
    arguments["img_size"] = 3584
    config.write_text(json.dumps({"architecture": name, "pretrained_cfg": {}, "model_args": arguments}))
    with pytest.raises(CheckpointError, match="of masks and tables"):
        load_backbone(tmp_path)


@pytest.mark.parametrize(
    "statistics",
    [
        {"mean": [0.5, 0.5], "std": [1, 1, 1]},
        {"mean": "abc"},
        {"std": [0, 0.1, 0.1]},
        {"std": [float("inf")] * 3},
        {"std": [10**400, 1, 1]},
        {"mean": [-(10**400), 0, 0]},
        {"mean": [[0.1], 0.2, 0.3]},
        {"mean": [None, 0.2, 0.3]},
    ],
)
def test_statistics_that_are_none_are_refused(folder, statistics):
    with pytest.raises(CheckpointError, match=r"pretrained_cfg\.(mean|std) in config.json is"):
        load_backbone(folder("wrong", SMALL, statistics=statistics))
