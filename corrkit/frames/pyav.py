"""Frames of H.264 videos by PyAV (extra `video`): the pixels that OpenCV gives, mostly for less CPU time.

The table of packets says where key frames are, so that decoding begins at the nearest one, and which frames are wanted:
of the others only those are decoded that something refers to. Measured on two pairs of frames of five files: 0.9 to 1.6
times less CPU time, most where there are many B-frames; 1.3 in all. torchcodec 0.17 was not measured: without an FFmpeg
of the system's it can't be loaded.
"""

import functools
import itertools
import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_CONTAINERS = ("mov,mp4", "matroska")
"""As FFmpeg's names begin: those that say when each frame is shown. In an AVI the order of B-frames is guessed."""

_PIXELS = ("yuv420p", "yuvj420p", "yuv422p", "yuv444p", "gray")
_COLOURS = {1, 2, 5, 6}
"""BT.709, unknown, BT.470, SMPTE 170M (ISO/IEC 23091-2): others, and more than 8 bits, OpenCV converts differently."""


def read_frames(address: str, indices: Sequence[int], num_frames: int) -> "list[NDArray[np.uint8]] | None":
    """Some frames, or None where only OpenCV is sure to number, turn and decode them as ever.

    Args:
        address: what FFmpeg opens.
        indices: in presentation order, ascending.
        num_frames: of the video.

    Returns:
        uint8 RGB [H, W, 3] each. None without PyAV (see `decodes_alike`), and for other codecs, containers and colours,
        videos that are damaged, stored turned, or with another number of frames.
    """
    if not decodes_alike():
        return None
    import av

    try:
        with av.open(address) as container:
            return _read(container, indices, num_frames)
    except (av.FFmpegError, IndexError, ValueError, StopIteration):  # OpenCV decides, and says what is wrong
        return None


@functools.cache
def decodes_alike() -> bool:
    """Whether PyAV is there and built on the FFmpeg of OpenCV.

    Another one, even of the same major version, converts the colours of videos tagged BT.709 otherwise (PyAV 16.0 on
    FFmpeg 8.0, beside OpenCV 5.0 on 8.1).
    """
    import cv2

    try:
        import av
    except ImportError:
        return False
    used = dict(re.findall(r"(avcodec|swscale):\s+YES \((\d+\.\d+)\.", cv2.getBuildInformation()))
    return used == {name: ".".join(map(str, av.library_versions[f"lib{name}"][:2])) for name in ("avcodec", "swscale")}


def _read(container: Any, indices: Sequence[int], num_frames: int) -> "list[NDArray[np.uint8]] | None":
    stream = container.streams.video[0]
    context = stream.codec_context
    context.thread_count = 1
    colours = {int(context.colorspace), int(context.color_primaries), int(context.color_trc)}
    if not container.format.name.startswith(_CONTAINERS) or context.name != "h264":
        return None
    if context.pix_fmt not in _PIXELS or not colours <= _COLOURS:
        return None
    packets = [(packet.pts, packet.is_keyframe) for packet in container.demux(stream) if packet.size]
    if any(time is None for time, _ in packets) or not (
        len({time for time, _ in packets}) == len(packets) == num_frames
    ):
        return None
    shown = sorted(time for time, _ in packets)
    keys = sorted(time for time, is_key in packets if is_key)
    wanted = [shown[index] for index in indices]
    found: dict[int, Any] = {}
    # x264 names its version beside the first frame, and FFmpeg decodes streams of some versions in another way.
    if bisect_right(keys, wanted[0]) > 1:
        container.seek(shown[0], stream=stream)
        next(container.decode(stream))
    for key, times in itertools.groupby(wanted, lambda time: keys[bisect_right(keys, time) - 1]):
        container.seek(key, stream=stream)
        found |= _decoded(container, stream, set(times))
    frames = [found.get(time) for time in wanted]
    if any(frame is None or frame.is_corrupt or frame.rotation or frame.interlaced_frame for frame in frames):
        return None
    # OpenCV's interpolation of the colour planes.
    return [frame.reformat(format="rgb24", interpolation="BICUBIC").to_ndarray() for frame in frames if frame]


def _decoded(container: Any, stream: Any, times: set[int]) -> dict[int, Any]:
    """The frames shown at some times, from where the container stands; those that nothing refers to are left out."""
    found: dict[int, Any] = {}
    for packet in container.demux(stream):
        stream.codec_context.skip_frame = "DEFAULT" if packet.pts in times else "NONREF"
        found |= {frame.pts: frame for frame in packet.decode() if frame.pts in times}
        if len(found) == len(times):
            break
    return found
