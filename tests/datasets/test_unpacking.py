"""Unpacking: files below one folder, never over others, never from names or links that lead elsewhere."""

import bz2
import contextlib
import gzip
import io
import lzma
import random
import stat
import tarfile
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest
from davis_folder import make_clip
from small_copies import pack

import corrkit.datasets.unpacking
from corrkit.datasets.unpacking import unpack
from corrkit.errors import DataError


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_unpacked_files_equal_the_packed_ones(suffix: str, tmp_path: Path):
    folder = make_clip(tmp_path / "copy")
    archive = pack(folder, tmp_path / f"data{suffix}")
    assert unpack(archive, tmp_path / "new") == (len(tree(folder)), [])
    assert tree(tmp_path / "new") == tree(folder)


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_repeating_restores_what_is_missing_and_keeps_what_is_there(suffix: str, tmp_path: Path):
    folder = make_clip(tmp_path / "copy")
    archive = pack(folder, tmp_path / f"data{suffix}")
    unpack(archive, tmp_path / "new")
    mine = tmp_path / "new/ImageSets/2017/val.txt"
    mine.write_text("my own list\n")
    (tmp_path / "new/JPEGImages/480p/walk/00001.jpg").unlink()
    assert unpack(archive, tmp_path / "new")[1] == [mine]
    assert mine.read_text() == "my own list\n"
    assert (tmp_path / "new/JPEGImages/480p/walk/00001.jpg").is_file()


def evil_zip(path: Path, name: str, mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("first.txt", "fine")
        member = zipfile.ZipInfo(name)
        member.external_attr = mode << 16
        packed.writestr(member, "/etc/passwd")
    return path


def evil_tar(path: Path, name: str, kind: bytes = tarfile.REGTYPE) -> Path:
    with tarfile.open(path, "w:gz") as packed:
        for name_, kind_ in (("first.txt", tarfile.REGTYPE), (name, kind)):
            member = tarfile.TarInfo(name_)
            member.type, member.linkname, member.size = kind_, "/etc/passwd", 4 if kind_ == tarfile.REGTYPE else 0
            packed.addfile(member, io.BytesIO(b"fine"))
    return path


@pytest.mark.parametrize("name", ["../evil.txt", "a/../../evil.txt", "/tmp/evil.txt"])
def test_names_that_lead_out_are_refused(name: str, tmp_path: Path):
    for archive in (evil_zip(tmp_path / "x.zip", name), evil_tar(tmp_path / "x.tar.gz", name)):
        with pytest.raises(DataError, match="leads out of the folder"):
            unpack(archive, tmp_path / "below" / archive.suffix[1:])
        assert set(tree(tmp_path)) <= {"x.zip", "x.tar.gz", "below/zip/first.txt", "below/gz/first.txt"}


def test_links_and_devices_are_refused(tmp_path: Path):
    archives = [
        evil_zip(tmp_path / "link.zip", "link", stat.S_IFLNK | 0o777),
        evil_tar(tmp_path / "link.tar.gz", "link", tarfile.SYMTYPE),
        evil_tar(tmp_path / "hard.tar.gz", "hard", tarfile.LNKTYPE),
        evil_tar(tmp_path / "fifo.tar.gz", "fifo", tarfile.FIFOTYPE),
        evil_tar(tmp_path / "device.tar.gz", "device", tarfile.CHRTYPE),
    ]
    for archive in archives:
        with pytest.raises(DataError, match="is a link or device"):
            unpack(archive, tmp_path / "new")
        assert tree(tmp_path / "new") == {"first.txt": b"fine"}


def test_link_in_the_folder_is_not_followed(tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "new").mkdir()
    (tmp_path / "new/JPEGImages").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="through the link"):
        unpack(pack(make_clip(tmp_path / "copy"), tmp_path / "data.zip"), tmp_path / "new")
    assert tree(tmp_path / "elsewhere") == {}


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_damaged_archives_are_named_and_leave_no_half_file(suffix: str, tmp_path: Path):
    folder = make_clip(tmp_path / "copy", size=(120, 160))
    archive = pack(folder, tmp_path / f"data{suffix}")
    whole = archive.read_bytes()
    for content in (b"", b"no archive", whole[: len(whole) // 2], whole[: len(whole) * 3 // 4]):
        archive.write_bytes(content)
        with pytest.raises(DataError, match=f"data{suffix} is damaged"):
            unpack(archive, tmp_path / "new")
        assert tree(tmp_path / "new").items() <= tree(folder).items()


def test_flipped_bits_leave_no_wrong_file(tmp_path: Path):
    folder = make_clip(tmp_path / "copy")
    archive = pack(folder, tmp_path / "data.zip")
    content = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as packed:
        content[packed.getinfo("JPEGImages/480p/walk/00002.jpg").header_offset + 200] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(DataError, match="is damaged"):
        unpack(archive, tmp_path / "new")
    assert tree(tmp_path / "new").items() <= tree(folder).items()


def test_folder_that_is_a_file_is_named(tmp_path: Path):
    archive = pack(make_clip(tmp_path / "copy"), tmp_path / "data.zip")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="file"):
        unpack(archive, tmp_path / "file")


def test_an_archive_that_unpacks_to_far_more_than_its_size_is_refused(tmp_path: Path):
    packed = tmp_path / "x.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"{number}.png", bytes(50 << 20))
    tar = tmp_path / "x.tar.gz"
    with tarfile.open(tar, "w:gz") as archive:
        for number in range(3):
            member = tarfile.TarInfo(f"{number}.png")
            member.size = 50 << 20
            archive.addfile(member, io.BytesIO(bytes(50 << 20)))
    for path in (packed, tar):
        with pytest.raises(DataError, match="unpack to far more than its own size"):
            unpack(path, tmp_path / "new" / path.suffix)
        assert len(tree(tmp_path / "new" / path.suffix)) == 1


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz"])
def test_a_header_that_claims_gigabytes_is_not_read(tmp_path: Path, suffix: str):
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 1 << 32
    opener: Any = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}[suffix]
    with opener(tmp_path / "x.tar", "wb") as file:
        file.write(header.tobuf())
        file.write(bytes(1 << 22))
    with (tmp_path / "x.tar").open("ab") as file:
        file.write(b"PK\5\6" + bytes(18))  # and it is an empty zip, too
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="is damaged"):
            unpack(tmp_path / "x.tar", tmp_path / "new")
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()


