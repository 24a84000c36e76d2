"""Anybody's own video as a stream of frames: video files, animations, folders of pictures; read once, front to back.

Nothing is known of such a video but what it says itself, so each source tells where decoding ended and whether that was
the end: a video of half the frames is an error, never a shorter video.
"""

import io
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from corrkit.errors import DataError
from corrkit.files.reading import is_folder, natural_order, numbered_files, read_file
from corrkit.frames.containers import Container, read_container
from corrkit.frames.pictures import MAX_PIXELS, SUFFIXES, read_image, require_pictures
from corrkit.frames.video import VideoFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

_ANIMATIONS = ("GIF", "WebP")
_LARGEST_ANIMATION = 1 << 30  # bytes
_FEWEST = 0.75
"""Of the time that a header tells, where its number of frames is no list: AVI counts frames that were dropped (a sixth
of JHMDB's), and Matroska's follows from time and rate."""
FOLDER_RATE = 24.0
"""Frames per second where nothing says it: DAVIS's."""


class Footage(ABC):
    """Frames of a video in order, each decoded once; memory holds one.

    Attributes:
        path: the file or folder.
        stated: how many frames it says that it has, where it does.
        rate: frames per second, the mean where it varies.
        notes: what is odd; complete when all frames were read.
    """

    path: Path
    stated: int | None
    rate: float

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.stated = None

    @abstractmethod
    def __iter__(self) -> "Iterator[tuple[float, NDArray[np.uint8]]]":
        """Time in seconds, and frame as uint8 RGB [H, W, 3].

        Raises:
            DataError: where decoding stops before the end; what came before is sound.
        """

    def name_of(self, index: int) -> str:
        """The name of a frame: five digits, or that of its file."""
        return f"{index:05d}"


def open_footage(path: Path) -> Footage:
    """A video file, an animation (GIF, WebP) or a folder of pictures, told by its content, not by its name.

    Raises:
        DataError: for anything else, naming what it is.
    """
    if is_folder(path):
        return FolderFootage(path)
    container = read_container(path)
    return (AnimationFootage if container.kind in _ANIMATIONS else VideoFootage)(path, container)


