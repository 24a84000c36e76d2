"""What the pipeline asks of a backbone. Any object with the members of `Backbone` will do."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, cast, get_args, runtime_checkable

from corrkit.errors import UsageError, closest

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Colour = Literal["rgb", "lab", "grey"]
"""What a network takes; see `frames.preparation.colour_values`."""


PositionKind = Literal["absolute", "own", "relative", "rotary", "none"]
"""How a network knows places; see `Report`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """How a backbone sees time.

    kind: "framewise" (each frame on its own), "windowed" (clips of `length` frames every `step`) or "recurrent"
        (a state carried from frame 0 on).
    sees_future: whether a frame's features depend on later frames; shown wherever results are.
    padding: what fills the last window ("zeros" after normalisation, "repeat" of the last frame, "none").
    """

    kind: Literal["framewise", "windowed", "recurrent"] = "framewise"
    sees_future: bool = False
    length: int = 1
    step: int = 1
    padding: str = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Every decision that was taken to turn a file into a backbone.

    system: the recognised system ("dino", "mae", "random", "rgb", "wrapped", ...).
    architecture: e.g. "vit_small_patch16".
    parameters: of the backbone. tensors_used, tensors_total: of the file's; dropped: group name to reason.
    position: "absolute" where a position embedding is resampled to the input size (a protocol may then choose the
        rule), "own" where it is resampled by the network's own rule alone, else "relative", "rotary" or "none".
    evidence: decision to what in the file it rests on. notes: what the user should know.
    pretraining: how it was trained, where the file says ("siammae, step 400"); "none" for random weights.
    """

    system: str
    architecture: str
    parameters: int
    layer: str = "last"
    tensors_used: int = 0
    tensors_total: int = 0
    position: PositionKind = "none"
    dropped: tuple[tuple[str, str], ...] = ()
    evidence: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    pretraining: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """All that a backbone says of itself.

    stride: pixels per cell. multiple: input sides must be multiples of it (1 for convolutions that take any size).
    mean, std: per channel, in the units of `frames.preparation.colour_values` for its colour. digest: sha256 hex of
    what makes its numbers; None where that isn't known, and a run can't be resumed.
    """

    stride: int
    multiple: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    colour: Colour = "rgb"
    mode: Mode = Mode()
    report: Report
    digest: str | None = None


@runtime_checkable
class Backbone(Protocol):
    """A network that turns frames into features on a grid.

    stride: pixels per cell. mean, std: per channel, RGB, for inputs in [0, 1].
    Optional members: `input_colour` ("rgb", the default, "lab" or "grey": see `frames.preparation.colour_values`, in
    whose units mean and std are), `multiple` (input sides must be multiples of it; default `stride`; 1 for
    convolutions that take any size), `digest` (sha256 hex of what makes its numbers; without it a run can't be
    resumed): `interface_of` reads them. `with_position(rule)` (a backbone with another position rule; this one stays
    as it is), `to(device)`, `network` (its `torch.nn.Module`, whose modes and device `corrkit.Evaluator` respects).
    """

    stride: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    mode: Mode
    report: Report

    def __call__(self, frames: "Tensor") -> "Tensor":
        """Normalised frames [B, 3, H, W] float32 to features [B, h, w, C] float32."""
        ...

    def encode(self, frames: Iterable["Tensor"]) -> Iterator["Tensor"]:
        """Normalised frames [3, H, W] of one clip in order to features [h, w, C], one per frame, streaming."""
        ...


def interface_of(backbone: Backbone) -> Interface:
    """What any backbone says of itself, with the defaults of the members that it may lack.

    Raises:
        UsageError: for a stride, multiple, colour or statistics that no backbone can have.
    """
    found = Interface(
        stride=backbone.stride,
        multiple=getattr(backbone, "multiple", backbone.stride),
        mean=tuple(backbone.mean),
        std=tuple(backbone.std),
        colour=getattr(backbone, "input_colour", "rgb"),
        mode=backbone.mode,
        report=backbone.report,
        digest=getattr(backbone, "digest", None),
    )
    name = f"The backbone {type(backbone).__name__}"
    if min(found.stride, found.multiple) < 1:
        raise UsageError(f"{name} has stride {found.stride} and multiple {found.multiple}.", "Both are at least 1.")
    if found.colour not in get_args(Colour):
        raise UsageError(f"{name} takes pictures of colour {found.colour!r}.", closest(found.colour, get_args(Colour)))
    if len(found.mean) != 3 or len(found.std) != 3 or min(found.std) <= 0:
        raise UsageError(f"{name} has mean {found.mean} and std {found.std}.", "Three numbers each, std above 0.")
    return found


class Described:
    """The members of a backbone that its interface tells."""

    def __init__(self, interface: Interface) -> None:
        self.stride, self.multiple = interface.stride, interface.multiple
        self.mean, self.std, self.input_colour = interface.mean, interface.std, interface.colour
        self.mode, self.report, self._digest = interface.mode, interface.report, interface.digest

    @property
    def digest(self) -> str | None:
        """Sha256 of what makes its numbers."""
        return self._digest


@runtime_checkable
class _Placed(Protocol):
    def to(self, device: object) -> object: ...


@runtime_checkable
class _Resampled(Protocol):
    def with_position(self, rule: str) -> object: ...


@runtime_checkable
class _Networked(Protocol):
    network: object


def on_device(backbone: Backbone, device: "torch.device") -> Backbone:
    """The backbone on a device; itself where it can't be moved."""
    return cast(Backbone, backbone.to(device)) if isinstance(backbone, _Placed) else backbone


def with_position(backbone: Backbone, rule: str) -> Backbone:
    """The backbone under a protocol's rule of position embeddings; itself where it has none to resample.

    Args:
        backbone: stays as it is.
        rule: of `positions.RULES`, or "published" for the backbone's own.
    """
    resamples = rule != "published" and backbone.report.position == "absolute"
    return cast(Backbone, backbone.with_position(rule)) if resamples and isinstance(backbone, _Resampled) else backbone


def network_of(backbone: Backbone) -> "nn.Module | None":
    """The module behind a backbone, where it says which."""
    return cast("nn.Module | None", backbone.network) if isinstance(backbone, _Networked) else None
