"""An objective turns views into a loss; `MaskedPrediction` covers all recipes made of branches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from corrkit.training.data.views import View
from corrkit.training.networks import masks as masking
from corrkit.training.networks.decoder import Decoder
from corrkit.training.networks.encoder import Tokens, make_encoder
from corrkit.training.networks.masks import Mask
from corrkit.training.objectives.losses import LOSSES, mean_over
from corrkit.training.objectives.targets import PIXELS, target_of, to_pixels
from corrkit.training.schema import Branch, Own, Recipe, TargetOptions


@dataclass(slots=True)
class Step:
    """loss: scalar to minimise. parts: named scalars for the log."""

    loss: Tensor
    parts: dict[str, Tensor]


class Objective(nn.Module, Generic[Own]):
    """Base of all objectives; `encoder` is what is kept."""

    def __init__(self, recipe: Recipe[Own]) -> None:
        super().__init__()
        self.recipe, self.options = recipe, recipe.options
        self.encoder = make_encoder(recipe.encoder, recipe.views.size, recipe.views.frames)

    def forward(self, views: Sequence[View], seed: int, progress: float = 0.0) -> Step:
        """One forward pass.

        Args:
            views: of one batch.
            seed: of the masks and other draws; equal seeds give equal losses.
            progress: share of the training that is done, 0 to 1.
        """
        return self.step(views, self.draw_masks(views[0].pixels, seed), progress)

    def draw_masks(self, pixels: Tensor, seed: int) -> list[Mask | None]:
        """One mask per rule of the recipe, for views of this size [B, 3, (T,) H, W]."""
        grid, count = self.encoder.grid_of(pixels), len(self.recipe.masks)
        drawn = [
            masking.draw(rule, grid, len(pixels), seed * count + index) for index, rule in enumerate(self.recipe.masks)
        ]
        return [None if mask is None else mask.to(pixels.device) for mask in drawn]

    def step(self, views: Sequence[View], masks: Sequence[Mask | None], progress: float = 0.0) -> Step:
        """The loss for given masks."""
        raise NotImplementedError

    def before_pass(self, progress: float) -> None:
        """Called before each forward pass, for teachers that follow then."""

    def before_step(self, progress: float) -> None:
        """Called with gradients at hand, before they are clipped."""

    def after_step(self, progress: float) -> None:
        """Called after each optimiser step: teachers follow here."""

    def after_epoch(self, progress: float) -> None:
        """Called after the last step of each epoch, with the progress at which that epoch began."""

    def pictures(self, views: Sequence[View], seed: int) -> dict[str, Tensor]:
        """Name to images [N, 3, H, W], normalised, that show what is learnt; none where there is nothing to see."""
        return {}


AnyObjective = Objective[object]
"""Whatever its own constants are."""

T = TypeVar("T", bound=TargetOptions)


class MaskedPrediction(Objective[T]):
    """Branches that each predict a target for the hidden (or all) tokens of a view, from it and from other views."""

    def __init__(self, recipe: Recipe[T]) -> None:
        super().__init__(recipe)
        spec = recipe.encoder
        self.targets = [target_of(branch.target, spec, self.options) for branch in recipe.branches]
        channels = {branch.decoder: target[1] for branch, target in zip(recipe.branches, self.targets, strict=True)}
        self.decoders = nn.ModuleList(
            Decoder(decoder, spec.width, self.encoder.grid, channels[index], fills=spec.hidden_tokens == "drop")
            for index, decoder in enumerate(recipe.decoders)
        )

    def encode(self, views: Sequence[View], masks: Sequence[Mask | None]) -> list[Tokens]:
        """Every view once: each on its own, or all together for a joint encoder."""
        pixels = [view.pixels for view in views]
        if self.recipe.encoder.joint:
            found: list[Tokens] = self.encoder.together(pixels, masks)
            return found
        return [self.encoder(one, mask) for one, mask in zip(pixels, masks, strict=True)]

    def step(self, views: Sequence[View], masks: Sequence[Mask | None], progress: float = 0.0) -> Step:
        """Weighted sum of the branches' losses."""
        return self.losses(views, masks, self.encode(views, masks))

    def losses(self, views: Sequence[View], masks: Sequence[Mask | None], tokens: Sequence[Tokens]) -> Step:
        """The same for views that are encoded already."""
        parts = {}
        for index, branch in enumerate(self.recipe.branches):
            prediction = self.predict(branch, tokens)
            with torch.no_grad():
                target = self.targets[index][0](views[branch.query].pixels)
            mask = masks[branch.query]
            hidden = mask.hidden if mask is not None and branch.over == "masked" else None
            exact = torch.promote_types(prediction.dtype, torch.float32)  # half-precision predictions are lifted
            losses = LOSSES[branch.loss](prediction.to(exact), target)
            parts[f"loss_{index}"] = mean_over(losses, hidden)
        total = torch.stack(
            [b.weight * part for b, part in zip(self.recipe.branches, parts.values(), strict=True)]
        ).sum()
        return Step(total, parts)

    def predict(self, branch: Branch, tokens: Sequence[Tokens]) -> Tensor:
        """A branch's prediction [B, L, C]."""
        cls = tokens[branch.cls_from].prefix if branch.cls_from >= 0 else None
        memory = [tokens[index] for index in branch.memory]
        found: Tensor = self.decoders[branch.decoder](tokens[branch.query], memory, cls)
        return found

    @torch.no_grad()
    def pictures(self, views: Sequence[View], seed: int) -> dict[str, Tensor]:
        """Memory, visible part, prediction and truth of the first branch, if its target is pixels of an image."""
        branch, patch = self.recipe.branches[0], self.recipe.encoder.patch
        truth = views[branch.query].pixels
        if branch.target not in PIXELS or truth.ndim != 4:
            return {}
        masks = self.draw_masks(truth, seed)
        prediction = self.predict(branch, self.encode(views, masks))
        drawn = to_pixels(prediction.float(), truth, PIXELS[branch.target], patch)
        mask = masks[branch.query]
        hidden = torch.zeros_like(truth[:, :1], dtype=torch.bool)
        hidden = hidden if mask is None else self.encoder.in_pixels(mask.hidden, truth)
        found = {f"view {index}": views[index].pixels for index in branch.memory}
        seen = truth.masked_fill(hidden, 0.0)
        return {**found, "visible": seen, "predicted": torch.where(hidden, drawn, truth), "truth": truth}
