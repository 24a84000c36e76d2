"""The network-free backbone of the end-to-end goldens: a cell's feature is its patch of the normalised input."""

from collections.abc import Iterable, Iterator

import torch

from corrkit.backbones.contract import IMAGENET_MEAN, IMAGENET_STD, Mode, Report


class PatchBackbone:
    """Patches flattened in the order channel, row, column (golden/jhmdb/README.md, e2e)."""

    mean, std, mode = IMAGENET_MEAN, IMAGENET_STD, Mode()

    def __init__(self, stride: int) -> None:
        self.stride = stride
        self.report = Report(system="patch", architecture=f"patch{stride}", parameters=0)
        self.digest = f"patch{stride}"

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        height, width = frames.shape[2] // self.stride, frames.shape[3] // self.stride
        columns = torch.nn.functional.unfold(frames, self.stride, stride=self.stride)  # [B, 3 p p, h w]
        return columns.transpose(1, 2).contiguous().view(len(frames), height, width, -1)

    def encode(self, frames: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        for frame in frames:
            yield self(frame[None])[0]
