"""Which files of a data set are meant, and in which order: the same for all three tasks."""

import errno
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import davis_folder
import jhmdb_folder
import numpy as np
import pytest
import vip_folder
from PIL import Image
from small_copies import pack

import corrkit
from corrkit.cli import main
from corrkit.datasets.checking import DataCheck
from corrkit.errors import DataError, UnreadableError, UsageError
from corrkit.task_table import task_facts
from corrkit.tasks import load_task
from corrkit.tasks.identity import data_identity
from corrkit.tasks.roots import clips_of_list, list_lines

SMALL = {
    "davis": {"size": "[64]", "multiple": "16"},
    "vip": {"size": "[64]", "multiple": "16"},
    "jhmdb": {"size": "[64, 64]"},
}
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"


def make_data(task: str, root: Path, frames: int = 12) -> Path:
    """A data set of one clip; its folder of frames."""
    if task == "davis":
        davis_folder.make_clip(root, frames=frames, size=(48, 64))
        return root / "JPEGImages/480p/walk"
    if task == "vip":
        vip_folder.make_clip(root, frames=frames)
        return root / "Images/videos1"
    jhmdb_folder.make_clip(root, "a_jump_b_0", frames=frames)
    return root / "Rename_Images/jump/a_jump_b_0"


def open_data(task: str, root: Path, split: str | None = None):
    return load_task(task).open(root, split=split or task_facts(task).default_split, dataset_name=None)


def annotations_of(task: str, root: Path) -> Path | None:
    return {"davis": root / "Annotations/480p/walk", "vip": root / "Annotations/Category_ids/videos1"}.get(task)


def rename(folder: Path, name_of: Callable[[int], str]) -> None:
    """Files in order get other names, by number from 1; and times in another order."""
    files = sorted(folder.iterdir())
    renamed = [path.rename(folder / f"{name_of(number)}{path.suffix}") for number, path in enumerate(files, start=1)]
    random.Random(0).shuffle(renamed)
    for path in renamed:
        path.touch()


@pytest.mark.parametrize("task", ["davis", "vip", "jhmdb"])
@pytest.mark.parametrize(
    "name_of", [str, "frame_{}".format, "img_{}.png".format, "v2_{}_x".format, lambda number: f"{number - 1:02d}"]
)
def test_numbers_within_names_give_the_order(tmp_path: Path, task: str, name_of: Callable[[int], str]):
    make_data(task, tmp_path / "a")
    frames = make_data(task, tmp_path / "b")
    for folder in filter(None, (frames, annotations_of(task, tmp_path / "b"))):
        rename(folder, name_of)
    first, second = (
        corrkit.evaluate(task, "rgb", data=tmp_path / name, dataset_name="x", **SMALL[task]).summary
        for name in ("a", "b")
    )
    np.testing.assert_equal(first["metrics"], second["metrics"])


@pytest.mark.parametrize("task", ["davis", "vip", "jhmdb"])
def test_a_stray_picture_does_not_change_the_order_of_the_others(tmp_path: Path, task: str):
    frames = make_data(task, tmp_path)
    for folder in filter(None, (frames, annotations_of(task, tmp_path))):
        rename(folder, str)
    stray = next(frames.iterdir())
    (frames / f"thumbnail{stray.suffix}").write_bytes(stray.read_bytes())
    (clip,) = open_data(task, tmp_path).clips
    assert [path.stem for path in clip.frames.paths] == [*map(str, range(1, 13)), "thumbnail"]


@pytest.mark.parametrize("task", ["davis", "vip", "jhmdb"])
@pytest.mark.parametrize("other", [".png", ".bmp", ".JPEG", ".webp"])
def test_two_files_of_one_frame_are_refused_naming_both(tmp_path: Path, task: str, other: str):
    frames = make_data(task, tmp_path)
    first = sorted(frames.iterdir())[3]
    twin = first.with_suffix(".tif" if other == first.suffix else other)
    twin.write_bytes(first.read_bytes())
    (clip,) = open_data(task, tmp_path).clips
    with pytest.raises(DataError, match="second file of one frame") as raised:
        len(clip.frames)
    assert first.name in str(raised.value)
    assert twin.name in str(raised.value)


