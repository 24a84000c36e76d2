"""A small network, and what each rank of a process group runs: spawned processes import this module by name."""

from pathlib import Path

import pytest
import torch

import corrkit
from corrkit.backbones.contract import Backbone
from corrkit.errors import CorrkitError


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
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.manual_seed(1)
    net = SmallNet().eval()
    fully_shard(net, mesh=init_device_mesh("cpu", (2,)))
    scores = corrkit.Evaluator("davis", data=data, clips="all")(wrapped(net))
    torch.save((scores, corrkit.wrap(net, name="net").digest), Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()
