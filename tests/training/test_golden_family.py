"""SiamMAE, MAE, CropMAE, CatMAE and ToBo against the published code (golden/pretraining)."""

import functools
import json
from typing import Any

import numpy as np
import pytest
import torch
from training_goldens import BLOCKS, assert_close, assert_gradients, fill, rename, tensor

from corrkit.training import optimise
from corrkit.training.data.views import View
from corrkit.training.networks import masks
from corrkit.training.objectives.masked import MaskedPrediction
from corrkit.training.recipe import load_recipe
from tests.conftest import GoldenFinder

pytestmark = pytest.mark.golden
SIZES = {"views.size": 16, "encoder.patch": 4, "encoder.dim": 24, "encoder.depth": 2, "encoder.heads": 2,
         "decoders.*.dim": 16, "decoders.*.depth": 2, "decoders.*.heads": 4}  # fmt: skip


def tiny(recipe: str, **changes: Any) -> MaskedPrediction:
    return MaskedPrediction(load_recipe(recipe, changes={**SIZES, **changes})).double()


def hide(objective: MaskedPrediction, noise: torch.Tensor, view: int = -1) -> masks.Mask:
    return masks.from_noise(objective.recipe.masks[view], objective.encoder.grid, noise)


def views(stored: Any, *names: str) -> list[View]:
    return [View(tensor(stored, name)) for name in names]


mae_name = functools.partial(rename, block=BLOCKS["mae"])
csm_name = functools.partial(rename, block=BLOCKS["csm"])
cropmae_name = functools.partial(rename, block=BLOCKS["cropmae"])


@pytest.mark.parametrize("ratio", ["75", "50"])
def test_mae(golden: GoldenFinder, ratio: str) -> None:
    stored = np.load(golden(f"pretraining/mae/mae_tiny_r{ratio}.npz"))
    objective: Any = tiny("mae", **{"masks.0.ratio": int(ratio) / 100})
    fill(objective, golden("pretraining/mae/mae_tiny_r75.npz"), mae_name)
    mask = hide(objective, tensor(stored, "noise"))
    (view,) = views(stored, "img")
    tokens = objective.encode([view], [mask])[0]
    assert_close(tokens.z, tensor(stored, "latent"))
    assert tokens.z.shape[1] == 1 + mask.keep.shape[1]  # only visible tokens are processed
    assert torch.equal(mask.hidden.long(), tensor(stored, "mask").long())
    assert_close(objective.predict(objective.recipe.branches[0], [tokens]), tensor(stored, "pred"))
    step = objective.step([view], [mask])
    assert_close(step.loss, tensor(stored, "loss_norm"))
    step.loss.backward()
    assert_gradients(objective, stored, mae_name)
    assert_close(objective.decoders[0].mask_token.grad, tensor(stored, "grad_mask_token"))
    raw = tiny("mae", **{"masks.0.ratio": int(ratio) / 100, "branches.0.target": "pixels"})
    raw.load_state_dict(objective.state_dict())
    assert_close(raw.step([view], [mask]).loss, tensor(stored, "loss_raw"))


def test_siammae_token_flow(golden: GoldenFinder) -> None:
    stored = np.load(golden("pretraining/tobo/tobo_tiny_r75.npz"))
    objective: Any = tiny("siammae", **{"masks.1.ratio": 0.75})
    fill(objective, golden("pretraining/tobo/tobo_tiny_r75.npz"), csm_name)
    mask = hide(objective, tensor(stored, "noise"))
    step = objective.step(views(stored, "src", "tgt"), [None, mask])
    assert_close(step.loss, tensor(stored, "loss_siammae_path"))
    tokens = objective.encode(views(stored, "src", "tgt"), [None, mask])
    assert_close(tokens[0].z, tensor(stored, "src_latent"))
    assert_close(tokens[1].z, tensor(stored, "tgt_latent"))
    assert_close(objective.predict(objective.recipe.branches[0], tokens), tensor(stored, "pred_siammae_path"))
    step.loss.backward()
    total = torch.stack([p.grad.norm() for p in objective.parameters() if p.grad is not None]).norm()
    assert_close(total, tensor(stored, "grad_total_siammae_only"))