@pytest.mark.parametrize("task", ["davis", "vip", "jhmdb"])
@pytest.mark.parametrize("suffix", [".bmp", ".tif", ".tiff", ".webp", ".PNG"])
def test_frames_of_other_formats_are_read(tmp_path: Path, task: str, suffix: str):
    make_data(task, tmp_path)
    (clip,) = open_data(task, tmp_path).clips
    before = [clip.frames[index] for index in range(len(clip.frames))]
    for path, pixels in zip(clip.frames.paths, before, strict=True):
        path.unlink()
        options: dict[str, Any] = {"lossless": True} if suffix == ".webp" else {}
        Image.fromarray(pixels).save(path.with_suffix(suffix), **options)
    (clip,) = open_data(task, tmp_path).clips
    for index, pixels in enumerate(before):
        np.testing.assert_array_equal(clip.frames[index], pixels)


@pytest.mark.parametrize("task", ["davis", "vip", "jhmdb"])
def test_frames_of_no_format_are_named(tmp_path: Path, task: str):
    frames = make_data(task, tmp_path)
    for path in frames.iterdir():
        path.rename(path.with_suffix(".heic"))
    (clip,) = open_data(task, tmp_path).clips
    with pytest.raises(DataError, match=r"holds no frame \(it holds '.*\.heic'.*; frames are \.jpg"):
        len(clip.frames)


@pytest.mark.parametrize("task", ["davis", "vip", "jhmdb"])
def test_git_lfs_pointers_are_named(tmp_path: Path, task: str):
    frames = make_data(task, tmp_path)
    annotations = annotations_of(task, tmp_path) or tmp_path / "joint_positions/jump/a_jump_b_0"
    for path in (sorted(frames.iterdir())[0], sorted(annotations.iterdir())[0]):
        path.write_text(LFS)
    (clip,) = open_data(task, tmp_path).clips
    with pytest.raises(DataError, match="git-LFS pointer"):
        clip.frames[0]
    with pytest.raises(DataError, match="git-LFS pointer"):
        clip.annotation(0)


@pytest.mark.parametrize(
    "line",
    [
        "walk",
        "walk/",
        "./walk",
        "480p/walk",
        "JPEGImages/480p/walk/",
        "walk/00000.jpg",
        "walk\t1",
        "a/walk.mp4/../walk",
    ],
)
def test_lines_of_a_list_name_a_clip_in_many_forms(tmp_path: Path, line: str):
    path = tmp_path / "val.txt"
    path.write_text(f"\ufeff{line}\r\n\nother clip/\n")
    assert clips_of_list(path) == ["walk", "other clip"]


@pytest.mark.parametrize("line", ["/", "..", "a/..", "a/../"])
def test_a_line_that_names_no_clip_is_quoted(tmp_path: Path, line: str):
    (tmp_path / "val.txt").write_text(f"walk\n{line}\n")
    with pytest.raises(DataError, match=r"val\.txt has the line '"):
        clips_of_list(tmp_path / "val.txt")


@pytest.mark.parametrize("task", ["davis", "vip"])
@pytest.mark.parametrize("length", [300, 5_000, 100_000])
def test_a_long_line_costs_only_its_own_clip(tmp_path: Path, task: str, length: int):
    make_data(task, tmp_path)
    (listed,) = tmp_path.glob("*/**/val*.txt")
    listed.write_text("a" * length + "\n" + listed.read_text())
    result = corrkit.evaluate(task, "rgb", data=tmp_path, dataset_name="x", **SMALL[task])
    assert result.summary["clips"] == 1
    ((name, error),) = result.failures.items()
    assert "no such folder" in str(error)
    assert len(name) + len(str(error)) < 1_000


