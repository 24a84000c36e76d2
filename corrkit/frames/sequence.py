"""A clip's frames in order, decoded one by one: image folders now, video files through the same interface."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future
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


class ReadOnce:
    """The frames of a sequence for several readers in step: each is decoded once, by whoever asks first.

    Args:
        source: the frames.
        kept: how many of the latest are kept; a reader that lags behind by more has them decoded again.
    """

    def __init__(self, source: FrameSequence, kept: int = 32) -> None:
        self._source, self._kept = source, kept
        self._frames: dict[int, Future[NDArray[np.uint8]]] = {}
        self._lock = threading.Lock()

    @property
    def paths(self) -> Sequence[Path]:
        """The files of the source."""
        return self._source.paths

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of frame 0 in pixels."""
        return self._source.size

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> "NDArray[np.uint8]":
        """Frame `index`, not to be written to. Raises as the source does, every time."""
        with self._lock:
            frame, is_first = self._frames.get(index), False
            if frame is None:
                frame, is_first = Future(), True
                self._frames[index] = frame
                for oldest in sorted(self._frames)[: -self._kept]:
                    del self._frames[oldest]
        if is_first:
            try:
                frame.set_result(self._source[index])
            except BaseException as error:
                frame.set_exception(error)
        return frame.result()
