"""DAVIS-2017 (and any folder in its layout): object masks, scored by region similarity J and contour accuracy F."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from corrkit.errors import DataError
from corrkit.frames.sequence import ImageFolder, numbered_files
from corrkit.protocols import Protocol
from corrkit.tasks.contract import Clip, DataSet, Geometry
from corrkit.tasks.davis_layout import find_layout
from corrkit.tasks.masks import VOID, Mask, MaskCodec, read_mask, write_mask

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


class DavisClip:
    """One clip: frames, and masks by frame stem.

    Args:
        name: folder name.
        frame_folder: folder of frames.
        mask_folder: folder of masks, one per frame or only the first.
    """

    def __init__(self, name: str, frame_folder: Path, mask_folder: Path) -> None:
        self.name = name
        self._frame_folder, self._mask_folder = frame_folder, mask_folder

    @cached_property
    def frames(self) -> ImageFolder:
        """The frames, sorted by number. Raises DataError for an empty or missing folder, or a mask without a frame."""
        folder = self._frame_folder
        paths = numbered_files(folder, IMAGE_SUFFIXES) if folder.is_dir() else []
        if not paths:
            raise DataError(f"{self.name}: {folder} holds no frame.", "Restore it, or leave the clip out with --clips.")
        orphans = sorted(set(self._masks) - {path.stem for path in paths})
        if orphans:
            raise DataError(
                f"{self.name}: {len(orphans)} mask(s) have no frame, first {self._masks[orphans[0]]}.",
                f"Restore the missing frames in {folder}.",
            )
        return ImageFolder(paths)

    @cached_property
    def _masks(self) -> dict[str, Path]:
        paths = numbered_files(self._mask_folder, (".png",)) if self._mask_folder.is_dir() else []
        return {path.stem: path for path in paths}

    @cached_property
    def annotation_files(self) -> tuple[Path, ...]:
        """The mask files in frame order."""
        return tuple(self._masks.values())

    @cached_property
    def is_binary(self) -> bool:
        """True for DAVIS-2016 masks: the first holds 255 and otherwise only 0, so 255 is the object and not void."""
        values = np.unique(self._read(0))
        return VOID in values and set(values.tolist()) <= {0, VOID}

    @cached_property
    def num_objects(self) -> int:
        """Largest id of the first mask. Raises DataError where that mask is empty."""
        count = int(self.first.max())
        if count == 0:
            raise DataError(
                f"{self.name}: the first mask ({self.annotation_files[0]}) holds no object.",
                "Leave the clip out with --clips, or start it at a frame with objects.",
            )
        return count

    @cached_property
    def first(self) -> Mask:
        """Ids of the first mask."""
        return self._ids(0)

    def annotation(self, index: int) -> Mask | None:
        """Ids [H, W] of frame `index` with void as background, or None where no mask is there."""
        if self.frames.paths[index].stem not in self._masks:
            if index == 0 or len(self._masks) != 1:
                raise DataError(
                    f"{self.name}: frame {self.frames.paths[index].name} has no mask in {self._mask_folder}.",
                    "Restore the mask, or leave the clip out with --clips.",
                )
            return None
        return self.first if index == 0 else self._ids(index)

    def _ids(self, index: int) -> Mask:
        mask = self._read(index)
        if self.is_binary:
            return (mask == VOID).astype(np.uint8)
        # The official tool hands void as None to the semi-supervised measures after setting it to background
        # (davisvideochallenge/davis2017-evaluation ac7c43f davis2017/evaluation.py:90-91).
        return np.where(mask == VOID, np.uint8(0), mask)

    def _read(self, index: int) -> Mask:
        path = self._masks.get(self.frames.paths[index].stem)
        if path is None:
            raise DataError(f"{self.name}: there is no mask of frame {index}.", f"Restore it in {self._mask_folder}.")
        mask = read_mask(path)
        if mask.shape != self.frames.size:
            (height, width), (rows, columns) = self.frames.size, mask.shape
            raise DataError(
                f"{path} is {columns}x{rows}, the frames are {width}x{height}.", "Use masks of the frames' size."
            )
        return mask


class DavisTask:
    """See `corrkit.tasks.contract.Task`."""

    name = "davis"
    default_split = "val"
    headline = ("J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")

    def open(self, root: Path, *, split: str, dataset_name: str | None) -> DataSet:
        """Opens a root in DAVIS-2017 or DAVIS-2016 layout. Raises DataError naming what is missing."""
        layout = find_layout(root)
        names, notes = layout.clip_names(split)
        clips = tuple(DavisClip(name, layout.frames / name, layout.masks / name) for name in names)
        official = dataset_name is None and _is_official(layout, split, clips)
        return DataSet(
            task=self.name,
            name=dataset_name or ("DAVIS-2017" if official else layout.root.name),
            split=split,
            root=layout.root,
            official=official,
            clips=clips,
            notes=(*notes, *layout.stray_caches()),
        )

    def codec(self, clip: Clip, geometry: Geometry, protocol: Protocol) -> MaskCodec:
        """The clip's mask codec; its first mask must hold an object."""
        assert isinstance(clip.num_objects, int)  # type: ignore[attr-defined]  # raises DataError for an empty mask
        return MaskCodec(clip.annotation(0), geometry, protocol.labels, protocol.readout)

    def truth(self, clip: Clip, protocol: Protocol) -> Callable[[int], Any]:
        """Ground-truth side of J and F of a frame, prepared."""
        raise NotImplementedError

    def write_prediction(self, folder: Path, clip: Clip, index: int, prediction: Mask) -> None:
        """FOLDER/CLIP/FRAME.png, a palette PNG as the official tool reads it."""
        write_mask(folder / clip.name / f"{clip.frames.paths[index].stem}.png", prediction)
