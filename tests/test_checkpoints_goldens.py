"""Every golden checkpoint of published model code: the file in its genuine container gives the published features."""

import json

import numpy as np
import pytest
import torch

from corrkit.backbones import load_backbone

TOLERANCE = 1e-4  # of the features' scale: float32 with another order of sums (golden README-image.md)
HEADS_TOLD = {"mae_headrule"}
"""Whose head count must be found without help."""

GOLDENS = ["catmae", "cropmae", "dino", "ibot", "mae", "mae_headrule", "rsp", "siammae_cropmae_repo", "tobo"]


def loaded(golden, name, **options):
    folder = golden(f"checkpoints/{name}")
    meta = json.loads((folder / "meta.json").read_text())
    heads = None if name in HEADS_TOLD else meta["heads"]
    return load_backbone(folder / meta["file"], heads=heads, **options), meta, np.load(folder / "golden.npz")


def distance(features, published):
    assert features.shape == published.shape
    return np.abs(features - published).max() / np.abs(published).max()


@pytest.mark.golden
@pytest.mark.parametrize("name", GOLDENS)
@torch.no_grad()
def test_a_published_file_gives_the_published_features(golden, name):
    backbone, meta, arrays = loaded(golden, name)
    assert distance(backbone(torch.from_numpy(arrays["x"])).numpy(), arrays["f"]) < TOLERANCE
    assert backbone.stride == meta["patch"]
    if "f_ns" in arrays:
        assert distance(backbone(torch.from_numpy(arrays["x_ns"])).numpy(), arrays["f_ns"]) < TOLERANCE


@pytest.mark.golden
@pytest.mark.parametrize("name", GOLDENS)
@torch.no_grad()
def test_a_clip_streams_to_the_same_features(golden, name):
    backbone, _, arrays = loaded(golden, name)
    frames = torch.from_numpy(arrays["x"])
    assert distance(torch.stack(list(backbone.encode(iter(frames)))).numpy(), arrays["f"]) < TOLERANCE


@pytest.mark.golden
@pytest.mark.parametrize("name", ["mae", "dino"])
@torch.no_grad()
def test_an_earlier_layer_is_normalised_too(golden, name):
    backbone, _, arrays = loaded(golden, name, layer=meta_depth(golden, name))
    early, _, _ = loaded(golden, name, layer=1)
    frames = torch.from_numpy(arrays["x"])
    assert distance(backbone(frames).numpy(), arrays["f"]) < TOLERANCE
    assert early.report.layer == "1"
    assert distance(early(frames).numpy(), arrays["f"]) > 0.1


def meta_depth(golden, name):
    return json.loads((golden(f"checkpoints/{name}") / "meta.json").read_text())["depth"]
