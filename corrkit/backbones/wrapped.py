"""Live modules as backbones: a model inside a training loop, a timm model, anything with a forward function."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from corrkit.backbones.contract import IMAGENET_MEAN, IMAGENET_STD, Interface, Report
from corrkit.backbones.framewise import Framewise
from corrkit.errors import CorrkitError, UsageError, is_out_of_memory
from corrkit.in_training import (
    called_as,
    needs_all_ranks,
    network_name,
    network_within,
    num_parameters,
    plain_state,
    policy_of,
)

if TYPE_CHECKING:
    from typing import Literal

Forward = Callable[[Tensor], Tensor]

_MOST_PREFIXES = 64
"""Class and register tokens in front of a ViT's patches."""


def wrap(
    module: nn.Module,
    patch: int = 16,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
    forward: Forward | None = None,
    *,
    stride: int | None = None,
    name: str | None = None,
    digest: str | None = None,
) -> "Wrapped":
    """A live module as a backbone. The module isn't copied; it runs in evaluation mode and is then as it was.

    Args:
        module: the network; also as a training loop holds it: compiled, averaged, in DistributedDataParallel or FSDP.
        patch: pixels per cell; input sides are made multiples of it.
        mean: per channel, RGB, for inputs in [0, 1].
        std: per channel.
        forward: normalised frames [B, 3, H, W] to features: [B, h, w, C], [B, C, h, w], or tokens [B, P + h·w, C]
            with P prefix tokens in front. None takes the module's `forward_features`, else the module itself.
        stride: for networks that take any size (convolutions): pixels per cell, in place of `patch`.
        name: of the network in tables; None takes its class's.
        digest: text that stands for what `forward` does, to be changed with it. A run can be resumed where weights and
            this text are as they were; with a `forward` and without it, never.

    Returns:
        The backbone. A call raises UsageError where the output fits none of these forms; it names the shapes.

    Raises:
        UsageError: for a patch or stride below 1, or a network without values (lazy, or on the meta device).
    """
    if not isinstance(module, nn.Module):
        raise UsageError(
            f"wrap was given {_described(module)}, not a torch.nn.Module.", "Give a module, or load_backbone a spec."
        )
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise UsageError(f"mean is {mean} and std {std}.", "Give three numbers each, std above 0.")
    for parameter_name, parameter in module.named_parameters():
        if parameter.is_meta or is_lazy(parameter):
            raise UsageError(
                f"{network_name(module)}'s {parameter_name} has no values yet.",
                "Load its weights, or call it once on frames, before it is wrapped.",
            )
    cell = patch if stride is None else stride
    if not isinstance(cell, int) or cell < 1:
        raise UsageError(f"A cell can't have {cell} pixels.", "Give patch= or stride= a positive number.")
    policy = policy_of(module)
    interface = Interface(
        stride=cell,
        multiple=1 if stride is not None else patch,
        mean=mean,
        std=std,
        report=Report(
            system="wrapped",
            architecture=name or network_name(module),
            parameters=num_parameters(module),
            notes=(f"the network's passes work in {policy}, as its FSDP policy says",) if policy else (),
        ),
    )
    return Wrapped(WrappedNetwork(module, forward, cell), interface, digest)


class Wrapped(Framewise):
    """A live module: its digest follows its weights.

    code: text that stands for what its code does, None where nothing says.
    """

    def __init__(self, network: "WrappedNetwork", interface: Interface, code: str | None) -> None:
        super().__init__(network, interface)
        self.code = code

    @property
    def digest(self) -> str | None:
        """Sha256 of the state dict as it is now, all settings and `code`; None with a forward function and no `code`.

        What such a function does can't be told from outside, so a run with it can't be resumed.
        """
        network = self.network
        assert isinstance(network, WrappedNetwork)
        if network.has_own_forward and self.code is None:
            return None
        settings: tuple[object, ...] = (
            *(self.report.architecture, self.stride, self.multiple, tuple(self.mean), tuple(self.std)),
            *(() if self.code is None else (self.code,)),
        )
        return state_digest(network.module, repr(settings))


def state_digest(module: nn.Module, salt: str) -> str:
    """Sha256 (hex) of a text and of all names, types, shapes and values of a state dict.

    Of a network divided among processes (FSDP) the whole tensors count, so every process must call it.
    """
    found = hashlib.sha256(salt.encode())
    for name, tensor in sorted(plain_state(module).items()):
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().flatten()
        found.update(flat.view(torch.uint8).numpy().data)
    return found.hexdigest()


