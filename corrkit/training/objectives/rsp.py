"""RSP: prediction of a future frame through a stochastic latent, beside a masked autoencoder."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, one_hot

from corrkit.training.data.views import View
from corrkit.training.networks.decoder import Decoder
from corrkit.training.networks.masks import Mask
from corrkit.training.objectives.losses import mean_over
from corrkit.training.objectives.masked import Objective, Step
from corrkit.training.objectives.targets import target_of
from corrkit.training.schema import Recipe, RSPOptions


class RSP(Objective[RSPOptions]):
    """L_posterior + kl_weight · KL + L_mae: huiwon-jang/RSP 5ea2b91 models_rsp.py:307-424."""

    def __init__(self, recipe: Recipe[RSPOptions]) -> None:
        super().__init__(recipe)
        spec, options, width = recipe.encoder, recipe.options, recipe.decoders[0].dim
        self.target, channels = target_of("pixels-patch", recipe.encoder)
        self.decoder = Decoder(recipe.decoders[0], spec.dim, self.encoder.grid, channels)
        self.groups, self.classes = options.groups, options.classes
        latent = self.groups * self.classes
        self.embed_past, self.embed_latent = nn.Linear(spec.dim, width), nn.Linear(latent, width)
        hidden = 2 * spec.dim
        self.posterior = nn.Sequential(nn.Linear(2 * spec.dim, hidden), nn.ReLU(), nn.Linear(hidden, latent))
        self.prior = nn.Sequential(nn.Linear(spec.dim, hidden), nn.ReLU(), nn.Linear(hidden, latent))

    def forward(self, views: Sequence[View], seed: int, progress: float = 0.0) -> Step:
        """Draws the mask, the perturbation of the future frame and the latent."""
        future = views[1].pixels
        masks = self.draw_masks(future, seed)
        generator = torch.Generator(future.device).manual_seed(seed)
        latents = self.logits(views, torch.randn(future.shape, generator=generator, device=future.device))
        chances = latents[0].detach().float().unflatten(1, (self.groups, self.classes)).softmax(-1)
        drawn = torch.multinomial(chances.flatten(0, 1), 1, generator=generator).reshape(len(future), self.groups)
        return self.losses(views, masks[1], latents, one_hot(drawn, self.classes))

    def logits(self, views: Sequence[View], noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Posterior and prior logits [B, groups · classes], and the past's tokens [B, 1 + L, D]."""
        past = self.encoder(views[0].pixels)
        future = self.encoder(views[1].pixels + self.options.noise * noise)
        both = torch.cat([past.prefix[:, 0], future.prefix[:, 0]], 1)
        return self.posterior(both), self.prior(past.prefix[:, 0]), past.z

    def losses(
        self, views: Sequence[View], mask: Mask | None, latents: tuple[Tensor, Tensor, Tensor], drawn: Tensor
    ) -> Step:
        """The loss for a given mask and drawn classes [B, groups, classes] (one-hot)."""
        posterior, prior, past = latents
        options, decoder = self.options, self.decoder
        target = self.target(views[1].pixels)
        chances = posterior.unflatten(1, (self.groups, self.classes)).softmax(-1)
        z = (drawn + chances - chances.detach()).flatten(1)  # straight-through
        first, rest = decoder.positions.rows()
        assert decoder.mask_token is not None
        tokens = decoder.mask_token.expand(len(past), past.shape[1], -1)
        queries = decoder.placed(tokens[:, :1], tokens[:, 1:])
        where = torch.cat([first, rest], 1)  # type: ignore[list-item]  # this decoder has a table
        memory = torch.cat([self.embed_latent(z)[:, None], self.embed_past(past) + where], 1)
        ahead = mean_over((decoder.decode(queries, memory) - target).square().mean(-1), None)
        visible = decoder.queries(self.encoder(views[1].pixels, mask))
        assert mask is not None
        filled = mean_over((decoder.decode(queries, visible) - target).square().mean(-1), mask.hidden)
        kl = balanced_kl(posterior, prior, self.groups, options.balance, options.free_bits)
        return Step(ahead + options.kl_weight * kl + filled, {"ahead": ahead, "kl": kl, "filled": filled})


def balanced_kl(posterior: Tensor, prior: Tensor, groups: int, balance: float, free_bits: float) -> Tensor:
    """max(free_bits, balance · KL(post || sg(prior)) + (1 - balance) · KL(sg(post) || prior)), mean over the batch.

    Args:
        posterior: logits [B, groups · classes].
        prior: likewise.
        groups: independent categorical variables, whose divergences add up.
        balance: share of the gradient that goes to the posterior.
        free_bits: below this value there is no gradient.
    """

    def divergence(one: Tensor, other: Tensor) -> Tensor:
        p, q = (log_softmax(logits.unflatten(1, (groups, -1)), -1) for logits in (one, other))
        return (p.exp() * (p - q)).sum((1, 2)).mean()

    mixed = balance * divergence(posterior, prior.detach()) + (1 - balance) * divergence(posterior.detach(), prior)
    return mixed.clamp(min=free_bits)
