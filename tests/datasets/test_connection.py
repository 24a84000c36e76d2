"""Servers that lead astray or never end: redirects into private networks, encodings, drips, endless bodies; proxies."""

import email.message
import gzip
import hashlib
import io
import shutil
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_server import FileServer, serve

from corrkit.cli import main
from corrkit.datasets import connection
from corrkit.datasets.connection import LEAST_BYTES, TIMEOUT_SECONDS
from corrkit.datasets.download import download
from corrkit.datasets.sources import SourceFile
from corrkit.errors import DataError

CONTENT = bytes(range(256)) * 400
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serve() as running:
        running.files["a.zip"] = CONTENT
        yield running


def source(address: str, **facts: object) -> SourceFile:
    return SourceFile(url=address, source="test", **facts)  # type: ignore[arg-type]


def port(server: FileServer) -> str:
    return server.url.rpartition(":")[2]


PRIVATE = [
    *("127.0.0.1", "127.1", "2130706433", "0x7f.0.0.1", "0.0.0.0", "0", "[::1]", "[::ffff:127.0.0.1]", "[::]"),
    *("169.254.169.254", "10.0.0.1", "172.16.3.4", "192.168.0.1", "100.64.0.1", "[fe80::1]", "[fd00::1]"),
    *("224.0.0.1", "[2002:7f00:1::]", "198.18.0.1", "user:word@127.0.0.1"),
]


@pytest.mark.parametrize("host", PRIVATE)
def test_no_redirect_leads_into_a_private_network(host: str, server: FileServer, tmp_path: Path):
    """The server is asked for by name: what it is itself was named, what it names was not."""
    server.redirects["a.zip"] = f"http://{host}:{port(server)}/b.zip"
    server.files["b.zip"] = b"secret"
    with pytest.raises(DataError, match="redirects into a private network") as caught:
        download(source(f"http://localhost:{port(server)}/a.zip"), tmp_path)
    assert "--sources" in caught.value.remedy
    assert server.requests == []
    assert [*tmp_path.iterdir()] == []


def test_a_private_host_that_was_named_may_redirect_to_itself(server: FileServer, tmp_path: Path):
    server.redirects["old.zip"] = f"http://LOCALHOST:{port(server)}/a.zip"
    path = download(source(f"http://localhost:{port(server)}/old.zip"), tmp_path)
    assert path.read_bytes() == CONTENT


def redirected(old: str, new: str) -> urllib.request.Request | None:
    request = urllib.request.Request(old)
    headers = email.message.Message()
    return connection._Redirects().redirect_request(request, io.BytesIO(), 302, "", headers, new)  # type: ignore[arg-type]


def test_public_hosts_are_followed_and_encryption_is_kept(monkeypatch: pytest.MonkeyPatch):
    places = {"old.example": "93.184.216.34", "new.example": "151.101.1.6", "inner.example": "10.1.2.3"}

    def looked_up(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (places[host], 0))]

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
    assert redirected("https://old.example/a", "https://new.example/b") is not None
    assert redirected("http://old.example/a", "https://new.example/b") is not None
    with pytest.raises(DataError, match="private network"):
        redirected("https://old.example/a", "https://inner.example/b")
    with pytest.raises(DataError, match="redirects to 'http://new"):
        redirected("https://old.example/a", "http://new.example/b")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "GZIP", "gzip, gzip", "compress"])
def test_a_body_in_another_form_is_refused_unread(encoding: str, server: FileServer, tmp_path: Path):
    server.files["a.zip"] = gzip.compress(bytes(64 << 20))
    server.headers["a.zip"] = {"Content-Encoding": encoding}
    with pytest.raises(DataError, match=f"in the encoding '{encoding.lower()}', which was not asked for"):
        download(source(f"{server.url}/a.zip", sha256=DIGEST), tmp_path)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(("name", "encoding"), [("a.tar.gz", "x-gzip"), ("a.tgz", "gzip"), ("a.zip", "identity")])
def test_a_file_that_is_called_what_it_is_is_taken_as_it_is(
    name: str, encoding: str, server: FileServer, tmp_path: Path
):
    packed = gzip.compress(CONTENT)
    server.files[name], server.headers[name] = packed, {"Content-Encoding": encoding}
    digest = hashlib.sha256(packed).hexdigest()
    assert download(source(f"{server.url}/{name}", sha256=digest), tmp_path).read_bytes() == packed


BEGUN = {
    "nothing": b"",
    "status": b"HTTP/1.1 200",
    "headers": b"HTTP/1.1 200 OK\r\nETag: ",
    "body": b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nabc",
    "endless body": b"HTTP/1.1 200 OK\r\n\r\nabc",
    "chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0000",
}


