"""Weights that a folder holds twice, as .safetensors and .bin: whether the two are the same."""

from typing import TYPE_CHECKING

from corrkit.checkpoints.opening.inert import Tree
from corrkit.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor


def compared(path: object, tree: Tree, beside: object, other: Tree) -> str:
    """What a comparison of two files under the same names found, as a sentence without a full stop.

    Of tensors in different precision, the finer is rounded to the coarser first, as whoever saved them did.

    Raises:
        CheckpointError: a tensor that both hold differs.
    """
    mine, theirs = _tensors(tree), _tensors(other)
    common = [name for name in mine if name in theirs]
    if not common:
        return f"{beside} beside it has other names, so the two weren't compared"
    different = [name for name in common if not _equal(mine[name], theirs[name])]
    if different:
        shown = ", ".join(different[:3])
        raise CheckpointError(
            f"{path} and {beside} in the same folder differ in {len(different)} of {len(common)} tensors that both "
            f"hold: {shown}.",
            "One of them is of another training or was changed later: name the file that is meant.",
        )
    lone = len(mine) + len(theirs) - 2 * len(common)
    more = f"; {lone} tensor{'s stand' if lone > 1 else ' stands'} in only one of them" if lone else ""
    return f"{beside} beside it holds the same {len(common)} tensors{more}"


def _tensors(tree: Tree) -> "dict[str, Tensor]":
    import torch

    items = tree.items() if isinstance(tree, dict) else ()
    return {str(name): value for name, value in items if isinstance(value, torch.Tensor)}


def _equal(mine: "Tensor", theirs: "Tensor") -> bool:
    import torch

    if mine.shape != theirs.shape:
        return False
    coarser = min(mine.dtype, theirs.dtype, key=lambda dtype: dtype.itemsize)
    return torch.equal(mine.to(coarser), theirs.to(coarser))
