"""Visual tokens: callables from pixels to ids. Published ones (DALL-E's dVAE, ...) come from the user's own file."""

import runpy
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from corrkit.errors import UsageError
from corrkit.training.data.views import unit_range

Tokenizer = Callable[[Tensor], Tensor]
"""Normalised pixels [B, 3, H, W] to ids [B, L]."""


def load_tokenizer(spec: str, patch: int) -> tuple[Tokenizer, int]:
    """A frozen tokenizer and the number of its ids.

    Args:
        spec: "colours" (see `mean_colours`), or FILE.py:FUNCTION, the user's own code, whose function takes the patch
            size and returns (callable, number of ids).
        patch: pixels of a token's side.

    Raises:
        UsageError: no such file or function.
    """
    if spec == "colours":
        return partial(mean_colours, patch=patch), 512
    path, _, name = spec.rpartition(":")
    function = runpy.run_path(path).get(name) if Path(path).is_file() else None
    if not callable(function):
        raise UsageError(f"There is no tokenizer {spec!r}.", "Give options.tokenizer=colours or FILE.py:FUNCTION.")
    tokenize, count = function(patch)
    return torch.no_grad()(tokenize), int(count)


def mean_colours(pixels: Tensor, *, patch: int) -> Tensor:
    """Each token's mean colour in 8 steps per channel: 512 ids. No published tokenizer, but one without weights."""
    steps = (avg_pool2d(unit_range(pixels), patch) * 8).long().clamp(0, 7).flatten(2)  # [B, 3, L]
    return steps[:, 0] * 64 + steps[:, 1] * 8 + steps[:, 2]
