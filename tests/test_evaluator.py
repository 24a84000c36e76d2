"""`corrkit.Evaluator` in a training loop: same numbers as `evaluate`, and the training run does not notice it."""

import copy
import random
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from evaluator_ranks import SmallNet, failing_rank, rank_of_two, wrapped

import corrkit
from corrkit.errors import UsageError

from .davis_folder import make_clip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "DAVIS"
    for name in ("a", "b", "c"):
        make_clip(root, name, frames=4, size=(48, 64))
    return root


def train(data: Path | None, steps: int = 4) -> list[float]:
    """Losses of a short training run; evaluates after every step where data is given."""
    random.seed(0), np.random.seed(0), torch.manual_seed(0)  # noqa: NPY002 - the global one is what must not move
    net = SmallNet()
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-2)
    evaluator = None if data is None else corrkit.Evaluator("davis", data=data, clips="all")
    losses = []
    for step in range(steps):
        frames = torch.rand(2, 3, 32, 32) + random.random() + np.random.rand()  # noqa: NPY002
        loss = net(frames).square().mean()
        optimiser.zero_grad()
        loss.backward()
        if evaluator is not None:
            evaluator(wrapped(net), step=step)
        optimiser.step()
        losses.append(loss.item())
    return losses


def test_training_losses_are_bit_equal_with_and_without_it(data: Path):
    assert train(data) == train(None)


def test_scores_equal_those_of_evaluate_and_are_flat(data: Path):
    torch.manual_seed(1)
    net = SmallNet().eval()
    scores = corrkit.Evaluator("davis", data=data, clips="all")(wrapped(net), step=7)
    expected = corrkit.evaluate("davis", wrapped(net), data=data).summary["metrics"]
    assert scores.pop("step") == 7
    assert scores == {f"davis/{name}": value for name, value in expected.items()}
    assert all(isinstance(value, float) for value in scores.values())


def test_modes_gradients_buffers_and_flags_are_left_alone(data: Path):
    net = SmallNet().train()
    net.norm.eval()  # a frozen part inside a training module must stay frozen
    net.patches.weight.grad = torch.ones_like(net.patches.weight)
    before = copy.deepcopy(net.state_dict())
    torch.backends.cudnn.benchmark = True
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            corrkit.Evaluator("davis", data=data)(wrapped(net))
            assert torch.is_autocast_enabled("cpu")
        assert torch.backends.cudnn.benchmark
    finally:
        torch.backends.cudnn.benchmark = False
    assert net.training
    assert not net.norm.training
    assert torch.equal(net.patches.weight.grad, torch.ones_like(net.patches.weight))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.is_grad_enabled()


def test_autocast_does_not_reach_the_features(data: Path):
    net = SmallNet().eval()
    plain = corrkit.Evaluator("davis", data=data)(wrapped(net))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert corrkit.Evaluator("davis", data=data)(wrapped(net)) == plain


def test_nothing_is_printed_or_written(data: Path, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    corrkit.Evaluator("davis", data=data)(wrapped(SmallNet()))
    assert capsys.readouterr() == ("", "")
    assert sorted(tmp_path.rglob("*")) == before


def test_frames_and_truth_are_read_once(data: Path):
    evaluator = corrkit.Evaluator("davis", data=data)
    first = evaluator(wrapped(net := SmallNet().eval()))
    for path in data.rglob("*.*"):
        if path.suffix in {".jpg", ".png"} and path.stem != "00000":
            path.write_bytes(b"gone")
    assert evaluator(wrapped(net)) == first


def test_named_clips_and_quick_clips(data: Path):
    for name in "defghijkl":
        make_clip(data, name, frames=4, size=(48, 64))
    net = SmallNet().eval()
    one = corrkit.Evaluator("davis", data=data, clips=["b"])(wrapped(net))
    assert (
        one["davis/J-Mean"]
        == corrkit.evaluate("davis", wrapped(net), data=data, clips=["b"]).summary["metrics"]["J-Mean"]
    )
    with pytest.raises(UsageError, match="quick"):
        corrkit.Evaluator("davis", data=data, clips="some")


@pytest.mark.parametrize("options", [{"data": {"davs": "x"}}, {"protocols": {"davs": "dino"}}])
def test_options_for_tasks_that_are_not_evaluated_are_refused(options: dict):
    with pytest.raises(UsageError, match="Did you mean 'davis'"):
        corrkit.Evaluator("davis", **options)
    with pytest.raises(UsageError, match="no task"):
        corrkit.Evaluator([])


def test_a_failure_on_one_rank_ends_the_call_on_all(data: Path, tmp_path: Path):
    mp.spawn(failing_rank, (free_port(), str(data), str(tmp_path)), nprocs=2)
    assert {path.name for path in tmp_path.glob("*.done")} == {"0.done", "1.done"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_ranks_share_the_clips_and_all_return_the_same(data: Path, tmp_path: Path):
    mp.spawn(rank_of_two, (free_port(), str(data), str(tmp_path)), nprocs=2)
    torch.manual_seed(1)
    alone = corrkit.Evaluator("davis", data=data, clips="all")(wrapped(SmallNet().eval()))
    assert torch.load(tmp_path / "0.pt") == torch.load(tmp_path / "1.pt") == alone
