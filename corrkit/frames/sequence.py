"""A clip's frames in order, decoded one by one: image folders now, video files through the same interface."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from corrkit.errors import DataError

if TYPE_CHECKING:
    import numpy as np


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

    def __getitem__(self, index: int) -> "np.ndarray[Any, np.dtype[np.uint8]]":
        """Frame `index` as uint8 RGB [H, W, 3]. Raises DataError naming a missing or undecodable file."""
        ...


class ImageFolder:
    """Frames as image files, in the given order (OpenCV decodes; EXIF rotation is ignored, as the peers do).

    Args:
        paths: one image file per frame.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        if not self.paths:
            raise DataError("An image folder without frames was asked for.", "Check the clip's folder.")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> "np.ndarray[Any, np.dtype[np.uint8]]":
        return read_image(self.paths[index])

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) from the first file's header."""
        from PIL import Image, UnidentifiedImageError

        try:
            with self.paths[0].open("rb") as file, Image.open(file) as image:
                return image.height, image.width
        except FileNotFoundError:
            raise DataError(f"{self.paths[0]} is missing.", "Restore it from the data set.") from None
        except (UnidentifiedImageError, OSError) as error:
            raise DataError(f"{self.paths[0]} is not a readable image ({error}).", "Restore it.") from None


def read_image(path: Path) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """Decodes one image to uint8 RGB [H, W, 3]. Raises DataError naming a missing, truncated or undecodable file."""
    import cv2
    import numpy as np

    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path} is missing.", "Restore it from the data set.") from None
    except OSError as error:
        raise DataError(f"{path} can't be read ({error.strerror}).", "Check the file's permissions.") from None
    # OpenCV decodes what is there of a truncated JPEG and fills the rest with grey, without an error.
    if data[:2] == b"\xff\xd8" and b"\xff\xd9" not in data[-1024:]:
        raise DataError(f"{path} is a truncated JPEG ({len(data)} bytes).", "Copy it again from the data set.")
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    if decoded is None:
        raise DataError(f"{path} can't be decoded as an image ({len(data)} bytes).", "Copy it again from the data set.")
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)


def numbered_files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Files of a folder with one of the suffixes (lower case, with dot), sorted by number where all stems are numbers.

    Hidden files (macOS "._" copies) are left out.
    """
    files = [p for p in folder.iterdir() if p.suffix.lower() in suffixes and not p.name.startswith(".")]
    if all(p.stem.isdecimal() for p in files):
        return sorted(files, key=lambda p: int(p.stem))
    return sorted(files, key=lambda p: p.name)
