"""BatchNorm over batch and tokens, of all ranks."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class TokenBatchNorm(nn.Module):
    """BatchNorm over batch and tokens in place of LayerNorm, of all ranks together.

    Published: SyncBatchNorm, of which torch's own runs on GPUs only. Ranks have batches of one size.
    """

    def __init__(self, dim: int, **_: object) -> None:
        super().__init__()
        self.bn: Any = nn.BatchNorm1d(dim)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, D]."""
        if not (self.training and dist.is_initialized() and dist.get_world_size() > 1):
            normed: Tensor = self.bn(x.transpose(1, 2))
            return normed.transpose(1, 2)
        rows = x.float().flatten(0, 1)
        mean = _over_ranks(rows.mean(0))
        variance = _over_ranks((rows - mean).square().mean(0))
        with torch.no_grad():
            count = len(rows) * dist.get_world_size()
            self.bn.running_mean.lerp_(mean, self.bn.momentum)
            self.bn.running_var.lerp_(variance * count / (count - 1), self.bn.momentum)
            self.bn.num_batches_tracked += 1
        normed = (rows - mean) * (variance + self.bn.eps).rsqrt() * self.bn.weight + self.bn.bias
        return normed.to(x.dtype).reshape(x.shape)


class _SumOverRanks(torch.autograd.Function):
    """The sum on every rank; the gradient of a rank's part is the sum of all ranks' gradients."""

    @staticmethod
    def forward(_: object, mine: Tensor) -> Tensor:
        total = mine.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: object, gradient: Tensor) -> Tensor:
        return _SumOverRanks.forward(None, gradient)


def _over_ranks(mean: Tensor) -> Tensor:
    """The mean of all ranks' means."""
    total: Tensor = _SumOverRanks.apply(mean)
    return total / dist.get_world_size()
