"""The reader of pictures and files: damage, formats, orientation, bombs, names."""

import contextlib
import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from corrkit.errors import DataError
from corrkit.files.reading import natural_order, numbered_files
from corrkit.frames.pictures import MAX_PIXELS, read_image
from corrkit.frames.sequence import ImageFolder
from corrkit.tasks.masks import read_mask, write_mask

PIXELS = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 80 60\n%%EndComments\nshowpage\n"


def encoded(form: str, pixels: np.ndarray = PIXELS, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


def png_with(chunk: bytes, content: bytes) -> bytes:
    """A PNG with one chunk more before its pixels."""
    png = encoded("PNG", PIXELS[..., 0])
    extra = struct.pack(">I", len(content)) + chunk + content + struct.pack(">I", zlib.crc32(chunk + content))
    return png[:33] + extra + png[33:]


def png_claiming(width: int, height: int, colours: int = 0) -> bytes:
    """A PNG of zeros; with a palette where it has colours."""
    header = struct.pack(">IIBBBBB", width, height, 8, 3 if colours else 0, 0, 0, 0)
    palette = ((b"PLTE", bytes(3 * colours)),) if colours else ()
    chunks = ((b"IHDR", header), *palette, (b"IDAT", zlib.compress(bytes(10_000))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def progressive(scans: int) -> bytes:
    """A grey JPEG of one block, whose coefficients are said to be zero again and again (ITU-T T.81)."""
    segments = (
        (0xDB, bytes([0] + [1] * 64)),
        (0xC2, struct.pack(">BHHB", 8, 8, 8, 1) + b"\x01\x11\x00"),
        (0xC4, bytes([0x00, 1] + [0] * 16)),  # one code, for a difference of no bits
        (0xC4, bytes([0x10, 1] + [0] * 16)),  # one code, for the end of a block
        (0xDA, b"\x01\x01\x00\x00\x00\x00"),
        *[(0xDA, b"\x01\x01\x00\x01\x3f\x00")] * (scans - 1),
    )
    written = [
        struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content + (b"\x7f" if marker == 0xDA else b"")
        for marker, content in segments
    ]
    return b"\xff\xd8" + b"".join(written) + b"\xff\xd9"


HOSTILE = {
    "scans": progressive(600),
    "bomb": png_claiming(30_000, 30_000),
    "largest_jpeg": encoded("JPEG")[:163] + struct.pack(">HH", 65_500, 65_500) + encoded("JPEG")[167:],
    "text_bomb": png_with(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(50_000_000))),
    "profile_bomb": png_with(b"iCCP", b"a\0\0" + zlib.compress(bytes(50_000_000))),
    "long_palette": png_claiming(99, 100, 300),
    "huge_palette": png_claiming(99, 100, 100_000),
    "eps": EPS,
    "sgi": b"\x01\xda\x00\x01\x00\x02" + struct.pack(">HHH", 80, 60, 1) + bytes(500),
    "empty": b"",
    "text": b"<html>not found</html>",
    "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("read", [read_image, read_mask])
def test_hostile_files_are_refused_by_name(tmp_path: Path, name: str, read):
    path = tmp_path / "00003.png"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(DataError, match=r"00003\.png"):
        read(path)


def test_no_program_is_started_for_postscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    path = tmp_path / "00000.png"
    path.write_bytes(EPS)
    for read in (read_image, read_mask):
        with pytest.raises(DataError, match="PostScript"):
            read(path)
    assert not (tmp_path / "started").exists()


def test_jpeg_damaged_in_the_middle_is_named_with_libjpegs_reason(tmp_path: Path):
    data = bytearray(encoded("JPEG", quality=95))
    middle = len(data) // 2
    data[middle : middle + 40] = b"\xff\xd9" * 20
    path = tmp_path / "00003.jpg"
    path.write_bytes(data)
    assert cv2.imdecode(np.frombuffer(bytes(data), np.uint8), cv2.IMREAD_COLOR) is not None, "it decodes"
    with pytest.raises(DataError, match=r"00003.jpg can't be decoded \(JPEG data, \d+ bytes: .*(Corrupt|Premature)"):
        read_image(path)


def test_a_jpeg_of_many_scans_is_read_and_thumbnails_are_no_scans(tmp_path: Path):
    comment = b"\xff\xfe" + struct.pack(">H", 2_002) + b"\xff\xda" * 1_000
    for number, (data, scans) in enumerate([(progressive(400), 400), (encoded("JPEG"), 1)]):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(data[:2] + comment + data[2:])
        assert data.count(b"\xff\xda") >= scans
        assert read_image(path).size


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
def test_bytes_after_the_end_are_no_damage(tmp_path: Path, form: str):
    whole, trailed = tmp_path / "whole", tmp_path / "trailed"
    whole.write_bytes(encoded(form))
    trailed.write_bytes(encoded(form) + b"MotionPhoto" + bytes(5_000) + b"\xff\xda" * 1_000)
    np.testing.assert_array_equal(read_image(trailed), read_image(whole))


@pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {"lossless": True})])
def test_lossless_formats_give_the_pixels(tmp_path: Path, form: str, options: dict[str, Any]):
    path = tmp_path / "frame"
    path.write_bytes(encoded(form, **options))
    np.testing.assert_array_equal(read_image(path), PIXELS)


MODES = {
    "JPEG": ("L", "RGB", "CMYK", "1"),
    "PNG": ("L", "RGB", "1", "P", "RGBA", "I;16"),
    "TIFF": ("L", "RGB", "CMYK", "1", "P", "RGBA", "I;16"),
}


