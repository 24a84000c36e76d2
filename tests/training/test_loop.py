"""The loop: resuming, stopping, sharing out over processes, and what it writes."""

import csv
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import corrkit
from corrkit.backbones import load_backbone
from corrkit.errors import RunError, UsageError
from corrkit.files.jsontext import leaves
from corrkit.runs import loggers
from corrkit.runs.loggers import Logger
from corrkit.training import checkpoint, loop
from corrkit.training.loop import pretrain
from corrkit.training.networks.encoder import Encoder
from corrkit.training.objectives import make_objective
from corrkit.training.options import Options
from corrkit.training.recipe import load_recipe

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = {"views.size": 32, "encoder.patch": 8, "masks.1.ratio": 0.75, "encoder.depth": 1, "views.gap": [1, 3]}
OPTIONS = Options(batch=2, steps=6, log_every=1, picture_every=0, save_every=3)


def siammae(**changes: Any) -> Any:
    return load_recipe("siammae", scale="tiny", changes={**SMALL, **changes})


def losses(out: Path) -> list[str]:
    with (out / "log.csv").open() as file:
        return [row["loss"] for row in csv.DictReader(file)]


class KilledError(Exception):
    pass


def stopped_before(step: int, recipe: Any, clips: Path, out: Path, options: Options) -> None:
    """A run that is killed before a step."""
    step_of = loop._Training._step

    def stopped(self: Any, number: int, batches: Any) -> Any:
        if number == step:
            raise KilledError
        return step_of(self, number, batches)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop._Training, "_step", stopped)
        pretrain(recipe, clips, out, options)


def stop_and_go_on(recipe: Any, clips: Path, out: Path, options: Options, *, step: int) -> None:
    """A run that ends in the middle, before a step, and is repeated; it goes on from its last checkpoint."""
    with pytest.raises(KilledError):
        stopped_before(step, recipe, clips, out, options)
    pretrain(recipe, clips, out, options)


@pytest.mark.parametrize("options", [{}, {"accumulate": 2, "average": 0.9}])
def test_a_resumed_run_has_the_losses_of_an_undisturbed_one(
    clips: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    recipe = siammae(**{"decoders.0.dropout": 0.1, "optimiser.clip": 1.0})
    chosen = dataclasses.replace(OPTIONS, **options)
    pretrain(recipe, clips, tmp_path / "whole", chosen)
    stop_and_go_on(recipe, clips, tmp_path / "cut", chosen, step=5)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "cut")) == 6
    one, other = (checkpoint.read(tmp_path / name / "checkpoint.pth") for name in ("whole", "cut"))
    assert all(torch.equal(one["model"][name], other["model"][name]) for name in one["model"])
    assert all(torch.equal(one["ema"][name], other["ema"][name]) for name in one.get("ema", {}))


