"""Downloads from a server on the loopback: whole, resumed, broken off, changed, wrong, and without space."""

import hashlib
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_server import FileServer, serve

from corrkit.datasets.download import download
from corrkit.datasets.sources import SourceFile, read_source
from corrkit.errors import DataError

CONTENT = bytes(range(256)) * 5000


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serve() as running:
        running.files["a.zip"] = CONTENT
        yield running


def source(server: FileServer, **facts) -> SourceFile:
    return SourceFile(url=f"{server.url}/a.zip", source="test", **facts)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("facts", [{}, {"size": len(CONTENT)}, {"sha256": sha256(CONTENT)}])
def test_file_arrives_whole_and_leaves_nothing_else(facts: dict, server: FileServer, tmp_path: Path):
    path = download(source(server, **facts), tmp_path / "new/folder")
    assert path.read_bytes() == CONTENT
    assert list((tmp_path / "new/folder").iterdir()) == [path]


def test_md5_is_verified_where_nothing_better_is_known(server: FileServer, tmp_path: Path):
    good = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    assert download(source(server, md5=good), tmp_path).exists()
    with pytest.raises(DataError, match="md5"):
        download(source(server, md5="0" * 32), tmp_path / "other")


def test_verified_file_is_not_fetched_again(server: FileServer, tmp_path: Path):
    file = source(server, sha256=sha256(CONTENT))
    download(file, tmp_path)
    download(file, tmp_path)
    assert len(server.requests) == 1


