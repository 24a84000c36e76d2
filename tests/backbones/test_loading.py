"""From specs to backbones."""

from typing import Any

import pytest
import torch
from torch import nn

from corrkit.backbones import load_backbone, wrap
from corrkit.backbones.contract import Backbone
from corrkit.backbones.conversion import convert
from corrkit.errors import CheckpointError, UsageError


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("nowhere.pth", "doesn't exist"),
        ("some/folder", "doesn't exist"),
        ("rg", "Did you mean 'rgb'"),
        ("random:vit_smal_patch16_224", "vit_small_patch16_224"),
        ("random:", "malformed"),
        ("timm:vit_tiny_patch16_224", "malformed"),
        ("hf:only-a-name", "malformed"),
        ("py:nothing.py:function", "doesn't exist"),
        ("py:function", "py:FILE.py:FUNCTION"),
        ("one.pth+two.pth", "one.pth and two.pth"),
        ("http://example.org/a.pth", "doesn't exist"),
    ],
)
def test_what_can_not_be_loaded_says_what_is_wrong(spec, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError) as raised:
        load_backbone(spec)
    assert words in str(raised.value)
    assert raised.value.exit_code == 2
    assert raised.value.remedy


@pytest.mark.parametrize("spec", ["rgb", "random:vit_tiny_patch16_224", "py:a.py:f"])
def test_only_a_single_checkpoint_is_converted(spec, tmp_path):
    with pytest.raises(CheckpointError, match="names no single checkpoint"):
        convert(spec, tmp_path / "new.safetensors")


def test_options_that_have_no_effect_are_refused():
    with pytest.raises(CheckpointError, match="takes no heads"):
        load_backbone("random:vit_tiny_patch16_224", heads=3)


@torch.no_grad()
def test_an_untrained_network_depends_on_its_seed_alone():
    frames = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    before = torch.random.get_rng_state()
    first, same, other = (load_backbone(f"random:vit_tiny_patch16_224@{seed}") for seed in (3, 3, 4))
    assert torch.equal(before, torch.random.get_rng_state())
    assert first.digest == same.digest != other.digest
    assert torch.equal(first(frames), same(frames))
    assert first(frames).shape == (1, 4, 6, 192)
    assert first.report.position == "absolute"


@torch.no_grad()
def test_timm_fills_its_network_from_a_file(tmp_path):
    import timm

    model: Any = timm.create_model("resnet18", num_classes=0).eval()
    torch.save(
        {"state_dict": {f"module.{name}": tensor for name, tensor in model.state_dict().items()}}, tmp_path / "a.pth"
    )
    backbone = load_backbone(f"timm:resnet18={tmp_path / 'a.pth'}")
    frames = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(backbone(frames), model.forward_features(frames).movedim(1, -1))
    assert (backbone.stride, backbone.report.system) == (32, "timm")
    with pytest.raises(
        CheckpointError, match=r"doesn't fill timm's resnet34: state_dict\.module\.layer1\.2\.conv1\.weight"
    ):
        load_backbone(f"timm:resnet34={tmp_path / 'a.pth'}")


def test_a_function_of_ones_own_gives_the_backbone(tmp_path):
    script = tmp_path / "mine.py"
    script.write_text(
        "import torch\nfrom corrkit import wrap\n"
        "def plain(): return torch.nn.Conv2d(3, 5, 16, 16)\n"
        "def wrapped(): return wrap(torch.nn.Conv2d(3, 5, 8, 8), stride=8)\n"
        "def wrong(): return 3\n"
    )
    assert load_backbone(f"py:{script}:plain")(torch.zeros(2, 3, 32, 48)).shape == (2, 2, 3, 5)
    assert load_backbone(f"py:{script}:wrapped").stride == 8
    with pytest.raises(CheckpointError, match="returns int"):
        load_backbone(f"py:{script}:wrong")
    with pytest.raises(CheckpointError, match="no function 'absent'"):
        load_backbone(f"py:{script}:absent")


class Tokens(nn.Module):
    def __init__(self, prefix):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 16, 16)
        self.prefix = prefix

    def forward_features(self, x):
        tokens = self.conv(x).flatten(2).transpose(1, 2)
        return torch.cat([tokens.new_zeros(len(x), self.prefix, 4), tokens], 1)


@pytest.mark.parametrize("prefix", [0, 1, 5])
@torch.no_grad()
def test_tokens_lose_their_prefix(prefix):
    module = Tokens(prefix)
    frames = torch.randn(2, 3, 32, 80)
    assert torch.equal(wrap(module)(frames), module.conv(frames).movedim(1, -1))


@torch.no_grad()
def test_channels_first_and_last_are_told_apart():
    module = nn.Conv2d(3, 7, 16, 16)
    frames = torch.randn(2, 3, 32, 80)
    last = wrap(module, forward=lambda x: module(x).movedim(1, -1))
    assert torch.equal(wrap(module)(frames), last(frames))
    assert isinstance(last, Backbone)


@torch.no_grad()
def test_convolutions_take_any_size():
    backbone = wrap(nn.Conv2d(3, 7, 3, stride=8, padding=1), stride=8)
    assert backbone.multiple == 1
    assert backbone(torch.zeros(1, 3, 33, 50)).shape == (1, 5, 7, 7)


def test_outputs_of_no_known_form_are_named():
    with pytest.raises(UsageError, match=r"gives \[1, 7\]"):
        wrap(nn.Conv2d(3, 7, 16, 16), forward=lambda x: torch.zeros(1, 7))(torch.zeros(1, 3, 32, 80))
    with pytest.raises(UsageError, match="dict with the keys 'x_norm'"):
        wrap(nn.Conv2d(3, 7, 16, 16), forward=lambda x: {"x_norm": x})(torch.zeros(1, 3, 32, 80))
    with pytest.raises(UsageError, match="can be read as"):
        wrap(nn.Conv2d(3, 2, 16, 16))(torch.zeros(1, 3, 32, 32))


def test_a_wrapped_module_is_left_as_it_was():
    module = nn.Sequential(nn.Conv2d(3, 7, 16, 16), nn.Dropout(0.9), nn.BatchNorm2d(7).eval()).train()
    module[2].eval()
    backbone = wrap(module)
    frames = torch.randn(2, 3, 32, 80)
    with torch.no_grad():
        assert torch.equal(backbone(frames), backbone(frames))  # no dropout
    assert [part.training for part in module] == [True, True, False]
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_the_digest_of_a_wrapped_module_follows_its_weights():
    module = nn.Conv2d(3, 7, 16, 16)
    backbone = wrap(module)
    before = backbone.digest
    assert before == backbone.digest
    with torch.no_grad():
        module.bias[0] += 1
    assert backbone.digest != before
