"""Each recipe's run as it is put together: rates, decay and teachers against the published sources.

Numbers are those of shared/reference/pretraining.md, worked out at the published batch in the comments.
"""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from corrkit.training import checkpoint
from corrkit.training.loop import pretrain
from corrkit.training.objectives import make_objective
from corrkit.training.optimise import optimiser_of, schedule_of
from corrkit.training.recipe import load_recipe, recipe_names
from tests.training.test_loop import OPTIONS

STEPS_AN_EPOCH = 50

# Peak and last learning rate at the recipe's batch.
RATES = {
    "siammae": (1.2e-3, 0.0),  # 1.5e-4 x 2048 / 256
    "cropmae": (8e-4, 0.0),  # 1e-4 x 2048 / 256
    "catmae": (8e-4, 0.0),
    "rsp": (9e-4, 0.0),  # 1.5e-4 x 1536 videos / 256
    "tobo": (1.2e-3, 0.0),
    "mae": (2.4e-3, 0.0),  # 1.5e-4 x 4096 / 256
    "splitmask": (2.4e-3, 0.0),
    "fastmim": (2.4e-3, 0.0),
    "fastmim-p": (2.4e-3, 0.0),
    "fcmae": (2.4e-3, 0.0),
    "bootmae": (2.4e-3, 1e-4),  # the minimum is absolute
    "sdae": (8e-4, 0.0),  # 2.666e-4 x 768 / 256
    "siameseim": (1e-3, 0.0),  # 6.25e-5 x 4096 / 256
    "dino": (1e-3, 1e-6),  # 5e-4 x 512 / 256; the minimum is absolute
    "ibot": (1e-3, 1e-6),
    "videomae": (6e-4, 4e-5),  # 1.5e-4 x 1024 / 256; the minimum of 1e-5 is scaled likewise
    "mvd": (6e-4, 4e-4),  # 1e-4, scaled
    "mae-st": (3.2e-3, 0.0),  # 1.6e-3 x 512 / 256
    "omnimae": (1.6e-3, 0.0),
    "simmim": (4e-4, 4e-5),  # 1e-4 x 2048 / 512; a tenth from epoch 700 on
    "beit": (1.5e-3, 0.0),
    "maskfeat": (2e-4, 0.0),
    "maskfeat-video": (1e-4, 1e-6),
    "violet": (5e-5, 0.0),
}
DECAYS = {"dino": (0.04, 0.4), "ibot": (0.04, 0.4), "violet": (1e-3, 1e-3)}
WARMUPS = {"siammae": 40, "cropmae": 20, "mae": 40, "mae-st": 5, "videomae": 40, "fastmim": 20, "beit": 10, "sdae": 60,
           "siameseim": 40, "dino": 10, "maskfeat": 30, "maskfeat-video": 10, "rsp": 20}  # fmt: skip


def test_every_recipe_is_in_the_table() -> None:
    assert sorted(RATES) == recipe_names()


@pytest.mark.parametrize("name", RATES)
def test_rates_and_decay_of_a_run_of_published_size(name: str) -> None:
    recipe = load_recipe(name)
    batch = recipe.optimiser.batch
    schedule = schedule_of(recipe, batch, STEPS_AN_EPOCH * batch)
    rates = [schedule.rate(step) for step in range(schedule.total_steps)]
    peak, last = RATES[name]
    assert rates[0] == 0.0
    assert max(rates) == pytest.approx(peak, rel=3e-4)  # 2.666e-4 is rounded
    assert rates[-1] == pytest.approx(last, rel=1e-3, abs=peak * 1e-4)
    if name in WARMUPS:
        top = rates.index(max(rates))
        assert top == pytest.approx(WARMUPS[name] * STEPS_AN_EPOCH, abs=1)
    small = make_objective(load_recipe(name, scale="tiny", changes={"optimiser.decay": recipe.optimiser.decay}))
    decayed, bare = optimiser_of(small, recipe.optimiser).param_groups
    optimiser = torch.optim.AdamW([decayed, bare])
    first, end = DECAYS.get(name, (0.05, 0.05))
    for step, wanted in ((0, first), (schedule.total_steps - 1, end)):
        schedule.apply(optimiser, step)
        assert optimiser.param_groups[0]["weight_decay"] == pytest.approx(wanted, rel=1e-4)
        assert optimiser.param_groups[1]["weight_decay"] == 0.0


