"""What the pipeline asks of a backbone. Any object with the members of `Backbone` will do."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """How a backbone sees time.

    kind: "framewise" (each frame on its own), "windowed" (clips of `length` frames every `step`) or "recurrent"
        (a state carried from frame 0 on).
    sees_future: whether a frame's features depend on later frames; shown wherever results are.
    padding: what fills the last window ("zeros" after normalisation, "repeat" of the last frame, "none").
    upsampling: how the fewer token frames of a tubelet become one map per frame ("none", "repeat", "trilinear", ...).
    """

    kind: Literal["framewise", "windowed", "recurrent"] = "framewise"
    sees_future: bool = False
    length: int = 1
    step: int = 1
    padding: str = "none"
    upsampling: str = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Every decision that was taken to turn a file into a backbone.

    system: the recognised system ("dino", "mae", "random", "rgb", "wrapped", ...).
    architecture: e.g. "vit_small_patch16".
    parameters: of the backbone. tensors_used, tensors_total: of the file's; dropped: group name to reason.
    position: "absolute" where a position embedding is resampled to the input size (a protocol may then choose the
        rule), else "relative", "rotary" or "none".
    evidence: decision to what in the file it rests on. notes: what the user should know.
    pretraining: how it was trained, where the file says ("siammae, step 400"); "none" for random weights.
    """

    system: str
    architecture: str
    parameters: int
    layer: str = "last"
    tensors_used: int = 0
    tensors_total: int = 0
    position: Literal["absolute", "relative", "rotary", "none"] = "none"
    dropped: tuple[tuple[str, str], ...] = ()
    evidence: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    pretraining: str = ""


@runtime_checkable
class Backbone(Protocol):
    """A network that turns frames into features on a grid.

    stride: pixels per cell. mean, std: per channel, RGB, for inputs in [0, 1].
    Optional members, read with getattr: `input_colour` ("rgb", the default, "lab" or "grey": see
    `frames.preparation.colour_values`, in whose units mean and std are), `multiple` (input sides must be multiples of
    it; default `stride`; 1 for convolutions that take any size), `digest` (sha256 hex of what makes its numbers;
    without it a run can't be resumed), `with_position(rule)` (a backbone with another position rule), `to(device)`,
    `network` (its `torch.nn.Module`, whose modes and device `corrkit.Evaluator` respects).
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
