"""What matching on two devices is compared on, and how alike it has to be."""

import torch
from torch import Tensor, nn

PROTOCOLS = ("davis/dino", "davis/crw", "davis/vfs", "davis/cropmae")
KINDS = {"smooth": {}, "ties everywhere": {"l2": False}}
"""Name of an input to overrides. Ties are of small whole numbers as they are, whose products are exact in any order of
summation; normalised they would tie on one device and not on another."""
SOFT = 1e-6
NEAR_TIES = 0.005
"""Share of cells that a flipped near tie may reach, as golden/davis/README.md has it."""


def inputs(kind: str) -> tuple[Tensor, Tensor]:
    """Features [T, h, w, C] of a clip, and the label map [h, w, L] of its first frame."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(8, 30, 54, 32, generator=generator)
    if kind == "ties everywhere":
        features = torch.randint(0, 3, (8, 30, 54, 4), generator=generator).float()
    return features, nn.functional.one_hot(torch.randint(0, 3, (30, 54), generator=generator), 3).float()


def share_apart(here: Tensor, there: Tensor) -> float:
    """The share of cells in which soft maps [T, h, w, L] differ."""
    return float(((here - there).abs() > SOFT).any(-1).float().mean())