def test_file_in_the_place_of_the_archive_is_neither_taken_nor_overwritten(server: FileServer, tmp_path: Path):
    (tmp_path / "a.zip").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"kept as a\.zip:"):
        download(source(server, sha256=sha256(CONTENT)), tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == b"mine"


@pytest.mark.parametrize("tells_length", [True, False])
def test_broken_off_transfer_goes_on_where_it_stopped(tells_length: bool, server: FileServer, tmp_path: Path):
    server.tells_length = tells_length
    server.break_off_after = 500_000
    file = source(server, sha256=sha256(CONTENT))
    if tells_length:
        with pytest.raises(DataError, match=r"broke off after 500000 (of 1280000 )?bytes") as caught:
            download(file, tmp_path)
        assert "goes on where it stopped" in caught.value.remedy
        assert not (tmp_path / "a.zip").exists()
    else:  # the end can't be told from a break: the digest tells, and nothing is resumed
        with pytest.raises(DataError, match="expected"):
            download(file, tmp_path)
    server.break_off_after = None
    assert download(file, tmp_path).read_bytes() == CONTENT
    assert server.requests[-1][1:] == (("bytes=500000-", 206) if tells_length else (None, 200))


def test_several_breaks_in_a_row_are_survived(server: FileServer, tmp_path: Path):
    server.break_off_after = 400_000
    file = source(server, size=len(CONTENT))
    for _ in range(3):
        with pytest.raises(DataError, match="broke off"):
            download(file, tmp_path)
    assert download(file, tmp_path).read_bytes() == CONTENT


def test_interruption_by_the_user_is_resumed(server: FileServer, tmp_path: Path):
    def stop(name: str, done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    file = source(server, size=len(CONTENT))
    with pytest.raises(KeyboardInterrupt):
        download(file, tmp_path, stop)
    kept = (tmp_path / "a.zip.part").stat().st_size
    assert 0 < kept < len(CONTENT)
    assert download(file, tmp_path).read_bytes() == CONTENT
    assert server.requests[-1] == ("a.zip", f"bytes={kept}-", 206)


def test_file_that_changed_meanwhile_is_fetched_from_the_start(server: FileServer, tmp_path: Path):
    server.break_off_after = 500_000
    with pytest.raises(DataError, match="broke off"):
        download(source(server), tmp_path)
    server.break_off_after, server.tag, server.files["a.zip"] = None, '"2"', CONTENT[::-1]
    assert download(source(server), tmp_path).read_bytes() == CONTENT[::-1]
    assert server.requests[-1][2] == 200


def test_server_without_ranges_sends_all_again(server: FileServer, tmp_path: Path):
    server.has_ranges = False
    (tmp_path / "a.zip.part").write_bytes(b"y" * 1000)
    assert download(source(server, sha256=sha256(CONTENT)), tmp_path).read_bytes() == CONTENT


def test_complete_part_needs_no_more_bytes(server: FileServer, tmp_path: Path):
    (tmp_path / "a.zip.part").write_bytes(CONTENT)
    assert download(source(server, sha256=sha256(CONTENT)), tmp_path).read_bytes() == CONTENT
    assert server.requests == [("a.zip", f"bytes={len(CONTENT)}-", 416)]


def test_wrong_digest_is_refused_kept_aside_and_not_resumed(server: FileServer, tmp_path: Path):
    with pytest.raises(DataError, match=f"sha256 {sha256(CONTENT)}, expected {'0' * 64}"):
        download(source(server, sha256="0" * 64), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip.rejected"]


def test_wrong_size_is_refused(server: FileServer, tmp_path: Path):
    with pytest.raises(DataError, match="gave 1280000 bytes, expected 1280001"):
        download(source(server, size=len(CONTENT) + 1), tmp_path)


def test_unknown_address_and_unreachable_server_are_named(server: FileServer, tmp_path: Path):
    with pytest.raises(DataError, match=r"none\.zip answered 404"):
        download(SourceFile(url=f"{server.url}/none.zip", source="test"), tmp_path)
    with pytest.raises(DataError, match="can't be reached"):
        download(SourceFile(url="http://127.0.0.1:9/a.zip", source="test"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_too_little_space_is_noticed_before_anything_is_fetched(server: FileServer, tmp_path: Path):
    with pytest.raises(DataError, match="more bytes"):
        download(source(server, size=10**18), tmp_path)
    assert server.requests == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_disk_that_fills_up_is_named(server: FileServer, tmp_path: Path):
    (tmp_path / "a.zip.part").symlink_to("/dev/full")
    with pytest.raises(DataError, match=r"No space left") as caught:
        download(source(server), tmp_path)
    assert "Free space" in caught.value.remedy


def test_folder_that_cannot_be_made_is_named(server: FileServer, tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="file"):
        download(source(server), tmp_path / "file" / "below")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_rights_is_named(server: FileServer, tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match="Permission denied"):
        download(source(server), tmp_path)


def test_sources_hold_what_is_known_of_each_task():
    davis = read_source("davis")
    assert [file.name for file in davis.files_for("val")] == ["DAVIS-2017-trainval-480p.zip"]
    assert davis.files[0].sha256 is not None
    assert len(davis.files_for(None)) == 2
    assert {file.name for file in read_source("jhmdb").files_for("split1")} == {
        "Rename_Images.tar.gz", "joint_positions.zip", "splits.zip",
    }  # fmt: skip
    assert read_source("vip").files == ()
    assert read_source("vip").by_hand
    with pytest.raises(DataError, match="'test-challenge'"):
        davis.files_for("test-challenge")


HEAD = '[davis]\ntitle = "t"\npage = "p"\nlicence = "l"\nlicence_verified = true\n'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[davis\n", "can't be read"),
        ("a = " + "9" * 5_000, "can't be read"),
        ("a = " + "[" * 20_000, "can't be read"),
        ("[vip]\n", r"no table \[davis\]"),
        ('[davis]\ntitle = "t"\n', r"lacks licence, .*page"),
        (HEAD + "size = 1\n", "davis has unknown size"),
        (HEAD + '[[davis.files]]\nurl = "file:///etc/passwd"\nsource = "s"\n', "neither http nor https"),
        (HEAD + '[[davis.files]]\nurl = "http://x/"\nsource = "s"\n', "names no file"),
        (HEAD + '[[davis.files]]\nurl = "http://x/..%2f..%2fa.zip"\nsource = "s"\nsize = -1\n', "size is -1"),
        (HEAD + '[[davis.files]]\nurl = "http://x/a.zip"\nsource = "s"\nsha256 = "ABC"\n', "64 lower-case hex"),
    ],
)
def test_wrong_list_of_sources_says_where(text: str, problem: str, tmp_path: Path):
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(DataError, match=problem):
        read_source("davis", tmp_path / "s.toml")


def test_name_of_a_file_never_leads_out():
    assert SourceFile(url="http://x/..%2f..%2fa.zip", source="s").name == "a.zip"


def test_a_server_that_sends_more_than_is_known_is_stopped(server: FileServer, tmp_path: Path):
    for tells_length in (True, False):
        server.tells_length = tells_length
        with pytest.raises(DataError, match="sends more than the 1000 bytes"):
            download(source(server, size=1000, sha256=sha256(CONTENT)), tmp_path / str(tells_length))
        assert sum(path.stat().st_size for path in (tmp_path / str(tells_length)).iterdir()) < 2000


@pytest.mark.parametrize("told", ["bytes 0-1279999/1280000", "bytes 600000-1279999/1280000", "pages 1-2/3", None])
def test_another_part_than_asked_for_is_refused(told: str | None, server: FileServer, tmp_path: Path):
    (tmp_path / "a.zip.part").write_bytes(CONTENT[:500_000])
    server.range_told = lambda start, size: told
    with pytest.raises(DataError, match="not with what follows byte 500000"):
        download(source(server), tmp_path)
    assert (tmp_path / "a.zip.part").read_bytes() == CONTENT[:500_000]
    server.range_told = None
    assert download(source(server), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("address", ["ftp://127.0.0.1/a.zip", "file:///etc/passwd", "data:,x", "gopher://x/"])
def test_redirects_to_other_schemes_are_refused(address: str, server: FileServer, tmp_path: Path):
    server.redirects["a.zip"] = address
    with pytest.raises(DataError, match=r"redirects to|answered 302"):
        download(source(server), tmp_path)
    assert not (tmp_path / "a.zip").exists()


def test_redirects_over_the_web_are_followed(server: FileServer, tmp_path: Path):
    server.redirects["old.zip"] = f"{server.url}/a.zip"
    file = SourceFile(url=f"{server.url}/old.zip", source="test")
    assert download(file, tmp_path).read_bytes() == CONTENT
    server.redirects["old.zip"] = "/old.zip"  # for ever
    with pytest.raises(DataError, match="answered 302"):
        download(file, tmp_path / "again")


FILES = HEAD + "[[davis.files]]\n"


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "files = 5\n",
        FILES + 'url = 5\nsource = "s"\n',
        FILES + 'url = "http://x/a.zip"\nsource = "s"\nsplits = 5\n',
        FILES + 'url = "http://x/a.zip"\nsource = "s"\nsplits = "val"\n',
        FILES + 'url = "http://x/a%00.zip"\nsource = "s"\n',
    ],
)
def test_sources_of_other_types_are_refused(text: str, tmp_path: Path):
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(DataError, match=r"s\.toml"):
        read_source("davis", tmp_path / "s.toml")


def test_a_part_that_ends_before_the_file_is_not_its_end(server: FileServer, tmp_path: Path):
    (tmp_path / "a.zip.part").write_bytes(CONTENT[:500_000])
    server.range_told = lambda start, size: f"bytes {start}-{size - 1001}/{size}"
    server.break_off_after = 1000
    server.tells_length = False
    with pytest.raises(DataError, match="broke off after 501000 of 1280000 bytes"):
        download(source(server), tmp_path)
    server.headers["a.zip"] = {"Content-Length": "780000"}
    server.range_told = lambda start, size: f"bytes {start}-{size - 1}/*"
    with pytest.raises(DataError, match="broke off after 502000 of 1281000 bytes"):
        download(source(server), tmp_path)
    assert not (tmp_path / "a.zip").exists()


def test_no_more_bytes_are_the_end_only_where_something_tells(server: FileServer, tmp_path: Path):
    (tmp_path / "a.zip.part").write_bytes(CONTENT + b"x")
    with pytest.raises(DataError, match="answered 416"):
        download(source(server), tmp_path)
    assert not (tmp_path / "a.zip").exists()


@pytest.mark.parametrize("address", ["http://[::1/a.zip", "http://[x]/a.zip", "http://x:y/a.zip", "http://\u0661/"])
def test_redirects_to_no_address_are_refused(address: str, server: FileServer, tmp_path: Path):
    server.redirects["a.zip"] = address.encode().decode("latin-1")
    with pytest.raises(DataError, match=r"is no address|can't be reached|broke off"):
        download(source(server), tmp_path)
    assert not (tmp_path / "a.zip").exists()


@pytest.mark.parametrize("length", ["9" * 5000, "-5", "\u00b2", "1e3", "0x10", "+7", ""])
def test_a_length_that_is_none_is_none(length: str, server: FileServer, tmp_path: Path):
    server.tells_length, server.headers["a.zip"] = False, {"Content-Length": length}
    wanted = source(server, sha256=sha256(CONTENT))
    if length == "+7":  # of which http.client makes 7 bytes
        with pytest.raises(DataError):
            download(wanted, tmp_path)
    else:
        assert download(wanted, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("chunk", [b"-1\r\n", b"\xff\r\n", b"zz\r\n", b"7fffffffffffffff\r\n", b"\r\n", b"1" * 70_000])
def test_chunks_of_no_size_are_broken_off(chunk: bytes, server: FileServer, tmp_path: Path):
    server.tells_length, server.headers["a.zip"] = False, {"Transfer-Encoding": "chunked"}
    server.files["a.zip"] = chunk + CONTENT * 16
    tracemalloc.start()
    try:
        with pytest.raises(DataError):
            download(source(server, size=len(CONTENT) - 1000), tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert not (tmp_path / "a.zip").exists()


def test_an_interruption_never_leaves_old_bytes_under_the_new_version(server: FileServer, tmp_path: Path, monkeypatch):
    server.break_off_after = 500_000
    with pytest.raises(DataError, match="broke off"):
        download(source(server), tmp_path)
    server.break_off_after, server.tag, server.files["a.zip"] = None, '"2"', CONTENT[::-1]

    def stop(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped:
        stopped.setattr("corrkit.datasets.download._append", stop)
        with pytest.raises(KeyboardInterrupt):
            download(source(server), tmp_path)
    assert download(source(server), tmp_path).read_bytes() == CONTENT[::-1]
