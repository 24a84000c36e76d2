"""A clip's frames as published preprocessing had saved them again: re-made in memory, never on disk."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from corrkit.errors import DataError
from corrkit.frames.preparation import Image, frame_of_constant_size
from corrkit.frames.sequence import FrameSequence

_JPEG_QUALITY = 75  # Pillow's default, which the published script takes


class ResavedFrames:
    """Frames resized by Pillow's nearest, saved as JPEG and decoded again; see `corrkit.frames.sequence.FrameSequence`.

    Args:
        source: the frames as they lie in the data set.
        size: (height, width) in pixels.
        clip: for messages.

    Source: huiwon-jang/RSP 5ea2b91 data_preprocessing/eval/davis_preprocessing.py, whose copy is then read by OpenCV.
    """

    def __init__(self, source: FrameSequence, size: tuple[int, int], clip: str) -> None:
        self._source, self.size, self._clip = source, size, clip

    @property
    def paths(self) -> Sequence[Path]:
        """The files of the data set."""
        return self._source.paths

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Image:
        """Frame `index` as uint8 RGB [H, W, 3]. Raises DataError as the source does, and for a frame of odd size."""
        import cv2
        from PIL import Image as Pillow

        frame = Pillow.fromarray(frame_of_constant_size(self._source, index, self._clip))
        buffer = io.BytesIO()
        frame.resize(self.size[::-1], Pillow.Resampling.NEAREST).save(buffer, format="JPEG", quality=_JPEG_QUALITY)
        decoded = cv2.imdecode(np.frombuffer(buffer.getvalue(), np.uint8), cv2.IMREAD_COLOR)
        if decoded is None:
            raise DataError(f"{self._clip}: frame {index} can't be encoded as JPEG.", "Check OpenCV's JPEG support.")
        return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)
