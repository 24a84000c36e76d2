"""Networks in less than float32, for speed: features, matching and scores are float32 all the same."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from corrkit.errors import UsageError, closest

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "tf32", "bfloat16", "float16"]
SHORT: dict[str, Precision] = {"fp32": "float32", "tf32": "tf32", "bf16": "bfloat16", "fp16": "float16"}
"""As options call them."""

Item = TypeVar("Item")


def precision_of(name: str) -> Precision:
    """From an option's word, or the precision's own. Raises UsageError for any other."""
    for short, precision in SHORT.items():
        if name in (short, precision):
            return precision
    raise UsageError(f"{name!r} is no precision of a network.", closest(name, SHORT))


def require_precision(precision: Precision, device: "torch.device") -> None:
    """Raises UsageError where the device's processor doesn't work in that precision."""
    if precision == "float32":
        return
    if not _is_at_hand(precision, device):
        raise UsageError(
            f"{precision} is not what this {device.type} works in.",
            "Leave --precision out: fp32 is how results are published.",
        )


def worked_in(precision: Precision, device: "torch.device", features: Iterator[Item]) -> Iterator[Item]:
    """The items of an iterator that runs a network, which works in this precision while it is asked for the next.

    Products take operands of that precision and add up in float32 (torch.autocast; TF32 where that is the precision);
    nobody else's do.

    Args:
        precision: of the network's products.
        device: where it runs.
        features: what runs it.
    """
    if precision == "float32":
        return features
    return _worked_in(precision, device, features)


def _worked_in(precision: Precision, device: "torch.device", features: Iterator[Item]) -> Iterator[Item]:
    end = object()
    while True:
        with _products_in(precision, device):
            found = next(features, end)
        if found is end:
            return
        yield found  # type: ignore[misc]  # mypy doesn't see that it isn't the end


@contextmanager
def _products_in(precision: Precision, device: "torch.device") -> Iterator[None]:
    import torch

    if precision != "tf32":
        with torch.autocast(device.type, dtype=getattr(torch, precision)):
            yield
        return
    backends: Any = torch.backends
    products = (backends.cuda.matmul, backends.cudnn.conv)
    before = [product.fp32_precision for product in products]
    for product in products:
        product.fp32_precision = "tf32"
    try:
        yield
    finally:
        for product, own in zip(products, before, strict=True):
            product.fp32_precision = own


def _is_at_hand(precision: Precision, device: "torch.device") -> bool:
    import torch

    assert precision in get_args(Precision)
    if device.type == "cuda":
        # TF32 and bfloat16 came with compute capability 8.0 (Ampere); float16 runs on all.
        return precision == "float16" or torch.cuda.get_device_capability(device)[0] >= 8
    if device.type == "cpu":
        return precision == "bfloat16" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return precision == "float16"
