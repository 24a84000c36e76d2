"""Similarities of query cells with the context cells around them, tile by tile, and nothing else."""

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
class Seen:
    """A context frame of a block of query frames.

    Attributes:
        features: [h, w, C].
        first: the query frames first..last (end excluded) of the block may see it.
        last: see first.
    """

    features: "Tensor"
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """m cells in each of B query frames, and the box of P key cells around their windows.

    Attributes:
        first: place of the tile's B * m rows (query frame by query frame) among those of its group: first..last.
        last: see first.
        queries: the m cells.
        keys: the P cells.
        cells: [P] int64, their row-major numbers.
        outside: [m, P] float32, 0 inside the window and -inf outside.
    """

    first: int
    last: int
    queries: Box
    keys: Box
    cells: "Tensor"
    outside: "Tensor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Tiles below one another that are worked on together: R rows, tile by tile, query frame by query frame.

    Attributes:
        tiles: top to bottom, all of the same columns.
        members: [R] int64, which query frame of the block a row belongs to.
        cells: [R] int64, row-major number of a row's query cell; y and x are its place.
        y: see cells.
        x: see cells.
    """

    tiles: list[Tile]
    members: "Tensor"
    cells: "Tensor"
    y: "Tensor"
    x: "Tensor"

    @property
    def strip(self) -> Box:
        """The key cells of all tiles."""
        return self.tiles[0].keys.down_to(self.tiles[-1].keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """What the tiles depend on: B query frames of a grid, F windowed and some free context frames, (b, f) pairs."""

    height: int
    width: int
    channels: int
    num_queries: int
    num_windowed: int
    num_free: int
    num_pairs: int


class Workspace:
    """Buffers that are reused from block to block, so that memory is neither touched anew nor cut into pieces."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._least = costs_of(device).memory // 4 if device.type == "cpu" else 0  # untouched pages cost nothing there
        self._buffers: dict[str, Tensor] = {}

    def buffer(self, name: str, size: int) -> "Tensor":
        """[size] float32, uninitialised; the same memory for the same name."""
        if name not in self._buffers or self._buffers[name].numel() < size:
            self._buffers.pop(name, None)
            self._buffers[name] = torch.empty(max(size, self._least), device=self._device)
        return self._buffers[name][:size]


