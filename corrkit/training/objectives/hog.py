"""Histograms of oriented gradients as MaskFeat predicts them (not the `hog` backbone, which follows another rule)."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, conv_transpose2d, normalize, one_hot, pad

NUM_BINS, CELL = 9, 8


def hog(pixels: Tensor, *, normalised: bool = True) -> Tensor:
    """[B, 3, 9, H / 8, W / 8] of normalised pixels [B, 3, H, W].

    Unsigned orientation in 9 bins without interpolation, phase atan2(gx, gy), no Gaussian window, each histogram
    L2-normalised: facebookresearch/SlowFast 287ec00 slowfast/models/operators.py:62-117.
    """
    batch, channels, height, width = pixels.shape
    kernel = pixels.new_tensor([[1, 0, -1], [2, 0, -2], [1, 0, -1]])
    planes = pad(pixels, (1, 1, 1, 1), mode="reflect").reshape(batch * channels, 1, height + 2, width + 2)
    gradients = conv2d(planes, torch.stack([kernel, kernel.T])[:, None])  # [B · 3, 2, H, W]
    gx, gy = gradients.unbind(1)
    magnitude = gradients.norm(dim=1)
    bins = (torch.atan2(gx, gy) / math.pi * NUM_BINS).floor().long() % NUM_BINS  # [B · 3, H, W]
    cells = bins.unflatten(1, (-1, CELL)).unflatten(3, (-1, CELL)).transpose(2, 3).flatten(3)  # [B · 3, h, w, 64]
    weights = magnitude.unflatten(1, (-1, CELL)).unflatten(3, (-1, CELL)).transpose(2, 3).flatten(3)
    histogram = magnitude.new_zeros(*cells.shape[:3], NUM_BINS).scatter_add(3, cells, weights)
    if normalised:
        histogram = normalize(histogram, dim=3)
    found: Tensor = histogram.permute(0, 3, 1, 2).reshape(batch, channels, NUM_BINS, height // CELL, width // CELL)
    return found


def hog_tokens(pixels: Tensor, patch: int) -> Tensor:
    """[B, L, 27 · c · c] with c = patch / 8 cells on a side, in the order (channel, bin, row, column).

    facebookresearch/SlowFast 287ec00 slowfast/models/masked.py:232-253.
    """
    cells = patch // CELL
    maps = hog(pixels).flatten(1, 2)  # [B, 27, H / 8, W / 8]
    cut = maps.unflatten(2, (-1, cells)).unflatten(4, (-1, cells)).permute(0, 2, 4, 1, 3, 5)
    found: Tensor = cut.flatten(3).flatten(1, 2)
    return found


def hog_image(pixels: Tensor) -> Tensor:
    """The picture of gradient histograms that VIOLET predicts, [B, H, W] of normalised pixels [B, 3, H, W].

    scikit-image 0.26 skimage.feature.hog(orientations=9, pixels_per_cell=(8, 8), visualize=True), which
    tsujuifu/pytorch_empirical-mvm c0f7790 dataset.py:197-206 calls: central differences (0 at the border) of the
    channel with the largest gradient, magnitudes averaged in unsigned bins of 20 degrees, a stroke per bin and cell.
    """
    down, across = torch.zeros_like(pixels), torch.zeros_like(pixels)
    down[..., 1:-1, :] = pixels[..., 2:, :] - pixels[..., :-2, :]
    across[..., 1:-1] = pixels[..., 2:] - pixels[..., :-2]
    strongest = down.hypot(across).argmax(1, keepdim=True)
    down, across = down.gather(1, strongest)[:, 0], across.gather(1, strongest)[:, 0]
    bins = (torch.atan2(down, across).rad2deg() % 180 / (180 / NUM_BINS)).long().clamp(max=NUM_BINS - 1)
    weights = one_hot(bins, NUM_BINS) * down.hypot(across)[..., None]
    histogram = avg_pool2d(weights.permute(0, 3, 1, 2), CELL)  # [B, 9, h, w]
    return conv_transpose2d(histogram, _strokes().to(pixels)[:, None], stride=CELL)[:, 0]


def _strokes() -> Tensor:
    """[9, 8, 8]: a line of 1 through each cell's centre along the edges of a bin's gradients."""
    import cv2

    drawn = np.zeros((NUM_BINS, CELL, CELL), np.float32)
    half, centre = CELL // 2 - 1, CELL // 2
    for index, picture in enumerate(drawn):
        angle = math.pi * (index + 0.5) / NUM_BINS
        right, down = half * math.sin(angle), half * math.cos(angle)
        ends = [(int(centre + sign * right), int(centre - sign * down)) for sign in (1, -1)]
        cv2.line(picture, ends[0], ends[1], 1.0)
    return torch.from_numpy(drawn)
