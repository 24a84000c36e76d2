"""A backbone as a protocol asks for it: mean of layers, windows of frames, rule of positions."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from davis_folder import make_clip

import corrkit
from corrkit.backbones.layers import load_layers
from corrkit.backbones.loading import Loading
from corrkit.backbones.under_protocol import under
from corrkit.backbones.windowed import Windowed
from corrkit.cli import main
from corrkit.errors import CheckpointError, UsageError
from corrkit.predictors.propagator import Propagator
from corrkit.protocols import load_protocol, override
from corrkit.protocols.schema import Features
from tests.checkpoints.test_video_goldens import loaded

pytestmark = pytest.mark.golden


def rules(**changes) -> Features:
    return override(load_protocol("davis/crw"), changes).features


@pytest.fixture
def checkpoint(golden) -> str:
    return str(golden("davis/models/probe_vit64_dino.pth"))


@pytest.fixture
def frames() -> torch.Tensor:
    return torch.randn(3, 3, 32, 48, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
@pytest.mark.parametrize(("layer", "count"), [(4, 2), (4, 4), (3, 2)])
def test_the_mean_is_of_the_last_layers_up_to_the_one_that_is_evaluated(checkpoint, frames, layer: int, count: int):
    backbone = corrkit.load_backbone(checkpoint, heads=4, layer=layer)
    singles = [
        corrkit.load_backbone(checkpoint, heads=4, layer=number)(frames)
        for number in range(layer - count + 1, layer + 1)
    ]
    found = torch.stack(list(under(backbone, rules(layers=count)).encode(iter(frames))))
    assert torch.allclose(found, torch.stack(singles).mean(0), atol=1e-6)
    assert torch.equal(under(backbone, rules())(frames), singles[-1])


@torch.no_grad()
def test_positions_are_resampled_by_the_rule_under_the_mean_too(checkpoint, frames):
    backbone = corrkit.load_backbone(checkpoint, heads=4)
    of_size, of_dino = (under(backbone, rules(layers=2, position=rule))(frames) for rule in ("size", "dino"))
    assert not torch.allclose(of_size, of_dino, atol=1e-4)


def test_layers_that_there_are_not_are_refused(checkpoint, golden):
    with pytest.raises(UsageError, match="there are 3 layers"):
        under(corrkit.load_backbone(checkpoint, heads=4, layer=3), rules(layers=4))
    with pytest.raises(UsageError, match="gives no layers"):
        under(corrkit.load_backbone("rgb"), rules(layers=2))
    with pytest.raises(UsageError, match="Leave --layers"):
        under(load_layers(checkpoint, ["1", "2"], Loading(heads=4))[1], rules(layers=2))
    stages, arrays = loaded(golden, "hiera_image")
    with pytest.raises(UsageError, match="no mean"):
        under(stages, rules(layers=2))(torch.from_numpy(arrays["x"]))


def test_the_command_says_before_the_work_what_a_checkpoint_cannot_do(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "DAVIS", frames=3)
    assert main(["eval", "davis", "--ckpt", "rgb", "--data", "DAVIS", "--set", "layers=2"]) == 2
    assert "set layers=1" in capsys.readouterr().err
    assert not Path("runs").exists()


@torch.no_grad()
def test_a_network_of_clips_sees_the_windows_of_the_protocol(golden):
    backbone, arrays = loaded(golden, "mvd")
    clip = torch.from_numpy(arrays["clip"])[:6]
    rules_of_windows: list[tuple[Literal["zeros", "repeat"], Literal["linear", "cubic", "nearest"]]]
    rules_of_windows = [("zeros", "linear"), ("repeat", "linear"), ("zeros", "nearest"), ("zeros", "cubic")]
    for padding, upsampling in rules_of_windows:
        windowed = under(backbone, rules(window=4, window_padding=padding, time_upsampling=upsampling))
        expected = Windowed(backbone, 4, padding=padding, upsampling=upsampling)
        assert torch.equal(windowed(clip), expected(clip))
        assert windowed.mode == expected.mode
        of_option = under(Windowed(backbone, 4), rules(window_padding=padding, time_upsampling=upsampling))
        assert torch.equal(of_option(clip), expected(clip))
    zeros, repeat, nearest, cubic = (
        Windowed(backbone, 4, padding=padding, upsampling=upsampling)(clip) for padding, upsampling in rules_of_windows
    )
    assert torch.equal(zeros[:4], repeat[:4])
    assert not torch.allclose(zeros[4:], repeat[4:], atol=1e-4)
    assert torch.equal(nearest[0], nearest[1])
    assert not torch.equal(zeros[0], zeros[1])
    assert not torch.allclose(cubic, zeros, atol=1e-4)
    assert backbone.mode.kind == "framewise", "the backbone stays as it is"


def test_cubic_in_time_is_that_of_jax(golden):
    """Printed by jax 0.10.2 for jax.image.resize(x, (16, 1), "cubic"), as RVM's notebook calls it for 4DS."""
    slices = [0.0, 1.0, 4.0, 2.0, -3.0, 5.0, 0.5, 7.0]
    expected = [
        -0.0882352963089943, 0.12408759444952011, 0.572519063949585, 1.7265625, 3.5546875, 3.921875, 2.828125, 0.65625,
        -2.59375, -1.62109375, 3.57421875, 4.49609375, 1.14453125, 1.6297709941864014, 5.667883396148682,
        7.573530197143555,
    ]  # fmt: skip
    backbone = Windowed(loaded(golden, "mvd")[0], 16, upsampling="cubic")
    network: Any = SimpleNamespace(clip=lambda window: torch.tensor(slices).view(-1, 1, 1, 1).expand(-1, 2, 3, 4))
    backbone.network = network
    maps = backbone(torch.zeros(16, 3, 8, 8))
    torch.testing.assert_close(maps, torch.tensor(expected).view(-1, 1, 1, 1).expand(-1, 2, 3, 4), atol=1e-6, rtol=0)


