"""The number of attention heads, which no weight's shape tells: given, stored, known, or the usual rule."""

from collections.abc import Mapping

from corrkit.checkpoints.recognition import Recognised
from corrkit.errors import CheckpointError

USUAL = {(192, 12): "tiny", (384, 12): "small", (768, 12): "base", (1024, 24): "large", (1280, 32): "huge"}
"""Width and depth of the common sizes, all with heads of 64 channels but the last."""


class UnknownHeadsError(CheckpointError):
    """Nothing tells the number of attention heads; all else is known."""


def choose_heads(
    recognised: Recognised,
    dim: int,
    depth: int,
    given: int | None,
    known: Mapping[tuple[int, int], int] | None = None,
    width: int = 64,
) -> tuple[int, str]:
    """The number of heads and what it rests on.

    Args:
        recognised: the file.
        dim: width of the network.
        depth: number of its blocks.
        given: by the user, which decides.
        known: (width, depth) to heads of the system's published models that break the rule.
        width: channels of one head by the system's rule.

    Raises:
        CheckpointError: a given number that doesn't divide the width.
        UnknownHeadsError: a width that is no multiple of a head's.
    """
    if given is not None:
        if given < 1 or dim % given:
            raise CheckpointError(
                f"{given} heads don't divide the width {dim} of {recognised.path}.", "Give --heads a divisor of it."
            )
        return given, "given with --heads"
    stored = recognised.stored_heads(dim)
    if stored is not None:
        return stored
    if (dim, depth) in (known or {}):
        return (known or {})[dim, depth], f"known for {recognised.system.title} of width {dim} and depth {depth}"
    if dim % width == 0:
        common = (dim, depth) in USUAL or width != 64
        words = "as in all published models of this size" if common else "the usual rule"
        return dim // width, f"width {dim} / {width}, {words}"
    raise UnknownHeadsError(
        f"{recognised.path} ({recognised.system.name}) doesn't say how many attention heads it has, and its width "
        f"{dim} is no multiple of {width}.",
        "Give the number of heads of the training configuration with --heads N.",
    )


def assumption(heads: int, why: str) -> tuple[str, ...]:
    """A note where the number rests on the usual rule alone."""
    assumed = f"{heads} heads assumed ({why}); give --heads if the model has others."
    return (assumed,) if why.endswith("usual rule") else ()
