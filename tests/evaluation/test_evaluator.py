"""`corrkit.Evaluator` in a training loop: same numbers as `evaluate`, and the training run does not notice it."""

import copy
import pickle
import random
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from davis_folder import make_clip, make_clips
from evaluator_ranks import SmallNet, divided_rank, failing_rank, rank_of_two, wrapped
from torch.multiprocessing.spawn import spawn

import corrkit
from corrkit.errors import CorrkitError, UsageError
from corrkit.tasks.masks import read_mask, write_mask


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_clips(tmp_path / "DAVIS")


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
    scores = corrkit.Evaluator("davis", data=data, clips="all", metrics="all")(wrapped(net), step=7)
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
    spawn(failing_rank, (free_port(), str(data), str(tmp_path)), nprocs=2)
    assert {path.name for path in tmp_path.glob("*.done")} == {"0.done", "1.done"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_ranks_share_the_clips_and_all_return_the_same(data: Path, tmp_path: Path):
    spawn(rank_of_two, (free_port(), str(data), str(tmp_path)), nprocs=2)
    torch.manual_seed(1)
    alone = corrkit.Evaluator("davis", data=data, clips="all")(wrapped(SmallNet().eval()))
    assert torch.load(tmp_path / "0.pt") == torch.load(tmp_path / "1.pt") == alone


def test_main_metrics_are_few_and_intervals_come_on_request(data: Path):
    net = wrapped(SmallNet().eval())
    main = corrkit.Evaluator("davis", data=data, clips="all")(net)
    assert set(main) == {"davis/J&F-Mean", "davis/J-Mean", "davis/F-Mean"}
    with_intervals = corrkit.Evaluator("davis", data=data, clips="all", intervals=True)(net)
    assert set(with_intervals) == {f"{name}{end}" for name in main for end in ("", " low", " high")}
    with pytest.raises(UsageError, match="Did you mean 'main'"):
        corrkit.Evaluator("davis", data=data, metrics="mains")


def test_the_embedded_clips_are_named_and_warned_of_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CORRKIT_DATA", raising=False)
    with pytest.warns(UserWarning, match="smoke alarm") as warned:
        evaluator = corrkit.Evaluator("davis", clips=["embedded-0"], every=3)
    assert len(warned) == 1
    scores = evaluator(corrkit.load_backbone("rgb"))  # a second warning would be an error
    assert set(scores) == {"embedded-davis/J&F-Mean", "embedded-davis/J-Mean", "embedded-davis/F-Mean"}
    asked_for = corrkit.Evaluator("davis", data="embedded", clips=["embedded-0"], every=3)
    assert asked_for(corrkit.load_backbone("rgb")) == scores


def test_the_description_says_what_was_evaluated_and_what_it_cost(data: Path):
    evaluator = corrkit.Evaluator("davis", data=data, clips=["a", "b"], protocol="crw", every=2, radius=5)
    described = evaluator.description["davis"]
    assert (described["data"], described["origin"], described["clips"]) == ("DAVIS", "own", ["a", "b"])
    assert (described["protocol"].split("@")[0], described["modified"]) == ("davis/crw", {"affinity.radius": 5.0})
    assert (described["frames"], described["seconds"]) == (4, None)
    evaluator(wrapped(SmallNet()))
    assert evaluator.description["davis"]["seconds"] > 0


def test_protocol_and_overrides_are_those_of_evaluate(data: Path):
    net = wrapped(SmallNet().eval())
    scores = corrkit.Evaluator("davis", data=data, clips="all", protocol="crw", radius=2)(net)
    expected = corrkit.evaluate("davis", net, data=data, protocol="crw", radius=2).summary["metrics"]
    assert scores == {name: expected[name.removeprefix("davis/")] for name in scores}
    with pytest.raises(CorrkitError, match="Did you mean 'radius'"):
        corrkit.Evaluator("davis", data=data, radis=2)


def test_every_second_frame_is_the_clip_of_those_frames(tmp_path: Path):
    make_clip(tmp_path / "DAVIS", "a", frames=9, size=(48, 64))
    shutil.copytree(tmp_path / "DAVIS", tmp_path / "thin")
    for path in (tmp_path / "thin").rglob("0*.*"):
        if int(path.stem) % 2:
            path.unlink()
    net = wrapped(SmallNet().eval())
    thinned = corrkit.Evaluator("davis", data=tmp_path / "DAVIS", every=2)(net)
    assert thinned == corrkit.Evaluator("davis", data=tmp_path / "thin")(net)
    assert thinned != corrkit.Evaluator("davis", data=tmp_path / "DAVIS")(net)
    with pytest.raises(UsageError, match="every is 0"):
        corrkit.Evaluator("davis", data=tmp_path / "DAVIS", every=0)


def test_a_frame_that_gives_an_object_is_not_left_out(tmp_path: Path):
    """Id 2 enters in frame 3: of the frames 0, 2, 4, ... 4 would give it, and be scored for it."""
    root = make_clip(tmp_path / "DAVIS", "a", frames=9, size=(48, 64))
    for path in sorted((root / "Annotations/480p/a").iterdir())[:3]:
        ids = read_mask(path)
        write_mask(path, np.where(ids == 2, 0, ids).astype(np.uint8))
    with pytest.raises(UsageError, match=r"every=2 leaves out frame 3 of a, where an object enters"):
        corrkit.Evaluator("davis", data=root, every=2, entries="appearance")
    net = wrapped(SmallNet().eval())
    assert corrkit.Evaluator("davis", data=root, every=3, entries="appearance")(net)["davis/J&F-Mean"] > 0
    assert corrkit.Evaluator("davis", data=root, every=2)(net)["davis/J&F-Mean"] > 0


def test_frames_that_leave_nothing_to_score_are_refused(data: Path):
    with pytest.raises(UsageError, match="every=9 leaves no frame"):
        corrkit.Evaluator("davis", data=data, clips=["a"], every=9)(wrapped(SmallNet().eval()))


class Counting(SmallNet):
    """Writes a buffer, and puts another in place of one, in every forward pass."""

    calls: torch.Tensor
    last: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))
        self.register_buffer("last", torch.zeros(2))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.last = frames.mean() * torch.ones(2)
        return super().forward(frames)