@pytest.mark.parametrize(
    ("recipe", "folder", "trace", "weights", "name"),
    [
        ("mae", "mae", "mae_train6.npz", "mae_tiny_r75.npz", mae_name),
        ("siammae", "tobo", "siammae_path_train6.npz", "tobo_tiny_r75.npz", csm_name),
    ],
)
def test_six_training_steps(
    golden: GoldenFinder, recipe: str, folder: str, trace: str, weights: str, name: Any
) -> None:
    """Losses, learning rates and weights of six AdamW steps with warm-up and cosine."""
    stored = np.load(golden(f"pretraining/{folder}/{trace}"))
    config_name = trace.replace("mae_train6.npz", "train6").replace(".npz", "") + "_config.json"
    config = json.loads(golden(f"pretraining/{folder}/{config_name}").read_text())
    changes = {"optimiser.rate": config["lr"], "optimiser.reference": 0, "optimiser.epochs": config["epochs"],
               "optimiser.warmup": config["warmup_epochs"], "optimiser.decay": config["weight_decay"],
               "masks.*.ratio": config["mask_ratio"], "views.repeat": 1}  # fmt: skip
    objective: Any = tiny(recipe, **changes)
    fill(objective, golden(f"pretraining/{folder}/{weights}"), name)
    schedule = optimise.Schedule(objective.recipe, peak=config["lr"], steps_per_epoch=config["iters_per_epoch"])
    optimiser = optimise.optimiser_of(objective, objective.recipe.optimiser)
    images = ["imgs"] if recipe == "mae" else ["src", "tgt"]
    for index in range(6):
        schedule.apply(optimiser, index)
        assert optimiser.param_groups[0]["lr"] == pytest.approx(stored["lr"][index], rel=1e-12)
        mask = hide(objective, tensor(stored, "noise")[index])
        step = objective.step(
            [View(tensor(stored, name)[index]) for name in images], [None, mask] if len(images) == 2 else [mask]
        )
        assert float(step.loss.detach()) == pytest.approx(float(stored["losses"][index]), rel=1e-6)
        optimiser.zero_grad()
        step.loss.backward()
        optimiser.step()
    parameters = dict(objective.named_parameters())
    for published, norm in zip(stored["param_names"], stored["param_norms_after"], strict=True):
        if "pos_embed" not in str(published):
            assert float(parameters[name(str(published))].detach().norm()) == pytest.approx(norm, rel=1e-6)


@pytest.mark.parametrize("ratio", ["75", "90"])
def test_tobo(golden: GoldenFinder, ratio: str) -> None:
    stored = np.load(golden(f"pretraining/tobo/tobo_tiny_r{ratio}.npz"))
    objective: Any = tiny("tobo", **{"masks.1.ratio": int(ratio) / 100})
    fill(objective, golden("pretraining/tobo/tobo_tiny_r75.npz"), csm_name)
    mask = hide(objective, tensor(stored, "noise"))
    both = views(stored, "src", "tgt")
    step = objective.step(both, [None, mask])
    assert_close(step.parts["loss_0"], tensor(stored, "loss_siammae_path"))
    assert_close(step.parts["loss_1"], tensor(stored, "loss_tobo_path"))
    tokens = objective.encode(both, [None, mask])
    assert_close(objective.predict(objective.recipe.branches[1], tokens), tensor(stored, "pred_tobo_path"))
    step.loss.backward()
    assert_gradients(objective, stored, csm_name, norms="grad_norms_sum")


@pytest.mark.parametrize(("case", "ratio", "patch", "depth"), [("p4", 0.75, 4, 2), ("p2_95", 0.95, 2, 1)])
def test_cropmae(golden: GoldenFinder, case: str, ratio: float, patch: int, depth: int) -> None:
    path = golden(f"pretraining/siammae/cropmae_class_{case}.npz")
    stored = np.load(path)
    objective: Any = tiny("cropmae", **{"masks.1.ratio": ratio, "encoder.patch": patch, "decoders.0.depth": depth})
    fill(objective, path, cropmae_name)
    pixels = tensor(stored, "imgs")
    pair = [View(pixels[:, 0]), View(pixels[:, 1])]
    mask = hide(objective, tensor(stored, "noise"))
    assert torch.equal(mask.restore, tensor(stored, "ids_restore"))
    tokens = objective.encode(pair, [None, mask])
    assert_close(tokens[0].z, tensor(stored, "memory"))
    assert_close(tokens[1].z, tensor(stored, "latent"))
    assert_close(objective.predict(objective.recipe.branches[0], tokens), tensor(stored, "pred"))
    step = objective.step(pair, [None, mask])
    assert_close(step.loss, tensor(stored, "loss"))
    step.loss.backward()
    assert_gradients(objective, stored, cropmae_name)


def test_catmae(golden: GoldenFinder) -> None:
    path = golden("pretraining/catmae/catmae_tiny.npz")
    stored = np.load(path)
    changes = {"masks.*.ratio": float(stored["mask_ratio"]), "masks.0.kind": "none", "decoders.0.depth": 1}
    objective: Any = tiny("catmae", **changes)
    fill(objective, path, cropmae_name)
    hidden = [None, hide(objective, tensor(stored, "noise2")), hide(objective, tensor(stored, "noise3"))]
    step = objective.step(views(stored, "f1", "f2", "f3"), hidden)
    assert_close(step.parts["loss_0"], tensor(stored, "loss_x2"))
    assert_close(step.parts["loss_1"], tensor(stored, "loss_x3"))
    assert_close(step.loss, tensor(stored, "loss"))
    step.loss.backward()
    assert_gradients(objective, stored, cropmae_name)
