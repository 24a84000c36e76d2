"""Parameter groups, AdamW, and the schedules of learning rate, weight decay and momentum, by global step."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from corrkit.training.schema import AnyRecipe, Optimiser


def optimiser_of(module: nn.Module, spec: Optimiser) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; 1-D tensors and biases aren't decayed.

    Class and mask tokens are, as timm's rule and MAE have it (golden/pretraining/optim/param_groups.json).
    """
    trainable = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
    bare = [parameter for name, parameter in trainable if parameter.ndim <= 1 or name.endswith("bias")]
    decayed = [parameter for name, parameter in trainable if not (parameter.ndim <= 1 or name.endswith("bias"))]
    groups = [{"params": decayed, "weight_decay": spec.decay}, {"params": bare, "weight_decay": 0.0}]
    beta1, beta2 = spec.betas
    return torch.optim.AdamW(groups, lr=spec.rate, betas=(beta1, beta2))


class Schedule:
    """Learning rate and weight decay of each step.

    Args:
        recipe: its optimiser and views.
        peak: learning rate after warm-up, already scaled by the batch.
        steps_per_epoch: optimiser steps of an epoch.
    """

    def __init__(self, recipe: AnyRecipe, peak: float, steps_per_epoch: int) -> None:
        spec = recipe.optimiser
        shorter = recipe.views.repeat if spec.divides else 1
        self.spec, self.peak, self.steps_per_epoch = spec, peak, steps_per_epoch
        self.epochs, self.warmup = spec.epochs / shorter, spec.warmup / shorter
        self.last = spec.last_rate * (peak / spec.rate if spec.last_rate_scales else 1)

    @property
    def total_steps(self) -> int:
        """Of the whole training."""
        return max(1, round(self.epochs * self.steps_per_epoch))

    def stretch_to(self, steps: int) -> None:
        """Makes the whole training `steps` long; warm-up keeps its share of it."""
        factor = steps / self.total_steps
        self.epochs, self.warmup = self.epochs * factor, self.warmup * factor

    def rate(self, step: int) -> float:
        """Learning rate of a step, set before it is taken."""
        if self.spec.schedule == "table":
            return table_cosine(self.peak, self.last, self.total_steps, round(self.warmup * self.steps_per_epoch), step)
        epoch = step / self.steps_per_epoch
        if epoch < self.warmup:
            return self.peak * epoch / self.warmup
        if self.spec.schedule == "steps":
            return self.peak * 0.1 ** sum(epoch >= milestone for milestone in self.spec.milestones)
        return fractional_cosine(self.peak, self.last, self.warmup, self.epochs, epoch)

    def decay(self, step: int) -> float:
        """Weight decay of a step."""
        if self.spec.last_decay < 0:
            return self.spec.decay
        return table_cosine(self.spec.decay, self.spec.last_decay, self.total_steps, 0, step)

    def apply(self, optimiser: torch.optim.Optimizer, step: int) -> float:
        """Sets both in the optimiser's groups; returns the learning rate."""
        rate = self.rate(step)
        for group in optimiser.param_groups:
            group["lr"] = rate
            if group["weight_decay"]:
                group["weight_decay"] = self.decay(step)
        return rate


def schedule_of(recipe: AnyRecipe, items: int, entries: int, steps: int | None = None) -> Schedule:
    """The schedule of a run.

    Args:
        recipe: whose rate is scaled by the batch.
        items: of a step, of all ranks.
        entries: of the data.
        steps: of the whole training; its epochs follow, so that warm-up and cosine fit. None for the recipe's epochs.
    """
    spec = recipe.optimiser
    counted = items * (recipe.views.repeat if spec.rate_unit == "sample" else 1)
    peak = spec.rate * (counted / spec.reference if spec.reference else 1)
    schedule = Schedule(recipe, peak, max(1, entries // items))
    if steps:
        schedule.stretch_to(steps)
    return schedule


def fractional_cosine(peak: float, last: float, warmup: float, epochs: float, epoch: float) -> float:
    """MAE's cosine by fractional epoch, warm-up excluded: facebookresearch/mae efb2a80 util/lr_sched.py:9-21."""
    return last + (peak - last) * 0.5 * (1 + math.cos(math.pi * (epoch - warmup) / (epochs - warmup)))


def table_cosine(base: float, last: float, steps: int, warmup: int, step: int, start: float = 0.0) -> float:
    """Entry `step` of DINO's and VideoMAE's table: the last warm-up step has the peak, the end is never reached.

    facebookresearch/dino 7c446df utils.py:187-198.
    """
    if step < warmup:
        return start if warmup == 1 else start + (base - start) * step / (warmup - 1)
    return last + 0.5 * (base - last) * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


@torch.no_grad()
def clip_gradients(parameters: Sequence[Tensor], spec: Optimiser) -> Tensor:
    """Limits the norm of all gradients together, or of each parameter's on its own (DINO); 0 for no limit.

    Returns the norm of all of them before that, a scalar; it is not finite where a gradient isn't.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if spec.clip and not spec.clip_each:
        torch.nn.utils.clip_grads_with_norm_(parameters, spec.clip, norm)
    elif spec.clip:
        for parameter in parameters:
            if parameter.grad is not None:
                torch.nn.utils.clip_grad_norm_([parameter], spec.clip)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm
