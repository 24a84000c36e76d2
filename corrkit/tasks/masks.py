"""Id masks: files, and label maps on the grid and back. Shared by the tasks whose labels are masks (DAVIS, VIP)."""

import copy
import functools
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from corrkit.errors import DataError, ProtocolError
from corrkit.frames.pictures import read_lossless
from corrkit.palette import VOID, voc_palette
from corrkit.protocols.schema import MaskLabels, MaskReadout
from corrkit.tasks.contract import Geometry
from corrkit.tasks.largest_channel import (
    Axis,
    largest_channel,
    largest_channel_by_blocks,
    stretch_of,
)

if TYPE_CHECKING:
    from torch import Tensor

Mask = NDArray[np.uint8]
Colour = tuple[int, int, int]

KEEP_PALETTE = "Save masks with the palette kept in its order, not with an adaptive one."

_OPENCV_CHANNELS = 128


def read_mask(path: Path) -> Mask:
    """Ids of a mask file as uint8 [H, W]; see `read_mask_and_palette`."""
    return read_mask_and_palette(path)[0]


def read_mask_and_palette(path: Path) -> tuple[Mask, Sequence[int]]:
    """Ids of a mask file as uint8 [H, W], and its palette as r, g, b, r, g, b, ..., empty where it has none.

    Palette PNGs give their indices whatever the palette's width; grey ones (L, LA, 1, or RGB with equal channels) their
    values, alpha ignored; those of one bit 0 and 1.

    Raises:
        DataError: for a missing or undecodable file, one of a format that may be lossy (JPEG, ...), one whose colours
            are not ids (RGB), or a palette whose black, the background, is another id than 0.
    """
    image = read_lossless(path)
    mode = image.mode
    if mode in {"L", "1"}:
        return np.array(image, np.uint8), []
    if mode == "LA":
        return np.array(image, np.uint8)[..., 0], []
    if mode in {"P", "PA"}:
        pixels, palette = np.array(image, np.uint8), image.getpalette("RGB") or []
        ids = pixels if mode == "P" else np.ascontiguousarray(pixels[..., 0])
        _require_black_background(ids, palette, path)
        return ids, palette
    if mode in {"RGB", "RGBA"}:
        pixels = np.array(image, np.uint8)
        if (pixels[..., :2] == pixels[..., 1:3]).all():  # published code saves ids three times over
            return np.ascontiguousarray(pixels[..., 0]), []
    if mode.startswith("I"):
        return _narrow(np.array(image), path), []
    raise DataError(
        f"{path} is an image of mode {mode}: its colours are no ids.", "Save masks as palette or grey PNG of ids."
    )


def colours_of(values: Iterable[int], palette: Sequence[int]) -> dict[int, Colour]:
    """The colours that a palette gives to ids; nothing for those beyond it."""
    return {
        value: (palette[3 * value], palette[3 * value + 1], palette[3 * value + 2])
        for value in values
        if 3 * value + 2 < len(palette)
    }


def distinct_values(ids: Mask) -> list[int]:
    """The values of an id map [H, W], ascending; many times as fast as np.unique, since ids come in runs."""
    flat = ids.ravel()
    starts = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    return [int(value) for value in np.unique(np.append(flat[:1], flat[starts]))]


def _require_black_background(ids: Mask, palette: Sequence[int], path: Path) -> None:
    """Raises DataError for a palette, adaptive as a rule, that gives black to an id of the mask instead of to 0."""
    if tuple(palette[:3]) == (0, 0, 0):
        return
    colours = colours_of(distinct_values(ids), palette)
    black = [identity for identity, colour in colours.items() if colour == (0, 0, 0)]
    if black and 0 not in black:
        raise DataError(
            f"{path} has a re-ordered palette: black, the background, is id {black[0]} instead of 0.",
            KEEP_PALETTE,
        )


