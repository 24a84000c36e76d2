"""Joints: label maps on the grid and back. Points are (x, y) in 0-based pixels of the original frame."""

import math
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from corrkit.protocols.schema import PointLabels, PointReadout
from corrkit.tasks.contract import Geometry
from corrkit.tasks.masks import resize_bilinear

if TYPE_CHECKING:
    from torch import Tensor

Points = NDArray[np.float64]

JOINTS = (
    "neck", "belly", "face", "right-shoulder", "left-shoulder", "right-hip", "left-hip", "right-elbow", "left-elbow",
    "right-knee", "left-knee", "right-wrist", "left-wrist", "right-ankle", "left-ankle",
)  # fmt: skip
"""JHMDB's order (open-mmlab/mmpose ba8cf33 configs/_base_/datasets/jhmdb.py)."""
BONES = (
    (0, 1), (0, 2), (0, 3), (0, 4), (3, 7), (7, 11), (4, 8), (8, 12),
    (1, 5), (1, 6), (5, 9), (9, 13), (6, 10), (10, 14),
)  # fmt: skip
"""Joints that a drawn skeleton connects."""


class PointCodec:
    """Joints of one clip to label maps [h, w, L] and back; L is the number of joints, plus 1 with a background.

    Args:
        geometry: the clip's sizes.
        labels: how joints are drawn.
        readout: how maps are read.
    """

    def __init__(self, geometry: Geometry, labels: PointLabels, readout: PointReadout) -> None:
        self._geometry = geometry
        self._labels = labels
        self._readout = readout

    def encode(self, annotation: Points) -> "Tensor":
        """Joints [J, 2] to a label map [h, w, L] float32."""
        import torch

        if self._labels.sigma_unit == "cells":
            maps = torch.from_numpy(self._draw(self._to_cells(annotation), self._geometry.grid))
        else:
            maps = resize_bilinear(self._at_network_size(annotation), self._geometry.grid)
        soft = maps.to(torch.float32).permute(1, 2, 0)  # [h, w, J]
        if self._labels.background:
            soft = torch.cat([(soft.sum(dim=-1, keepdim=True) == 0).to(soft.dtype), soft], dim=-1)
        return soft.contiguous()

    def grown(self, annotation: Points) -> Self:
        """The codec itself: channels are as many as the points of an annotation, new ones behind."""
        return self

    def entering(self, annotation: Points) -> "Tensor":
        """Points [J, 2], NaN where none is given, to a label map [h, w, L] without background."""
        labels = self.encode(annotation)
        labels[..., : int(self._labels.background)] = 0
        return labels

    def decode(self, soft: "Tensor") -> Points:
        """Soft label map [h, w, L] on any device to joints [J, 2]; NaN where a joint's map is empty."""
        maps = soft[..., int(self._labels.background) :].permute(2, 0, 1)  # [J, h, w]
        if self._readout.resolution == "original":
            maps = resize_bilinear(maps, self._geometry.original)
        return self._read(maps)

    def lost(self, annotation: Points, labels: "Tensor") -> list[str]:
        """Joints [J, 2] that no cell of their label map [h, w, L] holds: they lie outside of the frame."""
        held = (labels[..., int(self._labels.background) :].amax(dim=(0, 1)) > 0).tolist()
        names = JOINTS if len(annotation) == len(JOINTS) else [f"point {n}" for n in range(len(annotation))]
        is_given = [not np.isnan(point).any() for point in annotation]
        return [name for name, given, is_held in zip(names, is_given, held, strict=True) if given and not is_held]

    def first_prediction(self, annotation: Points) -> Points:
        """What stands for the prediction of frame 0 where it is not predicted like the others."""
        if self._readout.first_frame == "copy":
            return annotation
        if self._readout.first_frame == "decoded":
            return self.decode(self.encode(annotation))
        return self._read(resize_bilinear(self._at_network_size(annotation), self._geometry.original))

    def _read(self, maps: "Tensor") -> Points:
        """Maps [J, h, w], on the grid or at the original size, to joints [J, 2] in pixels."""
        cells = read_peaks(maps, self._readout.peak_cells)
        height, width = maps.shape[1:]
        # Divided and multiplied in this order and precision (ajabri/videowalk 047f3f4 code/eval/eval_pck.py:62-63).
        sizes = np.array([width, height], cells.dtype)
        original = np.array(self._geometry.original[::-1], cells.dtype)
        if self._readout.cell_origin == "centre":
            return np.asarray((cells + 0.5) / sizes * original - 0.5, np.float64)
        return np.asarray(cells / sizes * original, np.float64)

    def _to_cells(self, points: Points) -> Points:
        """Pixels of the frame to cells, in the published order of operations: truncation follows."""
        if self._labels.scaling == "grid":
            return np.asarray(
                points * (np.array(self._geometry.grid[::-1]) / self._geometry.original[::-1]), np.float64
            )
        network = np.array(self._geometry.network[::-1], np.float64)
        original = np.array(self._geometry.original[::-1], np.float64)
        return np.asarray(points * network / original / self._geometry.stride, np.float64)

    def _at_network_size(self, points: Points) -> "Tensor":
        """Joints drawn on the original frame and resized to the network's size: [J, H, W] float64."""
        import cv2
        import torch

        drawn = self._draw(points, self._geometry.original).transpose(1, 2, 0)  # [H, W, J]
        resized = cv2.resize(drawn, self._geometry.network[::-1], interpolation=cv2.INTER_LINEAR)
        return torch.from_numpy(resized).permute(2, 0, 1)

    def _draw(self, points: Points, size: tuple[int, int]) -> Points:
        return draw_gaussians(points, size, self._labels.sigma, floor=self._labels.border == "floor")


