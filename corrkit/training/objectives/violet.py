"""VIOLET's masked visual modelling: targets of each frame, and optical flow from one frame to the next."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from corrkit.training.data.views import View, unit_range
from corrkit.training.networks.encoder import Tokens, initialise
from corrkit.training.networks.masks import Mask
from corrkit.training.objectives.losses import LOSSES, mean_over
from corrkit.training.objectives.masked import MaskedPrediction, Step
from corrkit.training.objectives.targets import patchify
from corrkit.training.schema import Recipe, VioletOptions

_FASTEST = 50.0  # pixels; pairs with faster motion are left out, as published


class Violet(MaskedPrediction[VioletOptions]):
    """Branches for what one frame shows, and flow: tsujuifu/pytorch_empirical-mvm c0f7790 main_pretrain.py.

    The tokens of two consecutive frames, side by side, predict the motion of their pixels by one linear layer, wherever
    either is hidden.
    """

    def __init__(self, recipe: Recipe[VioletOptions]) -> None:
        super().__init__(recipe)
        self.flow = nn.Linear(2 * recipe.encoder.dim, 2 * recipe.encoder.patch**2)
        initialise(self.flow)

    def losses(self, views: Sequence[View], masks: Sequence[Mask | None], tokens: Sequence[Tokens]) -> Step:
        """Weighted sum of the branches' losses and of the flow's."""
        found, mask, spec = super().losses(views, masks, tokens), masks[0], self.recipe.encoder
        assert mask is not None
        frames = tokens[0].patches.unflatten(1, (tokens[0].grid[0], -1))  # [B, t, h · w, D]
        predicted = self.flow(torch.cat([frames[:, :-1], frames[:, 1:]], 3)).flatten(1, 2)
        flow = optical_flow(views[0].pixels[:, :, :: spec.tubelet])
        hidden = mask.hidden.unflatten(1, (tokens[0].grid[0], -1))
        slow = flow.abs().amax((1, 3, 4)) < _FASTEST  # [B, t - 1]
        counted = (hidden[:, :-1] | hidden[:, 1:]) & slow[..., None]
        loss = mean_over(LOSSES["l1"](predicted, patchify(flow, spec.patch).flatten(2)), counted.flatten(1))
        return Step(found.loss + self.options.flow_weight * loss, {**found.parts, "flow": loss})


def optical_flow(clip: Tensor) -> Tensor:
    """Motion [B, 2, T - 1, H, W] in pixels to the right and down, from each frame of [B, 3, T, H, W] to the next.

    By OpenCV's DIS; published: RAFT-L, whose weights are not at hand.
    """
    import cv2

    frames = (unit_range(clip.float().cpu()) * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 4, 1).numpy()
    grey = [[cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in one] for one in frames]
    finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flows = [[finder.calc(first, second, np.empty(0)) for first, second in pairwise(one)] for one in grey]
    return torch.from_numpy(np.array(flows)).permute(0, 4, 1, 2, 3).to(clip.device)
