"""A .zip or .tar as a data root: what the readers see of it equals what they see of the folder."""

import contextlib
import hashlib
import io
import multiprocessing
import os
import pickle
import random
import stat
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from davis_folder import make_clip
from hypothesis import given
from hypothesis import strategies as st
from small_copies import make_jhmdb, make_vip, pack

import corrkit
from corrkit.datasets.unpacking import unpack
from corrkit.errors import DataError
from corrkit.files.archive import ArchivePath, ignored_members, open_root, safe_name
from corrkit.tasks import load_task
from corrkit.tasks.identity import data_identity
from corrkit.tasks.sources import open_data

MAKERS: dict[str, Callable[[Path], Path]] = {"davis": make_clip, "vip": make_vip, "jhmdb": make_jhmdb}


def contents(task: str, data: Path) -> list:
    """Everything that the task's reader gives of a root."""
    opened = open_data(load_task(task), data, None)
    found: list = [opened.split, data_identity(opened.clips)]
    for clip in opened.clips:
        found.append((clip.name, clip.frames.size, [path.name for path in clip.frames.paths]))
        for index in range(len(clip.frames)):
            annotation = clip.annotation(index)
            found += [clip.frames[index].tobytes(), None if annotation is None else np.asarray(annotation).tobytes()]
    return found


@pytest.mark.parametrize("top", ["", "DATA", "outer/DATA"])
@pytest.mark.parametrize("suffix", [".zip", ".tar"])
@pytest.mark.parametrize("task", MAKERS)
def test_readers_see_the_same_in_an_archive_as_in_its_folder(task: str, suffix: str, top: str, tmp_path: Path):
    folder = MAKERS[task](tmp_path / "copy")
    archive = pack(folder, tmp_path / f"data{suffix}", top)
    assert contents(task, archive) == contents(task, folder)


@pytest.mark.parametrize(("task", "name"), [("davis", "DAVIS"), ("vip", "VIP_rendered"), ("jhmdb", "JHMDB")])
def test_real_data_in_an_archive_equal_their_folder(task: str, name: str, shared: Path, tmp_path: Path):
    folder = shared / "data" / name
    for suffix in (".zip", ".tar"):
        archive = pack(folder, tmp_path / f"data{suffix}", name)
        assert data_identity(open_data(load_task(task), archive, None).clips) == data_identity(
            open_data(load_task(task), folder, None).clips
        )


def test_environment_may_name_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pack(make_clip(tmp_path / "copy"), tmp_path / "DAVIS.zip")
    monkeypatch.setenv("CORRKIT_DATA", str(tmp_path))
    assert not open_data(load_task("davis"), None, None).embedded


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_paths_behave_like_those_of_pathlib(suffix: str, tmp_path: Path):
    folder = make_clip(tmp_path / "DATA", frames=2)
    archive = open_root(pack(folder, tmp_path / f"DATA{suffix}"))
    assert (archive.name, archive.stem, archive.suffix) == ("DATA", "DATA", "")
    for path in sorted(folder.rglob("*")):
        inside = archive / str(path.relative_to(folder))
        assert (inside.name, inside.stem, inside.suffix) == (path.name, path.stem, path.suffix)
        assert (inside.is_dir(), inside.is_file(), inside.exists()) == (path.is_dir(), path.is_file(), True)
        assert inside.parent == archive / str(path.parent.relative_to(folder))
        assert str(inside.relative_to(archive)) == str(path.relative_to(folder))
        assert str(inside) == f"{tmp_path}/DATA{suffix}/{path.relative_to(folder)}"
        if path.is_dir():
            assert sorted(entry.name for entry in inside.iterdir()) == sorted(entry.name for entry in path.iterdir())
        else:
            assert inside.read_bytes() == path.read_bytes()
            assert inside.stat().st_size == path.stat().st_size
            with inside.open("rb") as file:
                assert file.read(4) == path.read_bytes()[:4]
    assert (archive / "ImageSets/2017/val.txt").read_text() == "walk\n"
    assert archive / "ImageSets/../Annotations" == archive / "Annotations"
    assert archive.parent == archive


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_what_is_not_there_raises_what_pathlib_raises(suffix: str, tmp_path: Path):
    archive = open_root(pack(make_clip(tmp_path / "copy"), tmp_path / f"data{suffix}"))
    for absent in ("nothing", "../copy", "/etc/passwd", "JPEGImages/480p/walk/00000.jpg/x"):
        assert not (archive / absent).exists()
        with pytest.raises(FileNotFoundError):
            (archive / absent).read_bytes()
        with pytest.raises(FileNotFoundError):
            list((archive / absent).iterdir())
    with pytest.raises(IsADirectoryError):
        (archive / "JPEGImages").read_bytes()
    with pytest.raises(NotADirectoryError):
        list((archive / "ImageSets/2017/val.txt").iterdir())
    with pytest.raises(io.UnsupportedOperation, match="never written"):
        (archive / "new").open("w")


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_reads_from_threads_and_pickles_agree(suffix: str, tmp_path: Path):
    folder = make_clip(tmp_path / "copy", frames=20)
    frames = open_root(pack(folder, tmp_path / f"data{suffix}")) / "JPEGImages/480p/walk"
    paths = sorted(frames.iterdir()) * 5
    expected = [(folder / "JPEGImages/480p/walk" / path.name).read_bytes() for path in paths]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ArchivePath.read_bytes, paths)) == expected
    assert [path.read_bytes() for path in pickle.loads(pickle.dumps(paths))] == expected