def test_buffers_written_by_the_forward_pass_are_restored(data: Path):
    net = Counting()
    calls, last = net.calls, net.last
    corrkit.Evaluator("davis", data=data)(wrapped(net))
    assert net.calls is calls
    assert net.last is last
    assert torch.equal(net.calls, torch.zeros(1))
    assert torch.equal(net.last, torch.zeros(2))


def test_a_backward_pass_may_be_waiting(data: Path):
    net = SmallNet().train()
    loss = net(torch.rand(2, 3, 32, 32)).square().mean()
    corrkit.Evaluator("davis", data=data)(wrapped(net))
    loss.backward()
    assert net.patches.weight.grad is not None


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_another_default_type_changes_no_number(data: Path, dtype: torch.dtype):
    plain = corrkit.evaluate("davis", "random:vit_tiny_patch16_224", data=data, size=[64], multiple=16)
    torch.set_default_dtype(dtype)
    try:
        same = corrkit.evaluate("davis", "random:vit_tiny_patch16_224", data=data, size=[64], multiple=16)
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(torch.float32)
    assert same.summary["metrics"] == plain.summary["metrics"]


def test_another_default_device_changes_no_number(data: Path):
    net = wrapped(SmallNet().eval())
    plain = corrkit.Evaluator("davis", data=data)(net)
    with torch.device("meta"):
        assert corrkit.Evaluator("davis", data=data)(net) == plain


def test_a_network_in_double_precision_is_evaluated(data: Path):
    assert corrkit.Evaluator("davis", data=data)(wrapped(SmallNet().double().eval()))["davis/J&F-Mean"] > 0


