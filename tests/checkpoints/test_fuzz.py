"""Fuzzing the opener: mutated files and random pickles give tensors or a CheckpointError, and nothing else happens."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints_watched import run_watched


def seeds(folder: Path, bad: Path) -> list[Path]:
    """Small files of every container, sound and hostile."""
    from safetensors.torch import save_file

    folder.mkdir()
    tensors = {"a.weight": torch.randn(4, 3), "a.bias": torch.randn(4)}
    torch.save({"model": tensors}, folder / "zip.pth")
    torch.save({"model": tensors}, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.save(torch.nn.Linear(2, 2), folder / "module.pth")
    save_file(tensors, folder / "a.safetensors")
    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in tensors.items()}
    np.savez_compressed(folder / "a.npz", **arrays)
    hostile = ("legacy_malicious.pth", "malicious_eval.pth", "bare_pickle_good.pkl", "torchscript.pth", "objects.npz")
    return sorted(folder.iterdir()) + [bad / name for name in hostile]


def check(folder: Path, bad: Path, num_examples: int) -> None:
    bases = seeds(folder / "seeds", bad)
    (folder / "current").mkdir()
    result = run_watched(folder / "current", "fuzz", num_examples, *bases)
    assert result["events"] == []
    assert result["memory"] < 200 << 20
    assert result["opened"] > 0
    assert result["refused"] > num_examples // 10


@pytest.mark.golden
def test_mutated_files_never_crash_or_act(golden: Callable[[str], Path], tmp_path: Path) -> None:
    check(tmp_path, golden("checkpoints/_bad"), 500)


@pytest.mark.golden
@pytest.mark.slow
def test_many_mutated_files_never_crash_or_act(golden: Callable[[str], Path], tmp_path: Path) -> None:
    check(tmp_path, golden("checkpoints/_bad"), 30_000)
