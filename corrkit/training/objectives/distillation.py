"""DINO and iBOT: self-distillation over prototypes, of crops and of masked patches."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import linear, log_softmax, normalize

from corrkit.training.data.views import View
from corrkit.training.networks.masks import Mask
from corrkit.training.objectives.losses import mean_per_sample
from corrkit.training.objectives.masked import Objective, Step
from corrkit.training.objectives.teacher import epoch_of, follow, frozen_copy, momentum_at
from corrkit.training.schema import DINOOptions, IBOTOptions, Recipe

GLOBAL_CROPS = 2


D = TypeVar("D", bound=DINOOptions)


class DINO(Objective[D]):
    """Every crop's prototypes from the teacher's of the global crops: facebookresearch/dino 7c446df main_dino.py."""

    def __init__(self, recipe: Recipe[D]) -> None:
        super().__init__(recipe)
        options = recipe.options
        widths = (recipe.encoder.dim, options.hidden, options.hidden, options.bottleneck)
        self.head = PrototypeHead(widths, options.prototypes)
        self.teacher = nn.ModuleList([frozen_copy(self.encoder), frozen_copy(self.head)])
        self.register_buffer("centre", torch.zeros(1, options.prototypes))

    def step(self, views: Sequence[View], masks: Sequence[Mask | None], progress: float = 0.0) -> Step:
        """The mean over pairs of different crops; the centre moves afterwards."""
        with torch.no_grad():
            taught = [self.teacher[1](self.teacher[0](view.pixels).prefix[:, 0]) for view in views[:GLOBAL_CROPS]]
        learnt = [self.head(self.encoder(view.pixels).prefix[:, 0]) for view in views]
        loss = self.distil(learnt, taught, self.temperature(progress))
        return Step(loss, {"crops": loss})

    def distil(self, student: Sequence[Tensor], teacher: Sequence[Tensor], temperature: float) -> Tensor:
        """Cross-entropy of crops [B, K] each, over all pairs but of one crop with itself; moves the centre."""
        assert isinstance(self.centre, Tensor)
        wanted = [soft_targets(logits, self.centre, temperature) for logits in teacher]
        terms = [
            cross_entropy(logits, target, self.options.student_temperature).mean()
            for first, target in enumerate(wanted)
            for second, logits in enumerate(student)
            if first != second
        ]
        move_centre(self.centre, torch.cat(list(teacher)).mean(0, keepdim=True), self.options.centre_momentum)
        return torch.stack(terms).mean()

    def temperature(self, progress: float, rule: tuple[float, float, int] | None = None) -> float:
        """The teacher's: from its first to its last value in equal steps by epoch; that of crops without a rule."""
        first, last, epochs = rule or self.options.temperature
        epoch = epoch_of(progress, self.recipe)
        return float(last if epoch >= epochs - 1 else first + (last - first) * epoch / (epochs - 1))

    def before_step(self, progress: float) -> None:
        """The last layer stays as it is during the first epoch."""
        if epoch_of(progress, self.recipe) < 1:
            self.head.prototypes.grad = None

    def after_step(self, progress: float) -> None:
        """The teacher follows."""
        for teacher, student in zip(self.teacher, (self.encoder, self.head), strict=True):
            follow(teacher, student, momentum_at(self.recipe.teacher, progress))


class IBOT(DINO[IBOTOptions]):
    """DINO, and masked patches of the global crops: bytedance/ibot da316d8 main_ibot.py:478-572."""

    def __init__(self, recipe: Recipe[IBOTOptions]) -> None:
        super().__init__(recipe)
        self.register_buffer("patch_centre", torch.zeros(1, 1, recipe.options.prototypes))

    def step(self, views: Sequence[View], masks: Sequence[Mask | None], progress: float = 0.0) -> Step:
        """Crops and patches, weighted equally; one head for both."""
        crops = views[:GLOBAL_CROPS]
        with torch.no_grad():
            taught = [self.teacher[1](self.teacher[0](view.pixels).z) for view in crops]
        seen = [self.head(self.encoder(view.pixels, mask).z) for view, mask in zip(crops, masks, strict=True)]
        local = [self.head(self.encoder(view.pixels).prefix[:, 0]) for view in views[GLOBAL_CROPS:]]
        patches = self.distil_patches([x[:, 1:] for x in seen], [x[:, 1:] for x in taught], masks, progress)
        whole = [*(x[:, 0] for x in seen), *local]
        crop_loss = self.distil(whole, [x[:, 0] for x in taught], self.temperature(progress))
        return Step(crop_loss + patches, {"crops": crop_loss, "patches": patches})

    def distil_patches(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], masks: Sequence[Mask | None], progress: float
    ) -> Tensor:
        """Cross-entropy at the hidden patches of each global crop [B, L, K]; moves the patches' centre."""
        assert isinstance(self.patch_centre, Tensor)
        options = self.options
        temperature = self.temperature(progress, options.patch_temperature)
        terms = []
        for logits, target, mask in zip(student, teacher, masks, strict=True):
            assert mask is not None
            wanted = soft_targets(target, self.patch_centre, temperature)
            terms.append(mean_per_sample(cross_entropy(logits, wanted, options.student_temperature), mask.hidden))
        mean = torch.cat(list(teacher)).mean((0, 1), keepdim=True)
        move_centre(self.patch_centre, mean, options.centre_momentum)
        return torch.stack(terms).mean()


class PrototypeHead(nn.Module):
    """MLP with GELU, L2 norm, and prototypes of unit length.

    facebookresearch/dino 7c446df vision_transformer.py:257-291.

    Args:
        widths: of the MLP's layers, input first.
        prototypes: K.
    """

    def __init__(self, widths: Sequence[int], prototypes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.GELU()]
        self.mlp = nn.Sequential(*layers[:-1])
        self.prototypes = nn.Parameter(torch.empty(prototypes, widths[-1]))
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        nn.init.kaiming_uniform_(self.prototypes, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] to cosines with the prototypes [..., K]."""
        return linear(normalize(self.mlp(x), dim=-1), normalize(self.prototypes, dim=-1))


def soft_targets(logits: Tensor, centre: Tensor, temperature: float) -> Tensor:
    """Centred and sharpened probabilities of the teacher."""
    return ((logits - centre) / temperature).softmax(-1)


def cross_entropy(logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Of the student's logits [..., K] against probabilities: [...]."""
    return -(target * log_softmax(logits / temperature, dim=-1)).sum(-1)


@torch.no_grad()
def move_centre(centre: Tensor, mean: Tensor, momentum: float) -> None:
    """Centre <- momentum · centre + (1 - momentum) · mean over all ranks, in place."""
    if dist.is_initialized():
        dist.all_reduce(mean)
        mean = mean / dist.get_world_size()
    centre.mul_(momentum).add_(mean, alpha=1 - momentum)
