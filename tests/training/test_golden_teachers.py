"""RSP, SiameseIM, DINO and iBOT against the published code."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from training_goldens import BLOCKS, assert_close, assert_gradients, fill, published_weights, rename, tensor

from corrkit.training.data.views import View
from corrkit.training.networks import masks
from corrkit.training.networks.positions import crop_geometry, relative_positions
from corrkit.training.objectives.distillation import DINO, IBOT, PrototypeHead
from corrkit.training.objectives.losses import unigrad
from corrkit.training.objectives.rsp import RSP, balanced_kl
from corrkit.training.objectives.siameseim import SiameseIM
from corrkit.training.objectives.teacher import follow
from corrkit.training.recipe import load_recipe
from tests.conftest import GoldenFinder

pytestmark = pytest.mark.golden
SIZES = {"views.size": 16, "encoder.patch": 4, "encoder.dim": 24, "encoder.depth": 2, "encoder.heads": 2}


def rsp_name(name: str) -> str:
    for old, new in (("to_posterior", "posterior"), ("to_prior", "prior"), ("decoder_embed_deter", "embed_past"),
                     ("decoder_embed_stoch", "embed_latent")):  # fmt: skip
        if name.startswith(old):
            return name.replace(old, new, 1)
    return rename(name, BLOCKS["csm"]).replace("decoders.0.", "decoder.")


def test_rsp(golden: GoldenFinder) -> None:
    path = golden("pretraining/rsp/rsp_tiny.npz")
    stored = np.load(path)
    changes = {"decoders.0.dim": 16, "decoders.0.depth": 2, "decoders.0.heads": 4,
               "options.groups": 4, "options.classes": 5}  # fmt: skip
    objective: Any = RSP(load_recipe("rsp", changes={**SIZES, **changes}))
    fill(objective, path, rsp_name)
    pair = [View(tensor(stored, "src")), View(tensor(stored, "tgt"))]
    mask = masks.from_noise(objective.recipe.masks[1], objective.encoder.grid, tensor(stored, "mask_noise"))
    latents = objective.logits(pair, tensor(stored, "perturb_noise"))
    step = objective.losses(pair, mask, latents, tensor(stored, "post_onehot"))
    assert_close(step.parts["ahead"], tensor(stored, "loss_post"))
    assert_close(step.parts["kl"], tensor(stored, "kl_loss"))
    assert_close(step.parts["filled"], tensor(stored, "mae_loss"))
    assert_close(step.loss, tensor(stored, "loss"))
    step.loss.backward()
    assert_gradients(objective, stored, rsp_name)


def test_balanced_divergence(golden: GoldenFinder) -> None:
    stored = np.load(golden("pretraining/rsp/rsp_kl.npz"))
    found = balanced_kl(tensor(stored, "post_logits"), tensor(stored, "prior_logits"), int(stored["stoch"]),
                        float(stored["balance"]), float(stored["freebit"]))  # fmt: skip
    assert_close(found, tensor(stored, "kl_loss"))


def siameseim_name(name: str) -> str:
    own = name.removeprefix("mm_")
    if own.startswith("predictor_decoder_blocks."):
        return own.replace("predictor_decoder_blocks.", "predictor.")
    for old, new in (("decoder_pos_mlp", "embed_relative"), ("decoder_pred", "head")):
        if own.startswith(old):
            return own.replace(old, new)
    fixed = {"mask_token": "mask_token", "decoder_pos_embed": "positions.pos_embed"}
    if own in fixed:
        return fixed[own] if own == name else "unused"
    for number, (old, new) in enumerate((("decoder_embed.", "embed."), ("projector_decoder_blocks.", "projector."))):
        if own.startswith(old):
            inner = own.removeprefix(old)
            return f"teacher.{number + 1}.{inner}" if own != name else new + inner
    inner = ("positions." if own == "pos_embed" else "") + own
    return f"teacher.0.{inner}" if own != name else f"encoder.{inner}"


def geometry(stored: Any) -> torch.Tensor:
    names = ("delta_i", "delta_j", "flip_delta_j", "delta_h", "delta_w", "relative_flip")
    return torch.stack([torch.from_numpy(np.asarray(stored[name])).double() for name in names])


def test_siameseim(golden: GoldenFinder) -> None:
    """Computed in float32, as the stored values were."""
    path = golden("pretraining/siameseim/sim_tiny.npz")
    stored = np.load(path)
    changes = {"decoders.*.dim": 24, "decoders.*.heads": 4, "decoders.0.depth": 1, "decoders.1.depth": 2}
    objective: Any = SiameseIM(load_recipe("siameseim", changes={**SIZES, **changes}))
    state = {siameseim_name(name): value for name, value in published_weights(path).items()}
    state["teacher.0.positions.pos_embed"] = state["encoder.positions.pos_embed"]
    del state["unused"]  # the teacher's mask token is never read
    objective.load_state_dict(state)
    for teacher, student in zip(objective.teacher, objective._taught(), strict=True):
        follow(teacher, student, float(stored["mm"]))
    assert_close(objective.teacher[0].cls_token, tensor(stored, "mm_cls_token_after"))
    views = [View(torch.from_numpy(stored[name])) for name in ("x1", "x2")]
    step = objective.losses(views, masks.from_hidden(torch.from_numpy(stored["mask"]).flatten(1)), geometry(stored))
    assert_close(step.loss, tensor(stored, "loss"), 1e-6)
    step.loss.backward()
    norms = dict(zip(stored["grad_names"].tolist(), stored["grad_norms"].tolist(), strict=True))
    gradients = {name: parameter.grad for name, parameter in objective.named_parameters() if parameter.grad is not None}
    assert set(gradients) == {siameseim_name(name) for name, norm in norms.items() if norm}
    for name, norm in norms.items():
        if norm:
            assert float(gradients[siameseim_name(name)].norm()) == pytest.approx(norm, rel=1e-3, abs=1e-6)


def test_relative_positions(golden: GoldenFinder) -> None:
    stored = np.load(golden("pretraining/siameseim/rel_pos_embed.npz"))
    found = relative_positions(geometry(stored), int(stored["grid_size"]), int(stored["embed_dim"]))
    assert_close(found, tensor(stored, "pos_embed"), 1e-6)
    stored = np.load(golden("pretraining/siameseim/crop_to_args.npz"))
    column = dict(zip(stored["columns"].tolist(), torch.from_numpy(stored["rows"]).T, strict=True))
    first, second = (
        torch.stack([column[f"{part}{view}"] for part in "ijhw"] + [column["W"], column[f"flip{view}"]], 1)
        for view in (1, 2)
    )
    assert_close(crop_geometry(first, second), geometry(column), 1e-9)


def test_unigrad(golden: GoldenFinder) -> None:
    stored = np.load(golden("pretraining/siameseim/unigrad.npz"))
    prediction = tensor(stored, "pred").requires_grad_()
    loss = unigrad(prediction.flatten(0, 1), tensor(stored, "target_ln"), float(stored["neg_weight"]))
    loss.backward()
    assert_close(loss, tensor(stored, "loss"), 1e-6)
    assert_close(prediction.grad, tensor(stored, "grad_pred"), 1e-6)


def test_dino(golden: GoldenFinder) -> None:
    stored = np.load(golden("pretraining/dino_ibot/dino_loss.npz"))
    objective: Any = DINO(load_recipe("dino", scale="tiny", changes={"options.prototypes": 7})).double()
    objective.centre.copy_(tensor(stored, "center_before_ep0"))
    for epoch in (0, 2, 4):
        student = tensor(stored, "student").requires_grad_()
        temperature = float(stored["teacher_temp_schedule"][epoch])
        crops = student.chunk(int(stored["ncrops"]))
        loss = objective.distil(crops, tensor(stored, "teacher").chunk(2), temperature)
        loss.backward()
        assert_close(loss, tensor(stored, f"loss_ep{epoch}"))
        assert_close(objective.centre, tensor(stored, f"center_after_ep{epoch}"))
        if epoch == 0:
            assert_close(student.grad, tensor(stored, "grad_student_ep0"))


def test_teacher_temperature_rises_by_epoch(golden: GoldenFinder) -> None:
    stored = np.load(golden("pretraining/dino_ibot/dino_loss.npz"))
    changes = {"options.prototypes": 7, "options.temperature": [0.04, 0.07, 3], "optimiser.epochs": 5}
    objective: Any = DINO(load_recipe("dino", scale="tiny", changes=changes))
    found = [objective.temperature(epoch / 5) for epoch in range(5)]
    np.testing.assert_allclose(found, stored["teacher_temp_schedule"], rtol=1e-12)


def test_dino_head(golden: GoldenFinder) -> None:
    path = golden("pretraining/dino_ibot/dino_head.npz")
    stored = np.load(path)
    head = PrototypeHead((8, 12, 12, 6), 7).double()
    weights = published_weights(path)
    assert bool((weights.pop("last_layer.weight_g") == 1).all())
    weights["prototypes"] = weights.pop("last_layer.weight_v")
    head.load_state_dict(weights)
    assert_close(head(tensor(stored, "x")), tensor(stored, "y"))


def test_ibot(golden: GoldenFinder) -> None:
    stored = np.load(golden("pretraining/dino_ibot/ibot_loss.npz"))
    epoch = int(stored["epoch"])
    temperature = float(stored["teacher_temp2"][epoch])
    changes = {"options.prototypes": 7, "options.patch_temperature": [temperature, temperature, 2]}
    objective: Any = IBOT(load_recipe("ibot", scale="tiny", changes=changes)).double()
    objective.centre.copy_(tensor(stored, "center"))
    objective.patch_centre.copy_(tensor(stored, "center2"))
    crops, patches = tensor(stored, "student_cls").requires_grad_(), tensor(stored, "student_patch").requires_grad_()
    hidden = [masks.from_hidden(crop.flatten(1)) for crop in tensor(stored, "mask")]
    patch_loss = objective.distil_patches(patches.chunk(2), tensor(stored, "teacher_patch").chunk(2), hidden, 0.0)
    whole = [*crops.chunk(2), *tensor(stored, "student_local_cls").chunk(2)]
    crop_loss = objective.distil(whole, tensor(stored, "teacher_cls").chunk(2), float(stored["teacher_temp"][epoch]))
    (patch_loss + crop_loss).backward()
    assert_close(patch_loss, tensor(stored, "loss_patch"))
    assert_close(crop_loss, tensor(stored, "loss_cls"))
    assert_close(patches.grad, tensor(stored, "grad_student_patch"))
    assert_close(crops.grad, tensor(stored, "grad_student_cls"))
    assert_close(objective.centre, tensor(stored, "center_after"))
    assert_close(objective.patch_centre, tensor(stored, "center2_after"))


def test_counts_of_parameters(golden: GoldenFinder) -> None:
    """Fixed tables counted, as the published classes do; DINO's head stores a constant beside them."""
    published = json.loads(golden("pretraining/params.json").read_text())
    head = PrototypeHead((384, 2048, 2048, 256), 65536)
    expected = published["DINO head vit_small out 65536"]
    count = sum(parameter.numel() for parameter in head.parameters())
    assert count == expected["total"] - expected["frozen_buffers_as_params"]
