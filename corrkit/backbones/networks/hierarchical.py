"""Swin and ConvNeXt V2 as dense feature extractors: timm's networks under their published names and rules."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypedDict

import torch
from torch import Tensor, nn

from corrkit.backbones.building import Built, fill, missing
from corrkit.backbones.networks.base import Network
from corrkit.backbones.networks.stages import Stage, blocks_per_stage, choose_stage
from corrkit.checkpoints.configuration import epsilon, require_obeyed
from corrkit.checkpoints.recognised import Recognised
from corrkit.checkpoints.rules import SwinRules
from corrkit.errors import CheckpointError

if TYPE_CHECKING:
    from timm.models.swin_transformer import SwinTransformer


def build_swin(recognised: Recognised, *, heads: int | None = None, layer: int | str | None = None) -> Built:
    """The network of a recognised Swin transformer, filled.

    Args:
        recognised: the file's tensors under timm's names.
        heads: not needed: the tables of relative positions tell. If given, it must agree with the first stage's.
        layer: a stage (1 is the first); None: the last one after the final norm.

    Raises:
        CheckpointError: incomplete tensors, contradicting heads, a stage that doesn't exist.
    """
    state = recognised.state
    depths = blocks_per_stage(recognised, r"layers\.(\d+)\.blocks\.(\d+)\.")
    tables = [_table(recognised, number) for number in range(len(depths))]
    if heads is not None and heads != tables[0].shape[1]:
        raise CheckpointError(
            f"{recognised.path} has {tables[0].shape[1]} heads in its first stage, not {heads}.", "Leave --heads out."
        )
    windows = tuple(_window(recognised, number, table) for number, table in enumerate(tables))
    dim, channels, patch, _ = recognised.tensor("patch_embed.proj.weight", 4).shape
    stage = choose_stage(recognised, layer, len(depths), has_norm=True)
    design: _Design = {
        "patch_size": patch,
        "in_chans": channels,
        "embed_dim": dim,
        "depths": depths,
        "num_heads": tuple(int(table.shape[1]) for table in tables),
        "window_size": windows[0] if len(set(windows)) == 1 else windows,
        "mlp_ratio": state["layers.0.blocks.0.mlp.fc1.weight"].shape[0] / dim,
        "num_classes": 0,
    }
    require_obeyed(
        recognised,
        {
            "hidden_act": "gelu",
            "embed_dim": dim,
            "patch_size": patch,
            "window_size": windows[0],
            "depths": list(design["depths"]),
            "num_heads": list(design["num_heads"]),
        },
    )
    rules: SwinRules = recognised.system.rules
    side = patch * 2 ** (len(depths) - 1) * max(windows)
    network = Swin(design, side, stage, rules, epsilon(recognised, 1e-5))
    fill(network, recognised)
    stride = patch * 2 ** (stage.number - 1)
    return Built(
        network=network,
        architecture=f"swin_{dim}_{'_'.join(map(str, depths))}_window{windows[0]}",
        stride=stride,
        multiple=patch * 2 ** (len(depths) - 1),
        layer=stage.label,
        position="relative",
        evidence=(
            ("heads", f"{design['num_heads']}: width of the tables of relative positions"),
            ("windows", f"{windows}: length of the tables of relative positions"),
            ("layer", stage.words(len(depths))),
        ),
    )


class _Design(TypedDict, total=False):
    """Arguments of timm's SwinTransformer, its own defaults for the others."""

    patch_size: int
    in_chans: int
    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    window_size: Any  # one for all stages or one for each; timm's annotation lacks the latter
    mlp_ratio: float
    num_classes: int


class Swin(Network):
    """Normalised frames [B, 3, H, W] to features [B, h, w, C] of a stage.

    timm's network is tied to its input size; for each further size a sibling with the same weights is made. Windows
    keep their size, the grid is padded at the bottom and right to a multiple of it, and a grid that fits into one
    window isn't shifted (as in Swin's classifiers).

    Args:
        design: arguments of timm's SwinTransformer.
        side: an input size at which no window is cut.
        stage: whose output to give.
        rules: see `SwinRules`.
        eps: of the norms of blocks and the last one; those behind the patches and the halvings have torch's.
    """

    def __init__(self, design: "_Design", side: int, stage: Stage, rules: SwinRules, eps: float = 1e-5) -> None:
        super().__init__()
        self.design, self.stage, self.rules, self.eps = design, stage, rules, eps
        self.layer, self.num_layers = stage.number, len(design["depths"])
        native = _swin(design, (side, side), rules, eps)
        self.patch_embed, self.layers, self.norm = native.patch_embed, native.layers, native.norm
        self._siblings: dict[tuple[int, int, torch.device], SwinTransformer] = {}

    def published(self, features: Tensor) -> Tensor:
        """After the final norm, where the last stage's published features were chosen."""
        return self.norm(features) if self.stage.normed else features

    def outputs(self, pixels: Tensor, upto: int) -> Iterator[Tensor]:
        """Output [B, h, w, C] of each stage, without a norm."""
        network = self._sibling((pixels.shape[2], pixels.shape[3]), pixels.device)
        x = network.patch_embed(pixels)
        for stage in network.layers[:upto]:
            x = stage(x)
            yield x

    def _sibling(self, size: tuple[int, int], device: torch.device) -> "SwinTransformer":
        key = (*size, device)
        if key not in self._siblings:
            self._siblings.clear()
            sibling = _swin(self.design, size, self.rules, self.eps).to(device)
            sibling.load_state_dict(self.state_dict(), assign=True)
            self._siblings[key] = sibling.requires_grad_(False).eval()
        return self._siblings[key]