class WrappedNetwork(nn.Module):
    """Calls a module's forward function and brings its output into the form [B, h, w, C]."""

    def __init__(self, module: nn.Module, forward: Forward | None, cell: int) -> None:
        super().__init__()
        self.module, self.cell = module, cell
        self.has_own_forward = forward is not None
        self._forward = forward

    def _features(self, frames: Tensor) -> object:
        first = next((tensor for tensor in self.module.parameters() if tensor.is_floating_point()), frames)
        frames = frames.to(torch.promote_types(frames.dtype, first.dtype))  # a network in double precision keeps it
        if self._forward is not None:
            return self._forward(frames)
        network = network_within(self.module)
        if not hasattr(network, "forward_features"):
            return network(frames)
        if not needs_all_ranks(network):
            return network.forward_features(frames)  # type: ignore[operator]
        with called_as(network, "forward_features"):
            return network(frames)

    def forward(self, frames: Tensor) -> Tensor:
        """Frames [B, 3, H, W] to features [B, h, w, C]. Raises UsageError for outputs of another form."""
        with _evaluating(self.module):
            try:
                output = self._features(frames)
            except Exception as error:  # the user's own code: whatever it raises is theirs to mend
                if isinstance(error, CorrkitError) or is_out_of_memory(error):
                    raise
                raise UsageError(
                    f"The forward pass of {network_name(self.module)} fails on frames {list(frames.shape)}: "
                    f"{type(error).__name__}: {error}",
                    "Frames keep their shape: timm's ViTs need dynamic_img_size=True. --debug shows the traceback.",
                ) from error
        if not isinstance(output, Tensor):
            raise UsageError(
                f"The module gives {_described(output)}, not a tensor.",
                "Give forward= a function that returns the features.",
            )
        return as_cells(output, (int(frames.shape[2]), int(frames.shape[3])), self.cell)


def as_cells(output: Tensor, size: tuple[int, int], cell: int) -> Tensor:
    """Features of one of the three accepted forms as [B, h, w, C].

    Args:
        output: [B, h, w, C], [B, C, h, w] or [B, P + h·w, C].
        size: height and width of the input in pixels.
        cell: pixels per cell; h and w are the size over it, rounded down or up.

    Raises:
        UsageError: for any other form, and for one that can be read both ways.
    """
    grid = (size[0] // cell, size[1] // cell)
    if output.ndim == 3 and 0 <= output.shape[1] - grid[0] * grid[1] <= _MOST_PREFIXES:
        cells = output[:, output.shape[1] - grid[0] * grid[1] :]
        return cells.reshape(len(cells), *grid, -1)
    if output.ndim == 4:
        readings: list[Literal["last", "first"]] = []
        readings += ["last"] if _fits(output.shape[1:3], size, cell) else []
        readings += ["first"] if _fits(output.shape[2:4], size, cell) else []
        if len(readings) == 1:
            return output if readings == ["last"] else output.movedim(1, -1)
        if len(readings) == 2:
            raise UsageError(
                f"The output {list(output.shape)} can be read as [B, h, w, C] and as [B, C, h, w].",
                "Give forward= a function that returns tokens [B, h·w, C].",
            )
    raise UsageError(
        f"For frames of {size[0]}x{size[1]} and {cell} pixels per cell the module must give "
        f"[B, {grid[0]}, {grid[1]}, C], [B, C, {grid[0]}, {grid[1]}] or tokens [B, {grid[0] * grid[1]}, C] "
        f"with at most {_MOST_PREFIXES} before them; it gives {list(output.shape)}.",
        _remedy(output, size, cell),
    )


def _remedy(output: Tensor, size: tuple[int, int], cell: int) -> str:
    """The patch that the output fits, where there is one other than the one that was set."""
    if output.ndim == 4:
        fitting = [
            p for p in range(1, min(size) + 1) if any(_fits(c, size, p) for c in (output.shape[1:3], output.shape[2:4]))
        ]
    else:
        prefixes = {p: output.shape[1] - (size[0] // p) * (size[1] // p) for p in range(1, min(size) + 1)}
        fitting = [p for p, count in prefixes.items() if output.ndim == 3 and 0 <= count <= _MOST_PREFIXES]
    if fitting and cell not in fitting:
        return f"Its output fits patch={fitting[0]}: give wrap that, or forward= a function that returns one of these."
    return "Give forward= a function that returns one of these."


def _fits(cells: torch.Size, size: tuple[int, int], cell: int) -> bool:
    return all(pixels // cell <= count <= -(-pixels // cell) for count, pixels in zip(cells, size, strict=True))


def _described(output: object) -> str:
    if isinstance(output, tuple | list):
        return f"a {type(output).__name__} of {len(output)} items"
    if isinstance(output, dict):
        return f"a dict with the keys {', '.join(map(repr, list(output)[:6]))}"
    return f"an object of type {type(output).__name__}"


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards every part has the mode it had."""
    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True
