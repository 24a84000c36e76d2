"""Rendered clips in the disk layouts of DAVIS-2017, VIP and JHMDB.

Files are the same bytes on every machine, so that results on embedded clips can be compared: PNGs are written here,
without compression (zlib builds differ), JPEGs without chroma subsampling (decoders differ in how they undo it).
"""

import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from corrkit.clips.drawing import Labels, Points
from corrkit.clips.rendering import RenderedClip
from corrkit.clips.surfaces import Image
from corrkit.palette import voc_palette

JPEG_QUALITY = 95
JHMDB_CLASS = "embedded"


def write_clips(folder: Path, task: str, clips: Sequence[RenderedClip]) -> None:
    """Writes the clips of one task and their list file below `folder`, which must exist."""
    _WRITERS[task](folder, clips)


def clip_name(task: str, number: int) -> str:
    """Folder name of a task's clip `number` (0-based)."""
    return {"davis": f"embedded-{number}", "vip": f"videos{number + 1}", "jhmdb": f"embedded_{number}"}[task]


def png(pixels: Image | Labels, palette: Sequence[int] = ()) -> bytes:
    """[H, W, 3] RGB or [H, W] grey or palette indices (uint8) as an uncompressed PNG file.

    Args:
        pixels: the picture.
        palette: red, green, blue of each index, flat; empty for grey and colour pictures.
    """
    h, w = pixels.shape[:2]
    colour_type = 2 if pixels.ndim == 3 else 3 if palette else 0
    rows = np.zeros((h, 1 + pixels[0].size), np.uint8)  # each row starts with its filter: 0, none
    rows[:, 1:] = pixels.reshape(h, -1)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, colour_type, 0, 0, 0))]
    if palette:
        chunks.append((b"PLTE", bytes(palette)))
    chunks += [(b"IDAT", _stored(rows.tobytes())), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _write_davis(folder: Path, clips: Sequence[RenderedClip]) -> None:
    names = [clip_name("davis", number) for number in range(len(clips))]
    palette = voc_palette().ravel().tolist()
    for name, clip in zip(names, clips, strict=True):
        frames, masks = folder / "JPEGImages" / "480p" / name, folder / "Annotations" / "480p" / name
        frames.mkdir(parents=True)
        masks.mkdir(parents=True)
        for index, (frame, labels) in enumerate(zip(clip.frames, clip.labels, strict=True)):
            (frames / f"{index:05d}.jpg").write_bytes(_jpeg(frame))
            (masks / f"{index:05d}.png").write_bytes(png(labels, palette))
    _write_list(folder / "ImageSets" / "2017" / "val.txt", names)


def _write_vip(folder: Path, clips: Sequence[RenderedClip]) -> None:
    names = [clip_name("vip", number) for number in range(len(clips))]
    for name, clip in zip(names, clips, strict=True):
        frames, masks = folder / "Images" / name, folder / "Annotations" / "Category_ids" / name
        frames.mkdir(parents=True)
        masks.mkdir(parents=True)
        for index, (frame, labels) in enumerate(zip(clip.frames, clip.labels, strict=True), start=1):
            (frames / f"{index:012d}.jpg").write_bytes(_jpeg(frame))
            (masks / f"{index:012d}.png").write_bytes(png(labels))
    _write_list(folder / "lists" / "val_videos.txt", names)


def _write_jhmdb(folder: Path, clips: Sequence[RenderedClip]) -> None:
    names = [clip_name("jhmdb", number) for number in range(len(clips))]
    for name, clip in zip(names, clips, strict=True):
        frames = folder / "Rename_Images" / JHMDB_CLASS / name
        annotations = folder / "joint_positions" / JHMDB_CLASS / name
        frames.mkdir(parents=True)
        annotations.mkdir(parents=True)
        for index, frame in enumerate(clip.frames, start=1):
            (frames / f"{index:05d}.png").write_bytes(png(frame))
        assert clip.joints is not None
        (annotations / "joint_positions.mat").write_bytes(_joint_positions(clip.joints))
    # The official lines name videos: "CLIP.avi 2"; 2 means test.
    _write_list(folder / "splits" / f"{JHMDB_CLASS}_test_split1.txt", [f"{name}.avi 2" for name in names])


def _write_list(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def _jpeg(frame: Image) -> bytes:
    import cv2

    full_chroma = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    _, data = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, *full_chroma])
    return bytes(data)


def _joint_positions(joints: Points) -> bytes:
    """A MATLAB file with pos_img [2, 15, T], 1-based, as JHMDB's."""
    import io

    from scipy.io import savemat

    file = io.BytesIO()
    savemat(file, {"pos_img": np.round(joints.transpose(2, 1, 0) + 1, 4)})  # platforms' sines differ in the last bit
    header = b"MATLAB 5.0 MAT-file, written by corrkit"  # scipy's own names the platform and the time
    return header.ljust(116) + file.getvalue()[116:]


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _stored(data: bytes) -> bytes:
    """A zlib stream of stored blocks (RFC 1950, RFC 1951 section 3.2.4)."""
    blocks = [data[start : start + 65535] for start in range(0, len(data), 65535)]
    stream = b"\x78\x01"
    for index, block in enumerate(blocks):
        is_last = index == len(blocks) - 1
        stream += struct.pack("<BHH", is_last, len(block), len(block) ^ 0xFFFF) + block
    return stream + struct.pack(">I", zlib.adler32(data))


_WRITERS: MappingProxyType[str, Callable[[Path, Sequence[RenderedClip]], None]] = MappingProxyType(
    {"davis": _write_davis, "vip": _write_vip, "jhmdb": _write_jhmdb}
)
