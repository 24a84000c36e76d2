"""Training data as items: an index of them, the embedded ones included, and some frames of one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corrkit.clips.training import TRAINING_FRAMES, training_clip, training_clips
from corrkit.errors import DataError
from corrkit.files.reading import numbered_files
from corrkit.frames.index import Entry, Index, files_of, read_index
from corrkit.frames.pictures import SUFFIXES as IMAGES
from corrkit.frames.sequence import ImageFolder
from corrkit.frames.video import VideoFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EMBEDDED = "embedded"


def build_index(data: str | Path, stored: Path, *, num_clips: int = 300, **sharing: Any) -> Index:
    """The index of training data; see `corrkit.frames.index.read_index`.

    Args:
        data: a folder, tar or list file; or "embedded": clips rendered from the training seeds.
        stored: the run's own index.
        num_clips: of the embedded ones, of which a third belongs to each task.
        sharing: how ranks share the work.
    """
    if str(data) != EMBEDDED:
        return read_index(data, stored, **sharing)
    names = training_clips(num_clips)
    return Index(EMBEDDED, tuple(Entry(name, "rendered", TRAINING_FRAMES) for name in names))


def read_frames(index: Index, item: int, numbers: Sequence[int]) -> "list[NDArray[np.uint8]]":
    """Some frames of an item, uint8 RGB [H, W, 3]. Raises DataError naming the file."""
    entry = index.entries[item]
    rendered = entry.kind == "rendered"
    files = numbered_files(training_clip(entry.path), IMAGES) if rendered else files_of(index, entry)
    if entry.kind == "video":
        return VideoFile(files[0], entry.frames).read(numbers)
    if len(files) != entry.frames:
        where = Path(index.root) / entry.path
        raise DataError(f"{where} holds {len(files)} frames, not {entry.frames} as at the start.", "Restore them.")
    frames = ImageFolder(files)
    return [frames[number] for number in numbers]


def of_one_size(
    index: Index, item: int, numbers: Sequence[int], frames: "Mapping[int, NDArray[np.uint8]]"
) -> "list[NDArray[np.uint8]]":
    """Frames of an item that one box cuts, by number. Raises DataError naming the first of another size."""
    entry, (height, width, _) = index.entries[item], frames[numbers[0]].shape
    for number in numbers:
        odd_height, odd_width, _ = frames[number].shape
        if (odd_height, odd_width) != (height, width):
            file = f" ({files_of(index, entry)[number].name})" if entry.kind == "folder" else ""
            sizes = f"is {odd_width}x{odd_height}, frame {numbers[0]} is {width}x{height}"
            raise DataError(f"{entry.path}: frame {number}{file} {sizes}.", "Bring all frames of a clip to one size.")
    return [frames[number] for number in numbers]
