"""Networks as training loops hold them (compiled, averaged, replicated, divided): the network within is evaluated."""

import copy
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from davis_folder import make_clip, make_clips
from evaluator_ranks import HELD, MOMENTS, SIZE, Deep, SmallNet, held_rank
from torch import nn
from torch.multiprocessing.spawn import spawn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import corrkit
from corrkit.errors import UsageError

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch: what is deprecated, and what it does to compile
FRAME = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)


def made(kind: type[nn.Module] = Deep) -> Any:
    torch.manual_seed(1)
    return kind()


def compiled(net: nn.Module, **options: Any) -> nn.Module:
    return torch.compile(net, backend="eager", **options)  # type: ignore[return-value]


def called(net: nn.Module) -> nn.Module:
    state = copy.deepcopy(net.state_dict())
    net(torch.rand(2, 3, 32, 32))
    net.load_state_dict(state)
    return net


def compiled_in_place(net: nn.Module) -> nn.Module:
    net.compile(backend="eager")
    return net


def compiled_part(net: Any) -> nn.Module:
    net.body[0] = compiled(net.body[0])
    return net


AROUND: dict[str, Callable[[nn.Module], nn.Module]] = {
    "compiled": compiled,
    "fullgraph": lambda net: compiled(net, fullgraph=True),
    "dynamic": lambda net: compiled(net, dynamic=True),
    "compiled-and-called": lambda net: called(compiled(net)),
    "compiled-in-place": lambda net: called(compiled_in_place(net)),
    "compiled-part": lambda net: called(compiled_part(net)),
    "averaged": AveragedModel,
    "ema": lambda net: AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9)),
    "data-parallel": nn.DataParallel,
    "compiled-average": lambda net: compiled(AveragedModel(net)),
}


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
def test_what_runs_a_network_otherwise_is_no_part_of_it(around: Callable[[nn.Module], nn.Module]):
    plain, held = corrkit.wrap(made()), corrkit.wrap(around(made()))
    (found,), (expected,) = (corrkit.features(one, [FRAME], size=[48]) for one in (held, plain))
    assert torch.equal(found, expected)
    assert (held.digest, held.report) == (plain.digest, plain.report)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("held") / "DAVIS", "a", 3, (48, 64))


@pytest.mark.parametrize("name", ["compiled", "dynamic", "compiled-in-place", "compiled-part"])
def test_an_evaluation_compiles_nothing_and_leaves_compiled_code(name: str, data: Path):
    torch._dynamo.reset()
    frames = torch.zeros(2, 3, 32, 32)
    net = AROUND[name](made()).train()
    net(frames)
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for size in (48, 64, 80):
        corrkit.Evaluator("davis", data=data, size=[size])(corrkit.wrap(net))
    with torch.compiler.set_stance("fail_on_recompile"):
        net(frames)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before


def normed(norm: Callable[..., object]) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        net = made()
        norm(net.patches)
        return net

    return make


