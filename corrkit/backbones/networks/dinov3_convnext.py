"""DINOv3's ConvNeXt: the last stage resized to the grid of a ViT with patches of 16 pixels, then normalised."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from corrkit.backbones.building import Built, fill, missing
from corrkit.backbones.networks.base import Network
from corrkit.backbones.networks.stages import Stage, choose_stage
from corrkit.checkpoints.configuration import require_obeyed
from corrkit.checkpoints.recognised import Recognised
from corrkit.errors import CheckpointError

_CELL = 16  # patch_size of the published dense features: facebookresearch/dinov3 6876159 models/convnext.py


def build(recognised: Recognised, *, heads: int | None = None, layer: int | str | None = None) -> Built:
    """The network of a recognised DINOv3 ConvNeXt, filled.

    Args:
        recognised: the file's tensors under timm's names.
        heads: refused; a ConvNeXt has none.
        layer: a stage from 1 to 4 at its own stride, without norm; None: the last one at stride 16, normalised.

    Raises:
        CheckpointError: incomplete tensors, a stage that doesn't exist, or heads.
    """
    if heads is not None:
        raise CheckpointError(f"{recognised.path} is a ConvNeXt, which has no attention heads.", "Leave --heads out.")
    from timm.models.convnext import ConvNeXt

    state = recognised.state
    depths = tuple(recognised.depth(f"stages.{stage}.blocks") for stage in range(recognised.depth("stages")))
    names = [f"stages.{stage}.blocks.0.conv_dw.weight" for stage in range(len(depths))]
    if absent := [name for name in names if name not in state]:
        raise missing(recognised, absent)
    require_obeyed(recognised, {"hidden_act": "gelu", "layer_norm_eps": 1e-6, "depths": list(depths)})
    stage = choose_stage(recognised, layer, len(depths), has_norm=True)
    with torch.device("meta"):
        net = ConvNeXt(
            depths=depths, dims=tuple(int(state[name].shape[0]) for name in names), num_classes=0, ls_init_value=1.0
        )
        network = DINOv3ConvNeXt(net.stem, net.stages, nn.LayerNorm(net.num_features, eps=1e-6), stage)
    fill(network, recognised)
    stride = _CELL if stage.normed else 4 * 2 ** (stage.number - 1)
    resized = f", resized to stride {_CELL} before it" if stage.normed else ""
    return Built(
        network=network,
        architecture=f"convnext_{int(state[names[0]].shape[0])}_{'_'.join(map(str, depths))}",
        stride=stride,
        multiple=stride,
        layer=stage.label,
        evidence=(("layer", stage.words(len(depths)) + resized),),
    )


class DINOv3ConvNeXt(Network):
    """Normalised frames [B, 3, H, W] to features [B, h, w, C] of a stage.

    Args:
        stem: first convolution and norm.
        stages: the four stages.
        norm: after the last one.
        stage: whose output to give; its normed form is resized to H/16 x W/16 first.
    """

    def __init__(self, stem: nn.Module, stages: nn.Module, norm: nn.Module, stage: Stage) -> None:
        super().__init__()
        self.stem, self.stages, self.norm, self.stage = stem, stages, norm, stage
        self.layer, self.num_layers = stage.number, len(list(stages.children()))

    def forward(self, frames: Tensor) -> Tensor:
        """[B, 3, H, W] to [B, h, w, C]."""
        features = super().forward(frames)
        if not self.stage.normed:
            return features
        grid = (frames.shape[2] // _CELL, frames.shape[3] // _CELL)
        x = interpolate(features.movedim(-1, 1), size=grid, mode="bilinear", align_corners=False, antialias=True)
        normed: Tensor = self.norm(x.movedim(1, -1))
        return normed

    def outputs(self, pixels: Tensor, upto: int) -> Iterator[Tensor]:
        """Output [B, h, w, C] of each stage at its own stride."""
        x = self.stem(pixels)
        for block in list(self.stages.children())[:upto]:
            x = block(x)
            yield x.movedim(1, -1)
