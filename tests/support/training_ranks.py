"""What each rank of a process group trains: spawned processes import this module by name."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

import corrkit
from corrkit.training import loop
from corrkit.training.networks.batchnorm import TokenBatchNorm
from corrkit.training.options import Options
from corrkit.training.recipe import load_recipe


class KilledError(Exception):
    pass


Way = Literal["ddp", "fsdp"]
WAYS: tuple[Way, Way] = ("ddp", "fsdp")
CHANGES = {"optimiser.clip": 1.0, "optimiser.warmup": 0, "teacher.momentum": 0.5}
"""Rates and teachers that move enough in four steps for a lost update to be seen."""


def train(name: str, data: str, out: Path, way: Way, **more: Any) -> None:
    """Four steps of a tiny recipe, with everything that the processes could share wrongly."""
    options = Options(
        batch=1, accumulate=2, steps=4, average=0.9, log_every=1, picture_every=2, save_every=2, device="cpu",
        parallel=way,
    )  # fmt: skip
    recipe = load_recipe(name, scale="tiny", changes=CHANGES)
    loop.pretrain(recipe, data, out, dataclasses.replace(options, **more))


def both_ways(rank: int, port: int, data: str, out: str, name: str) -> None:
    """One recipe, replicated and divided."""
    with group(rank, port):
        for way in WAYS:
            train(name, data, Path(out) / way, way)


def siammae_in_all_cases(rank: int, port: int, data: str, out: str) -> None:
    """What the tests compare, in one process group: each starts with an import of torch."""
    with group(rank, port):
        for way in WAYS:
            train("siammae", data, Path(out) / way, way)
            for precision in ("bf16", "fp16"):
                train("siammae", data, Path(out) / precision / way, way, precision=precision)
            scored(data, Path(out) / "scored" / way, way)
            stopped_and_resumed(data, Path(out) / f"{way}-then-fsdp", (way, "fsdp"))
        torch.save(normalised_together(rank), Path(out) / f"normalised-{rank}.pt")
        overflowing_on_rank_one(data, Path(out) / "overflowing", rank)


def normalised_together(rank: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """SiameseIM's norm of this rank's half of a batch: outputs, gradient of their weighted squares, variance."""
    norm = TokenBatchNorm(6)
    mine, weights = (part.chunk(2)[rank].clone() for part in halves())
    outputs = norm(mine.requires_grad_())
    (outputs * weights).square().mean().backward()
    assert mine.grad is not None
    return outputs.detach(), mine.grad, norm.bn.running_var


def halves() -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens [4, 5, 6] of two ranks whose means differ, and weights of a loss."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(4, 5, 6, generator=generator) * 3 + torch.arange(4)[:, None, None]
    return tokens, torch.randn(4, 5, 6, generator=generator)


def stopped_and_resumed(data: str, out: Path, ways: tuple[Way, Way]) -> None:
    """Stopped in its fourth step, gone on with from the second."""
    step_of = loop._Training._step

    def stopped(self: Any, number: int, batches: Any) -> Any:
        if number == 3:
            raise KilledError
        return step_of(self, number, batches)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop._Training, "_step", stopped)
        with pytest.raises(KilledError):
            train("siammae", data, out, ways[0])
    train("siammae", data, out, ways[1])


class Features:
    """An evaluator that scores a backbone by the mean square of its features."""

    def __init__(self, tasks: tuple[str, ...], metrics: str) -> None:
        assert (tasks, metrics) == (("davis",), "all")

    def __call__(self, backbone: Any, step: int) -> dict[str, float]:
        return {"step": step, "davis/J&F-Mean": float(backbone(torch.ones(1, 3, 96, 96)).square().mean())}


def scored(data: str, out: Path, way: Way) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corrkit, "Evaluator", Features, raising=False)
        train("siammae", data, out, way, evaluate_every=1, tasks=("davis",))


def overflowing_on_rank_one(data: str, out: Path, rank: int) -> None:
    """One step of fp16, of whose gradients the second rank's share is infinite."""
    unscale = torch.amp.GradScaler.unscale_

    def poisoned(self: torch.amp.GradScaler, optimiser: torch.optim.Optimizer) -> None:
        for parameter in optimiser.param_groups[0]["params"]:
            parameter.grad.to_local().add_(torch.inf if rank == 1 else 0.0)
        unscale(self, optimiser)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.amp.GradScaler, "unscale_", poisoned)
        train("siammae", data, out, "fsdp", precision="fp16", steps=1)


@contextlib.contextmanager
def group(rank: int, port: int) -> Iterator[None]:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    yield
    torch.distributed.destroy_process_group()