class Remembering(SmallNet):
    """Keeps a table for the largest size so far, counts its passes and remembers the last, all in plain attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.passes, self.total, self.longest = 0, torch.zeros(1), 2
        self.register_buffer("table", torch.zeros(2), persistent=False)
        self.last: torch.Tensor | None = None
        self.sparse: torch.Tensor = torch.eye(2).to_sparse()
        self.register_buffer("edges", torch.eye(2).to_sparse(), persistent=False)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        self.total += 1
        side = frames.shape[-1] // 16
        if side > self.longest:
            self.longest, self.table = side, torch.zeros(side)
        assert len(self.table[:side]) == side
        self.first = getattr(self, "first", side)
        self.last = super().forward(frames)
        return self.last


STATEFUL: dict[str, Callable[[], nn.Module]] = {
    "weight-norm": normed(weight_norm),
    "parametrised-weight-norm": normed(parametrizations.weight_norm),
    "spectral-norm": normed(spectral_norm),
    "parametrised-spectral-norm": normed(parametrizations.spectral_norm),
    "orthogonal": normed(lambda layer: parametrizations.orthogonal(layer, "weight")),
    "pruned": normed(lambda layer: prune.l1_unstructured(layer, "weight", 0.3)),
    "remembering": lambda: made(Remembering),
}


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("make", STATEFUL.values(), ids=STATEFUL)
def test_what_a_pass_writes_beside_buffers_is_put_back(make: Callable[[], nn.Module], trained: bool, data: Path):
    net = make()
    if trained:
        net(torch.rand(2, 3, 32, 32)).sum().backward()
    before = attributes(net)
    first = corrkit.Evaluator("davis", data=data)(net)
    assert attributes(net) == before
    assert corrkit.Evaluator("davis", data=data)(net) == first
    net(torch.rand(2, 3, 48, 48)).sum().backward()


def attributes(net: nn.Module) -> object:
    kinds = (torch.Tensor, int, float, str, tuple, type(None))
    own = [(id(part), name, value) for part in net.modules() for name, value in vars(part).items()]
    own += [(0, name, value) for name, value in [*net.named_parameters(), *net.named_buffers()]]
    return [
        (
            part,
            name,
            id(value),
            value.detach().to_dense().numpy().tobytes() if isinstance(value, torch.Tensor) else value,
        )
        for part, name, value in own
        if isinstance(value, kinds)
    ]


def test_a_functional_call_is_evaluated_with_the_parameters_it_is_given(data: Path):
    net, other = made(SmallNet), SmallNet()
    parameters: dict[str, torch.Tensor] = dict(other.named_parameters())
    function = corrkit.wrap(net, forward=lambda frames: torch.func.functional_call(net, parameters, (frames,)))
    frames = torch.rand(2, 3, 48, 64)
    assert torch.equal(function(frames), corrkit.wrap(other)(frames))
    assert not torch.equal(function(frames), corrkit.wrap(net)(frames))
    assert net.training


@pytest.mark.parametrize("error", [ZeroDivisionError("theirs"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_a_hook_that_raises_ends_the_call_and_nothing_else(error: BaseException, data: Path):
    def raises(*_: object) -> None:
        raise error

    net = made()
    before = attributes(net)
    handle = net.body.register_forward_hook(raises)
    expected = UsageError if isinstance(error, Exception) else KeyboardInterrupt
    with pytest.raises(expected, match="theirs" if isinstance(error, Exception) else None):
        corrkit.Evaluator("davis", data=data)(net)
    handle.remove()
    assert attributes(net) == before
    assert torch.is_grad_enabled()
    assert torch._dynamo.eval_frame._stance.stance == "default"


def test_deterministic_algorithms_change_no_number(data: Path):
    net = made()
    plain = corrkit.Evaluator("davis", data=data, metrics="all")(net)
    torch.use_deterministic_algorithms(True)
    try:
        assert corrkit.Evaluator("davis", data=data, metrics="all")(net) == plain
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clips(tmp_path_factory.mktemp("ranks") / "DAVIS")


def ranks_of(kinds: Sequence[str], clips: Path, folder: Path) -> list[dict[str, Any]]:
    """What each of two ranks found; see `held_rank`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    spawn(held_rank, (port, str(clips), str(folder), tuple(kinds)), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


def check_kind(held: str, ranks: list[dict[str, Any]], clips: Path) -> None:
    first, second = (found[held] for found in ranks)
    for name in ("scores", "summary", "digest", "notes"):
        assert first[name] == second[name]
    for found in (first, second):
        for moment in MOMENTS:
            if (held, moment) == ("fsdp1-orig", "before backward"):
                assert "A backward pass of Deep is waiting" in found[moment]
            else:
                assert isinstance(found[moment], tuple), found[moment]
                losses, seen = found[moment]
                assert losses == found["alone"]
                assert seen == first[moment][1]
    metrics = first["summary"]["metrics"]
    assert {name: first["scores"][f"davis/{name}"] for name in metrics} == metrics
    if "bf16" in held:
        assert first["notes"] == ("the network's passes work in torch.bfloat16, as its FSDP policy says",)
    elif held != "ddp-buffers":
        plain: Any = corrkit.wrap(made(), name="net")
        alone = corrkit.evaluate("davis", plain, data=clips, **SIZE).summary
        assert (first["summary"], first["digest"], first["notes"]) == (alone, plain.digest, ())


def test_ranks_train_on_as_if_nobody_looked(clips: Path, tmp_path: Path):
    """Replicas whose buffers differ from rank to rank, evaluated by both or by rank 0 alone; a network divided."""
    ranks = ranks_of(("ddp-buffers", "fsdp2"), clips, tmp_path)
    for held in ("ddp-buffers", "fsdp2"):
        check_kind(held, ranks, clips)
    for rank, found in enumerate(ranks):
        losses, seen = found["rank 0 alone"]
        assert losses == found["ddp-buffers"]["alone"]
        assert [one is None for one in seen] == [rank == 1] * 3
        assert "patches.weight of the network on rank 1 isn't that of rank 0" in found["other weights"]
        assert found["other weights, not shared"]["davis/J&F-Mean"] > 0


@pytest.mark.slow
def test_ranks_of_every_kind_train_on_as_if_nobody_looked(clips: Path, tmp_path: Path):
    ranks = ranks_of([*HELD], clips, tmp_path)
    for held in HELD:
        check_kind(held, ranks, clips)
