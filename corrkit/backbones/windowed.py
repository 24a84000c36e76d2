"""Video backbones that see a window of frames at a time, past and future."""

import copy
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Literal, Protocol, Self

from corrkit.backbones.contract import Mode
from corrkit.backbones.framewise import Framewise
from corrkit.errors import CheckpointError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class _Clips(Protocol):
    """A network that takes real frames: a window [T, 3, H, W] to time slices [T', h, w, C]."""

    def clip(self, frames: "Tensor") -> "Tensor": ...


class Windowed:
    """A video network under the backbone contract, run on consecutive windows of a clip.

    google-deepmind/representations4d 75aca30 (colabs/rvm_evaluation_demo.ipynb) evaluates VideoMAE and V-JEPA so: 16
    frames per window, no overlap, zeros (after normalisation) behind the last frame, time slices interpolated to one
    map per frame. Every map depends on later frames of its window.

    Args:
        framewise: the backbone that sees single frames with the same network.
        length: frames per window.
        step: frames from one window to the next; each window gives the maps of its first `step` frames.
        padding: what fills the last window: "zeros", or "repeat" of the last frame.

    Raises:
        CheckpointError: the network sees single frames only, or windows of another length.
    """

    def __init__(
        self,
        framewise: Framewise,
        length: int,
        *,
        step: int | None = None,
        padding: Literal["zeros", "repeat"] = "zeros",
    ) -> None:
        step = length if step is None else step
        _require_window(framewise, length, step)
        self._framewise = framewise
        self.stride, self.multiple = framewise.stride, framewise.multiple
        self.mean, self.std = framewise.mean, framewise.std
        self.mode = Mode(
            kind="windowed", sees_future=True, length=length, step=step, padding=padding, upsampling="linear in time"
        )
        words = f"Windows of {length} frames every {step}; a frame's features depend on later frames."
        notes = tuple(note for note in framewise.report.notes if " is repeated " not in note)
        self.report = replace(framewise.report, notes=(*notes, words))

    @property
    def digest(self) -> str | None:
        """Sha256 of what makes its numbers."""
        inner = self._framewise.digest
        words = f"{inner} {self.mode.length} {self.mode.step} {self.mode.padding}"
        return None if inner is None else hashlib.sha256(words.encode()).hexdigest()

    def __call__(self, frames: "Tensor") -> "Tensor":
        """Consecutive frames [B, 3, H, W] of one clip to features [B, h, w, C]."""
        import torch

        return torch.stack(list(self.encode(frames)))

    def encode(self, frames: "Iterable[Tensor]") -> "Iterator[Tensor]":
        """Normalised frames [3, H, W] of one clip in order to features [h, w, C], one per frame; holds one window."""
        import torch

        stream = iter(frames)
        window = list(islice(stream, self.mode.length))
        while window:
            missing = self.mode.length - len(window)
            filler = torch.zeros_like(window[-1]) if self.mode.padding == "zeros" else window[-1]
            maps = self._maps(torch.stack([*window, *[filler] * missing]))
            coming = list(islice(stream, self.mode.step))
            yield from maps[: self.mode.step if coming else len(window)]
            window = [*window[self.mode.step :], *coming] if coming else []

    def with_position(self, rule: str) -> Self:
        """The same backbone under another resampling rule of its absolute position embedding."""
        other = copy.copy(self)
        other._framewise = self._framewise.with_position(rule)
        return other

    def to(self, device: "torch.device | str") -> Self:
        """The same backbone with its network on a device (moved in place)."""
        self._framewise.to(device)
        return self

    def _maps(self, window: "Tensor") -> "Tensor":
        """A window [T, 3, H, W] to one map per frame [T, h, w, C]; fewer time slices are interpolated."""
        from torch.nn import functional

        network: _Clips = self._framewise.network  # type: ignore[assignment]
        slices = network.clip(window).float()
        if len(slices) == len(window):
            return slices
        lines = slices.flatten(1).t()[
            None
        ]  # [1, h·w·C, T']: trilinear with the sides of the grid kept is linear in time
        stretched = functional.interpolate(lines, size=len(window), mode="linear", align_corners=False)[0].t()
        return stretched.reshape(len(window), *slices.shape[1:])


def _require_window(framewise: Framewise, length: int, step: int) -> None:
    network, name = framewise.network, framewise.report.system
    if not hasattr(network, "clip"):
        raise CheckpointError(f"{name} sees single frames only, no windows.", "Leave the window out.")
    fixed = getattr(network, "frames", 0)
    if fixed and length != fixed:
        raise CheckpointError(
            f"{name} was made for windows of {fixed} frames, not of {length}.", f"Give a window of {fixed}."
        )
    tubelet = getattr(network, "tubelet", 1)
    if length < 1 or length % tubelet or not 1 <= step <= length:
        raise CheckpointError(
            f"A window of {length} frames every {step} doesn't fit {name}, whose tokens span {tubelet} frames.",
            f"Give a window that is a multiple of {tubelet}, and a step from 1 to its length.",
        )
