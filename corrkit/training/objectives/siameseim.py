"""SiameseIM: dense features of one view predicted from another, masked one, at its relative position."""

from collections.abc import Sequence
from functools import partial

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from corrkit.training.data.views import View
from corrkit.training.networks.batchnorm import TokenBatchNorm
from corrkit.training.networks.encoder import initialise
from corrkit.training.networks.masks import Mask, gather
from corrkit.training.networks.positions import Positions, crop_geometry, relative_positions
from corrkit.training.objectives.losses import unigrad
from corrkit.training.objectives.masked import Objective, Step
from corrkit.training.objectives.teacher import follow, frozen_copy, momentum_at
from corrkit.training.schema import Recipe, SiameseIMOptions


class SiameseIM(Objective[SiameseIMOptions]):
    """OpenGVLab/Siamese-Image-Modeling bbdec30 models_sim.py; the global loss of the paper isn't in it."""

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
        """The dense loss."""
        assert views[0].boxes is not None
        assert views[1].boxes is not None
        return self.losses(views, masks[0], crop_geometry(views[0].boxes, views[1].boxes))

    def losses(self, views: Sequence[View], mask: Mask | None, geometry: Tensor) -> Step:
        """The loss for a given mask of the first view and geometry [6, B] of the crops."""
        prediction, target = self.predict(views[0], mask, geometry), self.target(views[1])
        loss = unigrad(prediction.flatten(0, 1), target.flatten(0, 1), self.options.negative)
        return Step(loss, {"dense": loss})

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
