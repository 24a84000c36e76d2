"""From a video and what is given of its first frame to files: the work of `corrkit track`."""

from collections.abc import Callable
from dataclasses import dataclass

from corrkit.errors import CorrkitError, DataError
from corrkit.frames.footage import Footage
from corrkit.tracking.given import Given
from corrkit.tracking.products import Products
from corrkit.tracking.tracker import Frame, Labels, Tracker

Progress = Callable[[int, int | None], None]
"""Called after every frame with the frames done, and those that there are as far as the video says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """frames: how many were followed. stopped: why it ended before the video's end. notes: what is odd."""

    frames: int
    stopped: CorrkitError | KeyboardInterrupt | None
    notes: tuple[str, ...]


def follow(
    footage: Footage, given: Given, tracker: Tracker, products: Products, progress: Progress | None = None
) -> Followed:
    """Carries labels through a video, frame by frame, and writes what it gives; memory doesn't grow with the video.

    Where the video is broken, features are NaN or the user interrupts, what was done until then is kept, and why it
    ended is in `stopped`.

    Raises:
        CorrkitError: where nothing was done: no frame, labels that don't fit; or files that can't be written.
    """
    frames = iter(footage)
    try:
        time, frame = next(frames)
    except StopIteration:
        raise DataError(f"{footage.path} holds no frame.", "Name a video.") from None
    size = frame.shape[0], frame.shape[1]
    labels = given.on(size, footage.path)
    tracker.start(frame, labels)  # what is given stays as it is, whatever the protocol would predict of it
    odd = tuple(f"{sentence}: {detail}" for sentence, detail in tracker.notes)
    count, stopped = 0, None
    with products.open(size, footage.rate) as writers:

        def keep(time: float, frame: Frame, labels: Labels) -> None:
            nonlocal count
            writers.take(count, footage.name_of(count), time, frame, labels)
            count += 1
            if progress is not None:
                progress(count, footage.stated)

        try:
            keep(time, frame, labels)
            for time, frame in frames:
                _require_size(frame, size, count, footage)
                keep(time, frame, tracker.step(frame))
        except (CorrkitError, KeyboardInterrupt) as error:
            stopped = error
    return Followed(frames=count, stopped=stopped, notes=(*footage.notes, *odd))


def _require_size(frame: Frame, size: tuple[int, int], index: int, footage: Footage) -> None:
    if frame.shape[:2] != size:
        raise DataError(
            f"{footage.path}: frame {index} is {frame.shape[1]}x{frame.shape[0]}, frame 0 is {size[1]}x{size[0]}.",
            "Bring all frames to one size.",
        )