class Plan:
    """How a block of query frames is worked on: its groups of tiles and their windows."""

    def __init__(self, extent: Extent, window: Window, workspace: Workspace, device: torch.device) -> None:
        self.extent = extent
        self._workspace = workspace
        self._window = window
        self._device = device
        self._groups_per_question = costs_of(device).groups_per_question
        self._outside: dict[tuple[int, ...], Tensor] = {}
        grid = (extent.height, extent.width)
        reach = max(0, window.reach(*grid))
        costs = costs_of(device)
        num_frames = max(1, extent.num_windowed)
        bytes_per_pair = 4 * extent.num_queries * num_frames
        shape = tile_shape(grid, reach, max(1.0, extent.num_pairs / num_frames), bytes_per_pair, costs)
        self.groups: list[Group] = []
        for boxes in strips(*grid, shape):
            pending: list[tuple[Box, Box]] = []
            size = 0
            for box in boxes:
                keys = box.grown(reach, *grid)
                pairs = box.size * (num_frames * keys.size + extent.num_free * extent.height * extent.width)
                own = extent.num_queries * (pairs + box.size * extent.channels)
                strip = (pending[0][1] if pending else keys).down_to(keys).size * extent.channels
                if pending and size + own + strip > costs.memory / 4:
                    self.groups.append(self._group(pending))
                    pending, size = [], 0
                pending.append((box, keys))
                size += own
            self.groups.append(self._group(pending))

    @property
    def questions(self) -> list[list[Group]]:
        """The groups, by what the host asks the device about together."""
        size = min(self._groups_per_question, len(self.groups))
        return [self.groups[first : first + size] for first in range(0, len(self.groups), size)]

    def scores(
        self, group: Group, queries: Sequence["Tensor"], windowed: Sequence[Seen], free: Sequence[Seen]
    ) -> tuple[list["Tensor"], list["Tensor"]]:
        """Similarities of a group's query cells, -inf where a query frame does not see the context frame.

        Valid until the next call.

        Args:
            group: of this plan.
            queries: features [h, w, C] of each query frame of the block.
            windowed: context frames that the window restricts.
            free: the others.

        Returns:
            [F, B * m, P] of each tile with the windowed frames, and [R, N] with each free one.
        """
        room, channels, strip = self.room(group), self.extent.channels, group.strip
        rows, keys, *buffers = torch.split(self._workspace.buffer("group", sum(room)), room)
        rows = self._rows(group, queries, rows.view(-1, channels))
        scores = [
            buffer.view(len(windowed), tile.last - tile.first, tile.keys.size)
            for tile, buffer in zip(group.tiles, buffers, strict=True)
            if windowed
        ]
        self._windowed_scores(rows, group, windowed, keys.view(strip.bottom - strip.top, -1, channels), scores)
        return scores, self._free_scores(rows, group, free)

    def room(self, group: Group) -> list[int]:
        """Numbers that a group takes: features of its query cells and of its key cells, similarities of each tile."""
        similarities = [self.extent.num_windowed * (tile.last - tile.first) * tile.keys.size for tile in group.tiles]
        return [group.tiles[-1].last * self.extent.channels, group.strip.size * self.extent.channels, *similarities]

    def _rows(self, group: Group, queries: Sequence["Tensor"], rows: "Tensor") -> "Tensor":
        """Features of a group's query cells into `rows` [R, C]."""
        for tile in group.tiles:
            box = tile.queries
            own = rows[tile.first : tile.last].view(len(queries), box.bottom - box.top, -1, rows.shape[1])
            for out, query in zip(own, queries, strict=True):
                out.copy_(query[box.top : box.bottom, box.left : box.right])
        return rows

    def _windowed_scores(
        self, rows: "Tensor", group: Group, frames: Sequence[Seen], keys: "Tensor", scores: Sequence["Tensor"]
    ) -> None:
        """Similarities into `scores`, by way of `keys`, room for the features [rows, columns, C] of the group's strip.

        Context frame by context frame, so that the keys of one stay in the cache for all tiles of the group.
        """
        strip, channels = group.strip, rows.shape[1]
        for number, frame in enumerate(frames):
            keys.copy_(frame.features[strip.top : strip.bottom, strip.left : strip.right])
            for tile, out in zip(group.tiles, scores, strict=True):
                block = keys[tile.keys.top - strip.top : tile.keys.bottom - strip.top].view(-1, channels)
                _seen_products(rows[tile.first : tile.last], block, frame, tile.queries.size, out[number])

    def _free_scores(self, rows: "Tensor", group: Group, frames: Sequence[Seen]) -> list["Tensor"]:
        """Similarities [R, N] with every cell of each frame."""
        num_cells = self.extent.height * self.extent.width
        scores = []
        for number, frame in enumerate(frames):
            out = self._workspace.buffer(f"free {number}", len(rows) * num_cells).view(len(rows), num_cells)
            products(rows, frame.features.view(num_cells, -1), out)
            if frame.last - frame.first < self.extent.num_queries:
                is_unseen = (group.members < frame.first) | (group.members >= frame.last)
                out.masked_fill_(is_unseen.unsqueeze(1), -torch.inf)
            scores.append(out)
        return scores

    def _group(self, boxes: Sequence[tuple[Box, Box]]) -> Group:
        num_queries, tiles, cells, members, first = self.extent.num_queries, [], [], [], 0
        for box, keys in boxes:
            tiles.append(
                Tile(
                    first=first,
                    last=first + num_queries * box.size,
                    queries=box,
                    keys=keys,
                    cells=keys.cells(self.extent.width, self._device),
                    outside=self._outside_of(box, keys),
                )
            )
            first = tiles[-1].last
            cells.append(box.cells(self.extent.width, self._device).repeat(num_queries))
            members.append(torch.arange(num_queries, device=self._device).repeat_interleave(box.size))
        joined = torch.cat(cells)
        y, x = joined // self.extent.width, joined % self.extent.width
        return Group(tiles=tiles, members=torch.cat(members), cells=joined, y=y, x=x)

    def _outside_of(self, queries: Box, keys: Box) -> "Tensor":
        """0 / -inf of a tile's cells against its box; tiles of equal shape and place in their box share one."""
        dy = queries.rows(self._device).unsqueeze(1) - keys.rows(self._device)  # [bh, K rows]
        dx = queries.columns(self._device).unsqueeze(1) - keys.columns(self._device)  # [bw, K columns]
        key = (*dy.shape, *dx.shape, queries.top - keys.top, queries.left - keys.left)
        if key not in self._outside:
            inside = self._window.admits(dy[:, None, :, None], dx[None, :, None, :])  # [bh, bw, K rows, K columns]
            self._outside[key] = torch.where(inside, 0.0, -torch.inf).view(queries.size, keys.size)
        return self._outside[key]


def products(queries: "Tensor", keys: "Tensor", out: "Tensor") -> None:
    """Dot products [M, P] of queries [M, C] and keys [P, C] into `out`, in rows of at least 16."""
    rows = queries.shape[0]
    if rows < _MIN_ROWS:
        out.copy_((functional.pad(queries, (0, 0, 0, _MIN_ROWS - rows)) @ keys.T)[:rows])
    else:
        torch.mm(queries, keys.T, out=out)


def _seen_products(rows: "Tensor", keys: "Tensor", frame: Seen, size: int, out: "Tensor") -> None:
    """Products of the query frames that see the context frame; the other rows of `out` become -inf."""
    first, last = frame.first * size, frame.last * size
    products(rows[first:last], keys, out[first:last])
    out[:first] = -torch.inf
    out[last:] = -torch.inf
