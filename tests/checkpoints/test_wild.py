"""Checkpoints as other people's code writes them: equal features, or a refusal that is true."""

import json
import shutil

import numpy as np
import pytest
import torch

from corrkit.backbones import load_backbone
from corrkit.errors import CheckpointError
from tests.checkpoints.test_goldens import TOLERANCE, distance
from tests.conftest import SHARED

WILD = SHARED / "golden" / "checkpoints_wild"
FIXTURES = sorted(entry.name for entry in WILD.iterdir() if entry.is_dir()) if WILD.is_dir() else ["none"]
UNTRUE = ("incomplete", "damaged")  # of files that are whole


def wild(golden, name):
    """Path, meta and arrays of a fixture."""
    folder = golden(f"checkpoints_wild/{name}")
    meta = json.loads((folder / "meta.json").read_text())
    with np.load(folder / "golden.npz") as stored:
        return folder / meta["file"], meta, {key: stored[key] for key in stored.files}


def loaded_or_refused(path, **options):
    """The backbone, or what the refusal says apart from the name of the file."""
    try:
        return load_backbone(path, **options), ""
    except CheckpointError as refusal:
        return None, str(refusal).replace(str(path), "FILE")


@torch.no_grad()
def assert_equal_features(backbone, arrays):
    for frames, features in (("x", "f"), ("x_ns", "f_ns")):
        if features in arrays:
            found = backbone(torch.from_numpy(arrays[frames])).numpy()
            assert distance(found, arrays[features]) < TOLERANCE, f"{features} of {backbone.report.system}"


@pytest.mark.golden
@pytest.mark.parametrize("name", FIXTURES)
def test_a_file_of_other_code_loads_equal_or_is_refused_truly(golden, name):
    path, meta, arrays = wild(golden, name)
    backbone, refusal = loaded_or_refused(path, heads=meta["heads"])
    if backbone is not None:
        assert meta["expect"] != "refuse", f"loaded as {backbone.report.system}"
        assert_equal_features(backbone, arrays)
        return
    assert meta["expect"] != "equal", refusal
    assert not any(word in refusal for word in UNTRUE), refusal
    assert not meta["words"] or any(word.lower() in refusal.lower() for word in meta["words"]), refusal


@pytest.mark.golden
@pytest.mark.parametrize(
    ("name", "system"),
    [("s03_clip_trunk_only", "open_clip"), ("s23_hf_clip_gelu_lone_file", "hf_clip_gelu")],
)
def test_the_user_may_say_which_system_it_is(golden, name, system):
    path, meta, arrays = wild(golden, name)
    _, refusal = loaded_or_refused(path, heads=meta["heads"])
    assert f"--system {system}" in refusal
    assert_equal_features(load_backbone(path, heads=meta["heads"], system=system), arrays)


@pytest.mark.golden
def test_a_system_with_other_names_is_refused(golden):
    path, meta, _ = wild(golden, "s03_clip_trunk_only")
    with pytest.raises(CheckpointError, match=r"not those of mae \(timm ViT\)[\s\S]*open_clip"):
        load_backbone(path, heads=meta["heads"], system="mae")
    with pytest.raises(CheckpointError, match="no system 'open_clup'"):
        load_backbone(path, heads=meta["heads"], system="open_clup")


@pytest.mark.golden
@pytest.mark.parametrize(
    ("quick", "arguments", "words"),
    [
        (False, {"approximate": "tanh"}, "approximate='tanh'"),
        (False, {"approximate": "none"}, "approximate='none'"),
        (True, {"approximate": "tanh"}, None),
        (False, {"negative_slope": 0.1}, None),
    ],
)
def test_arguments_of_the_activation_in_open_clips_config_are_obeyed(golden, quick, arguments, words, tmp_path):
    """CLIPA's configurations have act_kwargs."""
    path, _, _ = wild(golden, "s05_openclip_hub_folder_quickgelu")
    folder = path if path.is_dir() else path.parent
    shutil.copytree(folder, tmp_path / "copy")
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["quick_gelu"] = quick
    config["model_cfg"]["vision_cfg"]["act_kwargs"] = arguments
    (tmp_path / "copy" / "open_clip_config.json").write_text(json.dumps(config))
    backbone, refusal = loaded_or_refused(tmp_path / "copy")
    if words is None:
        assert "names the activation" in refusal
    else:
        assert words in repr(backbone.network.blocks[0].mlp.act)
