"""ConvNeXt V2 and FCMAE against the published code (golden/pretraining), and what its masks keep apart."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from timm.layers.grn import GlobalResponseNorm
from torch import nn
from torch.nn.functional import interpolate
from training_goldens import assert_close, published_weights, tensor

from corrkit.training.data.views import View
from corrkit.training.networks import masks
from corrkit.training.networks.convnext import normalise_responses, sparse_block
from corrkit.training.networks.decoder import ConvBlock
from corrkit.training.objectives.losses import LOSSES, mean_over
from corrkit.training.objectives.masked import MaskedPrediction
from corrkit.training.objectives.targets import PIXELS, pixel_target
from corrkit.training.recipe import load_recipe
from tests.conftest import GoldenFinder

SIZES = {"views.size": 96, "encoder.dim": 8, "encoder.depth": 5, "encoder.widens": [1, 2, 4],
         "decoders.0.dim": 16}  # fmt: skip


def tiny(**changes: Any) -> MaskedPrediction:
    """In double precision, with gains of the response norms that aren't zero, so that they matter."""
    torch.manual_seed(0)
    objective: Any = MaskedPrediction(load_recipe("fcmae", changes={**SIZES, **changes})).double()
    with torch.no_grad():
        for name, parameter in objective.named_parameters():
            if ".grn." in name or name.endswith("bias"):
                nn.init.normal_(parameter)
    return objective


def drawn(objective: MaskedPrediction, batch: int = 2) -> masks.Mask:
    mask = masks.draw(objective.recipe.masks[0], objective.encoder.grid, batch, seed=0)
    assert mask is not None
    return mask


@pytest.mark.golden
def test_responses_are_normalised_over_an_image_or_as_published_over_the_batch(golden: GoldenFinder) -> None:
    stored = np.load(golden("pretraining/convnextv2/grn.npz"))
    x, keep = tensor(stored, "x"), tensor(stored, "keep")
    norm = GlobalResponseNorm(6).double()
    norm.load_state_dict({"weight": tensor(stored, "gamma"), "bias": tensor(stored, "beta")})
    assert_close(normalise_responses(norm, x, "image"), tensor(stored, "dense_out"))
    visible = x * keep[..., None]
    assert_close(visible[keep], tensor(stored, "sparse_rows"))
    assert_close(normalise_responses(norm, visible, "batch")[keep], tensor(stored, "sparse_out"))
    alone = normalise_responses(norm, visible, "image")[0][keep[0]]
    assert_close(alone, tensor(stored, "sparse_batch_item0_only"))


@pytest.mark.golden
def test_the_block(golden: GoldenFinder) -> None:
    path = golden("pretraining/convnextv2/dense_block.npz")
    stored = np.load(path)
    names = {"dwconv.": "conv_dw.", "pwconv": "mlp.fc", "grn.gamma": "mlp.grn.weight", "grn.beta": "mlp.grn.bias"}
    state = {}
    for name, value in published_weights(path).items():
        for old, new in names.items():
            name = name.replace(old, new)
        state[f"block.{name}"] = value.flatten() if ".grn." in name else value
    decoder = ConvBlock(6, (1, 8, 8)).double()
    decoder.load_state_dict(state)
    x = tensor(stored, "x")
    tokens = decoder(x.flatten(2).transpose(1, 2))
    assert_close(tokens.transpose(1, 2).reshape(x.shape), tensor(stored, "y"))
    everywhere = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    assert_close(sparse_block(decoder.block, x, everywhere, "image"), tensor(stored, "y"))


@pytest.mark.golden
def test_the_norm_of_the_stem(golden: GoldenFinder) -> None:
    stored = np.load(golden("pretraining/convnextv2/layernorm_channels_first.npz"))
    norm = tiny(**{"encoder.dim": 6}).encoder.stem[1]
    nn.init.zeros_(norm.bias)
    assert norm.eps == float(stored["eps"])
    assert_close(norm(tensor(stored, "x")), tensor(stored, "y"))


@pytest.mark.golden
def test_the_loss(golden: GoldenFinder) -> None:
    stored = np.load(golden("pretraining/convnextv2/fcmae_loss.npz"))
    recipe = load_recipe("fcmae", changes={"masks.0.ratio": float(stored["mask_ratio"])})
    patch = int(stored["patch_size"])
    mask = masks.from_noise(recipe.masks[0], (1, 4, 4), tensor(stored, "noise"))
    assert torch.equal(mask.hidden.double(), tensor(stored, "mask"))
    twice = interpolate(mask.hidden.double().reshape(2, 1, 4, 4), (8, 8))[:, 0]  # as the encoder enlarges masks
    assert torch.equal(twice, tensor(stored, "mask_up2"))
    (branch,) = recipe.branches
    target = pixel_target(tensor(stored, "img"), rule=PIXELS[branch.target], patch=patch)
    prediction = tensor(stored, "pred").flatten(2).transpose(1, 2)
    assert_close(mean_over(LOSSES[branch.loss](prediction, target), mask.hidden), tensor(stored, "loss"))


