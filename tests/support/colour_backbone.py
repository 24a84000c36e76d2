"""The simplest backbones that meet the contract, for tests of everything else."""

from collections.abc import Iterable, Iterator

import torch

from corrkit.backbones.contract import IMAGENET_MEAN, IMAGENET_STD, Mode, Report


class ColourBackbone:
    """Mean colour of each cell."""

    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    mode = Mode()

    def __init__(self, stride: int = 16) -> None:
        self.stride = stride
        self.report = Report(system="colour", architecture=f"mean{stride}", parameters=0)
        self.digest = f"colour{stride}"

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(frames, self.stride).permute(0, 2, 3, 1).contiguous()

    def encode(self, frames: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        for frame in frames:
            yield self(frame[None])[0]


class NaNBackbone(ColourBackbone):
    """Breaks down at its third frame."""

    def encode(self, frames: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        for index, features in enumerate(super().encode(frames)):
            yield features * float("nan") if index == 2 else features
