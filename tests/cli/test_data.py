"""`corrkit data` as a process: stdout, stderr, exit codes, files."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from davis_folder import make_clip
from local_server import FileServer, serve
from small_copies import make_jhmdb, pack

from tests.conftest import REPOSITORY


def corrkit(*arguments: object, stdin=subprocess.DEVNULL, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if key != "CORRKIT_DATA"}
    return subprocess.run(
        [sys.executable, "-m", "corrkit", "data", *map(str, arguments)],
        cwd=REPOSITORY, env={**clean, **environment}, stdin=stdin, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_check_of_a_sound_copy_is_fine(tmp_path: Path):
    done = corrkit("check", "davis", "--data", make_clip(tmp_path), "--dataset-name", "mine")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Expected for davis, split val")
    assert done.stdout.splitlines()[-1] == "fine: 1 clip(s), 4 frame(s) read, nothing missing, damaged or surplus."
    assert "No manifest was compared" in done.stderr


def test_check_prints_faults_in_order_with_what_to_do(tmp_path: Path):
    root = make_clip(tmp_path)
    (root / "Annotations/480p/walk/00001_onehot.npy").write_bytes(b"x")
    (root / "JPEGImages/480p/walk/00002.jpg").write_bytes(b"")
    done = corrkit("check", "davis", "--data", root, "--dataset-name", "mine")
    assert done.returncode == 1
    lines = done.stdout.splitlines()[5:]
    assert lines[0].startswith("damaged  walk: frame that can't be decoded (")
    assert lines[0].endswith("JPEGImages/480p/walk/00002.jpg")
    assert lines[1] == "         Restore it from the data set's archive."
    assert lines[2] == "surplus  walk: label cache of another tool: Annotations/480p/walk/00001_onehot.npy"
    assert lines[-1] == "not fine: 1 clip(s), 4 frame(s) read, 2 fault(s): 1 damaged, 1 surplus."


def test_check_as_json_names_every_file(tmp_path: Path):
    root = make_clip(tmp_path, frames=8)
    for index in range(2, 7):
        (root / f"Annotations/480p/walk/{index:05d}.png").unlink()
    done = corrkit("check", "davis", "--data", root, "--dataset-name", "mine", "--json")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert (report["task"], report["split"], report["fine"], report["clips"], report["frames"]) == (
        "davis", "val", False, 1, 8,
    )  # fmt: skip
    (fault,) = report["faults"]
    assert (fault["kind"], fault["clip"], len(fault["files"])) == ("missing", "walk", 5)


def test_check_against_a_manifest_written_before(tmp_path: Path):
    root = make_jhmdb(tmp_path / "copy")
    done = corrkit("manifest", root, "--out", tmp_path / "mine.csv")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert corrkit("check", "jhmdb", "--data", root, "--manifest", tmp_path / "mine.csv").returncode == 0
    (root / "Rename_Images/golf/a_golf_b_0/00003.png").unlink()
    done = corrkit("check", "jhmdb", "--data", root, "--manifest", tmp_path / "mine.csv")
    assert done.returncode == 1
    assert "missing  a_golf_b_0: frame missing: Rename_Images/golf/a_golf_b_0/00003.png" in done.stdout
    done = corrkit("check", "jhmdb", "--data", root, "--manifest", tmp_path / "mine.csv", "--split", "split3")
    assert (done.returncode, "has no split 'split3'" in done.stderr) == (2, True)


def test_check_takes_archives_and_the_environment(tmp_path: Path):
    pack(make_clip(tmp_path / "copy"), tmp_path / "davis.zip", "DAVIS")
    done = corrkit("check", "davis", "--dataset-name", "mine", CORRKIT_DATA=str(tmp_path))
    assert done.returncode == 0, done.stderr


def test_check_of_an_official_split_counts_what_is_absent(tmp_path: Path):
    done = corrkit("check", "davis", "--data", make_clip(tmp_path))
    assert done.returncode == 1
    assert "(30 clips, 1999 frames, 1999 annotated frames, 61 objects)" in done.stdout
    assert "the list of split val lacks 30 of 30 clips" in done.stdout
    assert done.stdout.count("the whole clip") == 30


def test_user_errors_exit_2_and_say_what_to_do(tmp_path: Path):
    for arguments, problem in (
        (("check", "davis"), "no data root"),
        (("check", "davis", "--data", tmp_path / "none"), "does not exist"),
        (("check", "davis", "--data", Path(__file__)), "is a file"),
        (("check", "nothing", "--data", tmp_path), "invalid choice"),
        (("manifest", tmp_path), "none of the layouts"),
        (("get", "vip", "--to", tmp_path / "new"), "no address that could be downloaded"),
        (("get", "davis"), "no folder to download to"),
        ((), "required"),
    ):
        done = corrkit(*arguments)
        assert (done.returncode, problem in done.stderr) == (2, True), (arguments, done.stderr)
        assert "Traceback" not in done.stderr


def test_manifest_is_never_written_into_the_data(tmp_path: Path):
    root = make_clip(tmp_path / "copy")
    done = corrkit("manifest", root, "--out", root / "mine.csv")
    assert (done.returncode, "lies inside the data set" in done.stderr) == (2, True)
    assert not (root / "mine.csv").exists()
    done = corrkit("manifest", root)
    assert done.stdout.startswith("split,clip,folder,num_frames,")
    assert done.stdout.count("\n") == 2


@pytest.fixture
def offer(tmp_path: Path) -> Iterator[tuple[FileServer, Path]]:
    """A server with a small DAVIS archive, and a list of sources that names it."""
    archive = pack(make_clip(tmp_path / "copy"), tmp_path / "DAVIS.zip", "DAVIS")
    with serve() as server:
        server.files["DAVIS.zip"] = archive.read_bytes()
        sources = tmp_path / "sources.toml"
        sources.write_text(
            '[davis]\ntitle = "Small DAVIS"\npage = "p"\nlicence = "free"\nlicence_verified = true\n'
            f'[[davis.files]]\nurl = "{server.url}/DAVIS.zip"\nsize = {archive.stat().st_size}\nsource = "test"\n'
        )
        yield server, sources


def test_get_downloads_unpacks_and_leaves_a_sound_copy(offer: tuple[FileServer, Path], tmp_path: Path):
    server, sources = offer
    done = corrkit("get", "davis", "--sources", sources, "--to", tmp_path / "new", "--yes")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'new'}\n"), done.stderr
    for text in ("Small DAVIS", "licence: free", f"{server.url}/DAVIS.zip", "9 files unpacked", "corrkit data check"):
        assert text in done.stderr
    assert corrkit("check", "davis", "--data", tmp_path / "new", "--dataset-name", "x").returncode == 0


def test_get_resumes_after_a_broken_off_transfer(offer: tuple[FileServer, Path], tmp_path: Path):
    server, sources = offer
    server.break_off_after = 1000
    done = corrkit("get", "davis", "--sources", sources, "--to", tmp_path / "new", "--yes")
    assert (done.returncode, "broke off after 1000" in done.stderr) == (2, True)
    server.break_off_after = None
    assert corrkit("get", "davis", "--sources", sources, "--to", tmp_path / "new", "--yes").returncode == 0
    assert server.requests[-1] == ("DAVIS.zip", "bytes=1000-", 206)


def test_get_only_prints_addresses(offer: tuple[FileServer, Path], tmp_path: Path):
    server, sources = offer
    done = corrkit("get", "davis", "--sources", sources, "--to", tmp_path / "new", "--print")
    assert (done.returncode, done.stdout) == (0, f"{server.url}/DAVIS.zip\n")
    assert server.requests == []
    assert not (tmp_path / "new").exists()


def test_get_refuses_where_nobody_can_be_asked(offer: tuple[FileServer, Path], tmp_path: Path):
    server, sources = offer
    done = corrkit("get", "davis", "--sources", sources, "--to", tmp_path / "new")
    assert (done.returncode, "--yes" in done.stderr) == (2, True)
    assert server.requests == []


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 2), ("\n", 2)])
def test_get_asks_on_a_terminal(offer: tuple[FileServer, Path], tmp_path: Path, answer: str, code: int):
    server, sources = offer
    ours, theirs = pty.openpty()
    try:
        os.write(ours, answer.encode())
        done = corrkit("get", "davis", "--sources", sources, "--to", tmp_path / "new", stdin=theirs)
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == code, done.stderr
    assert "[y/N]" in done.stderr
    assert bool(server.requests) == (code == 0)