@pytest.mark.golden
def test_counts_of_parameters_and_hidden_cells(golden: GoldenFinder) -> None:
    counts = json.loads(golden("pretraining/params.json").read_text())
    for scale in ("base", "large"):
        with torch.device("meta"):
            objective: Any = MaskedPrediction(load_recipe("fcmae", scale=scale))
        width = objective.recipe.encoder.width
        backbone = counts[f"ConvNeXt V2 dense convnextv2_{scale}"]["by_part"]["backbone"]
        assert sum(p.numel() for p in objective.encoder.parameters()) == backbone - 2 * width  # without the final norm
        if width == 1024:
            published = counts["FCMAE decoder (dims[-1]=1024, patch 32)"]
            assert sum(p.numel() for p in objective.decoders.parameters()) == sum(published.values())
    hidden = json.loads(golden("pretraining/masking/fcmae_masked_counts_of_49.json").read_text())
    assert int(drawn(objective).hidden[0].sum()) == hidden["224_p32@0.6"]


@pytest.mark.parametrize("over", ["image", "batch"])
def test_hidden_pixels_reach_neither_encoder_nor_prediction(over: str) -> None:
    objective: Any = tiny(**{"encoder.grn": over})
    mask = drawn(objective)
    pixels = torch.randn(2, 3, 96, 96, dtype=torch.float64)
    changed = torch.where(objective.encoder.in_pixels(mask.hidden, pixels), 100 * torch.randn_like(pixels), pixels)
    before, after = (objective.encode([View(one)], [mask])[0] for one in (pixels, changed))
    assert torch.equal(before.z, after.z)
    assert before.z.shape == (2, 3, 64)  # visible cells only: 9 - 6
    branch = objective.recipe.branches[0]
    assert torch.equal(objective.predict(branch, [before]), objective.predict(branch, [after]))
    seen = torch.where(objective.encoder.in_pixels(mask.hidden, pixels), pixels, pixels + 1)
    assert not torch.equal(objective.encode([View(seen)], [mask])[0].z, before.z)


def test_the_encoder_equals_gathering_the_neighbours_that_are_there() -> None:
    """The definition, site by site: a depthwise convolution sums over the visible cells under its kernel."""
    objective: Any = tiny()
    block = objective.encoder.stages[0].blocks[0]
    generator = torch.Generator().manual_seed(1)
    visible = (torch.rand(2, 1, 6, 6, generator=generator) > 0.5).double()
    x = torch.randn(2, 8, 6, 6, dtype=torch.float64, generator=generator) * visible
    found = sparse_block(block, x, visible, "image")
    weight, bias = block.conv_dw.weight[:, 0], block.conv_dw.bias
    for item in range(2):
        sites = [tuple(site) for site in visible[item, 0].nonzero().tolist()]
        rows = []
        for top, left in sites:
            total = bias.clone()
            for y, x_ in sites:
                if abs(y - top) <= 3 and abs(x_ - left) <= 3:
                    total = total + weight[:, y - top + 3, x_ - left + 3] * x[item, :, y, x_]
            rows.append(total)
        hidden = block.mlp.act(block.mlp.fc1(block.norm(torch.stack(rows))))
        lengths = hidden.norm(dim=0)
        grn = block.mlp.grn
        hidden = grn.weight * hidden * lengths / (lengths.mean() + 1e-6) + grn.bias + hidden
        change = block.mlp.fc2(hidden)
        for row, (top, left) in enumerate(sites):
            assert_close(found[item, :, top, left], x[item, :, top, left] + change[row], 1e-10)
    assert not found[(visible == 0).expand_as(found)].any()


def test_an_image_is_encoded_alike_in_any_batch_unless_the_published_norm_is_asked_for() -> None:
    pixels = torch.randn(2, 3, 96, 96, dtype=torch.float64)
    for over, equal in (("image", True), ("batch", False)):
        objective: Any = tiny(**{"encoder.grn": over})
        mask = drawn(objective)
        first = masks.from_hidden(mask.hidden[:1])
        together = objective.encode([View(pixels)], [masks.from_hidden(mask.hidden)])[0].z[:1]
        alone = objective.encode([View(pixels[:1])], [first])[0].z
        assert torch.allclose(together, alone, atol=1e-10) == equal


def test_without_a_mask_it_is_timms_network() -> None:
    from timm.models.convnext import ConvNeXt

    objective: Any = tiny()
    network = ConvNeXt(depths=(1, 1, 2, 1), dims=(8, 16, 32, 64), use_grn=True, ls_init_value=None, num_classes=0)
    missing = network.double().load_state_dict(objective.encoder.state_dict(), strict=False)
    assert not missing.unexpected_keys
    assert all(name.startswith("head.") for name in missing.missing_keys)
    pixels = torch.randn(1, 3, 96, 96, dtype=torch.float64)
    features = network.stages(network.stem(pixels))
    assert_close(objective.encode([View(pixels)], [None])[0].z, features.flatten(2).transpose(1, 2), 1e-10)