INHERITED: list[ArchivePath] = []
"""What forked processes read: arguments would reach them pickled, and pickled archives are opened anew."""


def num_distinct_reads(index: int) -> int:
    path, contents = INHERITED[index], set()
    for _ in range(60):
        try:
            contents.add(hashlib.sha256(path.read_bytes()).hexdigest())
        except DataError as error:
            contents.add(str(error))
    return len(contents)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_forked_processes_do_not_share_a_position(suffix: str, tmp_path: Path):
    (tmp_path / "copy").mkdir()
    for value in range(4):
        (tmp_path / "copy" / str(value)).write_bytes(np.random.default_rng(value).bytes(300_000))
    inside: Any = open_root(pack(tmp_path / "copy", tmp_path / f"data{suffix}"))
    INHERITED[:] = sorted(inside.iterdir())
    with multiprocessing.get_context("fork").Pool(4) as processes:
        assert processes.map(num_distinct_reads, range(4), chunksize=1) == [1, 1, 1, 1]


def write_zip(path: Path, members: dict[str, bytes], links: tuple[str, ...] = ()) -> Path:
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in members.items():
            packed.writestr(name, content)
        for name in links:
            member = zipfile.ZipInfo(name)
            member.external_attr = (stat.S_IFLNK | 0o777) << 16
            packed.writestr(member, "/etc/passwd")
    return path


def write_tar(path: Path, members: dict[str, bytes], links: tuple[str, ...] = ()) -> Path:
    with tarfile.open(path, "w") as packed:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
        for name in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            packed.addfile(member)
    return path


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_unsafe_names_and_links_are_left_out_and_listed(write, tmp_path: Path):
    members = {"a/b.txt": b"1", "../evil": b"2", "/abs": b"3", "a/../../evil": b"4", "./a/./c.txt": b"5"}
    root = open_root(write(tmp_path / f"x{'.zip' if write is write_zip else '.tar'}", members, links=("a/link",)))
    assert sorted(path.name for path in (root / "a").iterdir()) == ["b.txt", "c.txt"]
    assert sorted(ignored_members(root)) == ["../evil", "/abs", "a/../../evil", "a/link"]


