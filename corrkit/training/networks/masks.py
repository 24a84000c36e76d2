"""Which tokens are hidden: random, tubes, cells, blocks, cubes. True means hidden.

Rounding and stopping rules differ between systems and are tested by count (golden/pretraining/masking).
"""

import dataclasses
import math
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from corrkit.errors import UsageError
from corrkit.training.schema import MaskRule

Grid = tuple[int, int, int]
"""Tokens (t, h, w); t is 1 for images."""


@dataclass(frozen=True, slots=True)
class Mask:
    """hidden [B, L] bool; keep [B, K] ids of visible tokens, restore [B, L]: place of each token in (kept, hidden).

    keep and restore are None where the samples hide different numbers of tokens: such masks can replace, not drop.
    """

    hidden: Tensor
    keep: Tensor | None
    restore: Tensor | None

    def to(self, device: torch.device) -> "Mask":
        """The same on another device."""
        moved = [None if part is None else part.to(device) for part in (self.hidden, self.keep, self.restore)]
        return Mask(*moved)  # type: ignore[arg-type]  # hidden is never None


def draw(rule: MaskRule, grid: Grid, batch: int, seed: int) -> Mask | None:
    """Masks for a batch of views; equal arguments give equal masks. None where nothing is hidden.

    Args:
        rule: the recipe's.
        grid: tokens of a view.
        batch: number of views.
        seed: of the draws.

    Raises:
        UsageError: a rule that leaves no token to see or to predict.
    """
    if rule.kind == "none":
        return None
    if rule.kind in ("block", "cube", "ibot", "boxes"):
        dice, pick = Random(seed), {"ibot": ibot_blocks, "boxes": boxes}.get(rule.kind, blocks)
        hidden = torch.stack([pick(rule, grid, dice) for _ in range(batch)])
        if not rule.total:
            return from_hidden(hidden)
        total = wanted(dataclasses.replace(rule, count=rule.total), hidden.shape[1])
        noise = torch.rand(hidden.shape, generator=torch.Generator().manual_seed(seed))
        return from_order(rolled_order(hidden, noise, dice.randint(0, rule.roll)), hidden.shape[1] - total)
    noise = torch.rand(batch, *noise_shape(rule, grid), generator=torch.Generator().manual_seed(seed))
    mask = from_noise(rule, grid, noise)
    if not 0 < int(mask.hidden[0].sum()) < mask.hidden.shape[1]:
        raise UsageError(
            f"Hiding {rule.ratio:.1%} of {mask.hidden.shape[1]} tokens leaves nothing to see or to predict.",
            "Set another ratio (masks.N.ratio), a smaller patch or larger views.",
        )
    return mask