def test_a_result_says_that_the_protocol_shows_windows(golden):
    backbone, _ = loaded(golden, "mvd")
    predictor = Propagator(backbone, torch.device("cpu"), name="clips")
    protocol = override(load_protocol("davis/rvm"), {"window": 4})
    assert predictor.mode_under(protocol).sees_future
    assert any("Windows of 4 frames" in note for note in predictor.notes_under(protocol))
    of_single_frames = override(protocol, {"window": 0})
    assert not predictor.mode_under(of_single_frames).sees_future
    assert predictor.notes_under(of_single_frames) == backbone.report.notes


def test_windows_that_contradict_the_protocol_are_refused(golden):
    backbone, _ = loaded(golden, "mvd")
    with pytest.raises(UsageError, match="--window asks for 4"):
        under(Windowed(backbone, 4), rules(window=8))
    with pytest.raises(CheckpointError, match="multiple"):
        under(backbone, rules(window=3))
    with pytest.raises(UsageError, match="gives no layers"):
        under(backbone, rules(window=4, layers=2))


def test_networks_of_single_frames_take_no_notice_of_windows(checkpoint):
    backbone = corrkit.load_backbone(checkpoint, heads=4)
    assert under(backbone, rules(window=16)) is backbone
    rgb = corrkit.load_backbone("rgb")
    assert under(rgb, rules(window=16)) is rgb


@torch.no_grad()
@pytest.mark.parametrize("name", ["rvm", "sam2_image_encoder", "vjepa"])
def test_networks_with_a_rule_of_their_own_keep_it_and_a_note_says_so(golden, name: str):
    backbone, arrays = loaded(golden, name)
    assert backbone.report.position == "own"
    key = next(key for key in ("x", "x_ns") if key in arrays)
    given = torch.from_numpy(arrays[key])[:1]
    plain, ruled = (under(backbone, rules(position=rule))(given) for rule in ("published", "dino"))
    assert np.array_equal(plain.numpy(), ruled.numpy())
    predictor = Propagator(backbone, torch.device("cpu"), name="own")
    assert any("rule of its own" in note for note in predictor.notes_under(load_protocol("davis/dino")))
    assert predictor.notes_under(load_protocol("davis/crw")) == backbone.report.notes
