"""Several layers in one pass of the network: each number identical to that layer's own run."""

from pathlib import Path
from typing import Any

import pytest
import torch
from davis_folder import make_clip

import corrkit
from corrkit.backbones.layers import SharedLayer, encode_together, load_layers
from corrkit.backbones.loading import NO_OPTIONS, Loading
from corrkit.checkpoints import opening
from corrkit.cli import main
from corrkit.errors import CheckpointError, UsageError
from corrkit.evaluation import Result, evaluate_together
from corrkit.predictors.loading import layer_predictors
from corrkit.predictors.propagator import Propagator
from corrkit.protocols import override
from corrkit.subject import open_subject
from tests.checkpoints.test_resnet_goldens import rebuilt

FOUR_HEADS = Loading(heads=4)
SMALL = {"size": [64], "multiple": 16}


@pytest.fixture
def checkpoint(golden) -> str:
    return str(golden("davis/models/probe_vit64_dino.pth"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        make_clip(tmp_path / "DAVIS", name, frames=4, size=(48, 64))
    return tmp_path / "DAVIS"


def evaluate_layers(predictors, data: Path, *, outs=None, clips=None, **overrides) -> list[Result]:
    subject = open_subject("davis", data=data, clips=clips, overrides={**SMALL, **overrides})
    lanes = [(predictor, subject.protocol) for predictor in predictors]
    return evaluate_together(subject, lanes, outs=outs or [None] * len(lanes))


def test_every_layer_scores_as_in_its_own_run(checkpoint: str, data: Path, tmp_path: Path):
    predictors = layer_predictors(checkpoint, ["all"], loading=FOUR_HEADS)
    together = evaluate_layers(predictors, data, outs=[tmp_path / p.name for p in predictors])
    assert len(together) == 4
    for layer, result in enumerate(together, start=1):
        alone = corrkit.evaluate("davis", checkpoint, heads=4, layer=layer, data=data, **SMALL)
        assert result.summary["metrics"] == alone.summary["metrics"]
        assert result.summary["layer"] == alone.summary["layer"]
        assert result.summary["checkpoint"]["digest"] == alone.summary["checkpoint"]["digest"]


@pytest.fixture
def mast(golden, tmp_path: Path) -> str:
    """A network for Lab frames."""
    torch.save({"state_dict": rebuilt(golden("checkpoints/mast_resnet18"))}, tmp_path / "mast.pth")
    return str(tmp_path / "mast.pth")


def test_layers_of_a_network_for_lab_frames_get_lab_frames(mast: str, data: Path):
    predictors = layer_predictors(mast, ["2", "3"])
    together = evaluate_layers(predictors, data, clips=["a"])
    for layer, result in zip((2, 3), together, strict=True):
        alone = corrkit.evaluate("davis", mast, layer=layer, data=data, clips=["a"], **SMALL)
        assert not alone.failures
        assert result.summary["per_clip"] == alone.summary["per_clip"]
        assert result.summary["checkpoint"] == {**alone.summary["checkpoint"], "spec": f"mast-layer{layer}"}


@torch.no_grad()
def test_a_protocols_position_rule_does_not_outlive_its_evaluation(checkpoint: str, data: Path):
    predictors: list[Any] = layer_predictors(checkpoint, ["2", "4"], loading=FOUR_HEADS)
    frames = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    before = together([predictor.backbone for predictor in predictors], frames)
    evaluate_layers(predictors, data, position="size")
    after = together([predictor.backbone for predictor in predictors], frames)
    assert torch.equal(torch.cat(before), torch.cat(after))


@torch.no_grad()
def test_layers_under_one_position_rule_share_a_pass_of_their_own(checkpoint: str):
    shared = load_layers(checkpoint, ["2", "4"], FOUR_HEADS)
    frames = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    resampled = [backbone.with_position("size") for backbone in shared]
    for backbone, layer in zip(resampled, (2, 4), strict=True):
        alone = corrkit.load_backbone(checkpoint, heads=4, layer=layer)
        assert torch.equal(backbone(frames), alone.with_position("size")(frames))
        assert not torch.allclose(backbone(frames), alone(frames), atol=1e-4)
    found = zip(together(shared, frames), together(resampled, frames), shared, resampled, strict=True)
    for plain, ruled, backbone, other in found:
        assert torch.equal(plain, torch.cat([backbone(frame[None]) for frame in frames]))
        assert torch.equal(ruled, torch.cat([other(frame[None]) for frame in frames]))


def test_layers_under_several_protocols_score_as_in_their_own_runs(checkpoint: str, data: Path):
    """One pass for each input that the protocols show the network, whatever the layers."""
    subject = open_subject("davis", data=data, overrides=SMALL)
    others = [override(subject.protocol, changes) for changes in ({"size": [32]}, {"topk": 40, "temperature": 5.0})]
    predictors = layer_predictors(checkpoint, ["1", "4"], loading=FOUR_HEADS)
    passes = []
    assert isinstance(predictors[0], Propagator)
    assert isinstance(predictors[0].backbone, SharedLayer)
    embedding = predictors[0].backbone.network.get_submodule("patch_embed")
    embedding.register_forward_hook(lambda *_: passes.append(1))
    lanes = [(predictor, protocol) for protocol in (subject.protocol, *others) for predictor in predictors]
    results = evaluate_together(subject, lanes, outs=[None] * len(lanes))
    assert len(passes) == 2 * 2 * 4  # inputs, clips, frames
    assert len({str(result.summary["metrics"]) for result in results}) == len(lanes)
    for (predictor, protocol), result in zip(lanes, results, strict=True):
        layer = predictor.report.layer
        alone = corrkit.evaluate("davis", checkpoint, heads=4, layer=layer, data=data, protocol=protocol)
        assert result.summary["per_clip"] == alone.summary["per_clip"]


def together(backbones, frames: torch.Tensor) -> list[torch.Tensor]:
    """Features of all frames, the backbones in one pass."""
    return [torch.stack(maps) for maps in zip(*encode_together(backbones, iter(frames)), strict=True)]


def test_layers_run_together_in_any_order_or_part(checkpoint: str, data: Path):
    predictors = layer_predictors(checkpoint, ["1", "2", "4"], loading=FOUR_HEADS)
    whole = evaluate_layers(predictors, data)
    for chosen in ([0], [2], [1], [2, 0], [1, 1]):
        results = evaluate_layers([predictors[index] for index in chosen], data)
        for index, result in zip(chosen, results, strict=True):
            assert result.summary["per_clip"] == whole[index].summary["per_clip"]


def test_the_file_is_read_once_for_all_layers(checkpoint: str, monkeypatch: pytest.MonkeyPatch):
    opened = []
    real = opening.open_checkpoint
    monkeypatch.setattr(opening, "open_checkpoint", lambda path: opened.append(path) or real(path))
    assert len(load_layers(checkpoint, ["all"], FOUR_HEADS)) == 4
    assert len(opened) == 1


def test_the_network_runs_once_per_frame(checkpoint: str, data: Path):
    predictors: list[Any] = layer_predictors(checkpoint, ["1", "4"], loading=FOUR_HEADS)
    passes = []
    network = predictors[0].backbone.network
    network.patch_embed.register_forward_hook(lambda *_: passes.append(1))
    evaluate_layers(predictors, data)
    assert len(passes) == 2 * 4  # two clips of four frames


def test_a_layer_is_a_backbone_of_its_own(checkpoint: str):
    first, last = load_layers(checkpoint, ["1", "4"], FOUR_HEADS)
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
        load_layers(checkpoint, layers, FOUR_HEADS)


def test_backbones_without_layers_say_so():
    with pytest.raises(UsageError, match="--layer"):
        load_layers("rgb", ["all"], NO_OPTIONS)