TEACHERS = ("bootmae", "dino", "ibot", "sdae", "siameseim")


@pytest.mark.parametrize("name", TEACHERS)
def test_teachers_drop_nothing_while_students_do(name: str) -> None:
    torch.manual_seed(0)
    changes = {"encoder.drop_path": 0.9, "encoder.depth": 4}
    objective: Any = make_objective(load_recipe(name, scale="tiny", changes=changes)).train()
    teacher = objective.teacher if name in ("bootmae", "sdae") else objective.teacher[0]
    images = torch.randn(8, 3, 96, 96)
    outputs: dict[Any, list[torch.Tensor]] = {part: [] for part in (teacher, objective.encoder)}
    for seed in range(2):
        for part, found in outputs.items():
            torch.manual_seed(seed)
            found.append(part(images).z)
    assert torch.equal(*outputs[teacher])
    assert not torch.equal(*outputs[objective.encoder])


# Momentum of each step of a run of two epochs of two steps; 1 where the teacher stays.
MOVES = {
    "sdae": [1.0, 0.96, 1.0, 0.975],  # once an epoch: 0.96, then half a cosine on the way to 0.99
    "bootmae": [0.999] * 2 + [0.999009] * 2,  # fixed within an epoch, on the way to 0.9999 at 100
    "dino": [0.996, 0.996586, 0.998, 0.999414],  # 0.996 to 1 by half a cosine
    "ibot": [0.996, 0.996586, 0.998, 0.999414],
}


@pytest.mark.parametrize("name", MOVES)
def test_teachers_move_when_and_as_far_as_published(name: str, clips: Path, tmp_path: Path) -> None:
    changes = {"views.size": 32, "encoder.depth": 1, "optimiser.warmup": 0, "optimiser.epochs": 2}
    options = dataclasses.replace(OPTIONS, steps=4, save_every=1, keep=9)
    recipe = load_recipe(name, scale="tiny", changes=changes)
    pretrain(recipe, clips, tmp_path / "out", options)
    torch.manual_seed(options.seed)
    states = [checkpoint.model_state(make_objective(recipe))]
    states += [checkpoint.read(path)["model"] for path in sorted((tmp_path / "out").glob("checkpoint-*.pth"))]
    weight = "blocks.0.mlp.fc1.weight"
    teacher = next(
        f"decoder.teacher.{part}{weight}" for part in ("", "0.") if f"decoder.teacher.{part}{weight}" in states[0]
    )
    for before, after, momentum in zip(states, states[1:], MOVES[name], strict=False):
        expected = momentum * before[teacher].double() + (1 - momentum) * after[weight].double()
        moved = (expected - before[teacher]).abs().max()
        torch.testing.assert_close(after[teacher].double(), expected, rtol=0, atol=float(moved) * 2e-3 + 2e-8)
        assert (momentum == 1.0) == torch.equal(after[teacher], before[teacher])


def test_an_epoch_of_sdae_moves_its_teacher_by_four_percent_whatever_its_length(clips: Path, tmp_path: Path) -> None:
    """In eight steps an epoch, as in two."""
    changes: dict[str, Any] = {"views.size": 32, "encoder.depth": 1, "optimiser.epochs": 2, "optimiser.warmup": 0}
    recipe = load_recipe("sdae", scale="tiny", changes=changes)
    pretrain(recipe, clips, tmp_path / "out", dataclasses.replace(OPTIONS, steps=16, save_every=8, keep=9))
    torch.manual_seed(OPTIONS.seed)
    weight = "blocks.0.mlp.fc1.weight"
    start = checkpoint.model_state(make_objective(recipe))[weight]
    after = checkpoint.read(tmp_path / "out" / "checkpoint-00000008.pth")["model"]
    torch.testing.assert_close(after[f"decoder.teacher.{weight}"], 0.96 * start + 0.04 * after[weight])
