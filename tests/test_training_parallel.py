"""Divided weights (FSDP2) against replicated ones (DDP), on two gloo processes."""

import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import multiprocessing
from training_ranks import both_ways, stopped_and_resumed

from corrkit.backbones import load_backbone
from corrkit.errors import UsageError
from corrkit.training import checkpoint
from corrkit.training.log import read_log
from corrkit.training.loop import Options, pretrain
from corrkit.training.recipe import load_recipe, recipe_names

SUMMED_IN_ANOTHER_ORDER = {"rtol": 2e-4, "atol": 2e-5}


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Four clips of 16 frames."""
    generator = np.random.default_rng(0)
    for clip in range(4):
        folder = tmp_path / "data" / f"clip{clip}"
        folder.mkdir(parents=True)
        for frame in range(16):
            pixels = generator.integers(0, 255, (12, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((128, 96)).save(folder / f"{frame:03d}.png")
    return tmp_path / "data"


def spawn(function: Any, *arguments: Any) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    multiprocessing.spawn(function, (port, *arguments), nprocs=2)


def assert_equal_trees(found: Any, wanted: Any, **tolerance: float) -> None:
    """Same keys and shapes, ordinary tensors, values within the tolerance."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for key in wanted:
            assert_equal_trees(found[key], wanted[key], **tolerance)
    elif isinstance(wanted, list | tuple):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert_equal_trees(one, other, **tolerance)
    elif isinstance(wanted, torch.Tensor):
        assert type(found) is torch.Tensor
        torch.testing.assert_close(found, wanted, **tolerance)
    else:
        assert found == wanted


def test_divided_training_has_the_losses_and_the_checkpoint_of_replicated_training(clips: Path, tmp_path: Path) -> None:
    spawn(both_ways, str(clips), str(tmp_path), ("siammae",))
    trees = [checkpoint.read(tmp_path / "siammae" / way / "checkpoint.pth") for way in ("ddp", "fsdp")]
    rows = [read_log(tmp_path / "siammae" / way / "log.csv") for way in ("ddp", "fsdp")]
    assert len(rows[0]) == 4
    assert [row["loss"] for row in rows[1]] == pytest.approx([row["loss"] for row in rows[0]], rel=1e-5)
    assert trees[1]["step"] == 4
    for part in ("model", "ema", "optimizer", "scaler"):
        assert_equal_trees(trees[1][part], trees[0][part], **SUMMED_IN_ANOTHER_ORDER)
    assert list((tmp_path / "siammae" / "fsdp" / "pictures").glob("*.png"))
    load_backbone(tmp_path / "siammae" / "fsdp" / "checkpoint.pth")


def test_divided_training_goes_on_as_if_undisturbed(clips: Path, tmp_path: Path) -> None:
    spawn(both_ways, str(clips), str(tmp_path), ("siammae",))
    spawn(stopped_and_resumed, str(clips), str(tmp_path / "again"), "siammae")
    trees = [checkpoint.read(path / "checkpoint.pth") for path in (tmp_path / "siammae" / "fsdp", tmp_path / "again")]
    for part in ("model", "ema", "optimizer"):
        assert_equal_trees(trees[1][part], trees[0][part], rtol=0.0, atol=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_can_be_divided(name: str, clips: Path, tmp_path: Path) -> None:
    spawn(both_ways, str(clips), str(tmp_path), (name,))
    rows = [read_log(tmp_path / name / way / "log.csv") for way in ("ddp", "fsdp")]
    assert [row["loss"] for row in rows[1]] == pytest.approx([row["loss"] for row in rows[0]], rel=1e-4)
    trees = [checkpoint.read(tmp_path / name / way / "checkpoint.pth") for way in ("ddp", "fsdp")]
    for part in ("model", "ema"):
        assert_equal_trees(trees[1][part], trees[0][part], rtol=1e-2, atol=2e-3)


def test_one_process_has_nothing_to_divide(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one process"):
        pretrain(load_recipe("siammae", scale="tiny"), clips, tmp_path / "out", Options(steps=1, parallel="fsdp"))
