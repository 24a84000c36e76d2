"""From a decoded frame to the network's input: size rule, resizing, normalisation, reading ahead."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from corrkit.errors import DataError
from corrkit.frames.sequence import FrameSequence
from corrkit.protocols.schema import Frames

if TYPE_CHECKING:
    import torch

_LARGEST_SIDE = 1 << 24  # pixels: ten thousand times what networks take
Item = TypeVar("Item")
Image = NDArray[np.uint8]
Resized = NDArray[Any]
"""uint8 RGB, or float32 colours for "bilinear-float"."""


def network_size(original: tuple[int, int], rule: Frames, multiple: int) -> tuple[int, int]:
    """The network's input size for a frame.

    Args:
        original: (height, width) of the frame in pixels.
        rule: the protocol's frame group.
        multiple: the backbone takes sides that are multiples of this; used where rule.indivisible is "resize", and for
            rounding where rule.multiple is 0.

    Returns:
        (height, width) in pixels.

    Raises:
        DataError: where a side would become 0, or is beyond any frame.
    """
    height, width = original
    if max((0, *rule.size, rule.multiple, multiple)) > _LARGEST_SIDE:
        raise DataError(
            f"frames.size is {list(rule.size)}, frames.multiple {rule.multiple}: no frame is that large.",
            "Make it smaller: --set size=[...].",
        )
    if rule.resize == "exact":
        height, width = rule.size
    elif rule.resize != "native":
        # A square frame's height is the given side, whether that is called the short one (facebookresearch/dino 7c446df
        # eval_video_segmentation.py:204-214) or the long one (alexandre-eymael/CropMAE 5d0dab2
        # downstreams/propagation/src/data/vos.py:138-146).
        fixed_is_width = height > width if rule.resize == "short-side" else width > height
        free_of, fixed_of = (height, width) if fixed_is_width else (width, height)
        fixed, free = _rounded(rule.size[0], free_of, fixed_of, rule, rule.multiple or multiple)
        height, width = (free, fixed) if fixed_is_width else (fixed, free)
    if rule.indivisible == "resize":
        height, width = _floor(height, multiple), _floor(width, multiple)
    if min(height, width) < (multiple if rule.indivisible == "crop" else 1):
        raise DataError(
            f"A frame of {original[1]}x{original[0]} is too small: the network's input would be {width}x{height}.",
            "Leave the clip out with --clips.",
        )
    return height, width


class FramePreparation:
    """Turns uint8 RGB frames of one clip into normalised float32 tensors [3, H, W].

    Args:
        size: (height, width) of the network's input.
        rule: the protocol's frame group.
        mean: per channel, in the units of `colour_values`.
        std: per channel divisor.
        colour: what the network takes, see `colour_values`.
        multiple: of which the network takes sides: where the rule is to crop, what is left of them at the right and
            bottom is dropped, as a patch projection would.
    """

    def __init__(
        self,
        size: tuple[int, int],
        rule: Frames,
        mean: Sequence[float],
        std: Sequence[float],
        colour: str = "rgb",
        *,
        multiple: int = 1,
    ) -> None:
        self._size = size
        self._multiple = multiple if rule.indivisible == "crop" else 1
        self._colour = colour
        self._interpolation = rule.interpolation
        self._in_float = rule.interpolation == "bilinear-float"
        self._mean = np.asarray(mean, np.float32)
        self._std = np.asarray(std, np.float32)
        # One float32 value per channel and grey level: a look-up does the same arithmetic as the published per-pixel
        # code, once per level instead of once per pixel.
        levels = np.arange(256, dtype=np.float32)[:, None] / np.float32(255)
        self._table = np.ascontiguousarray(((levels - self._mean) / self._std).T)  # [3, 256]

    def __call__(self, frame: Image) -> "torch.Tensor":
        """uint8 RGB [h, w, 3] to normalised float32 [3, H, W], what is cropped left out."""
        return self.normalise(self.resize(frame))

    def resize(self, frame: Image) -> Resized:
        """To the network's size: uint8 RGB, or float32 colours for "bilinear-float".

        The latter as in ajabri/videowalk 047f3f4 code/data/vos.py:44-50,187-202.
        """
        pixels = colour_values(frame, self._colour) if self._in_float else frame
        if frame.shape[:2] == self._size:
            return pixels
        if self._interpolation in ("bicubic", "lanczos"):
            from PIL import Image as Pillow

            return np.asarray(
                Pillow.fromarray(frame).resize(self._size[::-1], Pillow.Resampling[self._interpolation.upper()])
            )
        return np.asarray(cv2.resize(pixels, self._size[::-1], interpolation=cv2.INTER_LINEAR))

    def normalise(self, resized: Resized) -> "torch.Tensor":
        """What `resize` gave, [H, W, 3], to normalised float32 [3, H, W], what is cropped left out."""
        import torch

        height, width = (side // self._multiple * self._multiple for side in resized.shape[:2])
        resized = resized[:height, :width]
        if self._in_float or self._colour != "rgb":
            values = resized if self._in_float else colour_values(resized, self._colour)
            return torch.from_numpy(np.ascontiguousarray(((values - self._mean) / self._std).transpose(2, 0, 1)))
        planes = np.empty((3, *resized.shape[:2]), np.float32)
        for channel in range(3):
            np.take(self._table[channel], resized[:, :, channel], out=planes[channel], mode="clip")
        return torch.from_numpy(planes)


def colour_values(frame: Image, colour: str) -> NDArray[np.float32]:
    """What a network of this colour takes, before mean and std: float32 [h, w, 3] of a uint8 RGB frame [h, w, 3].

    "rgb" in [0, 1]; "lab" OpenCV's of float RGB, L in [0, 100] and a, b in [-127, 127] (qianduoduolr/Spa-then-Temp
    4c94362 vcl/datasets/pipelines/augmentation.py:1335); "grey" the lightness of OpenCV's 8-bit Lab over 256, three
    times (Liusifei/UVC f1b6fd9 utils/imutils2.py:29-42).
    """
    if colour == "grey":
        lightness = cv2.cvtColor(frame, cv2.COLOR_RGB2LAB)[..., :1]
        return np.repeat(lightness, 3, axis=2).astype(np.float32) / np.float32(256)
    values = frame.astype(np.float32) / np.float32(255)
    return np.asarray(cv2.cvtColor(values, cv2.COLOR_RGB2LAB), np.float32) if colour == "lab" else values


def read_ahead(read: Callable[[int], Item], count: int, *, workers: int = 2, depth: int = 6) -> Iterator[Item]:
    """read(0), read(1), ... in order, computed by threads ahead of the consumer; at most `depth` results wait.

    Decoding and resizing release the interpreter lock, so they run beside the network's forward passes.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="corrkit-frames")
    pending: deque[Future[Item]] = deque()
    try:
        for index in range(count):
            pending.append(pool.submit(read, index))
            if len(pending) >= depth:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def frame_of_constant_size(frames: FrameSequence, index: int, clip: str) -> Image:
    """Frame `index`, checked against the size of frame 0. Raises DataError naming the odd one out."""
    frame = frames[index]
    if frame.shape[:2] != frames.size:
        height, width = frames.size
        raise DataError(
            f"{clip}: frame {index} ({frames.paths[index]}) is {frame.shape[1]}x{frame.shape[0]}, "
            f"frame 0 is {width}x{height}.",
            "Bring all frames to one size, or leave the clip out with --clips.",
        )
    return frame


def _rounded(side: int, free: int, fixed: int, rule: Frames, multiple: int) -> tuple[int, int]:
    """The given side and the free one, `free / fixed` times as long, under the protocol's rounding.

    Multiplied before it is divided, as published: a quotient that is whole stays so.

    Sources: facebookresearch/dino 7c446df eval_video_segmentation.py:204-214 ("down"), facebookresearch/dinov3 6876159
    notebooks/segmentation_tracking.ipynb:426-437 ("up"), arXiv 2508.10104 appendix D.5 ("nearest").
    """
    if rule.side_rounding == "down":
        return side, _floor(side * free / fixed, multiple)
    if rule.side_rounding == "up":
        raised = math.ceil(side / multiple) * multiple
        return raised, math.ceil(raised * free / fixed / multiple) * multiple
    return _nearest(side, multiple), _nearest(side * free / fixed, multiple)


def _nearest(side: float, multiple: int) -> int:
    return _floor(side + multiple / 2, multiple)  # a half goes up, as in mmcv's int(side * scale + 0.5)


def _floor(side: float, multiple: int) -> int:
    return int(side // multiple) * multiple
