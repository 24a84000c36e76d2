"""A small network, and what each rank of a process group runs: spawned processes import this module by name."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    FullyShardedDataParallel,
    MixedPrecision,
    MixedPrecisionPolicy,
    fully_shard,
)
from torch.nn.parallel import DistributedDataParallel

import corrkit
from corrkit.backbones.contract import Backbone
from corrkit.errors import CorrkitError, UsageError


class SmallNet(torch.nn.Module):
    """Patches of 16 pixels to 8 channels, with everything that an evaluation could disturb."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = torch.nn.Conv2d(3, 8, 16, stride=16)
        self.norm = torch.nn.BatchNorm2d(8)
        self.dropout = torch.nn.Dropout(0.3)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.dropout(self.norm(self.patches(frames)))
        return found


def wrapped(net: SmallNet) -> Backbone:
    backbone: Backbone = corrkit.wrap(net, patch=16)
    return backbone


class FailsOnRankOne(SmallNet):
    """A user's network with an error of its own."""

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        if torch.distributed.get_rank() == 1:
            raise ZeroDivisionError("theirs")
        return super().forward(frames)


def failing_rank(rank: int, port: int, data: str, folder: str) -> None:
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.manual_seed(1)
    with pytest.raises(CorrkitError, match="theirs"):
        corrkit.Evaluator("davis", data=data, clips="all")(wrapped(FailsOnRankOne().eval()))
    (Path(folder) / f"{rank}.done").touch()
    torch.distributed.destroy_process_group()


def rank_of_two(rank: int, port: int, data: str, folder: str) -> None:
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.manual_seed(1)
    scores = corrkit.Evaluator("davis", data=data, clips="all")(wrapped(SmallNet().eval()))
    torch.save(scores, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def divided_rank(rank: int, port: int, data: str, folder: str) -> None:
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.manual_seed(1)
    net = SmallNet().eval()
    fully_shard(net, mesh=init_device_mesh("cpu", (2,)))
    scores = corrkit.Evaluator("davis", data=data, clips="all")(wrapped(net))
    torch.save((scores, corrkit.wrap(net, name="net").digest), Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


class Deep(nn.Module):
    """Has a part that can be divided by itself, and features that are not what a call gives."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, 8, 16, stride=16), self.normalisation()
        self.body: nn.Module = nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Dropout(0.3))
        self.head = nn.Linear(8, 4)

    def normalisation(self) -> nn.Module:
        return nn.GroupNorm(2, 8)

    def forward_features(self, frames: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.body(self.norm(self.patches(frames)))
        return found

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.forward_features(frames).mean((2, 3)))
        return scores


class Counting(Deep):
    """With running statistics, which differ from rank to rank after a step."""

    def normalisation(self) -> nn.Module:
        return nn.BatchNorm2d(8)


def _bare(kind: type[Deep] = Deep) -> Deep:
    torch.manual_seed(1)
    return kind()


def _fsdp1(**options: Any) -> nn.Module:
    net, cpu = _bare(), torch.device("cpu")
    net.body = FullyShardedDataParallel(net.body, device_id=cpu, **options)
    return FullyShardedDataParallel(net, device_id=cpu, **options)


def _fsdp2(**options: Any) -> nn.Module:
    net, mesh = _bare(), init_device_mesh("cpu", (2,))
    fully_shard(net.body, mesh=mesh, **options)
    fully_shard(net, mesh=mesh, **options)
    return net


HELD: dict[str, Callable[[], Any]] = {
    "ddp": lambda: DistributedDataParallel(_bare()),
    "ddp-buffers": lambda: DistributedDataParallel(_bare(Counting)),
    "ddp-compiled": lambda: torch.compile(DistributedDataParallel(_bare()), backend="eager"),
    "fsdp1": _fsdp1,
    "fsdp1-orig": lambda: _fsdp1(use_orig_params=True),
    "fsdp1-bf16": lambda: _fsdp1(mixed_precision=MixedPrecision(param_dtype=torch.bfloat16)),
    "fsdp2": _fsdp2,
    "fsdp2-kept": lambda: _fsdp2(reshard_after_forward=False),
    "fsdp2-always": lambda: _fsdp2(reshard_after_forward=True),
    "fsdp2-bf16": lambda: _fsdp2(mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16)),
}
"""How the ranks of a training hold a network."""
MOMENTS = ("before backward", "before the step", "after the step")
SIZE: Any = {"size": [48]}


def trained(held: str, look: Callable[[nn.Module], object], moment: str | None) -> tuple[list[float], list[object]]:
    """Losses of three steps on this rank's own batches, and what `look` gives at a moment of each."""
    net = HELD[held]()
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-2)
    torch.manual_seed(10 + torch.distributed.get_rank())
    losses, seen = [], []
    for _ in range(3):
        loss = net(torch.rand(2, 3, 32, 32)).square().mean()
        optimiser.zero_grad()
        actions = (lambda: None, loss.backward, optimiser.step)
        for action, here in zip(actions, MOMENTS, strict=True):
            action()
            if here == moment:
                seen.append(look(net))
        losses.append(loss.item())
    return losses, seen


def held_rank(rank: int, port: int, data: str, folder: str, kinds: tuple[str, ...]) -> None:
    """Stores, for each kind and moment, losses and scores of a training that is evaluated, and of one that isn't."""
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.set_num_threads(1)
    evaluator = corrkit.Evaluator("davis", data=data, clips="all", metrics="all", **SIZE)
    found: dict[str, Any] = {}
    for held in kinds:
        wrapped_net: Any = corrkit.wrap(HELD[held](), name="net")
        found[held] = {
            "alone": trained(held, evaluator, None)[0],
            "scores": evaluator(wrapped_net),
            "summary": corrkit.evaluate("davis", wrapped_net, data=data, **SIZE).summary,
            "digest": wrapped_net.digest,
            "notes": wrapped_net.report.notes,
        }
        for moment in MOMENTS:
            try:
                found[held][moment] = trained(held, evaluator, moment)
            except CorrkitError as error:
                found[held][moment] = str(error)
    alone = corrkit.Evaluator("davis", data=data, shared=False, **SIZE)
    found["rank 0 alone"] = trained("ddp-buffers", functools.partial(_look_of_rank_0, alone, data), MOMENTS[1])
    torch.manual_seed(rank)
    other = SmallNet()
    with pytest.raises(UsageError) as caught:
        evaluator(other)
    found["other weights"], found["other weights, not shared"] = str(caught.value), alone(other)
    torch.save(found, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def _look_of_rank_0(evaluator: corrkit.Evaluator, data: str, net: Any) -> object:
    """Numbers of rank 0, which no other rank helps with."""
    if torch.distributed.get_rank() == 1:
        return None

    def features(frames: torch.Tensor) -> torch.Tensor:
        net(frames)  # which sends its buffers to the other ranks
        found: torch.Tensor = net.module.forward_features(frames)
        return found

    scores = evaluator(net)
    assert evaluator(corrkit.wrap(net, forward=features)) == scores
    metrics = corrkit.evaluate("davis", net, data=data, **SIZE).summary["metrics"]
    assert all(value == metrics[name.removeprefix("davis/")] for name, value in scores.items())
    return scores