def draw_gaussians(points: Points, size: tuple[int, int], sigma: float, *, floor: bool = False) -> Points:
    """One map per point with a Gaussian of peak 1 in a window of 6 sigma + 1 cells.

    A point's window begins at t(x - 3 sigma) and ends before t(x + 3 sigma + 1), t being truncation towards zero, and
    the peak stands (6 sigma + 1) // 2 cells after its beginning. So peaks lie on cells; sigma 0.5 gives 4x4 windows
    with offsets -2..1; near the left and top border truncation moves the window inwards. Where rounding of
    x - 3 sigma makes the window one cell wider than 6 sigma + 1 the published function raises ValueError; here the
    window keeps its width, and the surplus cell stays 0.

    Args:
        points: [J, 2] (x, y) in units of the map, origin at the first cell.
        size: (height, width) of the maps in cells.
        sigma: in cells.
        floor: cut downwards instead of towards zero.

    Returns:
        [J, height, width] float64; a map is 0 where the point's window misses it.

    Source: ajabri/videowalk 047f3f4 code/data/jhmdb.py:287-319, xvjiarui/VFS 8e055cc mmaction pipelines/loading.py.
    """
    kernel_width = math.ceil(6 * sigma + 1)
    cut = np.floor if floor else np.trunc
    start = cut(points - 3 * sigma)  # [J, 2]
    stop = np.minimum(cut(points + 3 * sigma + 1), start + kernel_width)
    peak = start + (6 * sigma + 1) // 2
    cells_x, cells_y = np.arange(size[1]), np.arange(size[0])
    inside_x = (cells_x >= start[:, :1]) & (cells_x < stop[:, :1])  # [J, width]
    inside_y = (cells_y >= start[:, 1:]) & (cells_y < stop[:, 1:])
    squared_x = np.square(cells_x - peak[:, :1])
    squared_y = np.square(cells_y - peak[:, 1:])
    maps = np.zeros((len(points), *size), np.float64)
    joint, row, column = np.nonzero(inside_y[:, :, None] & inside_x[:, None, :])
    squared = squared_x[joint, column] + squared_y[joint, row]
    maps[joint, row, column] = np.exp(-squared / (2 * sigma**2))
    return maps


def read_peaks(maps: "Tensor", count: int) -> NDArray[np.int64]:
    """The value-weighted mean position of the `count` largest cells of each map.

    Args:
        maps: [J, h, w], values >= 0, on any device.
        count: cells to average; all where there are fewer.

    Returns:
        [J, 2] (x, y) in cells, of the maps' precision; NaN where a map's sum is 0. Equal values are taken in the order
        of torch.topk, as published.

    Source: ajabri/videowalk 047f3f4 code/utils/test_utils.py:55-66.
    """
    flat = maps.flatten(1)  # [J, h * w]
    values, cells = flat.topk(min(count, flat.shape[1]), dim=1)  # [J, k]
    weights = values / values.sum(dim=1, keepdim=True)
    x = ((cells % maps.shape[2]) * weights).sum(dim=1)
    y = ((cells // maps.shape[2]) * weights).sum(dim=1)
    positions = np.stack([x.cpu().numpy(), y.cpu().numpy()], axis=1)
    positions[(flat.sum(dim=1) == 0).cpu().numpy()] = np.nan
    return np.asarray(positions)
