"""Hiera (images and videos) and SAM 2's trunk: timm's blocks in spatial order, at any size that the windows divide."""

import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from corrkit.backbones.building import Built, fill, missing, table_shape
from corrkit.backbones.contract import Mode
from corrkit.backbones.networks.base import Network, WindowRule
from corrkit.backbones.networks.positions import resample
from corrkit.backbones.networks.stages import Stage, choose_heads, choose_stage
from corrkit.checkpoints.configuration import require_obeyed
from corrkit.checkpoints.recognised import Recognised
from corrkit.checkpoints.rules import HieraRules, Stages, WindowedHieraRules
from corrkit.errors import CheckpointError
from corrkit.files.jsontext import Json

_MASK_UNIT = 8  # tokens per side of a mask unit, in every published model
_PATCH_STRIDE = 4


def build(recognised: Recognised, *, heads: int | None = None, layer: int | str | None = None) -> Built:
    """The network of a recognised Hiera, filled.

    Args:
        recognised: the file's tensors under their published names.
        heads: of the first stage; they double from stage to stage.
        layer: a stage (1 is the first) without a norm; None: the last one, after the final norm if the file has one.

    Raises:
        CheckpointError: incomplete tensors, unknown heads, a stage that doesn't exist.
    """
    rules: HieraRules = recognised.system.rules
    state = recognised.state
    depths = _depths(recognised)
    weight = state["patch_embed.proj.weight"]
    if any(side % 2 == 0 for side in weight.shape[-2:]):  # its grid would have a row more than the table of positions
        raise CheckpointError(
            f"{recognised.path}: {recognised.file_name('patch_embed.proj.weight')} has patches of "
            f"{weight.shape[-2]}x{weight.shape[-1]} pixels.",
            "Only Hieras with patches of an odd number of pixels, as the published ones, can be evaluated.",
        )
    said = _whole_numbers(recognised.config.get("num_heads"))
    known = {weight.shape[0]: said[0]} if said else rules.heads
    chosen, why = choose_heads(recognised, heads, weight.shape[0], known)
    require_obeyed(
        recognised,
        {
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-6,
            "depths": list(depths),
            "num_heads": [chosen * 2**number for number in range(len(depths))],
            "masked_unit_size": _MASK_UNIT,
            "masked_unit_attention": [True, True, False, False][: len(depths)],
            "num_query_pool": rules.q_pool,
            "query_stride": 2,
            "patch_stride": _PATCH_STRIDE,
            "patch_padding": weight.shape[-1] // 2,
        },
    )
    stage = choose_stage(recognised, layer, len(depths), has_norm="norm.weight" in state)
    slices = _time_slices(recognised)
    with torch.device("meta"):
        network = Hiera(state, depths, chosen, slices, rules.q_pool, stage)
    fill(network, recognised)
    frames = 2 * slices
    video = slices > 0
    return Built(
        network=network,
        architecture=f"hiera_{weight.shape[0]}_{'_'.join(map(str, depths))}{f'_{frames}frames' if video else ''}",
        stride=_PATCH_STRIDE * 2 ** min(stage.number - 1, rules.q_pool),
        multiple=_PATCH_STRIDE * _MASK_UNIT,
        layer=stage.label,
        position="absolute",
        mode=Mode(),
        evidence=(("heads", f"{chosen} in the first stage: {why}"), ("layer", stage.words(len(depths)))),
        notes=(f"A frame is repeated {frames} times; the features are the first time slice.",) if video else (),
    )


class Hiera(Network):
    """Normalised frames [B, 3, H, W] to features [B, h, w, C] of a stage, in spatial order.

    Inside, tokens go in the order of mask units ("unrolled": facebookresearch/hiera b12b842 hiera/hiera_utils.py), in
    which a reshape to the grid would scramble them.

    Args:
        state: tensors of the file, for their shapes.
        depths: blocks per stage. heads: of the first stage.
        slices: time slices of a video model's input, 0 for an image model.
        q_pool: how many stage ends halve the grid.
        stage: whose output to give.
    """

    pos_embed: nn.Parameter
    pos_embed_spatial: nn.Parameter
    pos_embed_temporal: nn.Parameter
    position: str

    def __init__(
        self, state: dict[str, Tensor], depths: tuple[int, ...], heads: int, slices: int, q_pool: int, stage: Stage
    ) -> None:
        from timm.models.hiera import Hiera as Timm

        super().__init__()
        self.stage, self.q_pool, self.slices, self.frames = stage, q_pool, slices, 2 * slices
        self.position, self.layer, self.num_layers = "size", stage.number, len(depths)
        self.window = WindowRule(length=self.frames) if slices else None
        self.ends = [sum(depths[: number + 1]) - 1 for number in range(len(depths))]
        kernel = tuple(state["patch_embed.proj.weight"].shape[2:])
        time = (1,) if slices else ()
        self.strides = (2,) * len(time) + (_PATCH_STRIDE, _PATCH_STRIDE)
        self.q_stride = (*time, 2, 2)
        side = _PATCH_STRIDE * _MASK_UNIT
        net: Any = Timm(
            img_size=(*(self.frames for _ in time), side, side),
            embed_dim=state["patch_embed.proj.weight"].shape[0],
            num_heads=heads,
            mlp_ratio=state["blocks.0.mlp.fc1.weight"].shape[0] / state["patch_embed.proj.weight"].shape[0],
            num_classes=0,
            stages=depths,
            q_pool=q_pool,
            q_stride=self.q_stride,
            mask_unit_size=(*time, _MASK_UNIT, _MASK_UNIT),
            patch_kernel=kernel,
            patch_stride=self.strides,
            patch_padding=tuple(size // 2 for size in kernel),
            sep_pos_embed=bool(time),
            fix_init=False,
        )
        self.patch_embed, self.blocks = net.patch_embed, net.blocks
        for name in ("pos_embed", "pos_embed_spatial", "pos_embed_temporal"):
            if name in state:
                setattr(
                    self,
                    name,
                    nn.Parameter(
                        torch.empty(table_shape(name, state[name], state["patch_embed.proj.weight"].shape[0]))
                    ),
                )
        self.norm = nn.LayerNorm(net.num_features, eps=1e-6) if "norm.weight" in state else None

    def still(self, frames: Tensor) -> Tensor:
        """A video model sees a still clip of each frame."""
        return frames[:, :, None].expand(-1, -1, self.frames, -1, -1) if self.slices else frames

    def published(self, features: Tensor) -> Tensor:
        """After the final norm, where the last stage's published features were chosen."""
        return self.norm(features) if self.stage.normed and self.norm is not None else features

    def outputs(self, pixels: Tensor, upto: int) -> Iterator[Tensor]:
        """Output [B, (T',) h, w, C] of each stage, without a norm."""
        from timm.models.hiera import Reroll, Unroll

        size = tuple(pixels.shape[2:])
        schedule = [self.q_stride] * (len(self.ends) - 1)
        grid = tuple(side // stride for side, stride in zip(size, self.strides, strict=True))
        x = self.patch_embed(pixels) + self._positions((grid[-2], grid[-1]))
        x = Unroll(size, self.strides, schedule)(x)
        reroll = Reroll(size, self.strides, schedule, self.ends, self.q_pool)
        for index, block in enumerate(self.blocks[: self.ends[upto - 1] + 1]):
            x = block(x)
            if index in self.ends:
                yield reroll(x, index)

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        """Positions [1, N, C] of all tokens, time slice by time slice."""
        if not self.slices:
            return self._resampled(self.pos_embed, grid)
        space = self._resampled(self.pos_embed_spatial, grid).repeat(1, self.slices, 1)
        return space + self.pos_embed_temporal.repeat_interleave(grid[0] * grid[1], 1)

    def _resampled(self, table: Tensor, grid: tuple[int, int]) -> Tensor:
        side = round(table.shape[1] ** 0.5)
        return resample(table[0].unflatten(0, (side, side)), grid, self.position).flatten(0, 1)[None]


def build_sam2(recognised: Recognised, *, heads: int | None = None, layer: int | str | None = None) -> Built:
    """The trunk of a recognised SAM 2 image encoder, filled.

    Args:
        recognised: the file's tensors under timm's names.
        heads: of the first stage; they double from stage to stage.
        layer: a stage from 1 to 4; None: stage 3 (stride 16). The trunk has no norm.

    Raises:
        CheckpointError: incomplete tensors, unknown heads, a stage that doesn't exist.
    """
    from timm.models.hieradet_sam2 import HieraDet

    rules: WindowedHieraRules = recognised.system.rules
    state = recognised.state
    depths = _depths(recognised)
    dim = state["patch_embed.proj.weight"].shape[0]
    known = _said_by_config(recognised, depths) or rules.variants.get((dim, depths))
    chosen, why = choose_heads(recognised, heads, dim, {dim: known[0]} if known else {})
    ends = [sum(depths[: number + 1]) - 1 for number in range(len(depths))]
    if len(depths) < 3:
        raise CheckpointError(
            f"{recognised.path} has {len(depths)} stages, and no SAM 2 has so few.",
            "If the file is intact, its architecture is a variant that corrkit doesn't know.",
        )
    windows, globals_ = known[1:] if known else (rules.windows, (ends[2],))
    stage = choose_stage(recognised, layer, len(depths), default=3)
    table, _ = (recognised.tensor(name, 4) for name in ("pos_embed", "pos_embed_window"))
    with torch.device("meta"):
        net = HieraDet(
            embed_dim=dim,
            num_heads=chosen,
            num_classes=0,
            stages=depths,
            global_pos_size=(table.shape[2], table.shape[3]),
            window_spec=windows,
            global_att_blocks=globals_,
            fix_init=False,
        )
    network = WindowedHiera(net, ends, stage.number)
    fill(network, recognised)
    unknown = (
        () if known else (f"Windows {windows} and global attention in block {globals_[0]} assumed: not in the file.",)
    )
    return Built(
        network=network,
        architecture=f"hieradet_{dim}_{'_'.join(map(str, depths))}",
        stride=_PATCH_STRIDE * 2 ** (stage.number - 1),
        multiple=_PATCH_STRIDE * int(state["pos_embed_window"].shape[-1]),
        layer=stage.label,
        position="own",
        evidence=(("heads", f"{chosen} in the first stage: {why}"), ("layer", stage.words(len(depths)))),
        notes=unknown,
    )


def _said_by_config(recognised: Recognised, depths: tuple[int, ...]) -> tuple[int, Stages, Stages] | None:
    """Heads, windows and blocks of global attention that transformers' config beside the file says."""
    config, dim = recognised.config, recognised.state["patch_embed.proj.weight"].shape[0]
    windows, blocks, heads = (
        _whole_numbers(config.get(name))
        for name in ("window_size_per_stage", "global_attention_blocks", "num_attention_heads_per_stage")
    )
    if not (windows and blocks and heads):
        return None
    require_obeyed(
        recognised,
        {
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-6,
            "blocks_per_stage": list(depths),
            "embed_dim_per_stage": [dim * 2**number for number in range(len(depths))],
            "num_attention_heads_per_stage": [heads[0] * 2**number for number in range(len(depths))],
            "query_stride": 2,
            "patch_stride": _PATCH_STRIDE,
            "num_query_pool_stages": 3,
        },
    )
    return heads[0], windows, blocks


def _whole_numbers(value: Json) -> tuple[int, ...]:
    """A list of whole numbers; () where a config says nothing, or anything else."""
    numbers = [number for number in value if type(number) is int and number >= 0] if isinstance(value, list) else []
    return tuple(numbers) if isinstance(value, list) and len(numbers) == len(value) else ()


class WindowedHiera(Network):
    """Normalised frames [B, 3, H, W] to features [B, h, w, C] of a stage of timm's HieraDet."""

    def __init__(self, net: Any, ends: list[int], stage: int) -> None:
        super().__init__()
        self.patch_embed, self.blocks = net.patch_embed, net.blocks
        self.pos_embed, self.pos_embed_window = net.pos_embed, net.pos_embed_window
        self.ends, self.layer, self.num_layers = ends, stage, len(ends)

    def outputs(self, pixels: Tensor, upto: int) -> Iterator[Tensor]:
        """Output [B, h, w, C] of each stage."""
        x = self.patch_embed(pixels)  # [B, h, w, C]
        x = x + self._positions((x.shape[1], x.shape[2]))
        for index, block in enumerate(self.blocks[: self.ends[upto - 1] + 1]):
            x = block(x)
            if index in self.ends:
                yield x

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        """A resized background plus the tiled table of one window: facebookresearch/sam2 2b90b9f hieradet.py:273."""
        background = functional.interpolate(self.pos_embed, size=grid, mode="bicubic")
        height, width = self.pos_embed_window.shape[2:]
        tiles = self.pos_embed_window.tile(-(-grid[0] // height), -(-grid[1] // width))
        table: Tensor = background + tiles[:, :, : grid[0], : grid[1]]
        return table.permute(0, 2, 3, 1)


def _depths(recognised: Recognised) -> tuple[int, ...]:
    """Blocks per stage; a stage begins with the block that widens."""
    indices = [int(match[1]) for name in recognised.state if (match := re.match(r"blocks\.(\d+)\.", name))]
    widening = {i for i in indices for kind in ("weight", "bias") if f"blocks.{i}.proj.{kind}" in recognised.state}
    starts = [0, *sorted(widening)]
    return tuple(end - start for start, end in zip(starts, [*starts[1:], max(indices) + 1], strict=True))


def _time_slices(recognised: Recognised) -> int:
    """Time slices of a video model's input; 0 for an image model."""
    state = recognised.state
    if state["patch_embed.proj.weight"].ndim == 4:
        tables = ["pos_embed"]
    else:
        tables = ["pos_embed_spatial", "pos_embed_temporal"]
    if any(name not in state for name in tables):
        raise missing(recognised, [name for name in tables if name not in state])
    cells = state[tables[0]].shape[1]
    if round(cells**0.5) ** 2 != cells:
        raise CheckpointError(
            f"{recognised.path}: {recognised.file_name(tables[0])} has {cells} rows, which is no square grid.",
            "Only models that were trained on square images can be evaluated.",
        )
    return int(state["pos_embed_temporal"].shape[1]) if len(tables) == 2 else 0
