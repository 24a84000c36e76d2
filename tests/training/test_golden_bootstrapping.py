"""BootMAE and SdAE against the published code."""

import json
import re
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from training_goldens import assert_close, assert_gradients, published_weights, tensor

from corrkit.training.data.views import View
from corrkit.training.networks import masks
from corrkit.training.objectives.bootstrapping import BootMAE, boot_momentum, edge_weight, feature_distance
from corrkit.training.objectives.targets import unpatchify
from corrkit.training.recipe import load_recipe
from tests.conftest import GoldenFinder

pytestmark = pytest.mark.golden
_BLOCK = {"norm1.": "norms.s.", "attn.": "layers.s.", "norm2.": "norms.m.", "norm3.": "norms.c.",
          "norm4.": "memory_norm.", "mlp.": "layers.m.", "c_attn.q_bias": "layers.c.q.bias",
          "c_attn.v_bias": "layers.c.v_bias", "c_attn.": "layers.c."}  # fmt: skip
_REST = {"decode_norm_1.": "features.norm.", "decode_norm.": "pixels.norm.", "down_1.": "features.embed.",
         "down.": "pixels.embed.", "mask_token_1": "features.mask_token", "mask_token": "pixels.mask_token",
         "de_pos_embed": "pixels.positions.pos_embed", "lm_head_1.": "features.head.",
         "lm_head.proj.": "pixels.head."}  # fmt: skip


def bootmae_name(name: str) -> str:
    match = re.match(r"decode_blocks(_1)?\.(\d+)\.(.*)", name)
    if match:
        decoder = "features" if match[1] else "pixels"
        old = next(old for old in _BLOCK if match[3].startswith(old))
        return f"{decoder}.blocks.{match[2]}.{_BLOCK[old]}{match[3].removeprefix(old)}"
    for old, new in _REST.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return "encoder." + ("positions." if name.startswith("pos_embed") else "") + name


def test_bootmae(golden: GoldenFinder) -> None:
    path = golden("pretraining/bootmae/bootmae_tiny.npz")
    stored = np.load(path)
    sizes = {"views.size": 16, "encoder.patch": 4, "encoder.dim": 24, "encoder.depth": 3, "encoder.heads": 2,
             "decoders.0.dim": 16, "decoders.1.dim": 24, "decoders.*.heads": 2}  # fmt: skip
    objective: Any = BootMAE(load_recipe("bootmae", changes=sizes)).double()
    state = {bootmae_name(name): value for name, value in published_weights(path).items()}
    # A transposed convolution from tokens to patches: [D, channel, row, column], one bias per channel.
    state["pixels.head.weight"] = state["pixels.head.weight"].permute(2, 3, 1, 0).reshape(48, 16)
    state["pixels.head.bias"] = state["pixels.head.bias"].repeat(16)
    state["features.positions.pos_embed"] = state["encoder.positions.pos_embed"]
    for name, value in published_weights(path, "ema.").items():
        state[bootmae_name(name).replace("encoder.", "teacher.", 1)] = value
    objective.load_state_dict(state)
    order = tensor(stored, "idx_shuffle")
    hidden = tensor(stored, "loss_mask").flatten(1).bool()
    mask = masks.Mask(hidden, order[:, : 16 - int(hidden[0].sum())], order.argsort(1))
    images = tensor(stored, "images")
    pixels, features = objective.predict(images, mask)
    assert_close(unpatchify(pixels, 4), tensor(stored, "pred_pixel"))
    assert_close(features, tensor(stored, "pred_feature"))
    assert_close(unpatchify(objective.target(images), 4), tensor(stored, "im_norm"))
    assert_close(edge_weight(hidden, 4).reshape(2, 1, 4, 4), tensor(stored, "weight_mask"))
    step = objective.step([View(images)], [mask], progress=1.0)
    assert_close(step.parts["pixels"], tensor(stored, "Rloss"))
    assert_close(step.parts["features"], tensor(stored, "Ploss"))
    step.loss.backward()
    objective.pixels.head.bias.grad = objective.pixels.head.bias.grad.reshape(16, 3).sum(0).repeat(16) / 4
    assert_gradients(objective, stored, bootmae_name)


def test_bootmae_masks(golden: GoldenFinder) -> None:
    stored = np.load(golden("pretraining/masking/bootmae_mask_to_index.npz"))
    hidden = torch.from_numpy(stored["block_mask"]).flatten(1).bool()
    noise = torch.from_numpy(stored["noise"]).flatten(1)  # float32, as published
    for roll in range(4):
        order = masks.rolled_order(hidden, noise, roll)
        assert torch.equal(order, tensor(stored, f"idx_shuffle_roll{roll}"))
        mask = masks.from_order(order, 49)
        assert torch.equal(mask.keep, order[:, :49])
        assert (mask.hidden.sum(1) == 147).all()
        swapped = hidden & ~mask.hidden  # in a block, and yet visible
        assert (swapped.sum(1) == roll).all()


def test_bootmae_draws_masks_of_blocks_and_single_tokens() -> None:
    """120 tokens of the 147 are in blocks, but for the 0 to 3 that the roll swaps: the same number in a whole batch."""
    rule = load_recipe("bootmae").masks[0]
    rolls = set()
    for seed in range(20):
        dice = Random(seed)
        blocks = torch.stack([masks.blocks(rule, (1, 14, 14), dice) for _ in range(3)])
        mask = masks.draw(rule, (1, 14, 14), 3, seed)
        assert (blocks.sum(1) == 120).all()
        assert (mask.hidden.sum(1) == 147).all()
        missed = (blocks & ~mask.hidden).sum(1)
        assert (missed == missed[0]).all()
        rolls.add(int(missed[0]))
    assert rolls == {0, 1, 2, 3}
    assert int(masks.draw(rule, (1, 12, 12), 1, 0).hidden.sum()) == 108  # the same share of a smaller grid


def test_bootmae_schedules(golden: GoldenFinder) -> None:
    stored = json.loads(golden("pretraining/schedules/bootmae_ema_and_feature_weight.json").read_text())
    for epoch, value in zip(stored["epoch"], stored["ema_dynamic"], strict=True):
        assert boot_momentum(epoch) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(("axis", "name"), [("tokens", "loss_published_3d"), ("features", "loss_feature_axis")])
def test_sdae(golden: GoldenFinder, axis: str, name: str) -> None:
    stored = np.load(golden("pretraining/sdae/sdae_loss.npz"))
    student = tensor(stored, "student").requires_grad_()
    loss = feature_distance(student, tensor(stored, "teacher"), axis)
    assert_close(loss, tensor(stored, name))
    if axis == "tokens":
        loss.backward()
        assert_close(student.grad, tensor(stored, "grad_student_3d"))
