"""Networks that follow the one that learns: moving averages."""

import copy
import math

import torch
from timm.layers.drop import DropPath
from torch import nn

from corrkit.training.schema import AnyRecipe, TeacherSpec


def frozen_copy(module: nn.Module) -> nn.Module:
    """A copy that no gradient reaches and that drops nothing: published teachers are made without stochastic depth.

    Batch statistics, where a network has them, are still those of the batch (SiameseIM's teacher).
    """
    made = copy.deepcopy(module).requires_grad_(False)
    for part in made.modules():
        if isinstance(part, DropPath | nn.Dropout):
            setattr(part, "p" if isinstance(part, nn.Dropout) else "drop_prob", 0.0)
    return made


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


def epoch_of(progress: float, recipe: AnyRecipe) -> int:
    """The epoch, from 0, that a share of the training lies in: whole numbers survive the division they come from."""
    return math.floor(progress * recipe.optimiser.epochs + 1e-6)
