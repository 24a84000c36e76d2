"""Less than float32: only for the network, only where the device has it, and told wherever the result is."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from davis_folder import make_clip
from torch import nn

import corrkit
from corrkit.backbones.precision import precision_of, require_precision, worked_in
from corrkit.errors import RunError, UsageError
from corrkit.inference import exact_inference
from corrkit.runs.tables import marks

CPU = torch.device("cpu")
HAS_BF16 = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
needs_bf16 = pytest.mark.skipif(not HAS_BF16, reason="this processor has no bfloat16")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        make_clip(tmp_path / "DAVIS", name, frames=4, size=(48, 64))
    return tmp_path / "DAVIS"


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 16, 8, stride=8), nn.GELU(), nn.Conv2d(16, 16, 1))


@needs_bf16
def test_products_are_reduced_only_while_the_network_works():
    def encoded() -> Iterator[torch.dtype]:
        for _ in range(2):
            yield (torch.ones(2, 2) @ torch.ones(2, 2)).dtype

    with exact_inference():
        for dtype in worked_in("bfloat16", CPU, encoded()):
            assert dtype == torch.bfloat16
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
        assert list(worked_in("float32", CPU, encoded())) == [torch.float32] * 2


def test_tf32_is_set_only_while_the_network_works():
    backends: Any = torch.backends

    def encoded() -> Iterator[list[str]]:
        for _ in range(2):
            yield [backends.cuda.matmul.fp32_precision, backends.cudnn.conv.fp32_precision]

    with exact_inference():
        for found in worked_in("tf32", torch.device("cuda"), encoded()):
            assert found == ["tf32", "tf32"]
            assert next(encoded()) == ["ieee", "ieee"]


@pytest.mark.parametrize(("word", "device"), [("tf32", "cpu"), ("fp16", "cpu"), ("tf32", "mps"), ("bf16", "mps")])
def test_a_precision_that_a_device_has_not_is_refused(word: str, device: str):
    with pytest.raises(UsageError, match="--precision"):
        require_precision(precision_of(word), torch.device(device))


def test_an_unknown_precision_is_refused_before_anything_is_opened():
    with pytest.raises(UsageError, match="Did you mean 'bf16'"):
        corrkit.evaluate("davis", "nowhere.pth", precision="bf1")


@pytest.mark.parametrize("spec", ["identity", "oracle", "rgb", "hog"])
def test_what_has_no_network_has_no_precision(data: Path, spec: str):
    with pytest.raises(UsageError, match="precision"):
        corrkit.evaluate("davis", spec, data=data, precision="bf16")


@needs_bf16
def test_a_run_in_reduced_precision_says_so_and_is_resumed_by_no_other(data: Path, tmp_path: Path):
    reduced = corrkit.evaluate(
        "davis", corrkit.wrap(network(), stride=8), data=data, out=tmp_path / "run", precision="bf16", size=[48]
    )
    full = corrkit.evaluate("davis", corrkit.wrap(network(), stride=8), data=data, size=[48])
    assert (reduced.summary["precision"], full.summary["precision"]) == ("bfloat16", "float32")
    assert "reduced precision: bfloat16" in marks(reduced.summary).values()
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["fingerprint"]["precision"] == "bfloat16"
    with pytest.raises(RunError, match="precision is bfloat16 there and float32 now"):
        corrkit.evaluate("davis", corrkit.wrap(network(), stride=8), data=data, out=tmp_path / "run", size=[48])
