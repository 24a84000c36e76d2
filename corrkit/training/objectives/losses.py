"""Losses of tokens and their averages; losses of whole sets."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

PerToken = Callable[[Tensor, Tensor], Tensor]
"""Prediction [B, L, C] and target [B, L, C] (or ids [B, L]) to losses [B, L]."""


def _cosine(prediction: Tensor, target: Tensor) -> Tensor:
    return 1 - functional.cosine_similarity(prediction, target, dim=-1)


def _cross_entropy(prediction: Tensor, target: Tensor) -> Tensor:
    losses = functional.cross_entropy(prediction.flatten(0, 1), target.flatten(), reduction="none")
    return losses.reshape(target.shape)


LOSSES: Mapping[str, PerToken] = MappingProxyType(
    {
        "mse": lambda prediction, target: (prediction - target).square().mean(-1),
        "l1": lambda prediction, target: (prediction - target).abs().mean(-1),
        "smooth-l1": lambda prediction, target: functional.smooth_l1_loss(prediction, target, reduction="none").mean(
            -1
        ),
        "cosine": _cosine,
        "cross-entropy": _cross_entropy,
    }
)


def mean_over(losses: Tensor, hidden: Tensor | None) -> Tensor:
    """Mean of losses [B, L] over the tokens that are hidden (True), or over all where hidden is None."""
    if hidden is None:
        return losses.mean()
    weight = hidden.to(losses.dtype)
    return (losses * weight).sum() / weight.sum().clamp(min=1)


def mean_per_sample(losses: Tensor, hidden: Tensor) -> Tensor:
    """Mean over each sample's hidden tokens (0 where it hides none), then over samples.

    bytedance/ibot da316d8 main_ibot.py:478-572.
    """
    weight = hidden.to(losses.dtype)
    return ((losses * weight).sum(1) / weight.sum(1).clamp(min=1)).mean()


def unigrad(prediction: Tensor, target: Tensor, negative: float) -> Tensor:
    """(mean ||p - t||² + negative · mean pᵀ R p) / D with R the mean of t tᵀ over all tokens and ranks.

    OpenGVLab/Siamese-Image-Modeling bbdec30 models_sim.py:462-485.

    Args:
        prediction: [N, D], raw.
        target: [N, D], normalised, without gradient.
        negative: weight of the second term.
    """
    correlation = target.T @ target / len(target)
    if dist.is_initialized():
        dist.all_reduce(correlation)
        correlation = correlation / dist.get_world_size()
    near = (prediction - target).square().sum(1).mean()
    apart = ((prediction @ correlation) * prediction).sum(1).mean()
    return (near + negative * apart) / target.shape[1]
