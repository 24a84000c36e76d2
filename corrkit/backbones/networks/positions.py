"""Rules that resample a stored position embedding to another grid. They are not cosmetic: features change by per cents.

facebookresearch/dino and everything evaluated with its code use "dino", Hugging Face "size", timm and DINOv2 with
registers "antialias", perception_models "bilinear", TIPS and SigLIP 2 NaFlex "bilinear-antialias", RADIO "crop",
TimeSformer "nearest".
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from corrkit.errors import UsageError, closest

Grid = tuple[int, int]


def resample(table: Tensor, grid: Grid, rule: str) -> Tensor:
    """A position table [M_h, M_w, C] as [h, w, C] for the given grid of cells.

    Raises:
        UsageError: for an unknown rule.
    """
    if rule not in RULES:
        raise UsageError(f"{rule!r} is no rule for position embeddings.", closest(rule, RULES))
    image = table.permute(2, 0, 1)[None].float()  # [1, C, M_h, M_w]
    return RULES[rule](image, grid)[0].permute(1, 2, 0)  # [h, w, C]


def _dino(image: Tensor, grid: Grid) -> Tensor:
    """By scale factors with +0.1 (torch then samples at 1/scale): dino 7c446df vision_transformer.py:174-194.

    DINO leaves the table alone only where the count of cells is equal and the input square.
    """
    if image.shape[2] * image.shape[3] == grid[0] * grid[1] and grid[0] == grid[1]:
        return image
    factors = [(cells + 0.1) / stored for cells, stored in zip(grid, image.shape[2:], strict=True)]
    return interpolate(image, scale_factor=factors, mode="bicubic")


def _interpolated(mode: str, antialias: bool) -> Callable[[Tensor, Grid], Tensor]:
    def rule(image: Tensor, grid: Grid) -> Tensor:
        if tuple(image.shape[2:]) == grid:
            return image
        return interpolate(image, size=grid, mode=mode, align_corners=False, antialias=antialias)

    return rule


def _crop(image: Tensor, grid: Grid) -> Tensor:
    """Bilinear to the square of the longer side, then its top left: NVlabs/RADIO c0f3701 vit_patch_generator.py."""
    longer = max(grid)
    return interpolate(image, size=(longer, longer), mode="bilinear", align_corners=False)[:, :, : grid[0], : grid[1]]


def _nearest(image: Tensor, grid: Grid) -> Tensor:
    """Facebookresearch/TimeSformer a5ef29a models/vit.py:208: as it stands wherever the count of cells is equal."""
    if image.shape[2] * image.shape[3] == grid[0] * grid[1]:
        return image.reshape(*image.shape[:2], *grid)
    return interpolate(image, size=grid, mode="nearest")


RULES: dict[str, Callable[[Tensor, Grid], Tensor]] = {
    "dino": _dino,
    "size": _interpolated("bicubic", antialias=False),
    "antialias": _interpolated("bicubic", antialias=True),
    "bilinear": _interpolated("bilinear", antialias=False),
    "bilinear-antialias": _interpolated("bilinear", antialias=True),
    "crop": _crop,
    "nearest": _nearest,
}


def sincos(grid: Grid, dim: int, order: str) -> Tensor:
    """The fixed table [h, w, dim] of quarter blocks sin, cos, sin, cos with frequencies 10000^(-k/(dim/4)).

    Args:
        grid: cells (h, w).
        dim: channels.
        order: "column" (MAE and its descendants, I-JEPA, CroCo, AIMv2) or "row" (MoCo v3, BootMAE, SiameseIM): the
            coordinate of the first half of the channels.
    """
    frequencies = 10000 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    rows, columns = (torch.arange(cells, dtype=torch.float64)[:, None] * frequencies for cells in grid)
    row = torch.cat([rows.sin(), rows.cos()], 1)[:, None].expand(-1, grid[1], -1)  # [h, w, dim / 2]
    column = torch.cat([columns.sin(), columns.cos()], 1)[None].expand(grid[0], -1, -1)
    return torch.cat([column, row] if order == "column" else [row, column], 2).float()


def sinusoid(count: int, dim: int) -> Tensor:
    """The table [count, dim] of VideoMAE over all tokens in order of time, row, column; sine and cosine alternate.

    MCG-NJU/VideoMAE 14ef8d8 modeling_finetune.py:160.
    """
    channel = torch.arange(dim, dtype=torch.float64)
    angle = torch.arange(count, dtype=torch.float64)[:, None] / 10000 ** (2 * (channel // 2) / dim)
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos()).float()