@pytest.mark.parametrize(("form", "mode"), [(form, mode) for form, modes in MODES.items() for mode in modes])
def test_every_mode_is_read_as_opencv_reads_it(tmp_path: Path, mode: str, form: str):
    path = tmp_path / "frame"
    wide = Image.fromarray(np.uint16(PIXELS[..., 0]) * 200)
    (wide if mode == "I;16" else Image.fromarray(PIXELS).convert(mode)).save(path, form)
    expected = cv2.imread(str(path), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(read_image(path), expected[..., ::-1])


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (16, 16), (33, 47), (60, 80)])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "grey"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpegs_are_decoded_once_to_opencvs_pixels(
    tmp_path: Path, size: tuple[int, int], subsampling: str, progressive: bool
):
    path = tmp_path / "frame"
    pixels = PIXELS[: size[0], : size[1]]
    options = {} if subsampling == "grey" else {"subsampling": subsampling}
    pixels = pixels[..., 0] if subsampling == "grey" else pixels
    for quality in (30, 95):
        data = encoded("JPEG", pixels, quality=quality, progressive=progressive, **options)
        expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        path.write_bytes(data)
        np.testing.assert_array_equal(read_image(path), expected)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_frames_are_turned_as_opencv_turns_them_and_masks_are_not(tmp_path: Path, form: str, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "00000"
    path.write_bytes(encoded(form, exif=exif))
    expected = cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(read_image(path), expected)
    assert ImageFolder([path]).size == expected.shape[:2] == ((80, 60) if orientation > 4 else (60, 80))
    path.write_bytes(encoded("PNG", PIXELS[..., 0], exif=exif))
    np.testing.assert_array_equal(read_mask(path), PIXELS[..., 0])


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_files_of_several_pictures_are_refused(tmp_path: Path, form: str):
    """An animation or pages: which of them is the frame, or the mask, nobody said."""
    path = tmp_path / "00000.png"
    path.write_bytes(encoded(form, save_all=True, append_images=[Image.fromarray(PIXELS[::-1])]))
    with pytest.raises(DataError, match=r"00000.png can't be decoded .*it holds 2 pictures"):
        read_image(path)
    path.write_bytes(encoded("PNG", PIXELS[..., 0], save_all=True, append_images=[Image.fromarray(PIXELS[..., 1])]))
    with pytest.raises(DataError, match="it holds 2 pictures"):
        read_mask(path)


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "TIFF", "GIF", "JPEG2000"])
def test_formats_that_may_be_lossy_hold_no_ids(tmp_path: Path, form: str):
    path = tmp_path / "00000.png"
    path.write_bytes(encoded(form, PIXELS[..., 0]))
    with pytest.raises(DataError, match=r"00000.png holds .* data, which may be lossy"):
        read_mask(path)


@pytest.mark.parametrize("read", [read_image, read_mask])
def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path, read):
    os.mkfifo(tmp_path / "fifo.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    for name in ("fifo", "zero", "folder"):
        with pytest.raises(DataError, match=rf"{name}.png is a .*, not a file"):
            read(tmp_path / f"{name}.png")
    with pytest.raises(DataError, match=r"nothing\.png is missing"):
        read(tmp_path / "nothing.png")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
def test_every_mutation_is_read_or_refused(tmp_path: Path, form: str):
    """Any other exception would end the program as a bug, and cost the other clips."""
    dice = np.random.default_rng(len(form))
    whole, path = encoded(form), tmp_path / "00000.png"
    for number in range(150):
        data = bytearray(whole)
        if number % 3 == 0:
            data = data[: dice.integers(1, len(data))]
        else:
            places = dice.integers(0, len(data) if number % 3 == 1 else 200, 1 + number % 5)
            data[places[0]] = int(dice.integers(256))
            for place in places:
                data[place] ^= int(dice.integers(1, 256))
        path.write_bytes(data)
        for read in (read_image, read_mask):
            with contextlib.suppress(DataError):
                assert read(path).size <= 3 * MAX_PIXELS


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_no_cut_jpeg_or_png_passes(tmp_path: Path, form: str):
    whole, path = encoded(form), tmp_path / "frame"
    for length in range(1, len(whole) - 2, 97):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError):
            read_image(path)


def test_numbers_in_names_are_numbers():
    names = [f"frame_{number}" for number in range(1, 21)]
    assert sorted(sorted(names), key=natural_order) == names
    assert sorted(["10", "9", "00002"], key=natural_order) == ["00002", "9", "10"]
    assert sorted(["a1b10", "a1b9", "a", "a1"], key=natural_order) == ["a", "a1", "a1b9", "a1b10"]


def test_a_stray_file_changes_no_order(tmp_path: Path):
    names = [f"{number}.png" for number in (1, 2, 9, 10, 11)]
    for name in (*names, "thumbnail.png", ".hidden.png"):
        write_mask(tmp_path / name, np.zeros((2, 2), np.uint8))
    assert [path.name for path in numbered_files(tmp_path, (".png",))] == [*names, "thumbnail.png"]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_grey_masks_have_the_values_that_they_store(tmp_path: Path, bits: int):
    """Pillow spreads two and four bits over 0 to 255: id 1 of four bits became 17."""
    ids = (np.arange(8).reshape(1, 8) % 2**bits).astype(np.uint8)
    path = tmp_path / "mask.png"
    path.write_bytes(grey_png(ids, bits))
    np.testing.assert_array_equal(read_mask(path), ids)


def grey_png(values: np.ndarray, bits: int) -> bytes:
    """A grey PNG of few bits, which Pillow can't write."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width = values.shape
    unpacked = np.unpackbits(values[..., None], axis=-1)[..., 8 - bits :].reshape(height, -1)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in unpacked)
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
