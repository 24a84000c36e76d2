"""A checkpoint of every recipe passes `corrkit inspect` and `corrkit eval`, with the features it was trained for."""

import copy
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from davis_folder import make_clip

from corrkit.backbones.framewise import Framewise
from corrkit.backbones.windowed import Windowed
from corrkit.cli import main
from corrkit.training import checkpoint
from corrkit.training.objectives import make_objective
from corrkit.training.objectives.masked import Objective
from corrkit.training.optimise import optimiser_of
from corrkit.training.recipe import load_recipe, recipe_names

REPOSITORY = Path(__file__).resolve().parents[2]
NUM_FRAMES = 4
SAME_NETWORK: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}  # one network, written twice: rounding only
CLIP_RECIPES = [name for name in recipe_names() if load_recipe(name, scale="tiny").views.frames > 1]


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "DAVIS", frames=NUM_FRAMES, size=(64, 96))


def stored(name: str, folder: Path) -> tuple[Objective, Path]:
    """A tiny objective with no parameter at a neutral value, and its checkpoint as the loop writes it."""
    torch.manual_seed(0)
    objective: Any = make_objective(load_recipe(name, scale="tiny"))
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    path = folder / f"{name}.pth"
    optimizer = optimiser_of(objective, objective.recipe.optimiser).state_dict()
    tree = checkpoint.checkpoint_tree(objective, step=3, fingerprint={"seed": 0}, optimizer=optimizer, scaler={})
    checkpoint.save(path, tree)
    return objective.eval(), path


def evaluation(objective: Objective, path: Path, davis: Path, *more: str) -> list[str]:
    """One clip at the size of the recipe's views, where no position is resampled."""
    side = objective.recipe.views.size
    size = ["--set", "frames.resize=exact", "--set", f"frames.size=[{side},{side}]"]
    place = ["--data", str(davis), "--out", str(davis.parent / "run"), "--device", "cpu"]
    return ["eval", "davis", "--ckpt", str(path), *size, *place, "--json", "-q", *more]


def of_one_slice(encoder: torch.nn.Module) -> Any:
    """The encoder of a clip recipe for single frames: its positions are those of the first slice in time."""
    other: Any = copy.deepcopy(encoder)
    if not hasattr(other, "positions"):
        return other  # relative positions fit any number of slices
    one = (1, *other.grid[1:])
    rows = other.num_prefix + one[1] * one[2]
    for name, kept in (("pos_embed", rows), ("pos_embed_temporal", 1)):
        table = getattr(other.positions, name, None)
        if table is not None:
            table.data = table.data[:, :kept]
    other.grid = other.positions.grid = one
    return other


def trained_features(objective: Objective, frames: torch.Tensor) -> torch.Tensor:
    """What the training encoder makes of frames [B, 3, H, W], each on its own: [B, h, w, C]."""
    encoder, recipe = objective.encoder, objective.recipe
    pixels: torch.Tensor = frames
    if recipe.views.frames > 1:
        encoder = of_one_slice(encoder)
        pixels = frames[:, :, None].expand(-1, -1, recipe.encoder.tubelet, -1, -1)
    return encoder(pixels).patches.unflatten(1, encoder.grid[1:])


def calls_of(owner: type, method: str, monkeypatch: pytest.MonkeyPatch) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Frames and features of each call from now on."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    original = getattr(owner, method)

    def recorded(self: Any, frames: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = original(self, frames)
        seen.append((frames.clone(), features.clone()))
        return features

    monkeypatch.setattr(owner, method, recorded)
    return seen


@pytest.mark.parametrize("name", recipe_names())
def test_eval_scores_a_clip_with_the_features_of_the_trained_encoder(
    name: str, tmp_path: Path, davis: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    objective, path = stored(name, tmp_path)
    seen = calls_of(Framewise, "__call__", monkeypatch)
    spec = objective.recipe.encoder
    last_stage = ("--layer", str(len(spec.widens) + 1)) if spec.network == "convnextv2" else ()  # default: the third
    assert main(evaluation(objective, path, davis, *last_stage)) == 0
    summary = json.loads(capsys.readouterr().out)
    assert math.isfinite(summary["metrics"]["J&F-Mean"])
    assert (summary["clips"], summary["objects"], summary["partial"]) == (1, 2, [])
    assert sum(len(frames) for frames, _ in seen) == NUM_FRAMES
    for frames, features in seen:
        with torch.inference_mode():
            torch.testing.assert_close(features, trained_features(objective, frames), **SAME_NETWORK)


@pytest.mark.parametrize("name", CLIP_RECIPES)
def test_eval_in_windows_sees_clips_as_the_training_did(
    name: str, tmp_path: Path, davis: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    objective, path = stored(name, tmp_path)
    assert objective.recipe.views.frames == NUM_FRAMES
    seen = calls_of(Windowed, "_maps", monkeypatch)
    assert main(evaluation(objective, path, davis, "--window", str(NUM_FRAMES))) == 0
    summary = json.loads(capsys.readouterr().out)
    assert math.isfinite(summary["metrics"]["J&F-Mean"])
    ((window, features),) = seen
    with torch.inference_mode():
        slices = objective.encoder(window.transpose(0, 1)[None]).patches[0].unflatten(0, objective.encoder.grid)
    ends = features[[0, -1]]  # frames between the slices are interpolated; the first and last are slices
    torch.testing.assert_close(ends, slices[[0, -1]], **SAME_NETWORK)


@pytest.mark.parametrize("name", recipe_names())
def test_inspect_knows_the_checkpoint_as_corrkit_s_own_and_uses_the_whole_encoder(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    objective, path = stored(name, tmp_path)
    assert main(["inspect", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    if objective.recipe.encoder.relative:
        assert found["system"] == "beit"  # BEiT's own entry reads relative positions
    else:
        assert found["system"].startswith("corrkit")
        assert "trained with corrkit pretrain" in found["title"]
    of_training = {"mask_token", "mask_colour", "view_vectors"}
    wanted = {key for key in checkpoint.model_state(objective) if not key.startswith("decoder.")} - of_training
    assert found["tensors_used"] == len(wanted)
    assert main(["inspect", str(path)]) == 0
    assert found["title"] in capsys.readouterr().out


def test_the_commands_run_as_processes(tmp_path: Path, davis: Path) -> None:
    objective, path = stored("siammae", tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    for command in (["inspect", str(path), "--json"], evaluation(objective, path, davis)):
        done = subprocess.run(
            [sys.executable, "-m", "corrkit", *command], capture_output=True, text=True, cwd=tmp_path, env=environment,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)
