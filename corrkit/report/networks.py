"""What a network sees in a clip: its features as colours, and the context cells that a cell's labels come from."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from corrkit.inference import exact_inference
from corrkit.predictors.propagator import Propagator
from corrkit.propagation.propagator import matched
from corrkit.protocols import Protocol
from corrkit.report.pictures import resized
from corrkit.tasks.contract import AnyClip

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

_OUTLIERS = 2.0
"""Per cent of values at either end that share the ends of a colour's range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a part of a cell's label comes from: context frame, (x, y) of the cell from 0 to 1, its weight."""

    frame: int
    x: float
    y: float
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Of a clip: features as colours [n, h, w, 3] of the frames asked for, and the sources of one query cell.

    cell: (x, y) of the middle of the query cell, from 0 to 1. frame: of the query.
    """

    colours: NDArray[np.uint8]
    sources: tuple[Source, ...]
    cell: tuple[float, float]
    frame: int


def look(
    predictor: Propagator,
    clip: AnyClip,
    protocol: Protocol,
    frames: Sequence[int],
    frame: int,
    point: tuple[float, float],
) -> Seen:
    """Runs the network over the clip as far as it must.

    Args:
        predictor: the network.
        clip: as the protocol sees it.
        protocol: how features are made and matched.
        frames: to show as colours.
        frame: of the query, from 1.
        point: (x, y) in the query frame, from 0 to 1; the cell there is the query.
    """
    wanted = set(frames)
    kept: dict[int, Tensor] = {}

    def watched(features: "Iterator[Tensor]") -> "Iterator[Tensor]":
        for index, one in enumerate(features):
            if index in wanted:
                kept[index] = one.cpu()
            yield one
            if index >= max(frame, *wanted):
                return

    with exact_inference():
        backbone = predictor.under(protocol.features)
        features = iter(backbone.encode(predictor.frames(clip, predictor.network_input(clip, protocol))))
        first = next(features)
        finer = protocol.features.finer
        grid = (first.shape[0] * finer, first.shape[1] * finer)
        cell = min(int(point[0] * grid[1]), grid[1] - 1), min(int(point[1] * grid[0]), grid[0] - 1)
        sources: tuple[Source, ...] = ()
        for step in matched(watched(itertools.chain([first], features)), grid, protocol):
            if step.frame == frame:
                row = slice(*step.affinity.offsets[cell[1] * grid[1] + cell[0] :][:2].tolist())
                found = zip(step.affinity.indices[row].tolist(), step.affinity.weights[row].tolist(), strict=True)
                context = [copies.frame for copies in step.context]
                sources = tuple(_source(index, weight, context, grid) for index, weight in found)
    middle = (cell[0] + 0.5) / grid[1], (cell[1] + 0.5) / grid[0]
    return Seen(colours=principal_colours([kept[i] for i in frames]), sources=sources, cell=middle, frame=frame)


def principal_colours(features: Sequence["Tensor"]) -> NDArray[np.uint8]:
    """The first three principal components of all cells of some frames [h, w, C] as red, green and blue [n, h, w, 3].

    Each component is spread over the range of its values, but for outliers; of fewer components the rest is grey.
    """
    import torch

    stacked = torch.stack(list(features)).float()
    flat = stacked.flatten(0, 2)
    centred = flat - flat.mean(dim=0)
    number = min(3, centred.shape[1])
    _, vectors = torch.linalg.eigh((centred.T @ centred).double())
    axes = vectors[:, -number:].flip(1).to(centred)
    # The sign of an eigenvector is arbitrary: here its largest entry is positive.
    axes = axes * axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)).sign()
    values = (centred @ axes).numpy().astype(np.float64)
    low, high = np.percentile(values, [_OUTLIERS, 100 - _OUTLIERS], axis=0)
    spread = np.where(high > low, high - low, 1.0)
    scaled = np.clip((values - low) / spread, 0, 1)
    colours = np.full((len(values), 3), 0.5)
    colours[:, :number] = np.where(high > low, scaled, 0.5)
    return np.asarray(np.round(255 * colours), np.uint8).reshape(*stacked.shape[:3], 3)


def cells_as_picture(colours: NDArray[np.uint8], size: tuple[int, int]) -> "Image.Image":
    """Colours of cells [h, w, 3] as a picture of (width, height) pixels, cells as they are."""
    from PIL import Image

    return Image.fromarray(colours).resize(size, Image.Resampling.NEAREST)


def marked_query(frame: NDArray[np.uint8], cell: tuple[float, float], width: int) -> "Image.Image":
    """The query frame with its cell ringed."""
    from PIL import ImageDraw

    picture = resized(frame, width)
    x, y = cell[0] * picture.width, cell[1] * picture.height
    draw = ImageDraw.Draw(picture)
    for radius, colour in ((9, "black"), (7, "#ffd166")):
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], outline=colour, width=2)
    return picture


def marked_sources(frame: NDArray[np.uint8], sources: Sequence[Source], width: int) -> "Image.Image":
    """A context frame with a dot on each source, its area as the weight."""
    from PIL import ImageDraw

    picture = resized(frame, width)
    draw = ImageDraw.Draw(picture)
    for source in sources:
        x, y, radius = source.x * picture.width, source.y * picture.height, 2.5 + 9 * source.weight**0.5
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill="#ff5d8f", outline="white")
    return picture


def _source(index: int, weight: float, frames: Sequence[int], grid: tuple[int, int]) -> Source:
    number, cell = divmod(index, grid[0] * grid[1])
    y, x = divmod(cell, grid[1])
    return Source(frame=frames[number], x=(x + 0.5) / grid[1], y=(y + 0.5) / grid[0], weight=weight)