def test_splits_may_have_tabs_and_no_other_lines(tmp_path: Path):
    make_data("jhmdb", tmp_path)
    path = tmp_path / "splits/jump_test_split1.txt"
    path.write_text("a_jump_b_0.avi\t2\nother.avi \t 1\n")
    assert [clip.name for clip in open_data("jhmdb", tmp_path).clips] == ["a_jump_b_0"]
    for line in ("a_jump_b_0.avi", "a_jump_b_0.avi 3", "../../x.avi 2", "a_jump_b_0.avi two"):
        path.write_text(f"a_jump_b_0.avi 2\n{line}\n")
        with pytest.raises(DataError, match="has the line"):
            open_data("jhmdb", tmp_path)


def test_a_list_that_leads_out_of_the_root_is_refused(tmp_path: Path):
    make_data("jhmdb", tmp_path / "data")
    (tmp_path / "data/mine.txt").write_text(
        "Rename_Images/../../x joint_positions/jump/a_jump_b_0/joint_positions.mat\n"
    )
    with pytest.raises(DataError, match="below the data root"):
        open_data("jhmdb", tmp_path / "data", "mine")


def test_a_list_that_is_a_fifo_is_refused(tmp_path: Path):
    os.mkfifo(tmp_path / "val.txt")
    with pytest.raises(DataError, match="not a file"):
        list_lines(tmp_path / "val.txt")


@pytest.mark.parametrize("task", ["davis", "vip", "jhmdb"])
def test_litter_beside_clips_is_left_out_with_a_note(tmp_path: Path, task: str):
    frames = make_data(task, tmp_path)
    annotations = annotations_of(task, tmp_path) or tmp_path / "joint_positions/jump/a_jump_b_0"
    for path in (*tmp_path.rglob("val*.txt"), *tmp_path.glob("splits/*")):
        path.unlink()
    for folder in (frames.parent, annotations.parent):
        for name in (".ipynb_checkpoints", "tmp", "__MACOSX", "only_hidden"):
            (folder / name).mkdir()
        (folder / "only_hidden/.DS_Store").write_bytes(b"x")
        (folder / ".ipynb_checkpoints/x.png").write_bytes(b"x")
    (annotations.parent / "no_annotation").mkdir()
    (frames.parent / "no_annotation").mkdir()
    (frames.parent / "no_annotation/00000.jpg").write_bytes(b"x")
    data = open_data(task, tmp_path, "all" if task == "jhmdb" else None)
    assert {clip.name for clip in data.clips} == {frames.name, "no_annotation"}
    (note,) = [note for note in data.notes if "left out" in note and "folder" in note]
    assert "4 hidden or empty folder(s)" in note
    assert "'.ipynb_checkpoints'" in note