@pytest.mark.parametrize("begun", BEGUN.values(), ids=BEGUN)
def test_a_drip_is_given_up(begun: bytes, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connection, "PATIENCE_SECONDS", 0.2)
    server.drip = (begun, 0.02)
    before = time.monotonic()
    with pytest.raises(DataError, match=f"sent less than {LEAST_BYTES} bytes in") as caught:
        download(source(f"{server.url}/a.zip"), tmp_path)
    assert time.monotonic() - before < 5
    assert "Repeat the command" in caught.value.remedy
    assert not (tmp_path / "a.zip").exists()
    assert TIMEOUT_SECONDS == 60


def test_a_slow_server_is_waited_for(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Slower than patience in all, but never without anything."""
    monkeypatch.setattr(connection, "PATIENCE_SECONDS", 0.3)
    waited = lambda *_: time.sleep(0.1)  # noqa: E731
    server.files["a.zip"] = CONTENT * 80
    assert download(source(f"{server.url}/a.zip"), tmp_path, waited).stat().st_size == len(CONTENT) * 80


def space(monkeypatch: pytest.MonkeyPatch, free: int, folder: Path) -> None:
    """A disk that has so many bytes when its folder is empty."""

    def usage(path: object) -> object:
        used = sum(file.stat().st_size for file in folder.rglob("*"))
        return shutil._ntuple_diskusage(1 << 40, 1 << 39, free - used)

    monkeypatch.setattr(shutil, "disk_usage", usage)


def test_a_body_without_end_leaves_the_disk_some(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("corrkit.datasets.download._LOOK", 1 << 20)
    monkeypatch.setattr("corrkit.datasets.download._RESERVE", 3 << 20)
    space(monkeypatch, 8 << 20, tmp_path)
    server.endless, server.tells_length = True, False
    with pytest.raises(DataError, match=r"has sent \d+ bytes and no end") as caught:
        download(source(f"{server.url}/a.zip"), tmp_path)
    assert "delete a.zip.part" in caught.value.remedy
    assert (tmp_path / "a.zip.part").stat().st_size < 7 << 20
    assert not (tmp_path / "a.zip").exists()


def test_a_length_that_no_disk_has_is_refused_before_it_comes(server: FileServer, tmp_path: Path):
    server.tells_length, server.headers["a.zip"] = False, {"Content-Length": "900000000000000000"}
    with pytest.raises(DataError, match=r"a\.zip needs 900000000000000000 more bytes"):
        download(source(f"{server.url}/a.zip"), tmp_path)
    assert (tmp_path / "a.zip.part").stat().st_size == 0


@pytest.mark.parametrize("tag", ['"1"', ""])
@pytest.mark.parametrize("digest", [None, DIGEST])
def test_bytes_are_joined_only_where_something_tells_that_they_belong_together(
    tag: str, digest: str | None, server: FileServer, tmp_path: Path
):
    file = source(f"{server.url}/a.zip", sha256=digest)
    server.tag, server.break_off_after = tag, 50_000
    with pytest.raises(DataError, match="broke off"):
        download(file, tmp_path)
    server.break_off_after = None
    if digest is None:
        server.files["a.zip"] = CONTENT[::-1]
        server.tag = '"2"' if tag else ""
    assert download(file, tmp_path).read_bytes() == server.files["a.zip"]
    assert server.requests[-1][2] == (206 if digest else 200)


def test_the_proxy_of_the_environment_is_asked(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    address = "http://data.invalid/b.zip"
    server.files[address] = CONTENT
    assert download(source(address), tmp_path).read_bytes() == CONTENT
    assert server.requests[-1][0] == address
    server.redirects["http://data.invalid/c.zip"] = f"{server.url}/a.zip"
    with pytest.raises(DataError, match="into a private network"):
        download(source("http://data.invalid/c.zip"), tmp_path)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert download(source(f"{server.url}/a.zip"), tmp_path).read_bytes() == CONTENT
    assert server.requests[-1][0] == "a.zip"


def test_the_command_ends_with_a_sentence(server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    server.redirects["a.zip"] = "http://169.254.169.254/latest/meta-data"
    (tmp_path / "sources.toml").write_text(
        '[davis]\ntitle = "t"\npage = "p"\nlicence = "l"\nlicence_verified = true\n'
        f'[[davis.files]]\nurl = "{server.url}/a.zip"\nsource = "s"\n'
    )
    command = [
        "data",
        "get",
        "davis",
        "--yes",
        "--sources",
        str(tmp_path / "sources.toml"),
        "--to",
        str(tmp_path / "d"),
    ]
    assert main(command) == 2
    assert "redirects into a private network" in capsys.readouterr().err
    assert [*(tmp_path / "d").iterdir()] == []