class FolderFootage(Footage):
    """Pictures of a folder in the natural order of their names."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path, self.rate = folder, FOLDER_RATE
        self._paths = numbered_files(folder, SUFFIXES)
        require_pictures(self._paths, folder, folder.name)
        self.stated = len(self._paths)
        numbers: dict[object, Path] = {}
        for path in self._paths:
            other = numbers.setdefault(natural_order(path.stem), path)
            if other is not path:
                raise DataError(
                    f"{folder} holds two files of one frame: {other.name} and {path.name}.", "Keep one of them."
                )

    def __iter__(self) -> "Iterator[tuple[float, NDArray[np.uint8]]]":
        for index, path in enumerate(self._paths):
            yield index / self.rate, read_image(path)

    def name_of(self, index: int) -> str:
        """The stem of its file."""
        return self._paths[index].stem


class VideoFootage(Footage):
    """A video file, decoded by OpenCV: turned by its rotation flag, alpha dropped, 10 bits cut to 8."""

    def __init__(self, path: Path, container: Container) -> None:
        super().__init__()
        self.path, self._container = path, container
        self._video = VideoFile(path, container.frames)
        try:
            self.stated = len(self._video) or None
            self.rate = self._video.rate or FOLDER_RATE
        except DataError:
            if not container.missing:
                raise
            self._require_end(0, 0.0)
        if not self._video.rate:
            self.notes.append(f"{path.name} tells no frame rate: {FOLDER_RATE:g} frames per second are taken")

    def __iter__(self) -> "Iterator[tuple[float, NDArray[np.uint8]]]":
        count, last, steps = 0, 0.0, (math.inf, 0.0)
        for time, frame in self._video.in_order():
            if count and time <= last:  # the last frames that a decoder gives out may have no time
                time = last + 1 / self.rate
            if count:
                steps = min(steps[0], time - last), max(steps[1], time - last)
            yield time, frame
            count, last = count + 1, time
        self._require_end(count, last + 1 / self.rate)
        if count > 2 and steps[1] - steps[0] > 0.5 / self.rate:
            self.notes.append(_varies(self.path, 1000 * steps[0], 1000 * steps[1]))

    def _require_end(self, count: int, seconds: float) -> None:
        """Raises DataError where decoding has ended before the video, after so many frames and seconds."""
        stated, missing = self.stated or 0, self._container.missing
        if missing:
            raise stopped(self.path, count, self.stated, f"the file is cut off, {missing:,} bytes of it are missing")
        share = min(1.0, seconds * self.rate / stated) if stated and not self._container.is_exact else 0.0
        if count == 0 or (count < stated and share < _FEWEST):
            raise stopped(self.path, count, self.stated, "what follows is damaged")
        if count < stated:
            self.notes.append(f"the header of {self.path.name} says {stated} frames; it holds {count}")


class AnimationFootage(Footage):
    """A GIF or an animated WebP, decoded by Pillow; what is transparent is white."""

    def __init__(self, path: Path, container: Container) -> None:
        super().__init__()
        self.path, self._container = path, container
        with self._opened() as image:
            self.stated = container.frames if container.kind == "GIF" else int(getattr(image, "n_frames", 1))
            try:
                image.load()  # by which the duration becomes known
            except Exception as error:
                raise stopped(path, 0, self.stated, str(error)) from None
            self.rate = 1000 / _milliseconds(image)
        if self.stated == 1 and not container.missing:
            raise DataError(f"{path} is a still {container.kind} picture, no video.", "Name a video.")

    def __iter__(self) -> "Iterator[tuple[float, NDArray[np.uint8]]]":
        import numpy as np

        time, durations = 0.0, set[float]()
        with self._opened() as image:
            for index in range(self.stated or 0):
                try:
                    image.seek(index)
                    pixels = np.array(_on_white(image), np.uint8)
                # As in `frames.pictures`: decoders raise whatever their parsers do.
                except Exception as error:
                    raise stopped(self.path, index, self.stated, str(error) or type(error).__name__) from None
                yield time, pixels
                durations.add(_milliseconds(image))
                time += _milliseconds(image) / 1000
        if self._container.missing:
            raise stopped(self.path, self.stated or 0, None, "the file is cut off")
        if len(durations) > 1:
            self.notes.append(_varies(self.path, min(durations), max(durations)))

    def _opened(self) -> "Image.Image":
        from PIL import Image

        content = read_file(self.path, largest=_LARGEST_ANIMATION)
        try:
            image = Image.open(io.BytesIO(content), formats=["GIF", "WEBP"])
        except Exception as error:
            raise DataError(f"{self.path} can't be decoded ({error}).", "Copy it again from its source.") from None
        if image.width * image.height > MAX_PIXELS:
            raise DataError(f"{self.path} claims {image.width}x{image.height} pixels.", "Make it smaller.")
        return image


def stopped(path: Path, count: int, stated: int | None, why: str) -> DataError:
    """Where decoding stopped: `count` frames are sound."""
    if count == 0:
        return DataError(
            f"{path}: no frame can be decoded ({why}).", "Copy it again from its source, or encode it anew."
        )
    of = f" of {stated}" if stated else ""
    return DataError(
        f"{path}: decoding stopped at frame {count}{of} ({why}).",
        "Copy it again from its source, or cut it there: ffmpeg's -frames:v does.",
    )


def _varies(path: Path, least: float, most: float) -> str:
    """A note on durations of frames, in milliseconds."""
    durations = f"{least:.0f} to {most:.0f} ms a frame"
    return f"the frame rate of {path.name} varies ({durations}): every frame is followed, and shown equally long"


def _milliseconds(image: "Image.Image") -> float:
    """How long the present picture of an animation is shown; 0 counts as in browsers."""
    return float(image.info.get("duration") or 100)


def _on_white(image: "Image.Image") -> "Image.Image":
    from PIL import Image

    whole = image.convert("RGBA")
    ground = Image.new("RGBA", whole.size, "white")
    return Image.alpha_composite(ground, whole).convert("RGB")
