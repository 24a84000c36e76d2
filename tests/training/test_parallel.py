"""Divided weights (FSDP2) against replicated ones (DDP), on two gloo processes."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.multiprocessing.spawn import spawn as torch_spawn
from training_ranks import CHANGES, WAYS, both_ways, halves, siammae_in_all_cases

from corrkit.backbones import load_backbone
from corrkit.errors import RunError, UsageError
from corrkit.runs.logs import read_log
from corrkit.training import checkpoint
from corrkit.training.loop import pretrain
from corrkit.training.objectives import make_objective
from corrkit.training.options import Options
from corrkit.training.parallel import device_of, process_group
from corrkit.training.recipe import load_recipe, recipe_names

REPOSITORY = Path(__file__).resolve().parents[2]
SUMMED_IN_ANOTHER_ORDER = {"rtol": 2e-4, "atol": 2e-5}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips of 16 frames."""
    root = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    for clip in range(4):
        folder = root / f"clip{clip}"
        folder.mkdir(parents=True)
        for frame in range(16):
            pixels = generator.integers(0, 255, (12, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((128, 96)).save(folder / f"{frame:03d}.png")
    return root


@pytest.fixture(scope="module")
def siammae(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of all the runs of `siammae_in_all_cases`."""
    out = tmp_path_factory.mktemp("siammae")
    spawn(siammae_in_all_cases, str(clips), str(out))
    return out


def spawn(function: Any, *arguments: Any) -> None:
    torch_spawn(function, (free_port(), *arguments), nprocs=2)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def assert_equal_trees(found: Any, wanted: Any, **tolerance: Any) -> None:
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


def stored(folder: Path) -> Any:
    return checkpoint.read(folder / "checkpoint.pth")


def column(path: Path, name: str = "loss") -> list[float]:
    return [row[name] for row in read_log(path)]


def test_divided_training_has_the_losses_and_the_checkpoint_of_replicated_training(siammae: Path) -> None:
    replicated, divided = (column(siammae / way / "log.csv") for way in WAYS)
    assert len(replicated) == 4
    assert divided == pytest.approx(replicated, rel=1e-5)
    trees = [stored(siammae / way) for way in WAYS]
    assert trees[1]["step"] == 4
    for part in ("model", "ema", "optimizer", "scaler"):
        assert_equal_trees(trees[1][part], trees[0][part], **SUMMED_IN_ANOTHER_ORDER)
    load_backbone(siammae / "fsdp" / "checkpoint.pth")


def test_pictures_of_divided_training_are_those_of_replicated_training(siammae: Path) -> None:
    replicated, divided = (np.asarray(Image.open(siammae / way / "pictures/step-00000004.png")) for way in WAYS)
    assert np.abs(replicated.astype(int) - divided.astype(int)).max() <= 1


def test_divided_training_goes_on_as_if_undisturbed(siammae: Path) -> None:
    assert column(siammae / "fsdp-then-fsdp" / "log.csv") == column(siammae / "fsdp" / "log.csv")
    for part in ("model", "ema", "optimizer"):
        assert_equal_trees(stored(siammae / "fsdp-then-fsdp")[part], stored(siammae / "fsdp")[part], rtol=0.0, atol=0.0)


def test_divided_training_goes_on_with_a_replicated_one(siammae: Path) -> None:
    for part in ("model", "ema", "optimizer"):
        assert_equal_trees(
            stored(siammae / "ddp-then-fsdp")[part], stored(siammae / "fsdp")[part], **SUMMED_IN_ANOTHER_ORDER
        )


def test_the_encoder_is_scored_whole(siammae: Path) -> None:
    replicated, divided = (column(siammae / "scored" / way / "scores.csv", "davis/J&F-Mean") for way in WAYS)
    assert divided == pytest.approx(replicated, rel=1e-5)
    assert len(set(divided)) == 5  # before the first step, too


def test_an_overflow_in_one_share_leaves_out_the_step_of_all(siammae: Path) -> None:
    tree = stored(siammae / "overflowing")
    assert tree["scaler"]["scale"] == 2.0**15
    torch.manual_seed(0)
    before = checkpoint.model_state(make_objective(load_recipe("siammae", scale="tiny", changes=CHANGES)))
    assert_equal_trees(tree["model"], before, rtol=0.0, atol=0.0)


def test_siameseim_normalises_over_all_ranks(siammae: Path) -> None:
    """As one process with the whole batch; gradients are averaged over ranks."""
    tokens, weights = halves()
    norm = torch.nn.BatchNorm1d(6)
    wanted = norm(tokens.requires_grad_().transpose(1, 2)).transpose(1, 2)
    (wanted * weights).square().mean().backward()
    ranks = [torch.load(siammae / f"normalised-{rank}.pt") for rank in (0, 1)]
    outputs, gradients, variances = zip(*ranks, strict=True)
    torch.testing.assert_close(torch.cat(outputs), wanted.detach())
    torch.testing.assert_close(torch.cat(gradients) / 2, tokens.grad)
    for variance in variances:
        torch.testing.assert_close(variance, norm.running_var)


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 2e-3), ("fp16", 2e-4)])
def test_divided_training_in_lower_precision(precision: str, tolerance: float, siammae: Path) -> None:
    replicated, divided = (column(siammae / precision / way / "log.csv") for way in WAYS)
    assert divided == pytest.approx(replicated, rel=tolerance)
    assert divided[-1] < divided[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_can_be_divided(name: str, clips: Path, tmp_path: Path) -> None:
    """Teachers included, which move by half in each step here."""
    spawn(both_ways, str(clips), str(tmp_path), name)
    replicated, divided = (column(tmp_path / way / "log.csv") for way in WAYS)
    assert divided == pytest.approx(replicated, rel=1e-4)
    trees = [stored(tmp_path / way) for way in WAYS]
    for part in ("model", "ema"):
        assert_equal_trees(trees[1][part], trees[0][part], rtol=1e-2, atol=2e-3)


@pytest.mark.slow
def test_nodes_find_each_other(clips: Path, tmp_path: Path) -> None:
    """Two nodes of one process each, on this machine, with the options that the docs name."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend",
        "c10d", "--rdzv-endpoint", f"127.0.0.1:{free_port()}", "-m", "corrkit", "pretrain", "siammae",
        "--data", str(clips),
        "--out", str(tmp_path / "out"), "--scale", "tiny", "--steps", "2", "--batch", "1", "--parallel", "fsdp",
        "--device", "cpu",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    nodes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(2)
    ]
    for node in nodes:
        _, errors = node.communicate(timeout=120)
        assert node.returncode == 0, errors[-2000:]
    assert stored(tmp_path / "out")["fingerprint"]["ranks"] == 2


@pytest.mark.parametrize(("name", "index"), [("cuda", 3), ("cuda:1", 1), ("cpu", None)])
def test_each_rank_has_the_gpu_of_its_number(name: str, index: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert device_of(name).index == index


def test_one_process_has_nothing_to_divide(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one process"):
        pretrain(load_recipe("siammae", scale="tiny"), clips, tmp_path / "out", Options(steps=1, parallel="fsdp"))


def raise_in_group(error: Exception) -> None:
    with process_group(torch.device("cpu")):
        raise error


PEER = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:1\nmore"


@pytest.mark.parametrize(
    ("raised", "expected", "words"),
    [
        (RuntimeError(PEER), RunError, r"Another rank has ended.*Connection closed by peer \[127.0.0.1\]:1\)"),
        (torch.distributed.DistBackendError("NCCL communicator was aborted"), RunError, "Another rank.*aborted"),
        (RuntimeError("shapes differ"), RuntimeError, "shapes differ"),
    ],
)
def test_a_rank_that_is_gone_is_named_by_the_others(
    raised: Exception, expected: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_PORT", str(free_port()))
    with pytest.raises(expected, match=words):
        raise_in_group(raised)
    assert not torch.distributed.is_initialized()
