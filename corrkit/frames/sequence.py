"""A clip's frames in order, decoded one by one: image folders now, video files through the same interface."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from corrkit.errors import DataError
from corrkit.frames.pictures import read_image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class FrameSequence(Protocol):
    """Frames of one clip. `paths` are the files that the frames depend on, for the data identity."""

    @property
    def paths(self) -> Sequence[Path]:
        """Every file the frames are decoded from, in order."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of frame 0 in pixels."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> "NDArray[np.uint8]":
        """Frame `index` as uint8 RGB [H, W, 3]. Raises DataError naming a missing or undecodable file."""
        ...


class ImageFolder:
    """Frames as picture files, in the given order (see `corrkit.frames.pictures.read_image`).

    Args:
        paths: one picture file per frame.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        if not self.paths:
            raise DataError("An image folder without frames was asked for.", "Check the clip's folder.")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> "NDArray[np.uint8]":
        return read_image(self.paths[index])

    @cached_property
    def size(self) -> tuple[int, int]:
        """(height, width) of the first frame as it is read: turned where its EXIF orientation says so."""
        height, width = self[0].shape[:2]
        return height, width
