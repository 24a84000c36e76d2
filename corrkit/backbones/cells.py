"""Weight-free backbones: colours (`rgb`) and oriented gradients with colours (`hog`) of each cell.

They need no file, cost little more than reading the frames, and are the first two rungs that a learned backbone
should climb. Oriented gradients after Dalal and Triggs, Histograms of Oriented Gradients for Human Detection,
CVPR 2005.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor

from corrkit.backbones.contract import IMAGENET_MEAN, IMAGENET_STD, Described, Interface, Report


class _Cells(Described):
    """What the two backbones share. Without weights, name and parameters make the numbers, and so the digest."""

    def __init__(self, system: str, architecture: str, stride: int) -> None:
        interface = Interface(
            stride=stride,
            multiple=stride,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            report=Report(system=system, architecture=architecture, parameters=0),
            digest=hashlib.sha256(f"{system} {architecture}".encode()).hexdigest(),
        )
        super().__init__(interface)

    def __call__(self, frames: Tensor) -> Tensor:
        raise NotImplementedError

    def encode(self, frames: Iterable[Tensor]) -> Iterator[Tensor]:
        """Normalised frames [3, H, W] of one clip in order to features [h, w, C], one per frame."""
        for frame in frames:
            yield self(frame[None])[0]

    def _whole_cells(self, frames: Tensor) -> Tensor:
        """Frames [B, 3, H, W] without what is left over at the right and bottom, as a patch projection drops it.

        Raises:
            ValueError: for frames of another shape, or smaller than a cell.
        """
        if frames.ndim != 4 or frames.shape[1] != 3 or min(frames.shape[2:]) < self.stride:
            raise ValueError(f"frames are {tuple(frames.shape)}, not [B, 3, H, W] of {self.stride} pixels or more")
        height, width = (side - side % self.stride for side in frames.shape[2:])
        return frames[..., :height, :width].float()


class RgbCells(_Cells):
    """Colours of a patch around each cell: the means of sub-cells, and a constant.

    The constant makes brightness count after the L2 normalisation of most protocols, which would otherwise see only
    the direction of a colour.

    Args:
        stride: pixels per cell, at least 1.
        parts: sub-cells per side of a cell; must divide the stride.
        context: neighbouring cells on each side whose colours are part of a cell's feature, at least 0.
        constant: value of the constant channel beside each colour, in standard deviations of a colour channel; 0
            leaves it out.
    """

    def __init__(self, *, stride: int = 8, parts: int = 1, context: int = 1, constant: float = 1.0) -> None:
        if stride < 1 or parts < 1 or stride % parts or context < 0:
            raise ValueError(f"out of range: {stride=} {parts=} {context=}; parts must divide the stride")
        self.parts = parts
        self.context = context
        self.constant = constant
        super().__init__("rgb", f"stride={stride} parts={parts} context={context} constant={constant:g}", stride)

    def __call__(self, frames: Tensor) -> Tensor:
        """Normalised frames [B, 3, H, W] to features [B, h, w, 3 (parts (2 context + 1))^2 + 1].

        Without the last channel if constant is 0.
        """
        frames = self._whole_cells(frames)
        size = self.stride // self.parts
        colours = F.pixel_unshuffle(F.avg_pool2d(frames, size), self.parts)  # [B, 3 parts^2, h, w]
        patches = _with_neighbours(colours, self.context)
        if self.constant:
            length = self.constant * math.sqrt(patches.shape[1] / 3)  # as if it stood beside each colour
            patches = F.pad(patches, (0, 0, 0, 0, 0, 1), value=length)
        return patches.permute(0, 2, 3, 1).contiguous()


class HogCells(_Cells):
    """Oriented gradients and colours of a patch around each cell, both free of the brightness of the light.

    Per pixel: the gradient of the brightness (central differences), its length shared between the two nearest of
    `bins` unsigned orientations. Per cell: the mean over its pixels. The histograms of the cell and its neighbours up
    to `context` cells away are divided by their sum and their roots taken: one vector of length 1. Beside it the mean
    colours of the same cells less the patch's mean brightness, as a vector of length `colour`.

    Args:
        stride: pixels per cell, at least 2.
        bins: orientations over half a turn, at least 2.
        context: neighbouring cells on each side that are part of a cell's feature, at least 0.
        colour: length of the colour part beside a gradient part of length 1; 0 leaves colours out.
        floor: mean gradient length (standard deviations of a colour channel per pixel) at which a patch counts as
            half flat: the squared length of its gradient part is a half there, and 0 where there is no gradient.
    """

    def __init__(
        self, *, stride: int = 8, bins: int = 9, context: int = 1, colour: float = 1.0, floor: float = 0.02
    ) -> None:
        if stride < 2 or bins < 2 or context < 0 or colour < 0 or floor <= 0:
            raise ValueError(f"out of range: {stride=} {bins=} {context=} {colour=} {floor=}")
        self.bins = bins
        self.context = context
        self.colour = colour
        self.floor = floor
        name = f"stride={stride} bins={bins} context={context} colour={colour:g} floor={floor:g}"
        super().__init__("hog", name, stride)

    def __call__(self, frames: Tensor) -> Tensor:
        """Normalised frames [B, 3, H, W] to features [B, h, w, C].

        C is (bins + 3) (2 context + 1)^2 + 1, or bins (2 context + 1)^2 if colour is 0.
        """
        frames = self._whole_cells(frames)
        histograms = _with_neighbours(self._histograms(frames), self.context)
        num_cells = (2 * self.context + 1) ** 2
        parts = [(histograms / (histograms.sum(1, keepdim=True) + self.floor * num_cells)).sqrt()]
        if self.colour:
            colours = _with_neighbours(F.avg_pool2d(frames, self.stride), self.context)
            colours = colours - colours.mean(1, keepdim=True)
            grey = math.sqrt(colours.shape[1] / 3)  # a colourless patch is a colour too, not noise blown up
            parts.append(F.normalize(F.pad(colours, (0, 0, 0, 0, 0, 1), value=grey), dim=1) * self.colour)
        return torch.cat(parts, 1).permute(0, 2, 3, 1).contiguous()

    def _histograms(self, frames: Tensor) -> Tensor:
        """Frames [B, 3, H, W] to mean gradient length per orientation and cell [B, bins, h, w]."""
        brightness = frames.mean(1, keepdim=True)
        padded = F.pad(brightness, (1, 1, 1, 1), mode="replicate")
        dx = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
        dy = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
        length = torch.hypot(dx, dy)
        orientation = (torch.atan2(dy, dx) / math.pi % 1.0) * self.bins  # [0, bins], half a turn
        lower = orientation.floor()
        upper_share = orientation - lower
        lower_bin = lower.long() % self.bins
        cells = []
        for index in range(self.bins):
            share = torch.where(lower_bin == index, 1 - upper_share, 0.0)
            share = share + torch.where(lower_bin == (index - 1) % self.bins, upper_share, 0.0)
            cells.append(F.avg_pool2d(share * length, self.stride))
        return torch.cat(cells, 1)


def _with_neighbours(cells: Tensor, reach: int) -> Tensor:
    """Each cell's channels beside its neighbours': [B, C, h, w] to [B, C (2 reach + 1)^2, h, w]; edges repeat."""
    if not reach:
        return cells
    h, w = cells.shape[-2:]
    padded = F.pad(cells, (reach, reach, reach, reach), mode="replicate")
    side = range(2 * reach + 1)
    return torch.cat([padded[..., dy : dy + h, dx : dx + w] for dy in side for dx in side], 1)
