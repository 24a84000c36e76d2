"""Targets and losses of SimMIM, OmniMAE, BEiT, FastMIM and MVD against the published code; BEiT's size."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import layer_norm
from training_goldens import assert_close, tensor

from corrkit.training.networks import masks
from corrkit.training.networks.decoder import Decoder
from corrkit.training.networks.encoder import Tokens
from corrkit.training.objectives import make_objective
from corrkit.training.objectives.losses import LOSSES, mean_over
from corrkit.training.objectives.targets import PIXELS, patchify, pixel_target
from corrkit.training.recipe import load_recipe
from tests.conftest import GoldenFinder

pytestmark = pytest.mark.golden


def test_simmim_predicts_with_one_linear_layer(golden: GoldenFinder) -> None:
    """The published 1 x 1 convolution and pixel shuffle is the recipe's linear head, its rows in another order."""
    stored = np.load(golden("pretraining/simmim/simmim_loss_vit_p4.npz"))
    recipe = load_recipe("simmim", changes={"encoder.patch": 4, "views.size": 16})
    head = Decoder(recipe.decoders[0], 6, (1, 4, 4), 48, fills=False).double()
    weight = tensor(stored, "dec_weight").reshape(3, 4, 4, 6).permute(1, 2, 0, 3)  # [row, column, channel, D]
    head.head.weight.data.copy_(weight.reshape(48, 6))
    head.head.bias.data.copy_(tensor(stored, "dec_bias").reshape(3, 4, 4).permute(1, 2, 0).flatten())
    tokens = Tokens(z=tensor(stored, "z").flatten(2).transpose(1, 2), grid=(1, 4, 4), num_prefix=0)
    prediction = head(tokens)
    assert_close(prediction, patchify(tensor(stored, "x_rec"), 4).flatten(2))
    target = pixel_target(tensor(stored, "img"), rule=PIXELS[recipe.branches[0].target], patch=4)
    hidden = tensor(stored, "mask").flatten(1).bool()
    assert_close(mean_over(LOSSES[recipe.branches[0].loss](prediction, target), hidden), tensor(stored, "loss"))


def test_simmim_with_a_coarser_head_than_mask(golden: GoldenFinder) -> None:
    stored = np.load(golden("pretraining/simmim/simmim_loss_swin_p2_stride8.npz"))
    patch = int(stored["patch_size"])
    prediction, target = (patchify(tensor(stored, name), patch).flatten(2) for name in ("x_rec", "img"))
    hidden = tensor(stored, "mask").flatten(1).bool()
    assert_close(mean_over(LOSSES["l1"](prediction, target), hidden), tensor(stored, "loss"))


@pytest.mark.parametrize(("target", "name"), [("pixels-omni", "per_channel"), ("pixels-patch", "joint"),
                                              ("pixels", "raw")])  # fmt: skip
def test_omnimae(golden: GoldenFinder, target: str, name: str) -> None:
    """The stored variants normalise jointly and not at all on pixels of [0, 1] too."""
    import dataclasses

    stored = np.load(golden("pretraining/omnimae/omnimae_loss.npz"))
    rule = dataclasses.replace(PIXELS[target], unit=True)
    wanted = pixel_target(tensor(stored, "video"), rule=rule, patch=4, tubelet=2)
    hidden = tensor(stored, "mask").flatten(1).bool()
    found = mean_over(LOSSES["mse"](tensor(stored, "pred"), wanted), hidden)
    assert_close(found, tensor(stored, f"loss_{name}"))


def test_cross_entropy_of_visual_tokens(golden: GoldenFinder) -> None:
    stored = np.load(golden("pretraining/beit/ce.npz"))
    losses = LOSSES["cross-entropy"](tensor(stored, "logits")[None], tensor(stored, "labels")[None])
    assert_close(mean_over(losses, torch.ones(1, 5, dtype=torch.bool)), tensor(stored, "loss"))


def test_fastmim(golden: GoldenFinder) -> None:
    stored = np.load(golden("pretraining/hog/fastmim_hog_loss.npz"))
    target = torch.from_numpy(np.load(golden("pretraining/hog/maskfeat_hog.npz"))["label_p16"])
    losses = LOSSES["mse"](torch.from_numpy(stored["pred"]), target)
    hidden = torch.from_numpy(stored["mask"]).flatten(1)
    assert float(mean_over(losses, hidden)) == pytest.approx(float(stored["loss"]), rel=1e-5)


@pytest.mark.parametrize(("loss", "name"), [("smooth-l1", "SmoothL1"), ("l1", "L1"), ("mse", "L2")])
@pytest.mark.parametrize("normed", [0, 1])
def test_mvd(golden: GoldenFinder, loss: str, name: str, normed: int) -> None:
    stored = np.load(golden("pretraining/mvd/mvd_feature_loss.npz"))
    mask = masks.from_hidden(tensor(stored, "mask"))
    teacher = tensor(stored, "teacher")
    if normed:
        teacher = layer_norm(teacher, teacher.shape[-1:], eps=1e-6)
    predicted = torch.zeros_like(teacher)
    predicted[mask.hidden] = tensor(stored, "student").flatten(0, 1)
    found = mean_over(LOSSES[loss](predicted, teacher), mask.hidden)
    assert_close(found, tensor(stored, f"{name}_norm{normed}"))


def test_beit_has_the_published_size(golden: GoldenFinder) -> None:
    published = json.loads(golden("pretraining/params.json").read_text())
    expected = next(value for name, value in published.items() if name.startswith("BEiT"))["by_part"]
    with torch.device("meta"):
        encoder = make_objective(load_recipe("beit")).encoder
    assert sum(parameter.numel() for parameter in encoder.parameters()) == expected["encoder"]


@pytest.mark.parametrize(("recipe", "scale", "patch", "name"), [
    ("mae", "small", 16, "(MAE class) ViT-S/16 encoder + dec512d8b joint decoder"),
    ("mae", "small", 8, "(MAE class) ViT-S/8 encoder + dec512d8b joint decoder"),
    ("cropmae", "small", 16, "CropMAE SiameseMAE vits patch16 (class defaults)"),
    ("cropmae", "small", 8, "CropMAE SiameseMAE vits patch8 (class defaults)"),
    ("catmae", "small", 16, "CatMAE catmae_vit_small 256/4/4 (pretrain.json)"),
])  # fmt: skip
def test_sizes_of_the_family(golden: GoldenFinder, recipe: str, scale: str, patch: int, name: str) -> None:
    expected = json.loads(golden("pretraining/params.json").read_text())[name]["by_part"]
    with torch.device("meta"):
        objective: Any = make_objective(load_recipe(recipe, scale=scale, changes={"encoder.patch": patch}))
    assert sum(tensor.numel() for tensor in objective.encoder.state_dict().values()) == expected["encoder"]
    assert sum(tensor.numel() for tensor in objective.decoders.state_dict().values()) == expected["decoder"]
