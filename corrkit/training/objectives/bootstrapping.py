"""BootMAE and SdAE: masked prediction of features of a moving average of the encoder."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, cosine_similarity, layer_norm

from corrkit.training.data.views import View
from corrkit.training.networks.decoder import Decoder
from corrkit.training.networks.masks import Mask, gather
from corrkit.training.objectives.masked import Objective, Step
from corrkit.training.objectives.targets import target_of
from corrkit.training.objectives.teacher import epoch_of, follow, frozen_copy, momentum_at
from corrkit.training.schema import BootMAEOptions, Recipe, SdAEOptions


class BootMAE(Objective[BootMAEOptions]):
    """Pixels and a moving average's features, by two decoders: LightDXY/BootMAE d604b18 run_pretraining.py:408-455."""

    def __init__(self, recipe: Recipe[BootMAEOptions]) -> None:
        super().__init__(recipe)
        width, grid = recipe.encoder.dim, self.encoder.grid
        self.target, channels = target_of("pixels-boot", recipe.encoder)
        self.pixels = Decoder(recipe.decoders[0], width, grid, channels, memory_width=width)
        self.features = Decoder(recipe.decoders[1], width, grid, width, memory_width=width)
        self.teacher = frozen_copy(self.encoder)

    def step(self, views: Sequence[View], masks: Sequence[Mask | None], progress: float = 0.0) -> Step:
        """Pixels, and features with a weight that rises over the first quarter of the training."""
        mask, images = masks[0], views[0].pixels
        assert mask is not None
        pixels, features = self.predict(images, mask)
        depth = self.recipe.encoder.depth
        with torch.no_grad():
            taught = self.teacher(images, None, (depth,)).taps[depth][:, 1:]
        weight = edge_weight(mask.hidden, self.encoder.grid_of(images)[1])
        loss_pixels = weighted_square(pixels - self.target(images), weight, mask.hidden)
        loss_features = weighted_square(plain_norm(features) - plain_norm(taught), weight, mask.hidden)
        share = min(1.0, progress / self.options.ramp)
        return Step(loss_pixels + share * loss_features, {"pixels": loss_pixels, "features": loss_features})

    def predict(self, images: Tensor, mask: Mask) -> tuple[Tensor, Tensor]:
        """Pixels [B, L, C] and features [B, L, D], whose decoders read the first and the last block's tokens."""
        depth = self.recipe.encoder.depth
        tokens = self.encoder(images, mask, (1, depth))
        low, high = tokens.taps[1], tokens.taps[depth]
        pixels = self.pixels.decode(self.pixels.queries(tokens), low)
        return pixels, self.features.decode(self.features.queries(tokens), high)

    def after_step(self, progress: float) -> None:
        """The teacher follows, with a momentum that is fixed within an epoch."""
        follow(self.teacher, self.encoder, boot_momentum(epoch_of(progress, self.recipe)))


class SdAE(Objective[SdAEOptions]):
    """Features of hidden tokens, taught in groups that see each other only: AbrahamYabo/SdAE 2e08b31."""

    def __init__(self, recipe: Recipe[SdAEOptions]) -> None:
        super().__init__(recipe)
        self.decoder = Decoder(recipe.decoders[0], recipe.encoder.dim, self.encoder.grid, recipe.encoder.dim)
        self.teacher = frozen_copy(self.encoder)

    def step(self, views: Sequence[View], masks: Sequence[Mask | None], progress: float = 0.0) -> Step:
        """The mean over groups of 1 - cosine."""
        mask, images = masks[0], views[0].pixels
        assert mask is not None
        assert mask.restore is not None
        found = self.decoder(self.encoder(images, mask))
        groups = mask.restore.argsort(1)[:, -int(mask.hidden[0].sum()) :].chunk(self.options.groups, 1)
        terms = []
        for ids in groups:
            with torch.no_grad():
                taught = self.teacher(images, Mask(mask.hidden, ids, None)).patches
            terms.append(feature_distance(gather(found, ids), taught, self.options.axis))
        loss = torch.stack(terms).mean()
        return Step(loss, {"features": loss})

    def after_epoch(self, progress: float) -> None:
        """The teacher follows: AbrahamYabo/SdAE 79ed28c engine_pretrain.py "per_epoch"."""
        follow(self.teacher, self.encoder, momentum_at(self.recipe.teacher, progress))


def feature_distance(student: Tensor, teacher: Tensor, axis: str) -> Tensor:
    """1 - cosine of features [B, K, D] with standardised ones, along "features" or, as published, "tokens"."""
    wanted = (teacher - teacher.mean(-1, keepdim=True)) / (teacher.var(-1, keepdim=True) + 1e-6).sqrt()
    return 1 - cosine_similarity(student, wanted, dim={"features": -1, "tokens": 1}[axis]).mean()


def edge_weight(hidden: Tensor, side: int) -> Tensor:
    """Weights [B, L] of hidden tokens, up to 2 for those whose neighbours are hidden too."""
    image = hidden.reshape(-1, 1, side, side).double()
    return (image * avg_pool2d(image, 3, 1, 1) + image).flatten(1)


def weighted_square(difference: Tensor, weight: Tensor, hidden: Tensor) -> Tensor:
    """mean(weight · difference²) / mean(hidden)."""
    weighted = weight[..., None].to(difference.dtype) * difference.square()
    return weighted.mean() / hidden.to(difference.dtype).mean()


def plain_norm(features: Tensor) -> Tensor:
    """LayerNorm without parameters."""
    return layer_norm(features, features.shape[-1:], eps=1e-6)


def boot_momentum(epoch: float) -> float:
    """.999 to .9999 in 100 epochs, to .99999 at 400: LightDXY/BootMAE d604b18 utils.py:586-594."""
    if epoch < 100:
        return 0.999 + (0.9999 - 0.999) * epoch / 100
    return min(0.9999 + (0.99999 - 0.9999) * (epoch - 100) / 300, 0.99999)
