"""Makes the videos of this folder, with PyAV (extra `video`): python tests/frames/videos/make.py

Each has sixteen frames, a level of grey each (40, 50, ..., 190) in its upper left quarter, on black.
"""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

FOLDER = Path(__file__).parent
RATE = 12
TURN = b"".join(value.to_bytes(4, "big", signed=True) for value in (0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30))
"""A quarter turn, as a track's matrix (ISO/IEC 14496-12, 8.3.2)."""


def frames(height: int = 48, width: int = 64) -> list[np.ndarray]:
    """The sixteen."""
    made = [np.zeros((height, width, 3), np.uint8) for _ in range(16)]
    for number, frame in enumerate(made):
        frame[: height // 2, : width // 2] = 40 + 10 * number
    return made


def write(
    name: str, codec: str, pix_fmt: str, pictures: Sequence[np.ndarray], times: Sequence[int], **options: str
) -> Path:
    """A video of pictures at times, in thousandths of a second."""
    path = FOLDER / name
    container: Any = av.open(str(path), "w")
    stream: Any = container.add_stream(codec, rate=RATE, options=options)
    stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], pix_fmt
    stream.codec_context.time_base = Fraction(1, 12000)
    for picture, time in zip(pictures, times, strict=True):
        frame: Any = av.VideoFrame.from_ndarray(picture, "rgba" if picture.shape[2] == 4 else "rgb24")
        frame.pts, frame.time_base = time * 12, Fraction(1, 12000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())
    container.close()
    return path


def patched(path: Path, box: bytes, place: int, content: bytes) -> None:
    """Overwrites bytes at a place after a box's name."""
    data = bytearray(path.read_bytes())
    start = data.index(box) + 4 + place
    data[start : start + len(content)] = content
    path.write_bytes(data)


def main() -> None:
    """Makes them."""
    even = [round(1000 * number / RATE) for number in range(16)]
    x264 = {"crf": "20", "g": "1"}
    write("ten_bits.mp4", "libx264", "yuv420p10le", frames(), even, **x264)
    write("odd.mp4", "libx264", "yuv444p", frames(47, 63), even, **x264)
    varying = np.cumsum([0, *([40, 120, 80] * 5)]).tolist()
    write("varying.mp4", "libx264", "yuv420p", frames(), varying, **x264)
    bursts = [500 * (number // 4) + 20 * (number % 4) for number in range(16)]
    write("bursts.mkv", "libx264", "yuv420p", frames(), bursts, **x264)
    clear = [
        np.dstack([frame, np.full(frame.shape[:2], 255 * (number % 2), np.uint8)])
        for number, frame in enumerate(frames())
    ]
    write("alpha.webm", "libvpx-vp9", "yuva420p", clear, even, crf="20")
    patched(write("rotated.mp4", "libx264", "yuv420p", frames(), even, **x264), b"tkhd", 40, TURN)
    trimmed = write("trimmed.mp4", "libx264", "yuv420p", frames(), even, **x264)
    data = trimmed.read_bytes()
    scale = int.from_bytes(data[data.index(b"mvhd") + 16 :][:4], "big")
    ticks = int.from_bytes(data[data.index(b"mdhd") + 16 :][:4], "big")
    shown = [round(scale * 8 / RATE), round(ticks * 3.9 / RATE)]  # times are rounded
    patched(trimmed, b"elst", 8, b"".join(value.to_bytes(4, "big") for value in shown))


if __name__ == "__main__":
    main()
