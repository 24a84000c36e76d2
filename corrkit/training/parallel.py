"""Several processes of torchrun: their group, and the two ways of sharing a training among them."""

import contextlib
import copy
import os
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from timm.models.beit import Block as QVBlock
from timm.models.vision_transformer import Block
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from corrkit.errors import UsageError
from corrkit.training.decoder import DecoderBlock
from corrkit.training.objective import Objective
from corrkit.training.objectives import make_objective


@contextlib.contextmanager
def process_group() -> Iterator[tuple[int, int]]:
    """(rank, number of ranks); under torchrun inside a process group, ended afterwards."""
    if "WORLD_SIZE" not in os.environ or dist.is_initialized():
        yield (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        return
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield dist.get_rank(), dist.get_world_size()
    finally:
        dist.destroy_process_group()


def wait() -> None:
    """Until all ranks are here."""
    if dist.is_initialized():
        dist.barrier()


class Replicated:
    """Every rank holds all weights (DDP); also the training on one device.

    Args:
        objective: with the weights to start from, equal on all ranks.
        average: moving average of its encoder.
        device: of this rank.
        ranks: number of processes.
    """

    def __init__(self, objective: Objective, average: nn.Module | None, device: torch.device, ranks: int) -> None:
        self.objective, self.average = objective, average
        self.module: Any = objective
        if ranks > 1:
            ids = [device.index or 0] if device.type == "cuda" else None
            self.module = nn.parallel.DistributedDataParallel(objective, device_ids=ids, broadcast_buffers=False)

    def apart(self) -> contextlib.AbstractContextManager[Any]:
        """Around a pass whose gradients the ranks don't exchange yet."""
        return self.module.no_sync() if self.module is not self.objective else contextlib.nullcontext()

    def whole(self) -> tuple[Objective, nn.Module | None]:
        """The objective and the average with all weights; every rank must call it."""
        return self.objective, self.average

    def optimiser_state(self, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
        """The whole state; every rank must call it."""
        return optimiser.state_dict()

    def load_optimiser(self, optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        """Takes back what `optimiser_state` gave, of this or another way of sharing."""
        optimiser.load_state_dict(state)


class Sharded(Replicated):
    """Weights, gradients and optimiser are divided among the ranks (FSDP2); arguments as of `Replicated`.

    What is evaluated, drawn and stored is a whole copy, filled when it is asked for.
    """

    def __init__(self, objective: Objective, average: nn.Module | None, device: torch.device, ranks: int) -> None:
        if ranks == 1:
            raise UsageError("Nothing can be divided among one process.", "Start with torchrun, or leave out fsdp.")
        super().__init__(objective, average, device, ranks=1)
        self.copies = make_objective(objective.recipe).to(device), copy.deepcopy(average)
        mesh = init_device_mesh(device.type, (ranks,))
        for part in (objective, average):
            for block in [] if part is None else part.modules():
                if isinstance(block, Block | QVBlock | DecoderBlock):  # called as modules, which gathers their weights
                    fully_shard(block, mesh=mesh)
            if part is not None:
                fully_shard(part, mesh=mesh)

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """Around a pass whose gradients stay apart."""
        self.module.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            self.module.set_requires_gradient_sync(True)

    def whole(self) -> tuple[Objective, nn.Module | None]:
        """Copies with all weights."""
        for target, source in zip(self.copies, (self.objective, self.average), strict=True):
            if target is not None and source is not None:
                target.load_state_dict({name: _whole(value) for name, value in source.state_dict().items()})
        return self.copies

    def optimiser_state(self, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
        """The whole state, in the form of an undivided optimiser."""
        state = optimiser.state_dict()
        kept = {key: {name: _whole(value) for name, value in row.items()} for key, row in state["state"].items()}
        return {**state, "state": kept}

    def load_optimiser(self, optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        """Divides a whole state."""
        optimiser.load_state_dict(state)
        for parameter, row in optimiser.state.items():
            assert isinstance(parameter, DTensor)
            for name, value in row.items():
                if value.shape == parameter.shape:  # moments, not the count of steps
                    row[name] = distribute_tensor(value, parameter.device_mesh, parameter.placements)


WAYS = {"ddp": Replicated, "fsdp": Sharded}


def _whole(value: Any) -> Any:
    return value.full_tensor() if isinstance(value, DTensor) else value
