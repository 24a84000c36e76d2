"""torchvision's own classes write tiny files while the test runs."""

import pytest
import torch
from torch import nn

from corrkit.backbones import load_backbone
from tests.checkpoints.test_goldens import TOLERANCE, distance


def saved(model, path):
    """The model with every weight drawn anew, its state dict saved."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data.normal_(std=0.3)
    torch.save(model.eval().state_dict(), path)
    return model


def frames(height, width):
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(height + width))


@torch.no_grad()
def test_a_vit(tmp_path):
    from torchvision.models import VisionTransformer

    model = saved(VisionTransformer(64, 8, 2, 4, 48, 80, num_classes=3), tmp_path / "a.pth")
    backbone = load_backbone(tmp_path / "a.pth", heads=4)
    assert backbone.report.system == "torchvision_vit"
    x = frames(64, 64)
    patches = torch.cat([model.class_token.expand(2, -1, -1), model._process_input(x)], 1)
    expected = model.encoder(patches)[:, 1:].unflatten(1, (8, 8)).numpy()
    assert distance(backbone(x).numpy(), expected) < TOLERANCE


@pytest.mark.parametrize("size", [(64, 64), (64, 96), (96, 160), (32, 96), (48, 80)])
@torch.no_grad()
def test_a_swin(size, tmp_path):
    from torchvision.models import SwinTransformer

    model = saved(SwinTransformer([4, 4], 12, [2, 2, 2], [1, 2, 4], [4, 4], num_classes=3), tmp_path / "a.pth")
    backbone = load_backbone(tmp_path / "a.pth")
    assert backbone.report.system == "torchvision_swin"
    expected = model.norm(model.features(frames(*size))).numpy()
    assert distance(backbone(frames(*size)).numpy(), expected) < TOLERANCE


@pytest.mark.parametrize("size", [(64, 64), (64, 96)])
@torch.no_grad()
def test_a_convnext(size, tmp_path):
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    widths = (8, 12, 16, 24)
    design = [CNBlockConfig(a, b, depth) for a, b, depth in zip(widths, (*widths[1:], None), (1, 1, 2, 1), strict=True)]
    model = saved(ConvNeXt(design, num_classes=3), tmp_path / "a.pth")
    for layer, end in ((None, 6), (4, 8)):
        backbone = load_backbone(tmp_path / "a.pth", layer=layer)
        assert backbone.report.system == "torchvision_convnext"
        expected = nn.Sequential(*list(model.features)[:end])(frames(*size)).movedim(1, -1).numpy()
        assert distance(backbone(frames(*size)).numpy(), expected) < TOLERANCE