class PaletteOrder:
    """Finds files that give a colour to another id than the files before: adaptive palettes are ordered one by one."""

    def __init__(self) -> None:
        self._known: dict[Colour, tuple[int, str]] = {}

    def breach(self, colours: Mapping[int, Colour], name: str) -> str | None:
        """What a file's colours, by id, contradict; None where nothing. `name` is the file's, for those after it."""
        counts = Counter(colours.values())
        found = None
        for identity, colour in colours.items():
            other, before = self._known.setdefault(colour, (identity, name))
            if other != identity and counts[colour] == 1 and found is None:
                found = f"colour {colour} is id {identity}, but id {other} in {before}"
        return found

    def read(self, path: Path) -> Mask:
        """Ids of a mask file. Raises DataError as `read_mask`, and for a palette that differs from those before."""
        ids, palette = read_mask_and_palette(path)
        breach = self.breach(colours_of(distinct_values(ids), palette), path.name)
        if breach:
            raise DataError(f"{path} has a re-ordered palette: {breach}.", KEEP_PALETTE)
        return ids


def write_mask(path: Path, ids: Mask) -> None:
    """Saves ids as a palette PNG with the PASCAL VOC colours that DAVIS uses. Raises DataError where that fails."""
    from PIL import Image

    image = Image.fromarray(ids)
    image.putpalette(voc_palette().tobytes())
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(buffer.getvalue())
    except OSError as error:
        raise DataError(f"{path} can't be written ({error.strerror}).", "Free space or choose another --out.") from None


