"""Similarities of the query cells of a strip of tiles with the context cells around them, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from corrkit.propagation.tiling import Box, costs_of, strips, tile_shape
from corrkit.propagation.window import Window

if TYPE_CHECKING:
    from torch import Tensor

# Below 16 query rows MKL's products differ in the last bit; from there on they depend on neither tile nor threads.
_MIN_ROWS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """M query cells and the box of P key cells around their windows.

    Attributes:
        first: the tile's place among the queries of its strip: rows first..last.
        last: see first.
        box: the key cells.
        cells: [P] int64, their row-major numbers.
        outside: [M, P] float32, 0 inside the window and -inf outside.
    """

    first: int
    last: int
    box: Box
    cells: "Tensor"
    outside: "Tensor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """The tiles between two columns. cells, y, x: [Q] int64, where its query cells lie on the grid, in tile order."""

    box: Box
    tiles: list[Tile]
    cells: "Tensor"
    y: "Tensor"
    x: "Tensor"


class Plan:
    """The strips of a grid under a window, and the buffers that matching reuses from frame to frame."""

    def __init__(self, height: int, width: int, window: Window, num_frames: int, device: torch.device) -> None:
        self.height = height
        self.width = width
        self._device = device
        self._outside: dict[tuple[int, ...], Tensor] = {}
        self._buffers: dict[str, Tensor] = {}
        reach = max(0, window.reach(height, width))
        shape = tile_shape(height, width, reach, num_frames, costs_of(device))
        self.strips = [self._strip(boxes, reach, window) for boxes in strips(height, width, shape)]

    def windowed_scores(self, queries: "Tensor", strip: Strip, frames: Sequence["Tensor"]) -> list["Tensor"]:
        """Similarities [F, M, P] per tile of a strip; valid until the next call.

        Context frame by context frame, so that a frame's keys of the strip stay in the cache for all its tiles.

        Args:
            queries: [Q, C] features of the strip's query cells.
            strip: one of the plan's.
            frames: features [h, w, C] of the F context frames.
        """
        sizes = [len(frames) * tile.outside.numel() for tile in strip.tiles]
        buffer = torch.split(self._buffer("scores", sum(sizes)), sizes)
        scores = [b.view(len(frames), *tile.outside.shape) for b, tile in zip(buffer, strip.tiles, strict=True)]
        box, channels = strip.tiles[0].box, queries.shape[1]
        num_columns = box.right - box.left
        keys = self._buffer("keys", self.height * num_columns * channels).view(self.height, num_columns, channels)
        for number, frame in enumerate(frames):
            keys.copy_(frame[:, box.left : box.right])
            for tile, out in zip(strip.tiles, scores, strict=True):
                block = keys[tile.box.top : tile.box.bottom].view(-1, channels)
                products(queries[tile.first : tile.last], block, out=out[number])
        return scores

    def free_scores(self, queries: "Tensor", frames: Sequence["Tensor"]) -> list["Tensor"]:
        """Similarities [Q, N] with every cell of each frame; valid until the next call."""
        shape = (len(queries), self.height * self.width)
        buffers = [self._buffer(f"free {i}", shape[0] * shape[1]).view(shape) for i in range(len(frames))]
        for frame, out in zip(frames, buffers, strict=True):
            products(queries, frame.view(shape[1], -1), out=out)
        return buffers

    def _buffer(self, name: str, size: int) -> "Tensor":
        if name not in self._buffers or self._buffers[name].numel() < size:
            self._buffers[name] = torch.empty(size, device=self._device)
        return self._buffers[name][:size]

    def _strip(self, boxes: list[Box], reach: int, window: Window) -> Strip:
        tiles, first = [], 0
        for box in boxes:
            grown = box.grown(reach, self.height, self.width)
            tiles.append(
                Tile(
                    first=first,
                    last=first + box.size,
                    box=grown,
                    cells=grown.cells(self.width, self._device),
                    outside=self._outside_of(box, grown, window),
                )
            )
            first += box.size
        whole = Box(top=boxes[0].top, bottom=boxes[-1].bottom, left=boxes[0].left, right=boxes[0].right)
        cells = whole.cells(self.width, self._device)
        return Strip(box=whole, tiles=tiles, cells=cells, y=cells // self.width, x=cells % self.width)

    def _outside_of(self, box: Box, grown: Box, window: Window) -> "Tensor":
        """0 / -inf of a tile's queries against its box; tiles of equal shape and place in their box share one."""
        dy = box.rows(self._device).unsqueeze(1) - grown.rows(self._device)  # [bh, R]
        dx = box.columns(self._device).unsqueeze(1) - grown.columns(self._device)  # [bw, K]
        key = (*dy.shape, *dx.shape, int(dy[0, 0]), int(dx[0, 0]))
        if key not in self._outside:
            inside = window.admits(dy[:, None, :, None], dx[None, :, None, :])  # [bh, bw, R, K]
            self._outside[key] = torch.where(inside, 0.0, -torch.inf).view(box.size, grown.size)
        return self._outside[key]


def products(queries: "Tensor", keys: "Tensor", out: "Tensor") -> "Tensor":
    """Dot products [M, P] of queries [M, C] and keys [P, C] into `out`, in rows of at least 16."""
    rows = queries.shape[0]
    if rows < _MIN_ROWS:
        return out.copy_((functional.pad(queries, (0, 0, 0, _MIN_ROWS - rows)) @ keys.T)[:rows])
    return torch.mm(queries, keys.T, out=out)
