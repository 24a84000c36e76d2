"""What a step does beside the loss: lower precision, scaling, accumulation, clipping, averages, and sudden death."""

import dataclasses
import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from corrkit.runs.logs import read_log
from corrkit.training import checkpoint, loop
from corrkit.training.data.views import View
from corrkit.training.loop import pretrain
from corrkit.training.objectives import make_objective
from corrkit.training.objectives.masked import Objective, Step
from corrkit.training.options import Options
from corrkit.training.recipe import load_recipe
from corrkit.training.schema import Recipe

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = {"views.size": 32, "masks.1.ratio": 0.75, "encoder.depth": 1, "views.gap": [1, 3], "optimiser.warmup": 0}
OPTIONS = Options(batch=2, steps=3, log_every=1, picture_every=0, save_every=1, device="cpu")


def siammae(**changes: Any) -> Recipe:
    return load_recipe("siammae", scale="tiny", changes={**SMALL, **changes})


def losses(out: Path) -> list[float]:
    return [row["loss"] for row in read_log(out / "log.csv")]


def initial_state(recipe: Recipe) -> dict[str, torch.Tensor]:
    torch.manual_seed(OPTIONS.seed)
    return checkpoint.model_state(make_objective(recipe))


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.02), ("fp16", 0.005)])
def test_lower_precision_has_nearly_the_losses_of_single_precision(
    precision: Any, tolerance: float, clips: Path, tmp_path: Path
) -> None:
    pretrain(siammae(), clips, tmp_path / "single", OPTIONS)
    pretrain(siammae(), clips, tmp_path / "lower", dataclasses.replace(OPTIONS, precision=precision))
    assert losses(tmp_path / "lower") == pytest.approx(losses(tmp_path / "single"), rel=tolerance)
    assert losses(tmp_path / "lower") != losses(tmp_path / "single")
    weights = checkpoint.read(tmp_path / "lower" / "checkpoint.pth")["model"]
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


def test_a_step_whose_scaled_gradients_overflow_is_left_out(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    too_large = functools.partial(torch.amp.GradScaler, init_scale=2.0**126)
    monkeypatch.setattr(torch.amp, "GradScaler", too_large)
    options = dataclasses.replace(OPTIONS, precision="fp16", steps=1)
    tree = checkpoint.read(pretrain(siammae(), clips, tmp_path / "out", options))
    for name, before in initial_state(siammae()).items():
        assert torch.equal(tree["model"][name], before)
    assert tree["scaler"]["scale"] == 2.0**125


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_norm_is_limited_after_gradients_are_scaled_back(
    precision: Any, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms = []
    step_of = torch.optim.AdamW.step

    def measured(self: torch.optim.AdamW, *args: Any, **kwargs: Any) -> Any:
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        norms.append(float(torch.stack([gradient.norm() for gradient in gradients]).norm()))
        return step_of(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", measured)
    options = dataclasses.replace(OPTIONS, precision=precision)
    pretrain(siammae(**{"optimiser.clip": 0.01}), clips, tmp_path / "out", options)
    assert norms == pytest.approx([0.01] * 3, rel=1e-3)


class SquaredFeatures(Objective):
    """A loss that is the mean over the samples, without masks."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.decoder = nn.Linear(recipe.encoder.dim, 1)

    def step(self, views: Any, masks: Any, progress: float = 0.0) -> Step:
        tokens = [self.encoder(view.pixels).patches for view in views if isinstance(view, View)]
        return Step(loss=sum(self.decoder(z).square().mean() for z in tokens), parts={})


def test_two_passes_of_two_make_the_step_of_one_pass_of_four(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "make_objective", SquaredFeatures)
    one = pretrain(siammae(), clips, tmp_path / "one", dataclasses.replace(OPTIONS, batch=4))
    two = pretrain(siammae(), clips, tmp_path / "two", dataclasses.replace(OPTIONS, batch=2, accumulate=2))
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
    assert len(set(losses(tmp_path / "one"))) == 3
    first, second = (checkpoint.read(path)["optimizer"]["state"] for path in (one, two))
    for index, row in first.items():  # first moments: linear in the gradients, unlike weights after AdamW
        torch.testing.assert_close(second[index]["exp_avg"], row["exp_avg"], rtol=1e-3, atol=1e-6)


def test_the_average_moves_by_its_momentum(clips: Path, tmp_path: Path) -> None:
    tree = checkpoint.read(
        pretrain(siammae(), clips, tmp_path / "out", dataclasses.replace(OPTIONS, average=0.75, steps=1))
    )
    before, after = initial_state(siammae())["blocks.0.mlp.fc1.weight"], tree["model"]["blocks.0.mlp.fc1.weight"]
    assert not torch.equal(before, after)
    torch.testing.assert_close(tree["ema"]["blocks.0.mlp.fc1.weight"], 0.75 * before + 0.25 * after)


KILLED_AT = [
    *("step-1", "step-5", "step-6", "step-12"),
    *(f"half-write-{number}" for number in (1, 3, 4, 6, 8)),
    *(f"before-replace-{number}" for number in (1, 3, 4, 5)),
    *(f"after-replace-{number}" for number in (1, 3, 4, 5)),
]


def test_a_killed_run_repeated_ends_with_the_losses_and_weights_of_an_undisturbed_one(
    clips: Path, tmp_path: Path
) -> None:
    """Killed in steps, and while index, logs and checkpoints are written."""
    support = REPOSITORY / "tests" / "support"
    done = subprocess.run(
        [sys.executable, support / "killed_training.py", clips, tmp_path / "runs", "undisturbed", *KILLED_AT],
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{support}", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    statuses = json.loads(done.stdout.splitlines()[-1])
    assert statuses.pop("undisturbed") == [0, 0]
    assert statuses == {point: [-signal.SIGKILL, 0] for point in KILLED_AT}, done.stderr[-2000:]
    whole = checkpoint.read(tmp_path / "runs" / "undisturbed" / "checkpoint.pth")
    assert len(losses(tmp_path / "runs" / "undisturbed")) == 12
    for point in KILLED_AT:
        assert losses(tmp_path / "runs" / point) == losses(tmp_path / "runs" / "undisturbed"), point
        repeated = checkpoint.read(tmp_path / "runs" / point / "checkpoint.pth")
        assert repeated["step"] == 12
        for part in ("model", "ema"):
            assert all(torch.equal(repeated[part][name], whole[part][name]) for name in whole[part]), point
