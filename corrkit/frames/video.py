"""Video files behind the same interface as image folders: only the frames that are asked for are decoded; or in order.

OpenCV decodes, PyAV where it is installed and faster: the pixels are the same (see `corrkit.frames.pyav`).

A video that lies in an uncompressed tar is read at its place there (`path` is then an `ArchivePath`).
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # the errors here say what is wrong, and with which file

import cv2
import numpy as np
from numpy.typing import NDArray

from corrkit.errors import DataError
from corrkit.files.archive import ArchivePath
from corrkit.files.reading import beginning
from corrkit.frames import pyav
from corrkit.frames.containers import BEGINNING, require_video
from corrkit.frames.pictures import MAX_PIXELS

SUFFIXES = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg")

_MOST_FRAMES = 1 << 40  # a header may claim more than any number that Python counts with
_FASTEST = 1000.0
"""Frames per second: more are no rate, but the ticks of a clock."""
_NEAR = 64
"""Frames up to which decoding on is faster than seeking, which decodes from the key frame before the one that is wanted
(measured on h264, vp8 and mjpeg: 1.2 to 2.7 times less CPU time for two pairs of frames)."""


class VideoFile:
    """Frames of a video file; each access opens the file, with one thread: many are read at the same time.

    Args:
        path: the file.
        num_frames: known from an index; None reads it from the container.
    """

    def __init__(self, path: Path, num_frames: int | None = None) -> None:
        self.path = path
        self._num_frames = num_frames

    @property
    def paths(self) -> Sequence[Path]:
        """The file."""
        return (self.path,)

    def __len__(self) -> int:
        if self._num_frames is None:
            self._num_frames = int(self._open().get(cv2.CAP_PROP_FRAME_COUNT))
        return min(max(self._num_frames, 0), _MOST_FRAMES)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the frames in pixels."""
        capture = self._open()
        return int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))

    @property
    def rate(self) -> float:
        """Frames per second, their mean where it varies; 0 where the file doesn't tell a likely one."""
        rate = float(self._open().get(cv2.CAP_PROP_FPS))
        return rate if 0 < rate <= _FASTEST else 0.0

    def in_order(self) -> "Iterator[tuple[float, NDArray[np.uint8]]]":
        """Time in seconds and frame of all that can be decoded; memory holds one. Raises DataError as `read` does."""
        capture = self._open()
        while True:
            try:
                read, frame = capture.read()
            except cv2.error:
                return
            if not read:
                return
            time = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            yield time, np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB, dst=frame), np.uint8)

    def __getitem__(self, index: int) -> "NDArray[np.uint8]":
        return self.read((index,))[0]

    def read(self, indices: Sequence[int]) -> "list[NDArray[np.uint8]]":
        """Several frames in one pass, in the order of `indices`. Raises DataError naming file and frame."""
        wanted = sorted(set(indices))
        frames = pyav.read_frames(ffmpeg_address(self.path), wanted, len(self))
        found = self._by_opencv(wanted) if frames is None else dict(zip(wanted, frames, strict=True))
        return [found[index] for index in indices]

    def _by_opencv(self, wanted: Sequence[int]) -> "dict[int, NDArray[np.uint8]]":
        capture = self._open()
        found: dict[int, NDArray[np.uint8]] = {}
        position = 0
        for index in wanted:
            if position <= index <= position + _NEAR:
                for _ in range(index - position):
                    capture.grab()
            else:
                capture.set(cv2.CAP_PROP_POS_FRAMES, index)
            try:
                read, frame = capture.read()
            except cv2.error:  # OpenCV's, where a frame's size is none
                read = False
            if not read:
                raise DataError(
                    f"{self.path}: frame {index} of {len(self)} can't be decoded.", "Encode the video again."
                )
            found[index], position = np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8), index + 1
        return found

    def count_decodable(self) -> int:
        """Frames that can be decoded: the container's number where its last frame can, else counted one by one."""
        try:
            self.read((len(self) - 1,))
        except DataError:
            capture = self._open()
            self._num_frames = 0
            while capture.grab():
                self._num_frames += 1
        return len(self)

    def _open(self) -> cv2.VideoCapture:
        require_video(_beginning(self.path), self.path)
        capture = cv2.VideoCapture(ffmpeg_address(self.path), cv2.CAP_ANY, [cv2.CAP_PROP_N_THREADS, 1])
        if not capture.isOpened():
            raise DataError(f"{self.path} can't be decoded as a video.", "Check or remove the file.")
        width, height = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
        if width * height > MAX_PIXELS:
            raise DataError(f"{self.path} claims frames of {width:.0f}x{height:.0f} pixels.", "Make them smaller.")
        return capture


def _beginning(path: Path | ArchivePath) -> bytes:
    """The first bytes, of a tar's member at its place there; it may be larger than what is read of members."""
    if not isinstance(path, ArchivePath) or path.place is None:
        return beginning(cast(Path, path), BEGINNING)
    start, size = path.place
    return beginning(path.archive.file, min(size, BEGINNING), start)


def ffmpeg_address(path: Path | ArchivePath) -> str:
    """What FFmpeg opens: the file, or the bytes of a tar that are its member (its protocol "subfile").

    A file's path is absolute, so that nothing takes a name for a protocol or an option.

    Raises:
        DataError: for a name that is no UTF-8, on which OpenCV 5.0 crashes.
    """
    if not isinstance(path, ArchivePath):
        address = str(path.absolute())
    elif path.place is None:
        address = str(path)
    else:
        start, size = path.place
        address = f"subfile,,start,{start},end,{start + size},,:{path.archive.file}"
    try:
        address.encode()
    except UnicodeEncodeError:
        raise DataError(f"{path} has a name that OpenCV can't open.", "Rename it in UTF-8.") from None
    return address
