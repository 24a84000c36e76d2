"""How many frames go through a network at a time changes nothing but the last bits of its features."""

from pathlib import Path

import hypothesis
import pytest
import torch
from hypothesis import strategies as st

import corrkit
from corrkit.backbones.batches import FRAMES_AT_A_TIME
from corrkit.backbones.layers import SharedLayer, encode_together, load_layers
from corrkit.backbones.loading import Loading

pytestmark = pytest.mark.golden

CHECKPOINT = Path(__file__).resolve().parent.parent / "golden/davis/models/probe_vit64_dino.pth"
SOFT = 1e-6
NEAR_TIES = 0.005
"""Share of cells that a flipped near tie may reach, as golden/davis/README.md has it."""


@hypothesis.given(size=st.integers(2, 6), num_frames=st.integers(2, 6), seed=st.integers(0, 999))
@hypothesis.settings(max_examples=8, deadline=None, derandomize=True)
def test_batches_of_any_size_give_the_same_soft_maps(size: int, num_frames: int, seed: int):
    both = load_layers(str(CHECKPOINT), ["2", "4"], Loading(heads=4))
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(num_frames, 3, 64, 96, generator=generator)
    labels = torch.nn.functional.one_hot(torch.randint(0, 3, (4, 6), generator=generator), 3).float()
    single = soft_maps(both, frames, labels)
    with pytest.MonkeyPatch.context() as patched, torch.no_grad():
        patched.setitem(FRAMES_AT_A_TIME, "cpu", size)
        batched = soft_maps(both, frames, labels)
    off = ((single - batched).abs() > SOFT).any(-1)
    assert off.sum() <= NEAR_TIES * off.numel()


@torch.no_grad()
def soft_maps(both: list[SharedLayer], frames: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Of both layers, [layers, T - 1, h, w, L]."""
    features = [torch.stack(maps) for maps in zip(*encode_together(both, iter(frames)), strict=True)]
    return torch.stack([torch.stack(list(corrkit.propagate(maps, labels))) for maps in features])
