"""VideoMAE and MAE-ST against the published code (golden/pretraining)."""

import re
from typing import Any

import numpy as np
import pytest
from training_goldens import BLOCKS, assert_close, assert_gradients, fill, rename, tensor

from corrkit.training.data.views import View
from corrkit.training.networks import masks
from corrkit.training.objectives.masked import MaskedPrediction
from corrkit.training.recipe import load_recipe
from tests.conftest import GoldenFinder

pytestmark = pytest.mark.golden
SIZES = {"views.size": 16, "views.frames": 16, "encoder.patch": 8, "encoder.dim": 24, "encoder.depth": 2,
         "encoder.heads": 2, "decoders.0.dim": 16, "decoders.0.depth": 2}  # fmt: skip


def tiny(recipe: str, **changes: Any) -> MaskedPrediction:
    return MaskedPrediction(load_recipe(recipe, changes={**SIZES, **changes})).double()


def videomae_name(name: str) -> str:
    if name.startswith("encoder."):
        return name
    name = re.sub(r"^encoder_to_decoder\.", "decoders.0.embed.", name)
    name = re.sub(r"^decoder\.(norm|head)\.", r"decoders.0.\1.", name)
    name = re.sub(r"^decoder\.blocks\.", "decoder_blocks.", name)
    return name if name.startswith("decoders") else rename(name, BLOCKS["mae"])


def mae_st_name(name: str) -> str:
    name = re.sub(r"\.attn\.([qkv])\.", lambda m: f".attn.qkv#{'qkv'.index(m[1])}.", name)
    name = re.sub(r"^decoder_pos_embed_", "decoders.0.positions.pos_embed_", name)
    return name if name.startswith("decoders") else rename(name, BLOCKS["mae"])


def test_videomae(golden: GoldenFinder) -> None:
    path = golden("pretraining/videomae/videomae_tiny.npz")
    stored = np.load(path)
    objective: Any = tiny("videomae", **{"decoders.0.heads": 2})
    fill(objective, path, videomae_name)
    mask = masks.from_hidden(tensor(stored, "mask"))
    view = View(tensor(stored, "video"))
    target = objective.targets[0][0](view.pixels)
    assert_close(target[mask.hidden].reshape(stored["labels"].shape), tensor(stored, "labels"))
    prediction = objective.predict(objective.recipe.branches[0], objective.encode([view], [mask]))
    assert_close(prediction[mask.hidden].reshape(stored["out"].shape), tensor(stored, "out"))
    step = objective.step([view], [mask])
    assert_close(step.loss, tensor(stored, "loss"))
    step.loss.backward()
    assert_gradients(objective, stored, videomae_name)


def test_mae_st(golden: GoldenFinder) -> None:
    path = golden("pretraining/mae_st/mae_st_tiny.npz")
    stored = np.load(path)
    objective: Any = tiny("mae-st", **{"decoders.0.heads": 4, "masks.0.ratio": float(stored["mask_ratio"])})
    fill(objective, path, mae_st_name)
    mask = masks.from_noise(objective.recipe.masks[0], objective.encoder.grid, tensor(stored, "noise"))
    view = View(tensor(stored, "video"))
    tokens = objective.encode([view], [mask])[0]
    assert_close(tokens.patches, tensor(stored, "latent"))
    assert_close(objective.predict(objective.recipe.branches[0], [tokens]), tensor(stored, "pred"))
    step = objective.step([view], [mask])
    assert_close(step.loss, tensor(stored, "loss"))
    step.loss.backward()
    assert_gradients(objective, stored, mae_st_name)
