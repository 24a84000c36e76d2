"""What a family's builder returns, and how a network is filled: completely or not at all."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from corrkit.backbones.contract import Colour, Mode, PositionKind
from corrkit.checkpoints.completeness import UnknownNetworkError, ways_on
from corrkit.checkpoints.recognised import Recognised
from corrkit.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor, nn

_SHOWN = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A network with its weights, and what was decided on the way.

    network: normalised frames [B, 3, H, W] to features [B, h, w, C] for framewise modes.
    multiple: the sides of its input must be multiples of it. layer: name of the layer whose output the features are.
    evidence, notes: as in `corrkit.backbones.contract.Report`.
    """

    network: "nn.Module"
    architecture: str
    stride: int
    multiple: int
    layer: str = "last"
    position: PositionKind = "none"
    mode: Mode = field(default_factory=Mode)
    colour: Colour = "rgb"
    evidence: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


def fill(network: "nn.Module", recognised: Recognised) -> None:
    """Puts the recognised tensors, in the file's precision, into a network that may live on the meta device.

    Nothing is copied; `to_float32` makes the network ready to run.

    Raises:
        CheckpointError: naming them, where tensors are missing, of another shape, or not known to be unneeded.
    """
    import torch

    expected = network.state_dict()
    counters = {name: torch.tensor(0) for name in expected if name.endswith(".num_batches_tracked")}  # of training
    state = {**counters, **recognised.state}
    path = recognised.path
    absent = [name for name in expected if name not in state]
    if absent:
        raise missing(recognised, absent)
    wrong = [name for name, tensor in expected.items() if state[name].shape != tensor.shape]
    if wrong:

        def contrast(name: str) -> str:
            return f"{recognised.file_name(name)} is {list(state[name].shape)}, not {list(expected[name].shape)}"

        raise UnknownNetworkError(
            f"{path} ({recognised.system.name}) has tensors that don't fit together: {_listed(wrong, contrast)}.",
            f"If the file is intact, its architecture is a variant that corrkit doesn't know. {ways_on()}",
        )
    typed = [name for name, tensor in expected.items() if tensor.is_floating_point() != state[name].is_floating_point()]
    if typed:

        def described(name: str) -> str:
            return f"{recognised.file_name(name)} is {state[name].dtype}"

        raise CheckpointError(
            f"{path} ({recognised.system.name}) has tensors of the wrong type: {_listed(typed, described)}.",
            "Get the weights in float32, float16 or bfloat16.",
        )
    unknown = [name for name in state if name not in expected]
    if unknown:
        raise UnknownNetworkError(
            f"{path} ({recognised.system.name}) has tensors of unknown meaning beside a complete backbone: "
            f"{_listed(unknown, recognised.file_name)}.",
            "Leaving them out could change the features. If they are no part of the encoder, save it without them. "
            f"{ways_on()}",
        )
    network.load_state_dict(state, assign=True)
    network.requires_grad_(False).eval()


def table_shape(name: str, stored: "Tensor", dim: int) -> tuple[int, int, int]:
    """The shape that a network expects of a token or a table of positions, however many rows the file's own has.

    Tensors of another width or rank are then refused by `fill`.
    """
    has_rows = name not in ("cls_token", "pos_embed_class") and stored.ndim == 3
    return 1, stored.shape[1] if has_rows else 1, dim


def missing(recognised: Recognised, names: Iterable[str]) -> CheckpointError:
    """See `Recognised.missing`."""
    return recognised.missing(names)


def chosen_layer(recognised: Recognised, layer: int | str | None, depth: int) -> int:
    """The block to stop after, from 1 to `depth`; None and "last" mean the last. Raises CheckpointError for others."""
    if layer is None or layer == "last":
        return depth
    number = int(layer) if str(layer).isdecimal() else 0
    if not 1 <= number <= depth:
        raise CheckpointError(
            f"{recognised.path} has no layer {layer!r}: it has {depth} of them.",
            f"Give --layer a number from 1 to {depth}.",
        )
    return number


def to_float32(network: "nn.Module", release: "Callable[[Tensor], None]") -> None:
    """Turns weights of another precision into float32, one by one.

    Args:
        network: changed in place.
        release: called with each weight of another precision, once it isn't needed any more.
    """
    for tensor in network.state_dict(keep_vars=True).values():
        if tensor.is_floating_point() and tensor.dtype.itemsize != 4:
            narrow = tensor.data
            tensor.data = narrow.float()
            release(narrow)


def _listed(names: Sequence[str], words: Callable[[str], str]) -> str:
    """The first few, in words."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(words, names[:_SHOWN])) + more
