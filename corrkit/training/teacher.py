"""Networks that follow the one that learns: moving averages."""

import copy
import math

import torch
from torch import nn

from corrkit.training.schema import TeacherSpec


def frozen_copy(module: nn.Module) -> nn.Module:
    """A copy that no gradient reaches."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Teacher <- momentum · teacher + (1 - momentum) · student, for parameters; buffers are copied."""
    for target, source in zip(teacher.parameters(), student.parameters(), strict=True):
        target.mul_(momentum).add_(source.detach(), alpha=1 - momentum)
    for table, current in zip(teacher.buffers(), student.buffers(), strict=True):
        table.copy_(current)


def momentum_at(spec: TeacherSpec, progress: float) -> float:
    """From `momentum` to `last` along half a cosine over the training (0 to 1)."""
    return spec.last - (spec.last - spec.momentum) * (math.cos(math.pi * progress) + 1) / 2