def _swin(design: _Design, size: tuple[int, int], rules: SwinRules, eps: float) -> "SwinTransformer":
    from timm.models.swin_transformer import SwinTransformer

    from corrkit.backbones.networks.swin_blocks import PaddedInFront

    network = SwinTransformer(img_size=size, always_partition=True, **design)
    stages: Any = network.layers
    norms: Any = [
        network.norm,
        *(norm for stage in stages for block in stage.blocks for norm in (block.norm1, block.norm2)),
    ]
    for norm in norms:
        norm.eps = eps
    for stage in stages:
        for block in stage.blocks:
            fits = [cells <= side for cells, side in zip(block.input_resolution, block.window_size, strict=True)]
            still = [any(fits)] * 2 if rules.shifts == "both" else fits
            steps = zip(still, block.shift_size, strict=True)
            block.shift_size = tuple(0 if stays else step for stays, step in steps)
            block.attn_mask = block.get_attn_mask()
            if rules.pads == "in front":
                block.__class__ = PaddedInFront
    return network


def _table(recognised: Recognised, number: int) -> Tensor:
    name = f"layers.{number}.blocks.0.attn.relative_position_bias_table"
    if name not in recognised.state:
        raise missing(recognised, [name])
    return recognised.state[name]


def _window(recognised: Recognised, number: int, table: Tensor) -> int:
    side = math.isqrt(table.shape[0])
    if side * side != table.shape[0] or side % 2 == 0:
        raise CheckpointError(
            f"{recognised.path}: the table of relative positions of stage {number + 1} has {table.shape[0]} rows, "
            "which fits no square window.",
            "Only Swin transformers with square windows can be evaluated.",
        )
    return (side + 1) // 2


def build_convnext(recognised: Recognised, *, heads: int | None = None, layer: int | str | None = None) -> Built:
    """The network of a recognised ConvNeXt V2, filled.

    Args:
        recognised: the file's tensors under timm's names.
        heads: refused; a ConvNeXt has none.
        layer: a stage from 1 to 4; None: stage 3 (stride 16).

    Raises:
        CheckpointError: incomplete tensors, a stage that doesn't exist, or heads.
    """
    if heads is not None:
        raise CheckpointError(f"{recognised.path} is a ConvNeXt, which has no attention heads.", "Leave --heads out.")
    from timm.models.convnext import ConvNeXt

    state = recognised.state
    depths = blocks_per_stage(recognised, r"stages\.(\d+)\.blocks\.(\d+)\.")
    dims = tuple(int(state[f"stages.{number}.blocks.0.conv_dw.weight"].shape[0]) for number in range(len(depths)))
    stage = choose_stage(recognised, layer, len(depths), default=3)
    require_obeyed(recognised, {"hidden_act": "gelu", "depths": list(depths), "hidden_sizes": list(dims)})
    patch = state["stem.0.weight"].shape[-1]
    if patch != _STEM:  # timm would dilate later stages instead of halving the grid, others halve
        raise CheckpointError(
            f"{recognised.path}: {recognised.file_name('stem.0.weight')} has patches of {patch}x{patch} pixels.",
            f"Only ConvNeXts with patches of {_STEM}x{_STEM} pixels can be evaluated.",
        )
    kind = "convnextv2" if "stages.0.blocks.0.mlp.grn.weight" in state else "convnext"
    with torch.device("meta"):
        net = ConvNeXt(
            depths=depths,
            dims=dims,
            kernel_sizes=state["stages.0.blocks.0.conv_dw.weight"].shape[-1],
            patch_size=_STEM,
            use_grn=kind == "convnextv2",
            ls_init_value=1.0 if "stages.0.blocks.0.gamma" in state else None,
            num_classes=0,
        )
    network = ConvNeXtStages(net.stem, net.stages, stage.number)
    fill(network, recognised)
    return Built(
        network=network,
        architecture=f"{kind}_{dims[0]}_{'_'.join(map(str, depths))}",
        stride=_STEM * 2 ** (stage.number - 1),
        multiple=_STEM * 2 ** (stage.number - 1),
        layer=stage.label,
        evidence=(("layer", stage.words(len(depths)) + " (the published norm acts on the mean only)"),),
    )


_STEM = 4  # side of the published ConvNeXts' patches


class ConvNeXtStages(Network):
    """Normalised frames [B, 3, H, W] to features [B, h, w, C] of a stage; sides are floored at every halving."""

    def __init__(self, stem: nn.Module, stages: nn.Module, stage: int) -> None:
        super().__init__()
        self.stem, self.stages, self.layer, self.num_layers = stem, stages, stage, len(list(stages.children()))

    def outputs(self, pixels: Tensor, upto: int) -> Iterator[Tensor]:
        """Output [B, h, w, C] of each stage."""
        x = self.stem(pixels)
        for block in list(self.stages.children())[:upto]:
            x = block(x)
            yield x.permute(0, 2, 3, 1)
