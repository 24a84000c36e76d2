"""Files of joints, true and predicted: damaged and hostile ones are errors, within a bound of memory."""

import io
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from corrkit.errors import DataError
from corrkit.tasks.jhmdb_points import JOINTS
from corrkit.tasks.jhmdb_predictions import read_joints
from corrkit.tasks.joint_positions import read_joint_positions

JOINTS_OF_CLIP = np.random.default_rng(0).uniform(1, 200, (4, len(JOINTS), 2))
MEMORY = 100 << 20
"""What reading a file of this size may take; the bombs here unpack to ten times as much."""


def mat(compress: bool = True, form: str = "5", **content: object) -> bytes:
    file = io.BytesIO()
    savemat(file, content or {"pos_img": JOINTS_OF_CLIP.transpose(2, 1, 0)}, do_compression=compress, format=form)
    return file.getvalue()


def mat_bomb(inside: bytes, num_zeros: int = 1_000_000_000) -> bytes:
    """A compressed element that claims a variable and goes on with zeros."""
    packer = zlib.compressobj(9)
    packed = packer.compress(inside) + b"".join(packer.compress(bytes(10_000_000)) for _ in range(num_zeros // 10**7))
    packed += packer.flush()
    return mat()[:128] + struct.pack("<II", 15, len(packed)) + packed


def matrix(num_frames: int, num_bytes: int) -> bytes:
    """The head of a double matrix pos_img [2, 15, num_frames] whose values have num_bytes."""
    flags = struct.pack("<IIII", 6, 8, 6, 0)
    shape = struct.pack("<IIiiii", 5, 12, 2, 15, num_frames, 0)
    name = struct.pack("<II8s", 1, 7, b"pos_img\0")
    values = struct.pack("<II", 9, num_bytes)
    content = flags + shape + name + values
    return struct.pack("<II", 14, (len(content) + num_bytes) % 2**32) + content


HOSTILE_MATS = {
    "zero_frames": lambda: mat(pos_img=np.zeros((2, 15, 0))),
    "bomb": lambda: mat_bomb(matrix(4, 960)),
    "bomb_of_values": lambda: mat_bomb(matrix(4_166_666, 999_999_840)),
    "claims_more_than_it_has": lambda: mat()[:128] + matrix(2**27, 2**31 - 8) + bytes(960),
    "complex": lambda: mat(pos_img=np.ones((2, 15, 4), complex)),
    "cell": lambda: mat(pos_img=np.array([[None] * 15] * 2, object).astype(str).astype(object)),
    "struct": lambda: mat(pos_img={"x": 1.0}),
    "text": lambda: mat(pos_img="joints"),
    "infinite": lambda: mat(pos_img=np.full((2, 15, 4), np.inf)),
    "far": lambda: mat(pos_img=np.full((2, 15, 4), 1e300)),
    "cut": lambda: mat()[:-20],
    "cut_uncompressed": lambda: mat(compress=False)[:-200],
    "empty": lambda: b"",
    "version_4_claiming": lambda: struct.pack("<iiiii", 0, 2, 2**30, 0, 8) + b"pos_img\0" + bytes(480),
    "hdf5": lambda: b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n" + bytes(600),
}


@pytest.mark.parametrize("name", HOSTILE_MATS)
def test_hostile_mats_are_refused_by_name_within_the_bound(tmp_path: Path, name: str):
    path = tmp_path / "joint_positions.mat"
    path.write_bytes(HOSTILE_MATS[name]())
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"joint_positions\.mat"):
            read_joint_positions(path)
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("dtype", ["f8", "f4", "i2", "u1", "i8", ">f8"])
def test_sound_mats_of_every_kind_are_read_as_scipy_reads_them(tmp_path: Path, compress: bool, dtype: str):
    path = tmp_path / "a.mat"
    for frames in (1, 4, 40):
        values = np.random.default_rng(frames).uniform(1, 200, (2, 15, frames)).astype(dtype)
        path.write_bytes(
            mat(compress, viewpoint="N", scale=np.ones((1, 4)), pos_img=values, cells=np.array([{"a": 1}]))
        )
        expected = np.atleast_3d(loadmat(path)["pos_img"]).astype(float).transpose(2, 1, 0) - 1
        np.testing.assert_array_equal(read_joint_positions(path), expected)


@pytest.mark.golden
def test_real_mats_are_read_as_scipy_reads_them(shared: Path):
    paths = sorted((shared / "data/JHMDB/joint_positions").rglob("*.mat"))
    assert paths
    for path in paths:
        expected = loadmat(path)["pos_img"].transpose(2, 1, 0) - 1.0
        np.testing.assert_array_equal(read_joint_positions(path), expected)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(*members: bytes, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for number, content in enumerate(members):
            archive.writestr(f"{number}.npy", content)
    return file.getvalue()


def header(text: str, version: bytes = b"\x01\x00") -> bytes:
    size = struct.pack("<H" if version[0] == 1 else "<I", len(text))
    return b"\x93NUMPY" + version + size + text.encode() + bytes(960)


def claim(shape: str, kind: str = "<f8") -> bytes:
    return header(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n")


GOOD = npy(JOINTS_OF_CLIP)
ROWS = "".join(f"{frame},{joint},1.0,2.0\n" for frame in range(2) for joint in range(len(JOINTS)))
HOSTILE_PREDICTIONS = {
    "claims_frames.npy": lambda: claim("(100000000, 15, 2)"),
    "claims_all.npy": lambda: claim("(9223372036854775807, 15, 2)"),
    "negative.npy": lambda: claim("(-4, 15, 2)"),
    "wide.npy": lambda: claim("(4, 15, 2)", "|S1000000000"),
    "object.npy": lambda: claim("(4, 15, 2)", "|O"),
    "dates.npy": lambda: claim("(4, 15, 2)", "<M8"),
    "nonsense.npy": lambda: claim("(4, 15, 2)", "<q99"),
    "nested.npy": lambda: header("(" * 5_000),
    "deep.npy": lambda: header("-" * 60_000 + "1"),
    "unclosed.npy": lambda: header("{'descr': '<f8', 'shape'"),
    "letters.npy": lambda: header("{'descr': '<f8', 'fortran_order': False, 'shape': ('a',), }"),
    "list.npy": lambda: header("[1, 2]"),
    "version_9.npy": lambda: b"\x93NUMPY\x09\x09" + bytes(1_000),
    "version_3.npy": lambda: header("{'descr': '<f8', 'fortran_order': False, 'shape': (4, 15, 2), }", b"\x03\x00"),
    "cut.npy": lambda: GOOD[:-8],
    "head.npy": lambda: GOOD[:9],
    "empty.npy": lambda: b"",
    "bomb.npz": lambda: npz(claim("(4, 15, 2)") + bytes(1_000_000_000)),
    "claims.npz": lambda: npz(claim("(1000000000, 15, 2)")),
    "two.npz": lambda: npz(GOOD, GOOD),
    "none.npz": lambda: npz(),
    "text.npz": lambda: npz(b"hello"),
    "encrypted.npz": lambda: npz(GOOD, compression=0).replace(b"\x14\0\0\0\0\0", b"\x14\0\x01\0\0\0"),
    "method.npz": lambda: npz(GOOD, compression=0).replace(b"\x14\0\0\0\0\0", b"\x14\0\0\0\x63\0"),
    "damaged.npz": lambda: npz(GOOD)[:60] + b"\xff\xff\xff" + npz(GOOD)[63:],
    "cut.npz": lambda: npz(GOOD)[:-30],
    "nul.csv": lambda: f"frame,joint,x,y\n{ROWS}2,0,\0,1\n".encode(),
    "latin.csv": lambda: b"frame,joint,x,y\n0,\xe4,1,2\n",
    "long.csv": lambda: b"frame,joint,x,y\n0,0," + b"1" * 200_000 + b",2\n",
    "short_row.csv": lambda: f"frame,joint,x,y\n{ROWS}2\n".encode(),
    "long_row.csv": lambda: f"frame,joint,x,y\n{ROWS}2,0,1,1,1,1\n".encode(),
    "no_header.csv": lambda: ROWS.encode(),
    "empty.csv": lambda: b"",
    "big_number.csv": lambda: f"frame,joint,x,y\n{'9' * 5_000},0,1,2\n".encode(),
    "complex.dat": lambda: np.ones((2, 15, 4), complex).dumps(),
    "object.dat": lambda: np.array([[None]], object).dumps(),
    "dates.dat": lambda: np.zeros((2, 15, 4), "M8[s]").dumps(),
    "text.dat": lambda: np.full((2, 15, 4), "a").dumps(),
    "flags.dat": lambda: np.ones((2, 15, 4), bool).dumps(),
    "empty.dat": lambda: b"",
}


def read(path: Path) -> np.ndarray:
    path = path.rename(path.with_name("0.dat" if path.suffix == ".dat" else f"clip{path.suffix}"))
    return read_joints(path.parent, "clip", 0, (240, 320), (40, 30))


@pytest.mark.parametrize("name", HOSTILE_PREDICTIONS)
def test_hostile_predictions_are_refused_by_name_within_the_bound(tmp_path: Path, name: str):
    path = tmp_path / name
    path.write_bytes(HOSTILE_PREDICTIONS[name]())
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"(clip|0)\.(npy|npz|csv|dat)"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()


SOUND: dict[str, Callable[[], bytes]] = {
    "a.mat": mat,
    "b.mat": lambda: mat(compress=False),
    "a.npy": lambda: GOOD,
    "a.npz": lambda: npz(GOOD),
    "a.csv": lambda: f"frame,joint,x,y\n{ROWS}".encode(),
    "a.dat": lambda: JOINTS_OF_CLIP.transpose(2, 1, 0).dumps(),
}


@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")  # of text in a damaged pickle
@pytest.mark.parametrize("name", SOUND)
def test_every_mutation_of_a_file_of_joints_is_read_or_refused(tmp_path: Path, name: str):
    """Heads above all, where shapes, types and lengths stand."""
    whole, dice = SOUND[name](), np.random.default_rng(len(name))
    path = tmp_path / name
    refused = 0
    for number in range(400):
        data = bytearray(whole)
        limit = len(data) if number % 2 else min(len(data), 256)
        for _ in range(1 + number % 4):
            place = int(dice.integers(limit))
            if number % 3:
                data[place] = int(dice.integers(256))
            else:
                data[place : place + int(dice.integers(8))] = dice.bytes(int(dice.integers(8)))
            limit = min(limit, len(data))
        path.write_bytes(data)
        try:
            joints = read_joint_positions(path) if path.suffix == ".mat" else read(path)
            assert joints.shape[1:] == (len(JOINTS), 2)
        except DataError:
            refused += 1
    assert refused > 20
