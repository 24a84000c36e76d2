"""The one reader of pictures: only the formats named here are opened, and what is damaged is refused, not repaired.

Decoders go on where data are wrong (libjpeg fills up with grey and warns without naming the file), so every picture
passes a strict decoder first. Bytes after a picture's end (motion photos, camera trailers) are no damage.
"""

import contextlib
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from corrkit.errors import DataError
from corrkit.files.reading import entries, is_folder, read_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
MAX_PIXELS = 1 << 26
"""More than any video has (8192 x 8192); a few kilobytes can claim any number."""

_MAX_BYTES = 4 * MAX_PIXELS
_MAX_SCANS = 500
"""Of a JPEG: each passes over all of its pixels, and takes a hundred bytes. Encoders write some ten."""
_JPEG = b"\xff\xd8\xff"
_SCAN, _END = b"\xff\xda", b"\xff\xd9"
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")  # ITU-T T.81, table B.1, but those that stand within a scan
_FORMATS = ("PNG", "BMP", "TIFF", "WEBP")
_LOSSLESS = ("PNG", "BMP")
_SIGNATURES = (
    (_JPEG, "JPEG"), (b"\x89PNG", "PNG"), (b"BM", "BMP"), (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"GIF8", "GIF"),
    (b"%!PS", "PostScript"), (b"\xc5\xd0\xd3\xc6", "PostScript"), (b"%PDF", "PDF"), (b"\x01\xda", "SGI"),
    (b"\0\0\0\x0cjP", "JPEG 2000"), (b"\xff\x4f\xff\x51", "JPEG 2000"), (b"8BPS", "Photoshop"), (b"<", "text"),
)  # fmt: skip


def read_image(path: Path) -> "NDArray[np.uint8]":
    """Decodes a frame (JPEG, PNG, BMP, TIFF or WebP, whatever its suffix) to uint8 RGB [H, W, 3].

    Pixels are those of cv2.imread, which every protocol's published code calls for frames: EXIF orientation is obeyed,
    alpha dropped, 16 bits cut to 8 (facebookresearch/dino 7c446df eval_video_segmentation.py:201, ajabri/videowalk
    047f3f4 code/data/vos.py:44, xvjiarui/VFS 8e055cc through mmcv).

    Raises:
        DataError: naming a missing, damaged or cut-off file, another format, or one of more than MAX_PIXELS.
    """
    import cv2
    import numpy as np

    data = read_file(path, largest=_MAX_BYTES)
    with _explained(path, data):
        if data.startswith(_JPEG):
            if (pixels := _strictly(data)) is not None:
                return pixels
        else:
            _require_sound(data)
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if decoded is None:
            raise ValueError("OpenCV can't decode it")
        return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB, dst=decoded), np.uint8)


def read_lossless(path: Path) -> "Image.Image":
    """Decodes a picture whose values are ids, by Pillow as published code does (EXIF orientation is not obeyed).

    Raises:
        DataError: as `read_image`, and for every format that may be lossy: JPEG data can't hold ids.
    """
    data = read_file(path, largest=_MAX_BYTES)
    kind = _kind(data)
    if kind is not None and kind not in _LOSSLESS:
        raise DataError(
            f"{path} holds {kind} data, which may be lossy: its values are no ids.",
            "Save masks as palette or grey PNG of ids.",
        )
    with _explained(path, data):
        image = _opened(data, _LOSSLESS)
        image.load()
        return _as_stored(image, data)


def require_pictures(paths: Sequence[Path], folder: Path, clip: str) -> None:
    """Raises DataError where a clip's folder holds no frame, naming what is there instead."""
    if paths:
        return
    remedy = "Restore or convert them, or leave the clip out with --clips."
    if not is_folder(folder):
        raise DataError(f"{clip} holds no frame: there is no such folder in {folder.parent}.", remedy)
    found = sorted(path.name for path in entries(folder))[:3]
    there = f"it holds {', '.join(map(repr, found))}" if found else "it is empty"
    raise DataError(f"{clip}: {folder} holds no frame ({there}; frames are {' '.join(SUFFIXES)}).", remedy)


def _strictly(data: bytes) -> "NDArray[np.uint8] | None":
    """Pixels of a JPEG, or None where OpenCV is needed for them: it turns by EXIF, and knows CMYK.

    OpenCV goes on where data are wrong, so those are decoded first at an eighth of the size, which reads all the data.
    The others are decoded once, by the library that OpenCV calls with the same settings.

    Raises:
        ValueError: libjpeg's first warning.
    """
    import simplejpeg

    height, width, colour, _ = simplejpeg.decode_jpeg_header(data)
    _require_bound(width, height)
    _require_few_scans(data)
    if colour in {"YCbCr", "Gray"} and b"Exif" not in data:
        return cast("NDArray[np.uint8]", simplejpeg.decode_jpeg(data, "RGB", strict=True))
    target = "CMYK" if colour in {"CMYK", "YCCK"} else "GRAY"
    simplejpeg.decode_jpeg(data, target, min_height=1, min_width=1, min_factor=8, strict=True)
    return None


def _require_few_scans(data: bytes) -> None:
    if data.count(_SCAN) <= _MAX_SCANS:
        return
    scans, position = 0, len(_JPEG) - 1
    while (marker := _MARKER.search(data, position)) and marker[0] != _END:
        scans += marker[0] == _SCAN
        position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")  # over thumbnails
    if scans > _MAX_SCANS:
        raise ValueError(f"it has {scans} scans; {_MAX_SCANS} are the most that are read")


def _require_sound(data: bytes) -> None:
    image = _opened(data, _FORMATS)
    if image.format == "PNG":
        image.verify()  # the checksum of every chunk
    else:
        image.load()


def _opened(data: bytes, formats: Sequence[str]) -> "Image.Image":
    from PIL import Image

    image = Image.open(io.BytesIO(data), formats=list(formats))
    _require_bound(image.width, image.height)
    count = getattr(image, "n_frames", 1)
    if count > 1:
        raise ValueError(f"it holds {count} pictures, an animation or pages; save one picture a file")
    return image


def _require_bound(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"it claims {width}x{height} pixels; {MAX_PIXELS} are the most that are read")


def _as_stored(image: "Image.Image", data: bytes) -> "Image.Image":
    """Grey PNGs of two and four bits with the values that they store: Pillow spreads them over 0 to 255."""
    bits = data[24] if image.format == "PNG" else 8  # of a sample: ISO/IEC 15948, 11.2.2
    if image.mode != "L" or bits not in (2, 4):
        return image
    step = 255 // (2**bits - 1)
    return image.point([value // step for value in range(256)])


def _kind(data: bytes) -> str | None:
    """What the first bytes say, for messages and refusals."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    return next((name for start, name in _SIGNATURES if data.startswith(start)), None)


@contextlib.contextmanager
def _explained(path: Path, data: bytes) -> Iterator[None]:
    """Every way in which a decoder fails, as a DataError naming the file."""
    from PIL import UnidentifiedImageError

    try:
        yield
    # Decoders raise whatever their parsers do: SyntaxError, struct.error, ValueError, zlib.error, cv2.error, ...
    except Exception as error:
        kind = _kind(data)
        reason = "not of a format that is read" if isinstance(error, UnidentifiedImageError) else error
        raise DataError(
            f"{path} can't be decoded ({f'{kind} data, ' if kind else ''}{len(data)} bytes: {reason}).",
            "Copy it again from its source.",
        ) from None
