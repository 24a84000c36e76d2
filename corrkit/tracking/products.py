"""What tracking leaves: an overlay video, masks as the official tool reads them, coordinates as CSV; whole or not."""

import contextlib
import csv
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

import cv2
import numpy as np

from corrkit.errors import RunError, UsageError
from corrkit.files.atomic import placing, placing_folder
from corrkit.files.reading import entries, is_there
from corrkit.frames.containers import read_container
from corrkit.frames.video import ffmpeg_address
from corrkit.report.pictures import painted_label
from corrkit.tasks.masks import write_mask
from corrkit.tasks.roots import require_outside_data
from corrkit.text import spreadsheet_cell
from corrkit.tracking.tracker import Frame, Labels

SUFFIX = ".mp4"
_CODECS = ("vp09", "mp4v")
"""VP9 plays in browsers and notebooks; where OpenCV lacks it MPEG-4, which players show, is taken."""
_FAST = "deadline;realtime|cpu-used;7"


class Products:
    """Files of one video, which appear together at the end; also where it ended early.

    Args:
        out: the overlay video, OUT.mp4. Masks become OUT-masks/00000.png, ..., points OUT.csv beside it.
        video: what is read; nothing is written into it, nor over it.
        names: of points; empty for masks.

    Raises:
        UsageError: for a name that is no .mp4, a place inside of data, or one that is taken: nothing is replaced.
    """

    def __init__(self, out: Path, video: Path, names: Sequence[str] = ()) -> None:
        self.video, self._names = out, names
        self.masks = None if names else out.with_name(f"{out.stem}-masks")
        self.table = out.with_suffix(".csv") if names else None
        if out.suffix.lower() != SUFFIX:
            raise UsageError(f"{out} is no name of an overlay video.", f"Videos are written as {SUFFIX}.")
        if out.is_dir():
            raise UsageError(f"{out} is a folder.", f"Name a file: OUT{SUFFIX}.")
        require_outside_data(out, video)
        if is_there(out) and out.resolve() == video.resolve():
            raise UsageError(f"{out} is the video itself.", "Choose another --out.")
        for place in self.places:
            if is_there(place) or entries(place):
                raise UsageError(f"{place} is there already.", "Remove it, or choose another --out.")
        ffmpeg_address(out)

    @contextlib.contextmanager
    def open(self, size: tuple[int, int], rate: float) -> "Iterator[_Writers]":
        """Takes frames of a size (height, width); at the end of the context the files are placed."""
        with ExitStack() as stack:
            staged = stack.enter_context(placing(self.video))
            masks = None if self.masks is None else stack.enter_context(placing_folder(self.masks))
            table = None
            if self.table is not None:
                text = stack.enter_context(placing(self.table))
                table = stack.enter_context(text.open("w", encoding="utf-8", newline=""))
            overlay = _Overlay(staged, size, rate)
            yield _Writers(overlay, masks, table, self._names)
            overlay.close(self.video)

    @property
    def places(self) -> list[Path]:
        """Where the files are, the overlay first."""
        return [path for path in (self.video, self.masks, self.table) if path is not None]


class _Writers:
    def __init__(self, overlay: "_Overlay", masks: Path | None, table: TextIO | None, names: Sequence[str]) -> None:
        self._overlay, self._masks, self._names = overlay, masks, names
        self._table = None if table is None else csv.writer(table, lineterminator="\n")
        if self._table is not None:
            self._table.writerow(("frame", "time", "point", "x", "y"))

    def take(self, index: int, name: str, time: float, frame: Frame, labels: Labels) -> None:
        """Writes one frame; `name` is that of its mask, `time` in seconds."""
        self._overlay.take(np.asarray(painted_label(frame, labels, frame.shape[1])))
        if self._masks is not None:
            write_mask(self._masks / f"{name}.png", labels)
        if self._table is not None:
            for point, (x, y) in zip(self._names, labels.tolist(), strict=True):
                place = ("", "") if math.isnan(x) or math.isnan(y) else (f"{x:.3f}", f"{y:.3f}")
                self._table.writerow((index, f"{time:.3f}", spreadsheet_cell(point), *place))


class _Overlay:
    """A video of frames of one size; odd sides are made even by the border repeated once, as 4:2:0 needs them."""

    def __init__(self, path: Path, size: tuple[int, int], rate: float) -> None:
        self._path, self._count = path, 0
        even = size[1] + size[1] % 2, size[0] + size[0] % 2
        for codec in _CODECS:
            with _writer_options(_FAST):
                self._writer = cv2.VideoWriter(ffmpeg_address(path), cv2.VideoWriter.fourcc(*codec), rate, even)
            if self._writer.isOpened():
                return
        raise RunError("OpenCV can write no video here.", "Install opencv-python, which brings its own encoders.")

    def take(self, picture: Frame) -> None:
        """Adds an RGB frame [H, W, 3]."""
        height, width = picture.shape[:2]
        even = cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        self._writer.write(cv2.cvtColor(even, cv2.COLOR_RGB2BGR))
        self._count += 1

    def close(self, shown: Path) -> None:
        """Ends the file. Raises RunError where frames were lost, which encoders don't say: a full disk."""
        self._writer.release()
        container = read_container(self._path) if is_there(self._path) and self._path.stat().st_size else None
        if container is None or container.missing or container.frames != self._count:
            raise RunError(f"{shown} can't be written: the encoder lost frames.", "Free some space, then repeat.")


@contextlib.contextmanager
def _writer_options(options: str) -> Iterator[None]:
    """OpenCV takes an encoder's options from the environment alone."""
    name = "OPENCV_FFMPEG_WRITER_OPTIONS"
    before = os.environ.get(name)
    os.environ[name] = options if before is None else before
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
