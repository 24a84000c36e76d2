"""SiameseIM: dense features of one view predicted from another, masked one, at its relative position."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from corrkit.training.data.views import View
from corrkit.training.networks.encoder import initialise
from corrkit.training.networks.masks import Mask, gather
from corrkit.training.networks.positions import Positions, crop_geometry, relative_positions
from corrkit.training.objectives.losses import unigrad
from corrkit.training.objectives.masked import Objective, Step
from corrkit.training.objectives.teacher import follow, frozen_copy, momentum_at
from corrkit.training.schema import Recipe, SiameseIMOptions


class SiameseIM(Objective[SiameseIMOptions]):
    """OpenGVLab/Siamese-Image-Modeling bbdec30 models_sim.py, its dense loss alone unless `global_weight` is set.

    The global loss of the paper isn't in the published code; here it is UniGrad of the mean tokens.
    """

    def __init__(self, recipe: Recipe[SiameseIMOptions]) -> None:
        super().__init__(recipe)
        projector, predictor = recipe.decoders
        dim = projector.dim
        self.embed = nn.Linear(recipe.encoder.dim, dim)
        made = partial(Block, dim, projector.heads, qkv_bias=True, norm_layer=TokenBatchNorm)
        self.projector = nn.Sequential(*(made() for _ in range(projector.depth)))
        self.predictor = nn.Sequential(*(made() for _ in range(predictor.depth)))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.positions = Positions(recipe.encoder.position, self.encoder.grid, dim, 1)
        self.embed_relative, self.head = nn.Linear(2 * dim, dim), nn.Linear(dim, dim)
        for part in (self.embed, self.projector, self.predictor, self.embed_relative, self.head):
            initialise(part)
        nn.init.normal_(self.mask_token, std=0.02)
        self.teacher = nn.ModuleList(frozen_copy(part) for part in self._taught())

    def _taught(self) -> tuple[nn.Module, ...]:
        return self.encoder, self.embed, self.projector

    def before_pass(self, progress: float) -> None:
        """The teacher follows before its pass, as published."""
        for teacher, student in zip(self.teacher, self._taught(), strict=True):
            follow(teacher, student, momentum_at(self.recipe.teacher, progress))

    def step(self, views: Sequence[View], masks: Sequence[Mask | None], progress: float = 0.0) -> Step:
        """The dense loss, and the global one where it counts."""
        assert views[0].boxes is not None
        assert views[1].boxes is not None
        return self.losses(views, masks[0], crop_geometry(views[0].boxes, views[1].boxes))

    def losses(self, views: Sequence[View], mask: Mask | None, geometry: Tensor) -> Step:
        """The loss for a given mask of the first view and geometry [6, B] of the crops."""
        prediction, target = self.predict(views[0], mask, geometry), self.target(views[1])
        options = self.options
        dense = unigrad(prediction.flatten(0, 1), target.flatten(0, 1), options.negative)
        parts = {"dense": dense}
        if options.global_weight:
            parts["global"] = options.global_weight * unigrad(prediction.mean(1), target.mean(1), options.negative)
        return Step(torch.stack(list(parts.values())).sum(), parts)

    def predict(self, view: View, mask: Mask | None, geometry: Tensor) -> Tensor:
        """Tokens [B, L, D] of the second view from the visible ones of the first."""
        assert mask is not None
        assert mask.keep is not None
        visible = self.projector(self.embed(self.encoder(view.pixels, mask).z))
        first, rest = self.positions.rows()
        assert isinstance(rest, Tensor)
        own = gather(rest.expand(len(visible), -1, -1), mask.keep)
        where = relative_positions(geometry, self.encoder.grid[1], rest.shape[2])
        wanted = self.mask_token + self.embed_relative(where.to(visible.dtype))
        x = self.predictor(torch.cat([visible[:, :1] + first, visible[:, 1:] + own, wanted], 1))
        found: Tensor = self.head(x[:, -wanted.shape[1] :])
        return found

    @torch.no_grad()
    def target(self, view: View) -> Tensor:
        """The teacher's normalised tokens [B, L, D] of the whole second view."""
        encoder, embed, projector = self.teacher
        tokens = projector(embed(encoder(view.pixels).z))[:, 1:]
        return layer_norm(tokens, tokens.shape[-1:], eps=1e-5)


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
    def forward(_: Any, mine: Tensor) -> Tensor:
        total = mine.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return _SumOverRanks.forward(None, gradient)


def _over_ranks(mean: Tensor) -> Tensor:
    """The mean of all ranks' means."""
    total: Tensor = _SumOverRanks.apply(mean)
    return total / dist.get_world_size()
