"""FIFOs, sockets and devices at every place of a data folder: refused by name, never read, never waited for."""

import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clip_video import moving_square, write_video

import corrkit
from corrkit.cli import main
from corrkit.datasets.checking import DataCheck
from corrkit.errors import CorrkitError
from corrkit.files.archive import open_root
from corrkit.frames.items import build_index
from corrkit.task_table import task_facts
from tests.tasks.test_files import SMALL
from tests.tasks.test_odd_frames import FRAMES, MASKS, make_two

SECONDS = 30


@pytest.fixture(autouse=True)
def no_waiting(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A FIFO that is read waits forever, and a device that is read never ends."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def bind(path: Path) -> None:
    """A socket's address is short: it is bound beside, in the folder itself."""
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(path.name)
    finally:
        os.chdir(here)


SPECIAL: dict[str, Callable[[Path], None]] = {
    "fifo": os.mkfifo,
    "socket": bind,
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "empty": lambda path: path.symlink_to("/dev/null"),
    "itself": lambda path: path.symlink_to(path.name),
}
PLACES = {
    "frame": FRAMES,
    "annotation": {**MASKS, "jhmdb": "joint_positions/jump/odd_jump_0"},
}
WHOLE = {
    "frames of the clip": FRAMES,
    "annotations of the clip": {**MASKS, "jhmdb": "joint_positions/jump/odd_jump_0"},
    "list": {
        "davis": "ImageSets/2017/val.txt",
        "vip": "lists/val_videos.txt",
        "jhmdb": "splits/jump_test_split1.txt",
    },
    "lists": {"davis": "ImageSets", "vip": "lists", "jhmdb": "splits"},
    "all frames": {"davis": "JPEGImages", "vip": "Images", "jhmdb": "Rename_Images"},
    "all annotations": {"davis": "Annotations", "vip": "Annotations", "jhmdb": "joint_positions"},
}


def replaced(path: Path, kind: str) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    SPECIAL[kind](path)


def told(task: str, root: Path) -> list[str]:
    """What an evaluation refuses or notes, and what `data check` does."""
    split = task_facts(task).default_split
    found = []
    try:
        result = corrkit.evaluate(task, "rgb", data=root, dataset_name="x", **SMALL[task])
        found.append(" ".join(map(str, (*result.failures.values(), *result.notes))))
    except CorrkitError as error:
        found.append(str(error))
    try:
        check = DataCheck(task, open_root(root), split=split, expected=())
        faults = [f"{fault.problem} {' '.join(fault.files)}" for fault in check.faults()]
        found.append(" ".join((*faults, *check.notes)))
    except CorrkitError as error:
        found.append(str(error))
    return found


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("task", FRAMES)
def test_a_special_file_among_the_files_of_a_clip_is_its_failure(task: str, place: str, kind: str, tmp_path: Path):
    make_two(task, tmp_path)
    victim = sorted((tmp_path / PLACES[place][task]).iterdir())[:2][-1]
    replaced(victim, kind)
    result = corrkit.evaluate(task, "rgb", data=tmp_path, dataset_name="x", **SMALL[task])
    ((clip, failure),) = result.failures.items()
    assert clip == "odd_jump_0"
    assert victim.stem in str(failure)
    assert all(victim.stem in said for said in told(task, tmp_path))


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("place", WHOLE)
@pytest.mark.parametrize("task", FRAMES)
def test_a_special_file_in_place_of_a_folder_or_list_is_a_sentence(task: str, place: str, kind: str, tmp_path: Path):
    make_two(task, tmp_path)
    victim = tmp_path / WHOLE[place][task]
    replaced(victim, kind)
    for said in told(task, tmp_path):
        assert victim.name in said, "it was passed over in silence"


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("task", FRAMES)
def test_a_special_file_as_the_root_is_a_sentence(
    task: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    SPECIAL[kind](tmp_path / "root")
    for words in (
        ["eval", task, "--ckpt", "rgb"],
        ["data", "check", task],
        ["sweep", task, "--ckpt", "rgb", "--topk", "1"],
    ):
        assert main([*words, "--data", str(tmp_path / "root")]) in {1, 2}
        assert str(tmp_path / "root") in "".join(capsys.readouterr())


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("place", ["clip/1.png", "clip", "video.mp4", "shard.tar", "photo.png", ""])
def test_special_files_among_training_data(place: str, kind: str, clips: Path, tmp_path: Path):
    """Left out with their reason, or passed over where they are no file of data; the rest is indexed."""
    write_video(clips / "sound.mp4", moving_square(3))
    (clips / "clip").mkdir()
    shutil.copy(clips / "clip0/000.png", clips / "clip/0.png")
    shutil.copy(clips / "clip0/000.png", clips / "clip/1.png")
    for name in ("video.mp4", "shard.tar", "photo.png"):
        shutil.copy(clips / "clip0/000.png", clips / name)
    victim = clips / place if place else clips
    replaced(victim, kind)
    arguments = ["--scale", "tiny", "--steps", "3", "--batch", "2", "--workers", "0", "--device", "cpu"]
    if not place:
        assert main(["pretrain", "siammae", "--data", str(clips), "--out", str(tmp_path / "out"), *arguments]) == 2
        return
    index = build_index(clips, tmp_path / "index.json")
    assert {"clip0", "clip1", "clip2", "clip3", "sound.mp4"} <= {entry.path for entry in index.entries}
    if place in {"video.mp4", "shard.tar", "photo.png"} and kind in {"fifo", "socket", "endless", "empty"}:
        assert any(path == place for path, _ in index.broken), index.broken