def test_a_tar_of_members_without_end_takes_neither_memory_nor_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(corrkit.datasets.unpacking, "_LARGEST_REST", 1 << 21)
    kept, next_of = [], tarfile.TarFile.next
    monkeypatch.setattr(tarfile.TarFile, "next", lambda tar: (kept.append(len(tar.members)), next_of(tar))[1])
    headers = b"".join(tarfile.TarInfo(f"{number}/").tobuf() for number in range(1000))
    with gzip.open(tmp_path / "x.tar", "wb", compresslevel=1) as file:
        for _ in range(10):
            file.write(headers)
    with pytest.raises(DataError, match="unpacks to far more than its own size"):
        unpack(tmp_path / "x.tar", tmp_path / "new")
    assert len(kept) > 1000
    assert max(kept) <= 1


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_every_mutation_of_an_archive_is_unpacked_or_refused(tmp_path: Path, suffix: str):
    archive = pack(make_clip(tmp_path / "copy", frames=2), tmp_path / f"data{suffix}")
    whole, dice = archive.read_bytes(), random.Random(0)
    for number in range(60):
        data = bytearray(whole)
        for _ in range(1 + number % 3):
            place = dice.randrange(len(data) if number % 2 else min(len(data), 1024))
            data[place if suffix != ".zip" or number % 3 else -(place % 900) - 1] = dice.randrange(256)
        archive.write_bytes(data)
        with contextlib.suppress(DataError):
            unpack(archive, tmp_path / "new" / str(number))
    assert {path.name for path in tmp_path.iterdir()} == {"copy", "new", archive.name}
