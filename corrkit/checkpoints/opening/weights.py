"""Whether weights are usable numbers: finite, and not quantised."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from corrkit.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor


def require_usable(weights: "Mapping[str, Tensor]", path: object) -> None:
    """Raises CheckpointError, naming the tensors, where a weight is NaN, infinite, an integer, complex or empty.

    Asked of the tensors that a network takes, under their names in the file: optimizer states and unused buffers
    may hold anything.
    """
    import torch

    integers = [f"{name} ({tensor.dtype})" for name, tensor in weights.items() if _is_quantised(name, tensor)]
    if integers:
        raise CheckpointError(
            f"{path} holds quantised weights: {_first(integers)}.", "Get the weights in float32, float16 or bfloat16."
        )
    odd = [f"{name} ({_odd(tensor)})" for name, tensor in weights.items() if _odd(tensor)]
    if odd:
        raise CheckpointError(
            f"{path} holds tensors that are no weights: {_first(odd)}.", "Get the file again, from its authors."
        )
    broken = []
    for name, tensor in weights.items():
        if tensor.is_floating_point() and tensor.numel():
            low, high = _extremes(tensor)
            if not (torch.isfinite(low) and torch.isfinite(high)):
                broken.append(f"{name} ({'NaN' if low.isnan() else 'infinite'})")
    if broken:
        raise CheckpointError(
            f"{path} holds weights that aren't finite: {_first(broken)}.",
            "The training diverged or the file is damaged: take an earlier checkpoint.",
        )


def _odd(tensor: "Tensor") -> str:
    return "complex" if tensor.is_complex() else "" if tensor.numel() else f"of shape {list(tensor.shape)}"


def _extremes(tensor: "Tensor") -> "tuple[Tensor, Tensor]":
    """Smallest and largest value; NaN goes through both. Types of one byte, which torch can't compare, in pieces."""
    import torch

    if tensor.dtype.itemsize > 1:
        return torch.aminmax(tensor)
    pieces = [torch.aminmax(piece.float()) for piece in tensor.reshape(-1).split(_PIECE)]
    return torch.stack([low for low, _ in pieces]).amin(), torch.stack([high for _, high in pieces]).amax()


_PIECE = 1 << 20


def _is_quantised(name: str, tensor: "Tensor") -> bool:
    return not tensor.is_floating_point() and name.rpartition(".")[2] in ("weight", "bias")


def _first(items: list[str]) -> str:
    return ", ".join(items[:5]) + (f" and {len(items) - 5} more" if len(items) > 5 else "")