def noise_shape(rule: MaskRule, grid: Grid) -> tuple[int, ...]:
    """Shape, after the batch, of the noise that `from_noise` sorts."""
    time, height, width = grid
    if rule.kind == "tube":
        return (height * width,)
    if rule.kind == "cells":
        return ((height // rule.cell) * (width // rule.cell),)
    return (time * height * width,)


def from_noise(rule: MaskRule, grid: Grid, noise: Tensor) -> Mask:
    """The mask that sorting `noise` [B, cells] gives: the cells with the smallest values stay visible.

    "random" keeps the order of the noise in `keep`, as facebookresearch/mae efb2a80 models_mae.py:123-148 does.
    """
    cells = noise.shape[1]
    order = noise.argsort(dim=1)
    visible = cells - num_hidden(rule, cells)
    if rule.kind == "random":
        return from_order(order, visible)
    hidden = torch.ones(noise.shape, dtype=torch.bool).scatter(1, order[:, :visible], False)
    time, height, width = grid
    if rule.kind == "tube":
        return from_hidden(hidden.repeat(1, time))
    coarse = hidden.reshape(len(hidden), height // rule.cell, width // rule.cell)
    fine = coarse.repeat_interleave(rule.cell, 1).repeat_interleave(rule.cell, 2)
    return from_hidden(fine.flatten(1).repeat(1, time))


def from_order(order: Tensor, visible: int) -> Mask:
    """Shows the first `visible` of the ids [B, L], in their order."""
    restore = order.argsort(dim=1)
    return Mask(restore >= visible, order[:, :visible], restore)


def rolled_order(hidden: Tensor, noise: Tensor, roll: int) -> Tensor:
    """Ids [B, L]: tokens outside blocks, then those in blocks, both by falling noise; then `roll` from end to front.

    LightDXY/BootMAE d604b18 utils.py:596-603, where one roll of 0 to 3 is drawn for the batch.
    """
    return (1 - (1 - hidden.float() + noise)).argsort(dim=1).roll(roll, 1)


def from_hidden(hidden: Tensor) -> Mask:
    """A mask from hidden [B, L]; visible tokens keep their order."""
    counts = hidden.sum(1)
    if not bool((counts == counts[0]).all()):
        return Mask(hidden, None, None)
    order = hidden.to(torch.uint8).argsort(dim=1, stable=True)
    return Mask(hidden, order[:, : hidden.shape[1] - int(counts[0])], order.argsort(dim=1))


def num_hidden(rule: MaskRule, cells: int) -> int:
    """How many of `cells` are hidden; in floating point, as published: 100 tokens at 0.9 keep 9."""
    if rule.rounding == "keep-floor":
        return cells - int(cells * (1 - rule.ratio))
    if rule.rounding == "hide-floor":
        return int(rule.ratio * cells)
    if rule.rounding == "hide-ceil":
        return math.ceil(cells * rule.ratio)
    return round(rule.ratio * cells)


def wanted(rule: MaskRule, cells: int) -> int:
    """Tokens that blocks hide: the rule's count, scaled down from its 14 x 14 grid to smaller ones, or its share."""
    if rule.count:
        return rule.count if cells >= 196 else max(1, round(rule.count * cells / 196))
    return num_hidden(rule, cells)


def blocks(rule: MaskRule, grid: Grid, dice: Random) -> Tensor:
    """Hidden tokens [L] of rectangles drawn until enough are hidden: microsoft/unilm 768a3c8 beit/masking_generator.py.

    "cube" gives each rectangle a length in time of 1 to t, and draws areas up to `largest` however little is missing
    (facebookresearch/SlowFast 287ec00 slowfast/datasets/transform.py:869-945). Rectangles are of cells of `cell` tokens
    on a side. `fill` says what happens when all tries in a row fail: "stop" (fewer
    tokens), "random" (single tokens up to the count, SiameseIM), "endless" (BootMAE: go on).
    """
    time, height, width = grid
    hidden = torch.zeros(time, height // rule.cell, width // rule.cell, dtype=torch.bool)
    target = wanted(rule, hidden.numel())
    count = 0
    while count < target:
        largest = target - count if rule.largest <= 0 or rule.kind == "cube" else min(target - count, rule.largest)
        added = _add_block(hidden, rule, largest, dice)
        if not added and rule.fill != "endless":
            break
        count += added
    flat = hidden.view(-1)
    if rule.fill == "random" and count < target:
        free = (~flat).nonzero().flatten().tolist()
        flat[dice.sample(free, target - count)] = True
    return hidden.repeat_interleave(rule.cell, 1).repeat_interleave(rule.cell, 2).flatten()


def _add_block(hidden: Tensor, rule: MaskRule, largest: float, dice: Random) -> int:
    """Hides one more rectangle in place, of at most `largest` new cells; returns how many it added."""
    time, height, width = hidden.shape
    tries, most = (100, rule.largest or largest) if rule.kind == "cube" else (10, largest)
    low, high = math.log(0.3), math.log(1 / 0.3)
    for _ in range(tries):
        area = dice.uniform(rule.smallest, most)
        ratio = math.exp(dice.uniform(low, high))
        h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        length = dice.randint(1, time) if rule.kind == "cube" else time
        if w >= width or h >= height:
            continue
        top, left = dice.randint(0, height - h), dice.randint(0, width - w)
        front = dice.randint(0, time - length) if rule.kind == "cube" else 0
        block = hidden[front : front + length, top : top + h, left : left + w]
        new = block.numel() - int(block.sum())
        if 0 < new <= largest:
            block[:] = True
            return new
    return 0


def ibot_blocks(rule: MaskRule, grid: Grid, dice: Random) -> Tensor:
    """Hidden tokens [L] for iBOT: none half of the time, else a share drawn around `ratio` in blocks.

    bytedance/ibot da316d8 loader.py:33-116 with pred_ratio [0, ratio] and pred_ratio_var [0, 0.2].
    """
    time, height, width = grid
    ratio = dice.choice([0.0, dice.uniform(rule.ratio - 0.2, rule.ratio + 0.2)])
    hidden = torch.zeros(time, height, width, dtype=torch.bool)
    target, count = ratio * hidden.numel(), 0
    smallest = dataclasses.replace(rule, smallest=(min(height, width) // 3) ** 2)
    while count < target:
        added = _add_block(hidden, smallest, target - count, dice)
        if not added:
            break
        count += added
    return hidden.flatten()


def boxes(rule: MaskRule, grid: Grid, dice: Random) -> Tensor:
    """Hidden tokens [L] for VIOLET: in half of the views as many boxes as frames, else each token with chance `ratio`.

    A box covers 1 to t - 1 frames and less than two thirds of each side: tsujuifu/pytorch_empirical-mvm c0f7790
    main_pretrain.py `masking`, whose third choice, by attention, needs text.
    """
    hidden = torch.zeros(grid, dtype=torch.bool)
    if dice.random() < 0.5:
        return torch.tensor([dice.random() < rule.ratio for _ in range(hidden.numel())])
    for _ in range(grid[0]):
        sizes = [dice.randint(1, max(1, end - 1)) for end in (grid[0], grid[1] * 2 // 3, grid[2] * 2 // 3)]
        starts = [dice.randint(0, cells - size) for cells, size in zip(grid, sizes, strict=True)]
        hidden[tuple(slice(start, start + size) for start, size in zip(starts, sizes, strict=True))] = True
    return hidden.flatten()


def ids_of(mask: Mask | None, count: int, batch: int, device: torch.device) -> Tensor:
    """Ids [B, K] of the visible tokens; all of them without a mask."""
    if mask is None:
        return torch.arange(count, device=device).expand(batch, -1)
    assert mask.keep is not None, "a mask with unequal counts can't drop tokens"
    return mask.keep


def gather(tokens: Tensor, ids: Tensor) -> Tensor:
    """Tokens [B, L, D] at ids [B, K]: [B, K, D]."""
    return tokens.gather(1, ids[..., None].expand(-1, -1, tokens.shape[2]))