def test_settings_of_float32_precision_are_obeyed_and_put_back(data: Path):
    backends: Any = torch.backends
    every = (backends, backends.cudnn.conv, backends.cuda.matmul, backends.mkldnn.matmul)
    before = [backend.fp32_precision for backend in every]
    net = wrapped(SmallNet().eval())
    plain = corrkit.Evaluator("davis", data=data)(net)
    try:
        backends.fp32_precision = "tf32"
        backends.mkldnn.matmul.fp32_precision = "bf16"
        mine = [backend.fp32_precision for backend in every]
        assert corrkit.Evaluator("davis", data=data)(net) == plain
        assert [backend.fp32_precision for backend in every] == mine
    finally:
        for backend, value in zip(every, before, strict=True):
            backend.fp32_precision = value


def test_legacy_settings_of_float32_precision_are_put_back(data: Path):
    before = torch.get_float32_matmul_precision()
    try:
        for precision in ("high", "medium", "highest"):
            torch.set_float32_matmul_precision(precision)
            corrkit.Evaluator("davis", data=data, clips=["a"])(wrapped(SmallNet()))
            assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)


def test_threads_take_turns_on_one_module(data: Path):
    net = SmallNet().train()
    evaluators = [corrkit.Evaluator("davis", data=data, clips="all") for _ in range(3)]
    alone = evaluators[0](wrapped(net))
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda evaluator: evaluator(wrapped(net)), evaluators * 2))
    assert found == [alone] * 6
    assert all(part.training for part in net.modules())
    assert torch.is_grad_enabled()


def test_an_evaluator_survives_pickling(data: Path):
    net = wrapped(SmallNet().eval())
    evaluator = corrkit.Evaluator("davis", data=data, clips="all", protocols={"davis": "crw"}, every=2, radius=3)
    again = pickle.loads(pickle.dumps(evaluator))
    assert again(net) == evaluator(net) == copy.deepcopy(evaluator)(net)
    assert again.description["davis"]["modified"] == {"affinity.radius": 3.0}


def test_a_network_divided_among_ranks_is_evaluated(data: Path, tmp_path: Path):
    spawn(divided_rank, (free_port(), str(data), str(tmp_path)), nprocs=2)
    torch.manual_seed(1)
    net: Any = wrapped(SmallNet().eval())
    alone = corrkit.Evaluator("davis", data=data, clips="all")(net)
    for rank in range(2):
        scores, digest = torch.load(tmp_path / f"{rank}.pt")
        assert scores == alone
        assert digest == corrkit.wrap(net.network.module, name="net").digest


def test_quick_takes_few_frames_at_half_the_size_and_says_so(tmp_path: Path):
    """30 frames: every third is the densest that leaves at most ten."""
    make_clip(tmp_path / "DAVIS", "long", frames=30, size=(96, 128))
    make_clip(tmp_path / "DAVIS", "short", frames=5, size=(96, 128))
    net = wrapped(SmallNet().eval())
    options: dict[str, Any] = {"data": tmp_path / "DAVIS", "protocol": "dino"}
    quick = corrkit.Evaluator("davis", quick=True, size=[96], radius=7, **options)
    found = quick(net, step=3)
    described = quick.description["davis"]
    assert (described["quick"], described["every"], described["frames"]) == (True, None, 15)
    assert described["modified"] == {"frames.size": (48,), "affinity.radius": 4.0}
    assert set(found) == {"step", "quick-davis/J&F-Mean", "quick-davis/J-Mean", "quick-davis/F-Mean"}
    assert pickle.loads(pickle.dumps(quick))(net, step=3) == found
    for clip, every in (("long", 3), ("short", 1)):
        quick_one = corrkit.Evaluator("davis", quick=True, clips=[clip], size=[96], radius=7, **options)(net)
        slow_one = corrkit.Evaluator("davis", every=every, clips=[clip], size=[48], radius=4, **options)(net)
        assert quick_one == {f"quick-{name}": value for name, value in slow_one.items()}


def test_quick_is_marked_beside_the_embedded_clips_too():
    names = corrkit.Evaluator("davis", data="embedded", clips=["embedded-0"], quick=True)(wrapped(SmallNet().eval()))
    assert all(name.startswith("quick-embedded-davis/") for name in names)


def test_quick_and_every_exclude_each_other(data: Path):
    with pytest.raises(UsageError, match="every is 2"):
        corrkit.Evaluator("davis", data=data, quick=True, every=2)
