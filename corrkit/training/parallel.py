"""Several processes of torchrun: their devices and group, and the two ways of sharing a training among them."""

import contextlib
import datetime
import os
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from timm.models.beit import Block as QVBlock
from timm.models.vision_transformer import Block
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from corrkit.errors import RunError, UsageError
from corrkit.predictors.loading import resolve_device
from corrkit.training.networks.decoder import DecoderBlock
from corrkit.training.objectives.masked import AnyObjective

_T = TypeVar("_T")


def device_of(name: str) -> torch.device:
    """The device that a name stands for on this rank. Raises UsageError where no device has such a name."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        return torch.device(name)
    except RuntimeError:
        raise UsageError(f"There is no device {name!r}.", "Give auto, cpu, cuda or cuda:N.") from None


@contextlib.contextmanager
def process_group(device: torch.device) -> Iterator[tuple[int, int]]:
    """(rank, number of ranks); under torchrun inside a process group, ended afterwards.

    Raises:
        RunError: another rank is gone, which torch says in the middle of whatever the ranks do together.
    """
    if "WORLD_SIZE" not in os.environ or dist.is_initialized():
        yield (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield dist.get_rank(), dist.get_world_size()
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo/transport" not in str(error):
            raise
        why = str(error).partition("\n")[0]
        raise RunError(
            f"Another rank has ended, or its machine can't be reached ({why}).",
            "Its own message says why. Repeat the command to go on from the last checkpoint.",
        ) from None
    finally:
        dist.destroy_process_group()


def require_device(device: torch.device) -> torch.device:
    """The device, if this machine has it and can train on it. Raises UsageError otherwise."""
    if device.type == "meta":
        raise UsageError("Nothing can be trained on the device 'meta'.", "Give auto, cpu, cuda or cuda:N.")
    return resolve_device(str(device))


def described(device: torch.device) -> str:
    """Its name, and its memory."""
    if device.type != "cuda":
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return f"{device.type} ({os.cpu_count()} cores, {memory / 2**30:.0f} GiB)"
    found = torch.cuda.get_device_properties(device)
    return f"{found.name} ({found.total_memory / 2**30:.0f} GiB)"


def gather(mine: _T) -> list[_T]:
    """What each rank has, in the order of ranks, however long the slowest takes to find it."""
    if not dist.is_initialized():
        return [mine]
    parts = [mine] * dist.get_world_size()
    patient: Any = dist.new_group(backend="gloo", timeout=datetime.timedelta(days=7))
    dist.all_gather_object(parts, mine, group=patient)
    dist.destroy_process_group(patient)
    return parts


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

    def __init__(self, objective: AnyObjective, average: nn.Module | None, device: torch.device, ranks: int) -> None:
        self.objective = objective
        self.module: Any = objective
        if ranks > 1:
            ids = [device.index or 0] if device.type == "cuda" else None
            self.module = nn.parallel.DistributedDataParallel(objective, device_ids=ids, broadcast_buffers=False)

    def apart(self) -> contextlib.AbstractContextManager[object]:
        """Around a pass whose gradients the ranks don't exchange yet."""
        return self.module.no_sync() if self.module is not self.objective else contextlib.nullcontext()

    def load_optimiser(self, optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        """Takes the whole state that a training of either way has stored."""
        optimiser.load_state_dict(state)


class Sharded(Replicated):
    """Weights, gradients and optimiser are divided among the ranks (FSDP2); arguments as of `Replicated`.

    Weights are whole only inside `forward` and `pictures` of the objective. What is written to them there is lost, so
    teachers follow outside.
    """

    def __init__(self, objective: AnyObjective, average: nn.Module | None, device: torch.device, ranks: int) -> None:
        if ranks == 1:
            raise UsageError("Nothing can be divided among one process.", "Start with torchrun, or leave out fsdp.")
        super().__init__(objective, average, device, ranks=1)
        mesh = init_device_mesh(device.type, (ranks,))
        for part in (objective, average):
            for block in [] if part is None else part.modules():
                if isinstance(block, Block | QVBlock | DecoderBlock):  # called as modules, which gathers their weights
                    fully_shard(block, mesh=mesh)
            if part is not None:
                fully_shard(part, mesh=mesh, reshard_after_forward=True)
        register_fsdp_forward_method(objective, "pictures")

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """Around a pass whose gradients stay apart."""
        self.module.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            self.module.set_requires_gradient_sync(True)

    def load_optimiser(self, optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        """Divides the moments; the count of steps is a scalar, and isn't."""
        parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        rows = {
            index: {name: _divided_like(parameters[index], value) for name, value in row.items()}
            for index, row in state["state"].items()
        }
        optimiser.load_state_dict({**state, "state": rows})


WAYS = {"ddp": Replicated, "fsdp": Sharded}


def whole(state: Mapping[Any, Any]) -> dict[Any, Any]:
    """A state, nested or not, with divided tensors in full on the CPU; every rank must call it.

    Not torch.distributed.checkpoint.state_dict (tried in torch 2.14: equal tensors): with them on the CPU it gives them
    to rank 0 alone, and states of optimisers by name, so that it can't load what a run of one process has stored by
    number (KeyError), nor such a run what it has stored.
    """
    return {name: _whole(value) for name, value in state.items()}


def _whole(value: Any) -> Any:
    if isinstance(value, DTensor):
        return value.full_tensor().cpu()
    return whole(value) if isinstance(value, dict) else value


def _divided_like(parameter: Any, value: torch.Tensor) -> torch.Tensor:
    if not value.ndim:
        return value
    return distribute_tensor(value, parameter.device_mesh, parameter.placements)