class MaskCodec:
    """Id masks of one clip to label maps [h, w, L] and back.

    Args:
        first: id mask of frame 0, uint8 [H, W]; it fixes the channels.
        geometry: the clip's sizes.
        labels: how masks go down to the grid.
        readout: how soft maps come up again.
        later: id masks of what enters in later frames, which get channels by the same rule.

    Attributes:
        ids: uint8 [L], the id of each channel, ascending; those of `grown` stand behind.
    """

    def __init__(
        self,
        first: Mask,
        geometry: Geometry,
        labels: MaskLabels,
        readout: MaskReadout,
        *,
        later: Sequence[Mask] = (),
    ) -> None:
        self._geometry = geometry
        self._labels = labels
        self._readout = readout
        self.ids = self._ids_of((first, *later))
        self._ids_are_channels = _are_channels(self.ids)

    def _ids_of(self, given: Sequence[Mask]) -> Mask:
        """The ids [L] that get a channel where these masks are given, ascending."""
        if self._labels.classes in ("present", "present-original"):
            seen = given if self._labels.classes == "present-original" else map(self.to_network, given)
            return np.unique(np.concatenate([np.unique(mask) for mask in seen]))
        as_given = self._labels.classes == "original-max"
        counted = given if as_given else (self._to_grid(self.to_network(mask)) for mask in given)
        return np.arange(max(int(mask.max()) for mask in counted) + 1, dtype=np.uint8)

    def grown(self, annotation: Mask) -> Self:
        """See `corrkit.tasks.contract.Codec`."""
        further = np.setdiff1d(self._ids_of([annotation]), self.ids)
        other = copy.copy(self)
        other.ids = np.concatenate([self.ids, further])
        other._ids_are_channels = _are_channels(other.ids)
        return other

    def entering(self, annotation: Mask) -> "Tensor":
        """Id mask [H, W] to a label map [h, w, L] without background."""
        labels = self.encode(annotation)
        labels[..., 0] = 0  # it was there before
        return labels

    def encode(self, annotation: Mask) -> "Tensor":
        """Id mask [H, W] to a label map [h, w, L] float32; ids without a channel count as background."""
        import torch

        ids = self.to_network(annotation)
        of_ids = self._labels.downsample in ("nearest", "nearest-exact", "stride")
        if of_ids:
            ids = self._to_grid(ids)
        ids = np.where(np.isin(ids, self.ids), ids, np.uint8(0))
        one_hot = torch.from_numpy(ids[..., None] == self.ids).to(torch.float32)  # [H, W, L] or [h, w, L]
        if of_ids:
            return one_hot
        if self._labels.downsample == "bilinear":
            return resize_bilinear_opencv(one_hot, self._geometry.grid)
        maps = resize_bilinear(one_hot.permute(2, 0, 1), self._geometry.grid, align_corners=True)
        return maps.permute(1, 2, 0).contiguous()

    def decode(self, soft: "Tensor") -> Mask:
        """Soft label map [h, w, L] on any device to an id mask [H, W] uint8 of the original size."""
        decided, original = self._readout.resolution, self._geometry.original
        maps = soft.permute(2, 0, 1)
        channels = None
        if self._axes is not None and soft.device.type == "cpu":
            stretches = self._readout.minmax != "none"
            exactly = functools.partial(self._channels_at, maps)
            channels = largest_channel_by_blocks(maps, *self._axes, exactly, stretches=stretches)
        if channels is None:
            enlarged = self._enlarged(maps, self._decided_size)
            channels = largest_channel(stretch_of(enlarged, self._readout.minmax)(enlarged)).cpu().numpy()
        ids = channels if self._ids_are_channels else self.ids[channels]
        return (resize_nearest_opencv if decided == "network-opencv" else resize_nearest)(ids, original)

    @functools.cached_property
    def _axes(self) -> tuple[Axis, Axis] | None:
        """How rows and columns are enlarged; None where blocks of pixels can't be decided together."""
        if self._readout.upsample not in ("bilinear", "bilinear-corners"):
            return None
        rows, columns = map(Axis.of, self._geometry.grid, self._decided_size, [self._enlarged] * 2)
        return None if rows is None or columns is None else (rows, columns)

    def lost(self, annotation: Mask, labels: "Tensor") -> list[str]:
        """Ids of an annotation [H, W] that no cell of its label map [h, w, L] holds."""
        held = self.ids[(labels.amax(dim=(0, 1)) > 0).cpu().numpy()]
        return [f"id {identity}" for identity in sorted({*distinct_values(annotation)} - {0, VOID, *held.tolist()})]

    def first_prediction(self, annotation: Mask) -> Mask:
        """What stands for the prediction of frame 0 where it is not predicted like the others."""
        if self._readout.first_frame == "copy":
            return annotation
        if self._readout.first_frame == "decoded":
            return self.decode(self.encode(annotation))
        return resize_nearest_corner(self.to_network(annotation), self._geometry.original)

    def to_network(self, mask: Mask) -> Mask:
        """Id mask [H, W] at the network's size, or as it is where the protocol goes straight to the grid."""
        import cv2

        size = self._geometry.network
        if self._labels.network_resize == "none" or mask.shape == size:
            return mask
        if self._labels.network_resize == "nearest":
            return resize_nearest(mask, size)
        if self._labels.network_resize == "nearest-opencv":
            return resize_nearest_opencv(mask, size)
        return np.asarray(cv2.resize(mask, size[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)

    def _to_grid(self, mask: Mask) -> Mask:
        if self._labels.downsample == "nearest-exact":
            return _interpolated(mask, self._geometry.grid, "nearest-exact")
        if self._labels.downsample == "stride":
            return every_nth_pixel(mask, self._geometry)
        return resize_nearest(mask, self._geometry.grid)

    @property
    def _decided_size(self) -> tuple[int, int]:
        return self._geometry.original if self._readout.resolution == "original" else self._geometry.network

    def _channels_at(self, maps: "Tensor", rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Mask:
        """The largest channel [P] of soft maps [L, h, w] in some pixels of the size that is decided at."""
        import torch

        enlarged = self._enlarged(maps, self._decided_size)
        values = enlarged[:, torch.from_numpy(rows), torch.from_numpy(columns)][:, None]
        return largest_channel(stretch_of(enlarged, self._readout.minmax)(values))[0].numpy()

    def _enlarged(self, maps: "Tensor", size: tuple[int, int]) -> "Tensor":
        """Soft maps [L, h, w] to [L, *size]."""
        import torch

        if self._readout.upsample in ("nearest", "nearest-exact"):
            return torch.nn.functional.interpolate(maps[None], size=size, mode=self._readout.upsample)[0]
        return resize_bilinear(maps, size, align_corners=self._readout.upsample == "bilinear-corners")


def _are_channels(ids: Mask) -> bool:
    """Whether each id is the number of its channel."""
    return np.array_equal(ids, np.arange(len(ids)))


def resize_bilinear(maps: "Tensor", size: tuple[int, int], *, align_corners: bool = False) -> "Tensor":
    """Bilinear, without anti-aliasing, [L, H, W] to [L, *size]; OpenCV's float bilinear is align_corners False."""
    import torch

    return torch.nn.functional.interpolate(
        maps.contiguous()[None], size=size, mode="bilinear", align_corners=align_corners
    )[0]


def resize_bilinear_opencv(maps: "Tensor", size: tuple[int, int]) -> "Tensor":
    """OpenCV's bilinear of [H, W, L] float32 on the CPU to [*size, L], as published code calls it.

    It differs from PyTorch's in the sixth digit where the ratio is no whole number, and so do its own results for
    different numbers of channels: all channels go in one call, up to the 128 that it takes.
    """
    import cv2
    import torch

    parts = [
        cv2.resize(part.numpy(), size[::-1], interpolation=cv2.INTER_LINEAR).reshape(*size, -1)
        for part in maps.split(_OPENCV_CHANNELS, dim=2)
    ]
    return torch.from_numpy(np.concatenate(parts, axis=2))


def resize_nearest(ids: Mask, size: tuple[int, int]) -> Mask:
    """Pillow's nearest (samples at pixel centres) to size = (height, width)."""
    from PIL import Image

    if ids.shape == size:
        return ids
    return np.array(Image.fromarray(ids).resize(size[::-1], Image.Resampling.NEAREST), np.uint8)


def resize_nearest_opencv(ids: Mask, size: tuple[int, int]) -> Mask:
    """OpenCV's nearest (samples at pixel corners) to size = (height, width)."""
    import cv2

    if ids.shape == size:
        return ids
    return np.asarray(cv2.resize(ids, size[::-1], interpolation=cv2.INTER_NEAREST), np.uint8)


def every_nth_pixel(ids: Mask, geometry: Geometry) -> Mask:
    """Ids [H, W] of the network's size to the grid: the pixel at the corner of each cell.

    Source: zlai0/MAST a57b043 models/colorizer.py (prep).

    Raises:
        ProtocolError: where cells are no whole pixels, or the mask has another size than the network's input.
    """
    stride, (height, width) = round(geometry.stride), geometry.grid
    picked = ids[::stride, ::stride][:height, :width]
    if stride != geometry.stride or picked.shape != geometry.grid or ids.shape != geometry.network:
        raise ProtocolError(
            f"labels.downsample = stride takes a pixel for each cell, but {ids.shape[1]}x{ids.shape[0]} pixels lie on "
            f"{width}x{height} cells of {geometry.stride:g} pixels, the network's input is "
            f"{geometry.network[1]}x{geometry.network[0]}.",
            "Set network_resize = nearest to bring masks to the network's size first, or downsample = nearest.",
        )
    return np.ascontiguousarray(picked)


def resize_nearest_corner(ids: Mask, size: tuple[int, int]) -> Mask:
    """PyTorch's nearest (samples at pixel corners, float32 scale) to size = (height, width).

    OpenCV's samples there too, but rounds its scale otherwise: single pixels differ.
    """
    return _interpolated(ids, size, "nearest")


def _interpolated(ids: Mask, size: tuple[int, int], mode: str) -> Mask:
    """PyTorch's nearest or nearest-exact of ids [H, W]."""
    import torch

    return np.asarray(
        torch.nn.functional.interpolate(torch.from_numpy(ids)[None, None], size=size, mode=mode)[0, 0].numpy()
    )


def _narrow(values: NDArray[np.integer], path: Path) -> Mask:
    if values.max(initial=0) > VOID or values.min(initial=0) < 0:
        raise DataError(f"{path} holds id {values.max()}.", "Ids must lie between 0 and 255.")
    return values.astype(np.uint8)