@pytest.mark.parametrize("task", ["davis", "vip", "jhmdb"])
def test_names_of_any_bytes_are_evaluated(tmp_path: Path, task: str):
    frames = make_data(task, tmp_path / "data", frames=4)
    annotations = annotations_of(task, tmp_path / "data") or tmp_path / "data/joint_positions/jump/a_jump_b_0"
    odd = os.fsdecode(b"M\xe4dchen_jump_b_0")
    for path in (*tmp_path.rglob("val*.txt"), *tmp_path.glob("data/splits/*")):
        path.unlink()
    for folder in (frames, annotations):
        for path in folder.iterdir():
            if path.suffix != ".mat":
                path.rename(folder / f"{os.fsdecode(bytes([0xFC]))}{path.name}")
        folder.rename(folder.with_name(odd))
    root = (tmp_path / "data").rename(tmp_path / os.fsdecode(b"d\xe4ta"))
    split = "all" if task == "jhmdb" else "val"
    arguments = ["eval", task, "--ckpt", "rgb", "--data", str(root), "--split", split, "--json"]
    arguments += ["--out", str(tmp_path / "run")]
    settings = [word for name, value in SMALL[task].items() for word in ("--set", f"{name}={value}")]
    command = [sys.executable, "-m", "corrkit", *arguments, "--save-predictions", *settings]
    done = subprocess.run(command, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert b"M\\\\xe4dchen" in done.stdout
    again = subprocess.run(command, capture_output=True, timeout=300, check=False)
    assert again.stdout == done.stdout


@pytest.mark.parametrize("task", ["davis", "vip", "jhmdb"])
@pytest.mark.parametrize("named", [rb"M\xe4dchen_jump_b_0", b"M\xe4dchen_jump_b_0"])
def test_predictions_of_names_of_any_bytes_are_scored(
    tmp_path: Path, task: str, named: bytes, capsys: pytest.CaptureFixture[str]
):
    """Named as the clip is shown, as corrkit saves them, or by the bytes of its own folder, as others do."""
    frames = make_data(task, tmp_path / "data", frames=4)
    annotations = annotations_of(task, tmp_path / "data") or tmp_path / "data/joint_positions/jump/a_jump_b_0"
    for path in (*tmp_path.rglob("val*.txt"), *tmp_path.glob("data/splits/*")):
        path.unlink()
    for folder in (frames, annotations):
        folder.rename(folder.with_name(os.fsdecode(b"M\xe4dchen_jump_b_0")))
    run, split = tmp_path / os.fsdecode(b"r\xfcn"), "all" if task == "jhmdb" else "val"
    options = {"data": tmp_path / "data", "split": split}
    made = corrkit.evaluate(task, "identity", out=run, save_predictions=True, **options)
    for path in (run / "predictions").iterdir():
        path.rename(path.with_name(os.fsdecode(named) + path.suffix))
    found = corrkit.score(task, pred=run / "predictions", **options)
    np.testing.assert_equal(found.summary["metrics"], made.summary["metrics"])
    assert [*found.summary["per_clip"]] == [r"M\xe4dchen_jump_b_0"]
    assert main(["score", task, "--data", str(tmp_path / "data"), "--split", split, "--pred", str(run)]) == 2
    assert r"r\xfcn lacks 1 of 1 clips: M\xe4dchen_jump_b_0" in capsys.readouterr().err, "the same bytes look the same"


def test_a_table_survives_an_output_that_lacks_its_characters(tmp_path: Path):
    make_data("davis", tmp_path / "data")
    command = [sys.executable, "-m", "corrkit", "eval", "davis", "--ckpt", "rgb", "--data", str(tmp_path / "data")]
    settings = ["--out", str(tmp_path / "run"), "--set", "size=[64]", "--set", "multiple=16"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*command, *settings], capture_output=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert b"J&F-Mean" in done.stdout
    assert done.stdout.isascii()


@pytest.mark.parametrize("task", ["davis", "vip", "jhmdb"])
@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_a_read_error_is_no_other_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, code: int):
    make_data(task, tmp_path)
    (clip,) = open_data(task, tmp_path).clips
    data_identity([clip])
    victim, real = clip.annotation_files[-1], Path.open

    def failing(path: Path, *args: Any, **kwargs: Any) -> Any:
        if path == victim:
            raise OSError(code, os.strerror(code), str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", failing)
    with pytest.raises(UnreadableError, match=f"{victim.name} can't be read"):
        data_identity([clip])


@pytest.mark.parametrize("task", ["davis", "vip", "jhmdb"])
def test_a_fifo_in_a_data_set_is_its_clips_failure(tmp_path: Path, task: str):
    frames = make_data(task, tmp_path)
    annotations = annotations_of(task, tmp_path) or tmp_path / "joint_positions/jump/a_jump_b_0"
    for folder in (frames, annotations):
        kept = folder.parent / "kept"
        path = sorted(folder.iterdir())[:2][-1]
        path.rename(kept)
        os.mkfifo(path)
        result = corrkit.evaluate(task, "rgb", data=tmp_path, dataset_name="x", **SMALL[task])
        (error,) = result.failures.values() or [None]
        assert path.name in str(error)
        assert "is a FIFO, socket or device, not a file" in str(error)
        path.unlink()
        kept.rename(path)


@pytest.mark.parametrize("task", ["davis", "vip", "jhmdb"])
def test_data_check_reports_what_evaluation_fails_on(tmp_path: Path, task: str):
    frames = make_data(task, tmp_path)
    annotations = annotations_of(task, tmp_path)
    victims = [folder for folder in (frames, annotations) if folder is not None]
    for folder in victims:
        path = sorted(folder.iterdir())[1]
        path.unlink()
        os.mkfifo(path)
        sorted(folder.iterdir())[2].write_text(LFS)
    faults = list(DataCheck(task, tmp_path, split=task_facts(task).default_split, expected=()).faults())
    for folder in victims:
        names = {name for fault in faults for name in fault.files if str(folder.relative_to(tmp_path)) in name}
        assert len(names) == 2, faults


def test_data_check_reports_lines_of_lists(tmp_path: Path):
    make_data("davis", tmp_path)
    listed = tmp_path / "ImageSets/2017/val.txt"
    listed.write_text(f"walk\n{'a' * 300}\n")
    faults = list(DataCheck("davis", tmp_path, split="val", expected=()).faults())
    assert any(fault.clip == f"{'a' * 100}...(300 characters)" for fault in faults)
    (tmp_path / "ImageSets/2017/train.txt").write_text("..\n")
    assert list(DataCheck("davis", tmp_path, split="train", expected=()).faults())


INSIDE = ["run", "JPEGImages/run", "JPEGImages/480p/walk/run", "Annotations/../run", "link/run"]


@pytest.mark.parametrize("where", INSIDE)
@pytest.mark.parametrize("named", [".", "data", "data.zip"])
def test_nothing_is_written_inside_a_data_set(tmp_path: Path, where: str, named: str):
    root = tmp_path / "data"
    make_data("davis", root)
    pack(root, tmp_path / "data.zip")
    (tmp_path / "link").symlink_to(root)
    target = tmp_path / where if where.startswith("link") else root / where
    before = sorted(root.rglob("*"))
    with pytest.raises(UsageError, match="lies inside the data set"):
        corrkit.evaluate("davis", "rgb", data=tmp_path / named, dataset_name="x", out=target, **SMALL["davis"])
    assert sorted(root.rglob("*")) == before


FIELD = {
    "order_unpadded": 72.91, "exif180": 89.56, "trailer4k": 89.5, "list_slash": 71.3, "rubbish_nolist": 71.3,
    "webp": 89.5, "names_latin1": 71.3,
}  # fmt: skip
REFUSED = {
    "mask_beside_frame": r"00000\.png.*second file of one frame \(beside 00000\.jpg",
    "corrupt_middle": r"00003\.jpg can't be decoded",
    "mask_jpeg_named_png": r"00000\.png.*holds JPEG data",
}


@pytest.mark.golden
@pytest.mark.parametrize("name", FIELD)
def test_files_as_people_have_them_give_the_right_value(shared: Path, name: str):
    """Right values of field/README.md, in per cent to one digit; exif180 was encoded again, which is worth 0.06."""
    result = corrkit.evaluate("davis", "rgb", data=shared / "field" / name / "data")
    assert not result.failures
    assert 100 * result.summary["metrics"]["J&F-Mean"] == pytest.approx(FIELD[name], abs=0.06)


@pytest.mark.golden
@pytest.mark.parametrize("name", REFUSED)
def test_files_as_people_have_them_are_refused_by_name(shared: Path, name: str):
    result = corrkit.evaluate("davis", "rgb", data=shared / "field" / name / "data")
    (error,) = result.failures.values()
    assert re.search(REFUSED[name], str(error))


@pytest.mark.golden
def test_a_folder_of_ones_own_inside_davis_is_not_taken_for_davis(shared: Path):
    with pytest.raises(DataError, match="which it lies in, is"):
        corrkit.evaluate("davis", "rgb", data=shared / "field/own_inside_davis/data/mine", dataset_name="mine")