def test_second_name_of_a_file_in_a_tar_is_a_file(tmp_path: Path):
    (tmp_path / "one").write_bytes(b"content")
    os.link(tmp_path / "one", tmp_path / "two")
    with tarfile.open(tmp_path / "x.tar", "w") as packed:
        packed.add(tmp_path / "one", "one")
        packed.add(tmp_path / "two", "two")
    assert (open_root(tmp_path / "x.tar") / "two").read_bytes() == b"content"


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_damaged_archives_name_the_file(suffix: str, tmp_path: Path):
    archive = pack(make_clip(tmp_path / "copy"), tmp_path / f"data{suffix}")
    whole = archive.read_bytes()
    for content in (b"", b"no archive at all", whole[: len(whole) // 3]):
        archive.write_bytes(content)
        with pytest.raises(DataError, match=f"data{suffix}"):
            open_root(archive)


def test_tar_cut_off_anywhere_is_noticed(tmp_path: Path):
    archive = write_tar(tmp_path / "data.tar", {name: name.encode() * 700 for name in "abc"})
    whole = archive.read_bytes()
    end = 3 * (512 + 1024)  # a header and two blocks each; zeros follow
    for length in range(0, end + 512, 128):
        archive.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"data\.tar"):
            open_root(archive)
        with pytest.raises(DataError, match=r"data\.tar"):
            unpack(archive, tmp_path / "new")
    archive.write_bytes(whole[: end + 512])
    assert len(list(open_root(archive).iterdir())) == 3


def test_flipped_bits_in_a_zip_are_noticed(tmp_path: Path):
    archive = pack(make_clip(tmp_path / "copy"), tmp_path / "data.zip")
    content = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as packed:
        member = packed.getinfo("JPEGImages/480p/walk/00002.jpg")
    content[member.header_offset + 200] ^= 0xFF
    archive.write_bytes(content)
    clip = open_data(load_task("davis"), archive, None).clips[0]
    assert clip.frames[1].shape == (24, 32, 3)
    with pytest.raises(DataError, match=r"00002\.jpg can't be read from the archive"):
        clip.frames[2]


def test_tar_that_shrinks_after_opening_is_noticed(tmp_path: Path):
    archive = pack(make_clip(tmp_path / "copy"), tmp_path / "data.tar")
    root = open_root(archive)
    os.truncate(archive, 600)
    with pytest.raises(DataError, match="bytes are there"):
        (root / "JPEGImages/480p/walk/00003.jpg").read_bytes()


def test_encrypted_member_is_refused_with_its_name(tmp_path: Path):
    archive = write_zip(tmp_path / "x.zip", {"a.txt": b"1"})
    content = archive.read_bytes().replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01")
    archive.write_bytes(content.replace(b"PK\x03\x04\x14\x00\x00", b"PK\x03\x04\x14\x00\x01"))
    with pytest.raises(DataError, match=r"x\.zip/a\.txt .*encrypted"):
        (open_root(archive) / "a.txt").read_bytes()


def test_compressed_tar_and_other_files_are_refused_with_a_remedy(tmp_path: Path):
    archive = pack(make_clip(tmp_path / "copy"), tmp_path / "data.tar.gz")
    with pytest.raises(DataError, match=r"tar -xf data\.tar\.gz"):
        open_root(archive)
    (tmp_path / "list.txt").write_text("walk")
    with pytest.raises(DataError, match=r"a folder, a \.zip or a \.tar"):
        open_root(tmp_path / "list.txt")
    assert open_root(tmp_path / "copy") == tmp_path / "copy"


@given(st.lists(st.sampled_from(["..", ".", "", "a", "b c", "ü"]), max_size=6))
def test_safe_names_stay_below_the_folder(parts: list[str]):
    name = safe_name("/".join(parts))
    if name is not None:
        assert os.path.normpath(f"/top/{name}").startswith("/top/")
        assert ".." not in parts


def test_a_member_that_unpacks_to_gigabytes_is_its_clips_failure(tmp_path: Path):
    """A zip of 1 MB; the member is neither held in memory nor hashed."""
    make_clip(tmp_path / "copy", "a")
    make_clip(tmp_path / "copy", "b")
    path = tmp_path / "copy/Annotations/480p/a/00001.png"
    path.unlink()
    pack(tmp_path / "copy", tmp_path / "data.zip")
    with (
        zipfile.ZipFile(tmp_path / "data.zip", "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("Annotations/480p/a/00001.png", "w", force_zip64=True) as member,
    ):
        for _ in range(30):
            member.write(bytes(10 << 20))
    tracemalloc.start()
    try:
        small = {"size": "[64]", "multiple": "16"}
        result = corrkit.evaluate("davis", "rgb", data=tmp_path / "data.zip", dataset_name="x", **small)
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()
    assert result.summary["clips"] == 1
    assert "00001.png" in str(result.failures["a"])


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_every_mutation_of_an_archive_is_read_or_refused(tmp_path: Path, suffix: str):
    archive = pack(make_clip(tmp_path / "copy", frames=2), tmp_path / f"data{suffix}")
    whole, dice = archive.read_bytes(), random.Random(0)
    for number in range(100):
        data = bytearray(whole)
        for _ in range(1 + number % 3):
            place = dice.randrange(len(data))
            data[place if suffix != ".zip" or number % 2 else -(place % 900) - 1] = dice.randrange(256)
        archive.write_bytes(data)
        with contextlib.suppress(DataError):
            (clip,) = load_task("davis").open(open_root(archive), split="val", dataset_name="x").clips
            for index in range(len(clip.frames)):
                clip.frames[index]
                clip.annotation(index)
