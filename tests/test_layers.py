"""Several layers in one pass of the network: each number identical to that layer's own run."""

from pathlib import Path

import pytest
import torch

import corrkit
from corrkit.backbones.layers import load_layers
from corrkit.cli import main
from corrkit.errors import CheckpointError, UsageError
from corrkit.evaluation import evaluate_together
from corrkit.predictor_loading import layer_predictors
from corrkit.protocols import load_protocol, override

from .davis_folder import make_clip

SMALL = {"size": [64], "multiple": 16}
PROTOCOL = override(load_protocol("davis/dino"), SMALL)


@pytest.fixture
def checkpoint(golden) -> str:
    return str(golden("davis/models/probe_vit64_dino.pth"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        make_clip(tmp_path / "DAVIS", name, frames=4, size=(48, 64))
    return tmp_path / "DAVIS"


def test_every_layer_scores_as_in_its_own_run(checkpoint: str, data: Path, tmp_path: Path):
    predictors = layer_predictors(checkpoint, ["all"], heads=4)
    together = evaluate_together("davis", predictors, PROTOCOL, outs=[tmp_path / p.name for p in predictors], data=data)
    assert len(together) == 4
    for layer, result in enumerate(together, start=1):
        alone = corrkit.evaluate("davis", checkpoint, heads=4, layer=layer, data=data, **SMALL)
        assert result.summary["metrics"] == alone.summary["metrics"]
        assert result.summary["layer"] == alone.summary["layer"]
        assert result.summary["checkpoint"]["digest"] == alone.summary["checkpoint"]["digest"]


def test_the_network_runs_once_per_frame(checkpoint: str, data: Path):
    predictors = layer_predictors(checkpoint, ["1", "4"], heads=4)
    passes = []
    network = predictors[0].backbone.network
    network.patch_embed.register_forward_hook(lambda *_: passes.append(1))
    evaluate_together("davis", predictors, PROTOCOL, outs=[None, None], data=data)
    assert len(passes) == 2 * 4  # two clips of four frames


def test_a_layer_is_a_backbone_of_its_own(checkpoint: str):
    first, last = load_layers(checkpoint, ["1", "4"], heads=4)
    frames = torch.randn(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    assert torch.equal(first(frames), corrkit.load_backbone(checkpoint, heads=4, layer=1)(frames))
    assert torch.equal(last(frames), corrkit.load_backbone(checkpoint, heads=4)(frames))


def test_command_line_takes_layers(checkpoint: str, data: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["eval", "davis", "--ckpt", checkpoint, "--heads", "4", "--data", str(data), "--set", "size=[64]"]
    assert main([*arguments, "--set", "multiple=16", "--layers", "1,4", "--out", "runs"]) == 0
    table = capsys.readouterr().out
    assert "layer1" in table
    assert "layer4" in table
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {
        "probe_vit64_dino-layer1",
        "probe_vit64_dino-layer4",
    }
    assert main([*arguments, "--layers", "1", "--layer", "2"]) == 2


@pytest.mark.parametrize("layers", [["0"], ["5"], ["last"]])
def test_layers_that_do_not_exist_are_named(checkpoint: str, layers: list[str]):
    with pytest.raises(CheckpointError, match="has 4"):
        load_layers(checkpoint, layers, heads=4)


def test_backbones_without_layers_say_so():
    with pytest.raises(UsageError, match="--layer"):
        load_layers("rgb", ["all"])
