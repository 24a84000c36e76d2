"""What each rank of a process group trains: spawned processes import this module by name."""

from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from corrkit.training import loop
from corrkit.training.recipe import load_recipe


class KilledError(Exception):
    pass


def train(name: str, data: str, out: Path, way: Literal["ddp", "fsdp"]) -> None:
    """Four steps of a tiny recipe, with everything that the processes could share wrongly."""
    options = loop.Options(
        batch=1, accumulate=2, steps=4, average=0.9, log_every=1, picture_every=2, save_every=2, device="cpu",
        parallel=way,
    )  # fmt: skip
    loop.pretrain(load_recipe(name, scale="tiny", changes={"optimiser.clip": 1.0}), data, out, options)


def both_ways(rank: int, port: int, data: str, out: str, names: tuple[str, ...]) -> None:
    join(rank, port)
    for name in names:
        train(name, data, Path(out) / name / "ddp", "ddp")
        train(name, data, Path(out) / name / "fsdp", "fsdp")
    torch.distributed.destroy_process_group()


def stopped_and_resumed(rank: int, port: int, data: str, out: str, name: str) -> None:
    join(rank, port)
    step_of = loop._Training._step

    def stopped(self: Any, number: int, batches: Any) -> Any:
        if number == 3:
            raise KilledError
        return step_of(self, number, batches)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop._Training, "_step", stopped)
        with pytest.raises(KilledError):
            train(name, data, Path(out), "fsdp")
    train(name, data, Path(out), "fsdp")
    torch.distributed.destroy_process_group()


def join(rank: int, port: int) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