def test_a_run_with_growing_images_resumes_exactly(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of six steps, two have images of 16 and one has images of 24 pixels; a cut and a change fall together."""
    sizes = {"views.size": 32, "views.sizes": [16, 24], "views.until": [0.3, 0.5], "encoder.depth": 1}
    recipe = load_recipe("fastmim-p", scale="tiny", changes=sizes)
    chosen = dataclasses.replace(OPTIONS, accumulate=2, save_every=1)
    seen: list[int] = []
    hide = Encoder.embed
    monkeypatch.setattr(
        Encoder, "embed", lambda self, pixels, mask: seen.append(pixels.shape[-1]) or hide(self, pixels, mask)
    )
    pretrain(recipe, clips, tmp_path / "whole", chosen)
    assert seen == [16] * 4 + [24] * 2 + [32] * 6
    stop_and_go_on(recipe, clips, tmp_path / "cut", chosen, step=2)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_a_run_on_images_and_videos_together_resumes_exactly(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four clips and two images: every third batch has images, of one tubelet, of which a quarter is seen."""
    for name in ("a", "b"):
        Image.fromarray(np.random.default_rng(1).integers(0, 255, (40, 48, 3), dtype=np.uint8)).save(
            clips / f"{name}.png"
        )
    sizes = {"views.size": 32, "image_views.0.size": 32, "encoder.depth": 1, "views.repeat": 2}
    recipe = load_recipe("omnimae", scale="tiny", changes=sizes)
    seen: list[tuple[int, int]] = []
    hide = Encoder.embed

    def embed(self: Encoder, pixels: torch.Tensor, mask: Any) -> torch.Tensor:
        tokens = hide(self, pixels, mask)
        seen.append((pixels.shape[2], tokens.shape[1]))
        return tokens

    monkeypatch.setattr(Encoder, "embed", embed)
    pretrain(recipe, clips, tmp_path / "whole", OPTIONS)
    of_clip, of_image = (4, 32 - 28), (2, 16 - 12)  # frames, visible tokens
    assert seen == [of_clip, of_clip, of_image] * 2
    stop_and_go_on(recipe, clips, tmp_path / "cut", OPTIONS, step=4)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_a_finished_run_is_not_trained_further(clips: Path, tmp_path: Path) -> None:
    path = pretrain(siammae(), clips, tmp_path / "out", OPTIONS)
    before = path.read_bytes()
    assert pretrain(siammae(), clips, tmp_path / "out", OPTIONS).read_bytes() == before


def test_another_run_in_the_same_folder_is_refused_and_the_difference_named(clips: Path, tmp_path: Path) -> None:
    pretrain(siammae(), clips, tmp_path / "out", OPTIONS)
    with pytest.raises(RunError, match=r"recipe\.masks\.1\.ratio was 0\.75, now 0\.5"):
        pretrain(siammae(**{"masks.1.ratio": 0.5}), clips, tmp_path / "out", OPTIONS)
    with pytest.raises(RunError, match="seed was 0, now 1"):
        pretrain(siammae(), clips, tmp_path / "out", dataclasses.replace(OPTIONS, seed=1))


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow = loop._Training._step

    def poisoned(self: Any, number: int, batches: Any) -> Any:
        if number == 4:
            with torch.no_grad():
                self.objective.encoder.cls_token.fill_(float("nan"))
        return follow(self, number, batches)

    monkeypatch.setattr(loop._Training, "_step", poisoned)
    with pytest.raises(RunError, match=r"Step 5: the loss is not finite") as caught:
        pretrain(siammae(), clips, tmp_path / "out", OPTIONS)
    assert "optimiser.rate" in caught.value.remedy
    kept = checkpoint.read(tmp_path / "out" / "checkpoint.pth")
    assert kept["step"] == 3
    assert all(tensor.isfinite().all() for tensor in kept["model"].values())


def test_a_checkpoint_is_read_as_it_is(clips: Path, tmp_path: Path) -> None:
    path = pretrain(siammae(**{"encoder.dim": 48, "encoder.heads": 3}), clips, tmp_path / "out", OPTIONS)
    backbone = load_backbone(path)
    assert dict(backbone.report.evidence)["heads"].startswith("3")
    assert backbone.stride == 8
    assert backbone(torch.zeros(1, 3, 32, 48)).shape == (1, 4, 6, 48)
    assert dict(leaves(checkpoint.read(path)["recipe"]))["masks.1.ratio"] == 0.75


def test_features_of_a_checkpoint_are_the_encoder_s(clips: Path, tmp_path: Path) -> None:
    path = pretrain(siammae(), clips, tmp_path / "out", OPTIONS)
    objective: Any = make_objective(siammae())
    checkpoint.load_model_state(objective, checkpoint.read(path)["model"])
    frames = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        expected = objective.encoder(frames).patches.reshape(2, 4, 4, -1)
        torch.testing.assert_close(load_backbone(path)(frames), expected, rtol=1e-5, atol=1e-5)


def test_init_takes_over_the_encoder_of_a_checkpoint(clips: Path, tmp_path: Path) -> None:
    path = pretrain(siammae(), clips, tmp_path / "out", OPTIONS)
    sizes = {name: value for name, value in SMALL.items() if not name.startswith("masks")}
    objective: Any = make_objective(load_recipe("mae", scale="tiny", changes=sizes))
    count = checkpoint.start_from(objective, str(path))
    stored = checkpoint.read(path)["model"]
    assert count == sum(1 for name in stored if not name.startswith("decoder.") and name != "pos_embed")
    assert torch.equal(objective.encoder.blocks[0].mlp.fc1.weight, stored["blocks.0.mlp.fc1.weight"])


def test_run_files(clips: Path, tmp_path: Path) -> None:
    options = dataclasses.replace(OPTIONS, picture_every=3)
    pretrain(siammae(), clips, tmp_path / "out", options)
    assert len(losses(tmp_path / "out")) == 6
    for name in ("curve.png", "pictures/step-00000006.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert np.asarray(picture).std() > 1  # something is drawn
    assert json.loads((tmp_path / "out" / "run.json").read_text())["step"] == 6


def test_a_device_that_does_not_exist_is_named(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="abacus"):
        pretrain(siammae(), clips, tmp_path / "out", dataclasses.replace(OPTIONS, device="abacus"))


def test_two_gloo_processes_train_under_torchrun(clips: Path, tmp_path: Path) -> None:
    changes = [part for k, v in SMALL.items() for part in ("--set", f"{k}={v}")]
    command = ["-m", "corrkit", "pretrain", "siammae", "--scale", "tiny", "--data", str(clips), "--steps", "4",
               "--batch", "1", "--log-every", "1", "--out", str(tmp_path / "two"), *changes]  # fmt: skip
    launched = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *command],
        capture_output=True, text=True, timeout=300, cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert launched.returncode == 0, launched.stderr[-2000:]
    assert launched.stdout.splitlines() == [str(tmp_path / "two" / "checkpoint.pth")]  # the first rank alone talks
    assert launched.stderr.count("step 1 of 4") == launched.stderr.count("an epoch, of 2 items") == 1
    assert len(losses(tmp_path / "two")) == 4
    run = json.loads((tmp_path / "two" / "run.json").read_text())
    assert run["ranks"] == 2
    load_backbone(tmp_path / "two" / "checkpoint.pth")


class Scores:
    """An evaluator that scores a backbone by the mean of its features."""

    def __init__(self, tasks: tuple[str, ...], metrics: str) -> None:
        assert (tasks, metrics) == (("davis",), "all")

    def __call__(self, backbone: Any, step: int) -> dict[str, float]:
        features = backbone(torch.ones(1, 3, 32, 32))
        return {"step": step, "davis/J&F-Mean": float(features.square().mean())}


def test_the_encoder_is_scored_as_it_trains(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corrkit, "Evaluator", Scores, raising=False)
    options = dataclasses.replace(OPTIONS, evaluate_every=2, tasks=("davis",), picture_every=6)
    path = pretrain(siammae(**{"optimiser.rate": 0.01, "optimiser.reference": 0}), clips, tmp_path / "out", options)
    with (tmp_path / "out" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["0", "2", "4", "6"]
    assert len({row["davis/J&F-Mean"] for row in rows}) == 4  # it is the network as it was at that step
    last = Scores(("davis",), "all")(load_backbone(path), 6)
    assert float(rows[-1]["davis/J&F-Mean"]) == pytest.approx(last["davis/J&F-Mean"], rel=1e-6)


def test_numbers_go_to_a_logger_too(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    rows: list[Any] = []

    def program(out: Path, settings: Any, first: int) -> Logger:
        assert settings["recipe"]["name"] == "siammae"
        opened.append(first)
        return Logger("fake", lambda step, numbers: rows.append((step, numbers)), lambda: rows.append("closed"))

    monkeypatch.setattr(loggers, "PROGRAMS", {"wandb": program})
    monkeypatch.setattr(corrkit, "Evaluator", Scores, raising=False)
    options = dataclasses.replace(OPTIONS, log="wandb", evaluate_every=3, tasks=("davis",))
    stop_and_go_on(siammae(), clips, tmp_path / "out", options, step=5)
    assert opened == [0, 3]
    assert rows.count("closed") == 2  # also by what was killed
    steps = [row for row in rows if row != "closed"]
    assert [step for step, _ in steps] == [0, 1, 2, 3, 3, 4, 5, 4, 5, 6, 6]
    names = set(steps[1][1])
    assert {"loss", "rate", "gradient_norm", "replaced", "samples_per_second", "share_waiting_for_data"} <= names
    assert steps[0][1].keys() == {"davis/J&F-Mean"}
    with pytest.raises(RunError, match="another run"):
        pretrain(siammae(), clips, tmp_path / "out", dataclasses.replace(options, seed=1))
    assert len(opened) == 2  # a refused run is none there
