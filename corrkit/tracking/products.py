"""What tracking leaves: an overlay video, masks as the official tool reads them, coordinates as CSV; whole or not."""

import contextlib
import csv
import glob
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

import cv2
import numpy as np

from corrkit.errors import RunError, UsageError
from corrkit.files.atomic import TEMPORARY, placing, placing_folder, staging
from corrkit.files.reading import entries, file_sha256, is_there
from corrkit.frames.containers import read_container
from corrkit.frames.video import ffmpeg_address
from corrkit.report.pictures import painted_label
from corrkit.tasks.masks import write_mask
from corrkit.tasks.roots import require_outside_data
from corrkit.text import one_line, spreadsheet_cell
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
        if is_there(out) and os.path.realpath(out) == os.path.realpath(video):
            raise UsageError(f"{out} is the video itself.", "Choose another --out.")
        self._left = [place for place in self.places if is_there(place) or entries(place)]
        if self._left and (out in self._left or not _was_killed(out)):
            raise _taken(self._left[0])
        ffmpeg_address(out)

    @contextlib.contextmanager
    def open(self, size: tuple[int, int], rate: float) -> "Iterator[_Writers]":
        """Takes frames of a size (height, width); at the end of the context the files are placed, or none is."""
        staged: dict[Path, Path] = {}
        numbers: dict[Path, int] = {}
        try:
            with ExitStack() as stack:
                for place in self.places:
                    new = placing_folder if place == self.masks else placing
                    staged[place] = stack.enter_context((_as_left if place in self._left else new)(place))
                masks, table = (staged.get(place) if place else None for place in (self.masks, self.table))
                text = None if table is None else stack.enter_context(table.open("w", encoding="utf-8", newline=""))
                overlay = _Overlay(staged[self.video], size, rate)
                yield _Writers(overlay, masks, text, self._names)
                overlay.close(self.video)
                numbers = {place: path.stat().st_ino for place, path in staged.items()}
        except BaseException:
            _take_back(numbers)
            raise

    @property
    def places(self) -> list[Path]:
        """Where the files are, the overlay first."""
        return [path for path in (self.video, self.masks, self.table) if path is not None]


def _taken(place: Path) -> UsageError:
    return UsageError(f"{place} is there already.", "Remove it, or choose another --out.")


def _was_killed(video: Path) -> bool:
    """Whether a command was killed that had begun this video: it may have been placing the files, the video last."""
    return any(video.parent.glob(f"{TEMPORARY}*/{glob.escape(video.name)}"))


def _take_back(numbers: Mapping[Path, int]) -> None:
    """Removes what was placed before a file that can't be; numbers: of the inodes, so that others' files stay."""
    for place, number in numbers.items():
        if not place.exists() or place.stat().st_ino != number:
            continue
        if place.is_dir():
            shutil.rmtree(place, ignore_errors=True)
        else:
            place.unlink()


@contextlib.contextmanager
def _as_left(place: Path) -> Iterator[Path]:
    """A temporary place beside what a killed command has left; at the end both must be the same.

    Raises:
        UsageError: they are not: somebody else's is never replaced.
    """
    with staging(place.parent) as stage:
        if place.is_dir():
            (stage / place.name).mkdir()
        yield stage / place.name
        if _content(stage / place.name) != _content(place):
            raise _taken(place)


def _content(place: Path) -> dict[str, str]:
    """Name to sha256 of a file, or of the files in a folder."""
    files = entries(place) if place.is_dir() else [place]
    return {path.name: file_sha256(path) for path in files}


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
                self._table.writerow((index, f"{time:.3f}", spreadsheet_cell(one_line(point)), *place))


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
