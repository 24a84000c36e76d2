"""What corrkit makes of the file of a network, and whether the features are those of its own class."""

import contextlib
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from corrkit.backbones.building import Built
from corrkit.backbones.heads import UnknownHeadsError
from corrkit.checkpoints import recognition
from corrkit.checkpoints.opening import Opened
from corrkit.errors import CheckpointError

TOLERANCE = 1e-5  # of the largest feature
LARGEST = 30_000_000  # parameters that are run as they are
_FEW = 1 << 16  # values
BLOCKS = 2  # of those that are made smaller
_UNTRUE = re.compile(r"incomplete|damaged|cut short: get|optimizer|is a text model")

Features = Callable[[Tensor], Tensor]
"""Frames [B, 3, H, W] to features [B, h, w, C]. Raises where the peer can't take the size."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table; differences as shares of the largest feature, "" where the peer can't take the size."""

    name: str
    kind: str = ""
    outcome: str
    system: str = ""
    heads: str = ""
    native: str = ""
    wider: str = ""
    words: str = ""


def judge(opened: Opened, heads: int | None = None, layer: int | None = None) -> tuple[Row, Built | None]:
    """What corrkit makes of an opened file."""
    system = ""
    try:
        recognised = recognition.recognise(opened)
        system = recognised.system.name
        built: Built = pkgutil.resolve_name(recognised.system.build)(recognised, heads=heads, layer=layer)
    except UnknownHeadsError as error:
        return Row(name="", outcome="asked", system=system, words=str(error)), None
    except CheckpointError as error:
        asked = "Say which it is" in error.remedy
        outcome = "asked" if asked else "untrue" if _UNTRUE.search(error.problem) else "refused"
        return Row(name="", outcome=outcome, system=system, words=str(error)), None
    except Exception as error:  # a fault of corrkit's, which the table must show
        return Row(name="", outcome="crashed", system=system, words=f"{type(error).__name__}: {error}"), None
    chosen = dict(built.evidence).get("heads", "").split(":")[0]
    notes = " ".join((*recognised.notes, *built.notes))
    return Row(name="", outcome="noted" if notes else "equal", system=system, heads=chosen, words=notes), built


@torch.no_grad()
def compared(row: Row, built: Built, peer: Features, sizes: list[tuple[int, int]]) -> Row:
    """The row with the differences of the features at two sizes."""
    found = []
    network = built.network.float()
    for height, width in sizes:
        frames = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(height + width))
        try:
            expected = peer(frames)
        except Exception:  # sizes that the peer's own code doesn't take, however it says so
            found.append(None)
            continue
        try:
            features = network(frames)
        except CheckpointError as error:
            return replace(row, outcome="refused", words=str(error))
        except Exception as error:  # a fault of corrkit's, which the table must show
            return replace(row, outcome="crashed", words=f"{type(error).__name__}: {error}")
        if features.shape != expected.shape:
            return replace(row, outcome="wrong", words=f"{[*features.shape]}, not {[*expected.shape]}. {row.words}")
        found.append(float((features - expected).abs().max() / expected.abs().max()))
    native, wider = ("" if value is None else f"{value:.1e}" for value in found)
    differs = [value is not None and not value < TOLERANCE for value in found]
    told = re.search(r"assumed|Taken as|taken as", row.words)
    if differs[0] or (differs[1] and "osition" not in row.words):
        outcome = "assumed" if told else "wrong"
    else:
        outcome = "assumed" if differs[1] else "not compared" if found == [None, None] else row.outcome
    return replace(row, outcome=outcome, native=native, wider=wider)


def redraw(model: nn.Module) -> None:
    """New values of usual sizes for every parameter, and for the means and variances of batch norms."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        every = [*model.named_parameters(), *model.named_buffers()]
        for name, tensor in ((name, tensor) for name, tensor in every if tensor.numel()):
            draw = torch.randn(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                tensor.copy_(draw.abs() + 0.5)
            elif isinstance(tensor, nn.Parameter) or name.endswith("running_mean"):
                table = tensor.ndim < 2 or len(tensor) == 1
                gain = tensor.ndim == 1 and not name.endswith(("bias", "running_mean"))
                tensor.copy_(draw * (0.3 if table else (tensor.numel() / len(tensor)) ** -0.5) + float(gain))


@contextlib.contextmanager
def unread() -> Iterator[None]:
    """Leaves out reading every value of a file, in search of numbers that aren't finite: constants are."""
    required = recognition.require_usable
    recognition.require_usable = lambda weights, path: None
    try:
        yield
    finally:
        recognition.require_usable = required


class Undrawn(TorchFunctionMode):
    """Networks are made with zeros in place of drawn weights, which take most of the time: `redraw` follows."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (Tensor.normal_, Tensor.uniform_):
            return args[0].zero_()
        return func(*args, **(kwargs or {}))


def constants(model: nn.Module) -> dict[str, Tensor]:
    """A state dict in the shapes of a network, in no memory: constants, and matrices without any values."""
    return {name: _constant(name, tensor) for name, tensor in model.state_dict().items()}


def _constant(name: str, tensor: Tensor) -> Tensor:
    if tensor.numel() > _FEW and "pos" not in name:  # tables of positions are looked into
        return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
    return torch.full((), 0.01 if tensor.is_floating_point() else 1, dtype=tensor.dtype).expand(tensor.shape)


def opened_state(state: Mapping[str, Tensor]) -> Opened:
    """A lone file that holds a state dict."""
    return Opened(tree=dict(state), container="torch zip", digest="", path=Path("weights.pth"))
