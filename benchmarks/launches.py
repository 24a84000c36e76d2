"""What a frame costs the thread that feeds a GPU: operations launched, and times that it waits for the device.

A launch costs some 5 us whatever it does, and while the host waits nothing is launched. Both are counted on a CPU, with
the tiles that an accelerator gets; the numbers depend on grids and context frames alone, so features are narrow and
random. Frames are at full context; an operation of torch that only looks at a tensor in another way counts for nothing.
Labels are decoded in a thread of their own, and are not part of it.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from measuring import Row, Settings
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import corrkit
from corrkit.inference import exact_inference
from corrkit.propagation import scoring, tiling

_CHANNELS = 8
BLOCK = 4
"""Query frames that are matched at once."""
_WAITING = {
    *("_local_scalar_dense", "item", "is_nonzero", "nonzero", "masked_select", "equal", "bincount"),
    *("unique_consecutive", "_unique2", "unique_dim"),
}
"""Operations whose result the host has to know before it goes on."""
_READING = (torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.cpu)


@dataclass(frozen=True)
class Setting:
    """A grid under a protocol, and how many frames its context goes back."""

    name: str
    protocol: str
    grid: tuple[int, int]
    context: int


SETTINGS = (
    Setting("DAVIS stride 16, dino", "davis/dino", (30, 54), 7),
    Setting("DAVIS stride 16, cropmae (frame 0 free)", "davis/cropmae", (30, 55), 20),
    Setting("DAVIS stride 8, dino", "davis/dino", (60, 107), 7),
)


class Counted(TorchDispatchMode):
    """Counts operations, by name, that launch something, and those that make the host wait."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.launched: Counter[str] = Counter()
        self.waited: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in _WAITING or _picks_by_mask(name, args):
            self.waited[name] += 1
        if not func.is_view:
            self.launched[name] += 1
        return func(*args, **(kwargs or {}))


class Read(TorchFunctionMode):
    """Counts what brings a tensor to the host without an operation of its own."""

    def __init__(self, counted: Counted) -> None:
        super().__init__()
        self._counted = counted

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _READING:
            self._counted.waited[func.__name__] += 1
        return func(*args, **(kwargs or {}))


def _picks_by_mask(name: str, args: tuple[Any, ...]) -> bool:
    """Whether an operation finds its elements by a mask, whose number of True the host has to know."""
    indices = args[1] if name in {"index", "index_put", "index_put_"} else ()
    return any(isinstance(one, torch.Tensor) and one.dtype == torch.bool for one in indices or ())


def of_a_frame(setting: Setting, *, levels: int = 0) -> tuple[float, float]:
    """Launches and waits per frame of matching and propagation.

    Args:
        setting: what is counted.
        levels: distinct values of the features, which tie where they are few; 0 for real numbers.
    """
    before = 1 + BLOCK * -(-setting.context // BLOCK)  # frame 1 is a block of its own, and then come those of four
    labels = torch.zeros(*setting.grid, 2)
    labels[..., 0] = 1
    counted = Counted()
    features = _features(setting.grid, 1 + before + BLOCK, levels)
    with mock.patch.object(scoring, "costs_of", return_value=tiling.ACCELERATOR), exact_inference():
        maps = corrkit.propagate(features, labels, protocol=setting.protocol)
        for _ in range(before):
            next(maps)
        with counted, Read(counted):
            for _ in range(BLOCK):
                next(maps)
    return counted.launched.total() / BLOCK, counted.waited.total() / BLOCK


def _features(grid: tuple[int, int], num_frames: int, levels: int) -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    for _ in range(num_frames):
        frame = torch.randn(*grid, _CHANNELS, generator=generator)
        yield (frame * levels).round() + 0.5 if levels else frame


def rows(settings: Settings, part: str) -> Iterator[Row]:
    """Launches and waits of each setting; the two at stride 8 take a minute."""
    torch.set_num_threads(1)
    for setting in SETTINGS[:2] if settings.quick else SETTINGS:
        launches, waits = of_a_frame(setting)
        _, tied = of_a_frame(setting, levels=1)
        yield Row(what=f"launches for each frame, {setting.name}", value=launches, unit="")
        yield Row(what=f"waits for each frame, {setting.name}", value=waits, unit="")
        yield Row(what=f"waits for each frame with ties, {setting.name}", value=tied, unit="")
