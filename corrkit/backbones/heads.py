"""The number of attention heads, which no weight's shape tells: given, stored, known, or the usual rule."""

from corrkit.checkpoints.published_heads import contradictory, published
from corrkit.checkpoints.recognised import Recognised
from corrkit.errors import CheckpointError

USUAL = {(192, 12): "tiny", (384, 12): "small", (768, 12): "base", (1024, 24): "large", (1280, 32): "huge"}
"""Names of the common sizes, by width and depth."""
KNOWN = "published"
USUAL_RULE = "the usual rule, since the size is of no published model"


class UnknownHeadsError(CheckpointError):
    """Nothing tells the number of attention heads; all else is known."""


def choose_heads(
    recognised: Recognised, dim: int, depth: int, given: int | None, family: str = "", width: int = 64
) -> tuple[int, str]:
    """The number of heads and what it rests on.

    Args:
        recognised: the file.
        dim: width of the network.
        depth: number of its blocks.
        given: by the user, which decides.
        family: of `published_heads`.
        width: channels of one head by the system's rule.

    Raises:
        CheckpointError: a given or stored number that doesn't divide the width.
        UnknownHeadsError: a width that is no multiple of a head's, or published models of this size that differ.
    """
    if given is not None:
        if given < 1 or dim % given:
            raise CheckpointError(
                f"{given} heads don't divide the width {dim} of {recognised.path}.", "Give --heads a divisor of it."
            )
        return given, "given with --heads"
    if recognised.system.heads is not None:
        heads = recognised.system.heads
        if dim % heads:
            raise CheckpointError(
                f"{heads} heads ({recognised.system.source}) don't divide the width {dim} of {recognised.path}.",
                "Correct the layout file, or give --heads.",
            )
        return heads, f"the layout file {recognised.system.source}"
    stored = recognised.stored_heads(dim)
    if stored is not None:
        if dim % stored[0]:
            raise CheckpointError(
                f"{recognised.path}: {stored[0]} heads ({stored[1]}) don't divide the width {dim}.",
                "Give the number of heads of the training configuration with --heads N.",
            )
        return stored
    if (row := published(dim, depth, family)) is not None:
        return row.heads, f"{KNOWN} for width {dim} and depth {depth}: {row.source}"
    if rows := contradictory(dim, depth):
        every = " or ".join(f"{row.heads} ({row.source})" for row in rows)
        raise UnknownHeadsError(
            f"{recognised.path} ({recognised.system.name}) doesn't say how many attention heads it has; published "
            f"models of width {dim} and depth {depth} have {every}.",
            "Give the number of heads of the training configuration with --heads N.",
        )
    if dim % width == 0:
        return dim // width, f"width {dim} / {width}, {USUAL_RULE}"
    raise UnknownHeadsError(
        f"{recognised.path} ({recognised.system.name}) doesn't say how many attention heads it has, and its width "
        f"{dim} is no multiple of {width}.",
        "Give the number of heads of the training configuration with --heads N.",
    )


def assumption(heads: int, why: str) -> tuple[str, ...]:
    """A note where the number rests on the usual rule alone."""
    assumed = f"{heads} heads assumed ({why}); give --heads if the model has others."
    return (assumed,) if why.endswith(USUAL_RULE) else ()
