"""Throughput of the SiamMAE step against a plain implementation, as a ratio in one interleaved run (CPU time).

    python benchmarks/pretraining.py [--scale small] [--batch 2] [--repeats 3]

The plain implementation keeps all tokens of both frames through the encoder (hidden ones as mask tokens) and computes
attention without a fused kernel; decoder, target and optimiser are the same.
"""

import argparse
import statistics
import time

import torch
from timm.layers.attention import Attention
from torch import nn

from corrkit.training.data.views import View
from corrkit.training.networks.decoder import CrossAttention
from corrkit.training.objectives import make_objective
from corrkit.training.objectives.masked import Objective
from corrkit.training.recipe import load_recipe


class UnfusedCross(CrossAttention):
    """The attention matrix is formed."""

    def forward(self, x: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        """As its parent."""
        batch, count, dim = x.shape
        query = self.q(x).reshape(batch, count, self.heads, -1).transpose(1, 2)
        key, value = self.kv(memory).reshape(batch, memory.shape[1], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        weights = (query @ key.transpose(-2, -1) * (dim // self.heads) ** -0.5).softmax(-1)
        return self.proj((weights @ value).transpose(1, 2).reshape(batch, count, dim))


def plain(objective: Objective) -> Objective:
    for module in objective.modules():
        if isinstance(module, Attention):
            module.fused_attn = False
        elif type(module) is CrossAttention:
            module.__class__ = UnfusedCross
    return objective


def seconds_of_a_step(objective: Objective, optimiser: torch.optim.Optimizer, views: list[View]) -> float:
    started = time.process_time()
    optimiser.zero_grad()
    objective(views, 0).loss.backward()
    optimiser.step()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="small")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    recipe = load_recipe("siammae", scale=args.scale)
    ours = make_objective(recipe)
    other = plain(
        make_objective(load_recipe("siammae", scale=args.scale, changes={"encoder.hidden_tokens": "replace"}))
    )
    size = recipe.views.size
    views = [View(torch.randn(args.batch, 3, size, size)) for _ in range(2)]
    contestants = [(module, torch.optim.AdamW(nn.Module.parameters(module), 1e-4)) for module in (ours, other)]
    times: list[list[float]] = [[], []]
    for _ in range(args.repeats + 1):
        for found, (module, optimiser) in zip(times, contestants, strict=True):
            found.append(seconds_of_a_step(module, optimiser, views))
    best = [min(found[1:]) for found in times]  # the first round warms up
    spread = [statistics.pstdev(found[1:]) / min(found[1:]) for found in times]
    print(
        f"corrkit {args.batch / best[0]:.2f} pairs/s, plain {args.batch / best[1]:.2f} pairs/s of CPU time, one thread"
    )
    print(f"ratio {best[1] / best[0]:.2f} (spread {max(spread):.0%}); visible tokens of the encoder 206 of 394")


if __name__ == "__main__":
    main()
