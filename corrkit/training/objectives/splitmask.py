"""SplitMask: two complementary halves of an image, each predicted from the other, and matched as wholes."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from corrkit.training.data.views import View
from corrkit.training.networks.decoder import Decoder
from corrkit.training.networks.masks import Mask, from_hidden
from corrkit.training.objectives.losses import LOSSES, mean_over
from corrkit.training.objectives.masked import Objective, Step
from corrkit.training.objectives.targets import target_of
from corrkit.training.schema import Recipe, SplitMaskOptions


class SplitMask(Objective[SplitMaskOptions]):
    """Cross-entropy on light visual tokens for both halves, and InfoNCE between their mean decoder outputs.

    No code was published; pretraining.md knows the paper's description only.
    """

    def __init__(self, recipe: Recipe[SplitMaskOptions]) -> None:
        super().__init__(recipe)
        self.target, channels = target_of("ids", recipe.encoder, self.options)
        self.decoder = Decoder(recipe.decoders[0], recipe.encoder.dim, self.encoder.grid, channels)

    def step(self, views: Sequence[View], masks: Sequence[Mask | None], progress: float = 0.0) -> Step:
        """Both halves."""
        mask, images = masks[0], views[0].pixels
        assert mask is not None
        ids = self.target(images)
        losses, pooled = [], []
        for half in (mask, from_hidden(~mask.hidden)):
            queries = self.decoder.queries(self.encoder(images, half))
            hidden_states = self.decoder.run(queries, None)
            predicted = self.decoder.head(hidden_states)[:, self.decoder.num_prefix :]
            losses.append(mean_over(LOSSES["cross-entropy"](predicted, ids), half.hidden))
            pooled.append(hidden_states[:, self.decoder.num_prefix :].mean(1))
        filled = torch.stack(losses).mean()
        matched = info_nce(pooled[0], pooled[1], self.options.temperature)
        return Step(filled + self.options.match_weight * matched, {"filled": filled, "matched": matched})


def info_nce(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of finding each row of [B, D] among those of the other half, both ways."""
    logits = normalize(first, dim=1) @ normalize(second, dim=1).T / temperature
    own = torch.arange(len(first), device=first.device)
    return (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2
