"""What builders of networks in stages decide in the same way: which stage, how many heads."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from corrkit.backbones.building import missing
from corrkit.backbones.heads import UnknownHeadsError
from corrkit.checkpoints.recognised import Recognised
from corrkit.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class Stage:
    """The stage (1 is the first) whose output the features are, and whether the final norm follows."""

    number: int
    normed: bool

    @property
    def label(self) -> str:
        """As in reports and on the command line."""
        return "last" if self.normed else str(self.number)

    def words(self, count: int) -> str:
        """For the report's evidence."""
        return f"stage {self.number} of {count}, {'after the final norm' if self.normed else 'without a norm'}"


def choose_stage(
    recognised: Recognised, layer: int | str | None, count: int, *, default: int | None = None, has_norm: bool = False
) -> Stage:
    """The stage that `layer` names: 1 to `count` give a stage's own output, None or "last" the published features.

    Args:
        recognised: for messages.
        layer: as given by the user; "stage3" and "layer3" are understood too.
        count: number of stages.
        default: the published stage; None: the last one, after the final norm if the network has one.
        has_norm: whether it has one.

    Raises:
        CheckpointError: for a stage that doesn't exist.
    """
    if layer is None or layer == "last":
        return Stage(default or count, has_norm and default in (None, count))
    text = str(layer).removeprefix("stage").removeprefix("layer")
    if not text.isdecimal() or not 1 <= int(text) <= count:
        raise CheckpointError(
            f"{recognised.path} has no layer {layer!r}: it has {count} stages.",
            f"Give --layer a number from 1 to {count}.",
        )
    return Stage(int(text), normed=False)


def choose_heads(recognised: Recognised, given: int | None, width: int, known: Mapping[int, int]) -> tuple[int, str]:
    """The number of heads of the first stage, and what it rests on: given, else known for that width.

    Raises:
        CheckpointError: where neither is the case, or the width isn't a multiple of it.
    """
    heads, why = (
        (given, "given with --heads") if given is not None else (known.get(width), f"published for width {width}")
    )
    if heads is None:
        raise UnknownHeadsError(
            f"{recognised.path} ({recognised.system.name}) doesn't say how many attention heads it has, and its first "
            f"width, {width}, is of no published model.",
            "Give the heads of the first stage with --heads N.",
        )
    if heads < 1 or width % heads:
        raise CheckpointError(
            f"{heads} heads don't divide the first width, {width}, of {recognised.path}.",
            "Give --heads a divisor of it.",
        )
    return heads, why


def blocks_per_stage(recognised: Recognised, pattern: str) -> tuple[int, ...]:
    """How many blocks each stage has, by a pattern of names with the numbers of both; gaps are missing tensors."""
    counts: dict[int, int] = {}
    for name in recognised.state:
        match = re.match(pattern, name)
        if match:
            counts[int(match[1])] = max(counts.get(int(match[1]), 0), int(match[2]) + 1)
    if sorted(counts) != list(range(len(counts))):
        absent = next(number for number in range(len(counts)) if number not in counts)
        raise missing(
            recognised, [re.sub(r"\\\.", ".", pattern).replace(r"(\d+)", str(absent), 1).replace(r"(\d+)", "0")]
        )
    return tuple(counts[number] for number in sorted(counts))
