"""What only a GPU shows. The same is modelled on a CPU by tests/propagation/test_launches.py and the tests it names."""

import warnings
from pathlib import Path

import pytest
import torch
from davis_folder import make_clip
from device_inputs import KINDS, NEAR_TIES, PROTOCOLS, inputs, share_apart
from torch import Tensor, nn

import corrkit
from corrkit.inference import exact_inference
from corrkit.predictors.loading import make_predictor
from corrkit.predictors.propagator import Propagator

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use"),
]

COSINE = 1e-5


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        make_clip(tmp_path / "DAVIS", name, frames=8, size=(96, 128))
    return tmp_path / "DAVIS"


def small_vit(device: str) -> Propagator:
    predictor = make_predictor("random:vit_tiny_patch16_224@1", device=device)
    assert isinstance(predictor, Propagator)
    return predictor


def test_features_are_those_of_the_cpu():
    frames = torch.randn(3, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    with exact_inference():
        here = torch.stack(list(small_vit("cpu").backbone.encode(iter(frames))))
        there = torch.stack(list(small_vit("cuda").backbone.encode(iter(frames.cuda())))).cpu()
    assert (1 - nn.functional.cosine_similarity(here, there, dim=-1)).max() < COSINE


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", KINDS)
def test_matching_is_that_of_the_cpu(protocol: str, kind: str):
    features, labels = inputs(kind)
    with exact_inference():
        here = torch.stack(list(corrkit.propagate(features, labels, protocol=protocol, **KINDS[kind])))
        found = list(corrkit.propagate(features.cuda(), labels.cuda(), protocol=protocol, **KINDS[kind]))
    assert share_apart(here, torch.stack(found).cpu()) <= NEAR_TIES


def test_the_launching_thread_waits_a_few_times_in_a_block_of_frames():
    """Four query frames are a block; torch itself tells of every wait."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(21, 30, 54, 32, generator=generator).cuda()
    labels = nn.functional.one_hot(torch.randint(0, 3, (30, 54), generator=generator), 3).float().cuda()
    with exact_inference(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")  # which warns of itself
        try:
            list(corrkit.propagate(features, labels))
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [one for one in caught if "called a synchronizing" in str(one.message)]
    assert waits
    assert len(waits) <= 6 * 6 + 10


class Greedy(nn.Module):
    """Asks for more memory than there is, for more than two frames at a time."""

    def forward(self, frames: Tensor) -> Tensor:
        if len(frames) > 2:
            torch.empty(1 << 46, device=frames.device)
        return nn.functional.avg_pool2d(frames, 8)


def test_a_batch_shrinks_where_memory_runs_out(data: Path):
    found = corrkit.evaluate("davis", corrkit.wrap(Greedy(), stride=8), data=data, device="cuda", size=[96])
    assert any("memory ran out" in note and "2 frame(s)" in note for note in found.notes)
    assert found.failures == {}
    plain = corrkit.evaluate("davis", corrkit.wrap(nn.AvgPool2d(8), stride=8), data=data, device="cuda", size=[96])
    assert found.summary["metrics"] == plain.summary["metrics"]


@pytest.mark.parametrize(
    ("word", "name"), [("fp32", "float32"), ("tf32", "tf32"), ("bf16", "bfloat16"), ("fp16", "float16")]
)
def test_every_precision_runs_and_is_told(data: Path, word: str, name: str):
    spec = "random:vit_tiny_patch16_224@1"
    found = corrkit.evaluate("davis", spec, data=data, device="cuda", precision=word, size=[96])
    assert found.summary["precision"] == name
    assert found.failures == {}


def test_an_evaluation_is_that_of_the_cpu(data: Path):
    spec = "random:vit_tiny_patch16_224@1"
    here, there = (
        corrkit.evaluate("davis", spec, data=data, device=device, size=[96]).summary["metrics"]["J&F-Mean"]
        for device in ("cpu", "cuda")
    )
    assert abs(here - there) < 0.005
