"""Video backbones that see a window of frames at a time, past and future."""

import copy
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Literal, Self

from corrkit.backbones.contract import Described, Interface, Mode, interface_of
from corrkit.backbones.framewise import Framewise
from corrkit.backbones.networks.base import Network
from corrkit.errors import CheckpointError
from corrkit.protocols.schema import Features

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Windowed(Described):
    """A video network under the backbone contract, run on consecutive windows of a clip.

    google-deepmind/representations4d 75aca30 (colabs/rvm_evaluation_demo.ipynb) evaluates VideoMAE and V-JEPA so: 16
    frames per window, no overlap, zeros (after normalisation) behind the last frame, time slices interpolated to one
    map per frame. Every map depends on later frames of its window.

    Args:
        framewise: the backbone that sees single frames with the same network.
        length: frames per window.
        step: frames from one window to the next; each window gives the maps of its first `step` frames.
        padding: what fills the last window: "zeros", or "repeat" of the last frame.
        upsampling: how fewer time slices become a map for each frame: "linear" or "cubic" between them, or "nearest".

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
        upsampling: Literal["linear", "cubic", "nearest"] = "linear",
    ) -> None:
        step = length if step is None else step
        self.upsampling = upsampling
        mode = Mode(kind="windowed", sees_future=True, length=length, step=step, padding=padding)
        super().__init__(_interface(interface_of(framewise), mode))
        self.network = _windowed(framewise, length, step)

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
        other.network = self.network.with_position(rule)
        return other

    def under(self, rule: Features) -> Self:
        """The same backbone with a protocol's padding and time up-sampling."""
        other = copy.copy(self)
        other.mode, other.upsampling = replace(self.mode, padding=rule.window_padding), rule.time_upsampling
        return other

    def to(self, device: "torch.device | str") -> Self:
        """The same backbone with its network on a device (moved in place)."""
        self.network.to(device)
        return self

    def _maps(self, window: "Tensor") -> "Tensor":
        """A window [T, 3, H, W] to one map per frame [T, h, w, C]; fewer time slices are interpolated."""
        from torch.nn import functional

        slices = self.network.clip(window).float()
        if len(slices) == len(window):
            return slices
        if self.upsampling == "cubic":
            weights = _cubic(len(slices), len(window)).to(slices)
            return (weights @ slices.flatten(1)).reshape(len(window), *slices.shape[1:])
        lines = slices.flatten(1).t()[None]  # [1, h·w·C, T']: trilinear where the grid stays is linear in time
        corners = False if self.upsampling == "linear" else None
        stretched = functional.interpolate(lines, len(window), mode=self.upsampling, align_corners=corners)[0].t()
        return stretched.reshape(len(window), *slices.shape[1:])


def _cubic(given: int, wanted: int) -> "Tensor":
    """What each of `wanted` slices takes of the `given`, fewer ones: weights [wanted, given] float64.

    As jax.image.resize's "cubic", by which google-deepmind/representations4d 75aca30 colabs/rvm_evaluation_demo.ipynb
    (cell 111) brings 4DS's 8 slices to 16: Keys' kernel of a = -0.5 at the slices' centres, renormalised at the ends.
    """
    import torch

    centres = (torch.arange(wanted, dtype=torch.float64) + 0.5) * given / wanted - 0.5
    x = (centres[:, None] - torch.arange(given)).abs()
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    weights = near.where(x < 1, far.where(x < 2, 0.0))
    return weights / weights.sum(1, keepdim=True)


def _interface(framewise: Interface, mode: Mode) -> Interface:
    digest, report = framewise.digest, framewise.report
    notes = tuple(note for note in report.notes if " is repeated " not in note)
    words = f"Windows of {mode.length} frames every {mode.step}; a frame's features depend on later frames."
    if digest is not None:
        digest = hashlib.sha256(f"{digest} {mode.length} {mode.step} {mode.padding}".encode()).hexdigest()
    return replace(framewise, mode=mode, report=replace(report, notes=(*notes, words)), digest=digest)


def _windowed(framewise: Framewise, length: int, step: int) -> Network:
    """The network of a backbone. Raises CheckpointError where it doesn't take such windows."""
    network, name = framewise.network, framewise.report.system
    rule = network.window if isinstance(network, Network) else None
    if not isinstance(network, Network) or rule is None:
        raise CheckpointError(f"{name} sees single frames only, no windows.", "Leave the window out.")
    if rule.length not in (None, length):
        raise CheckpointError(
            f"{name} was made for windows of {rule.length} frames, not of {length}.", f"Give a window of {rule.length}."
        )
    if length < 1 or length % rule.tubelet or not 1 <= step <= length:
        raise CheckpointError(
            f"A window of {length} frames every {step} doesn't fit {name}, whose tokens span {rule.tubelet} frames.",
            f"Give a window that is a multiple of {rule.tubelet}, and a step from 1 to its length.",
        )
    return network
