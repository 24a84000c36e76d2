"""Checkpoints as other people's code writes them: equal features, or a refusal that is true."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from corrkit.backbones import load_backbone
from corrkit.errors import CheckpointError
from tests.conftest import SHARED
from tests.test_checkpoints_goldens import TOLERANCE, distance

WILD = SHARED / "golden" / "checkpoints_wild"
FIXTURES = sorted(entry.name for entry in WILD.iterdir() if entry.is_dir()) if WILD.is_dir() else ["none"]
UNTRUE = ("incomplete", "damaged", "missing")  # of files that are whole

# Published practice (docs/checkpoints.md): systems whose features are another tap than the peer's last hidden state.
TAPS = {"s01_vjepa2_release_like": "f", "r04_hf_convnextv2": "f_stage4"}


def wild(golden, name):
    """Path, meta and arrays of a fixture."""
    folder = golden(f"checkpoints_wild/{name}")
    meta = json.loads((folder / "meta.json").read_text())
    with np.load(folder / "golden.npz") as stored:
        return folder / meta["file"], meta, {key: stored[key] for key in stored.files}


def assert_equal_features(backbone, arrays, tap="f"):
    for frames, features in (("x", tap), ("x_ns", tap.replace("f", "f_ns", 1))):
        if features in arrays:
            found = backbone(torch.from_numpy(arrays[frames])).numpy()
            assert distance(found, arrays[features]) < TOLERANCE, f"{features} of {backbone.report.system}"


@pytest.mark.golden
@pytest.mark.parametrize("name", FIXTURES)
@torch.no_grad()
def test_a_file_of_other_code_loads_equal_or_is_refused_truly(golden, name):
    path, meta, arrays = wild(golden, name)
    try:
        backbone = load_backbone(path, heads=meta["heads"])
    except CheckpointError as refusal:
        assert meta["expect"] != "equal", refusal
        text = str(refusal)
        assert not any(word in text for word in UNTRUE), text
        assert not meta["words"] or any(word.lower() in text.lower() for word in meta["words"]), text
        return
    assert meta["expect"] != "refuse", f"loaded as {backbone.report.system}"
    assert_equal_features(backbone, arrays)
