"""Frames as people have them, in the midst of a clip: other sizes, turned, other modes, cut, none, one; by all tasks.

Each is read properly, and the number is that of the same pixels in plain files, or it is its clip's failure, which
names the file, while other clips have their numbers; `corrkit data check` says the same.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import davis_folder
import jhmdb_folder
import numpy as np
import pytest
import vip_folder
from odd_data import checked
from PIL import Image

import corrkit
from corrkit.cli import main
from corrkit.evaluation import Result
from corrkit.tasks.masks import read_mask, resize_nearest, write_mask
from tests.tasks.test_files import SMALL, open_data

TASKS = ["davis", "vip", "jhmdb"]
MASKS = {"davis": "Annotations/480p/odd_jump_0", "vip": "Annotations/Category_ids/odd_jump_0"}
FRAMES = {
    "davis": "JPEGImages/480p/odd_jump_0",
    "vip": "Images/odd_jump_0",
    "jhmdb": "Rename_Images/jump/odd_jump_0",
}


def make_two(task: str, root: Path, frames: int = 6) -> Path:
    """A sound clip and one that is to be made odd, whose folder of frames is returned."""
    for clip in ("good_jump_0", "odd_jump_0"):
        if task == "davis":
            davis_folder.make_clip(root, clip, frames=frames, size=(48, 64))
        elif task == "vip":
            vip_folder.make_clip(root, clip, frames=frames)
        else:
            jhmdb_folder.make_clip(root, clip, frames=frames)
    return root / FRAMES[task]


def evaluated(task: str, root: Path, **options: object) -> Result:
    result: Result = corrkit.evaluate(task, "rgb", data=root, dataset_name="x", **SMALL[task], **options)
    return result


def pixels_of(task: str, root: Path) -> np.ndarray:
    """Of the frame that is odd: a score of few points may not feel it."""
    (clip,) = [clip for clip in open_data(task, root).clips if clip.name == "odd_jump_0"]
    pixels: np.ndarray = clip.frames[3]
    return pixels


def changed(path: Path, change: Callable[[Image.Image], Image.Image], **options: Any) -> None:
    with Image.open(path) as image:
        picture = image.convert("RGB")
    change(picture).save(path, **options)


def resized(size: tuple[int, int], *indices: int) -> Callable[[list[Path]], None]:
    def change(files: list[Path]) -> None:
        for index in indices:
            changed(files[index], lambda picture: picture.resize(size))

    return change


def turned_by_its_tag(files: list[Path]) -> None:
    orientation = Image.Exif()
    orientation[0x0112] = 6
    changed(files[3], lambda picture: picture, exif=orientation)


def cut(files: list[Path]) -> None:
    content = files[-1].read_bytes()
    files[-1].write_bytes(content[: len(content) * 2 // 3])


def emptied(files: list[Path]) -> None:
    for path in files:
        path.unlink()


def removed(files: list[Path]) -> None:
    shutil.rmtree(files[0].parent)


REFUSED: dict[str, tuple[Callable[[list[Path]], None], int | None]] = {
    "larger": (resized((128, 96), 3), 3),
    "wider": (resized((70, 48), 3), 3),
    "smaller": (resized((32, 24), 5), 5),
    "pixel": (resized((1, 1), 3), 3),
    "second": (resized((128, 96), 1), 1),
    "turned": (turned_by_its_tag, 3),
    "cut": (cut, 5),
    "emptied": (emptied, None),
    "removed": (removed, None),
}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", REFUSED)
def test_an_odd_frame_is_its_clips_failure_by_name(task: str, name: str, tmp_path: Path):
    folder = make_two(task, tmp_path / "data")
    expected = evaluated(task, tmp_path / "data", clips=["good_jump_0"]).summary["metrics"]
    files = sorted(folder.iterdir())
    harm, victim = REFUSED[name]
    harm(files)
    result = evaluated(task, tmp_path / "data")
    ((clip, failure),) = result.failures.items()
    assert clip == "odd_jump_0"
    assert folder.name in str(failure)
    assert victim is None or files[victim].name in str(failure)
    np.testing.assert_equal(result.summary["metrics"], expected)
    problems, _ = checked(tmp_path / "data", task)
    assert any((folder.name if victim is None else files[victim].name) in problem for problem in problems), problems


@pytest.mark.parametrize("task", TASKS)
def test_a_first_frame_of_another_size_is_no_silent_number(task: str, tmp_path: Path):
    """Masks are held against it; joints fit any frame, so the second one is the odd one then."""
    folder = make_two(task, tmp_path / "data")
    resized((70, 48), 0)(sorted(folder.iterdir()))
    (failure,) = evaluated(task, tmp_path / "data").failures.values()
    assert "70x48" in str(failure)
    assert "64x48" in str(failure)


@pytest.mark.parametrize("task", MASKS)
@pytest.mark.parametrize(("index", "size"), [(0, (48, 70)), (3, (96, 128)), (5, (24, 32)), (3, (1, 1))])
def test_a_mask_of_another_size_is_its_clips_failure_by_name(
    task: str, index: int, size: tuple[int, int], tmp_path: Path
):
    make_two(task, tmp_path / "data")
    path = sorted((tmp_path / "data" / MASKS[task]).iterdir())[index]
    write_mask(path, resize_nearest(read_mask(path), size))
    ((clip, failure),) = evaluated(task, tmp_path / "data").failures.items()
    assert clip == "odd_jump_0"
    assert f"{path.name}: mask of another size than the frames ({size[1]}x{size[0]}" in str(failure)
    assert any(path.name in problem and "another size" in problem for problem in checked(tmp_path / "data", task)[0])


def test_the_command_says_so_and_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = make_two("vip", tmp_path / "data")
    resized((128, 96), 3)(sorted(folder.iterdir()))
    settings = [word for name, value in SMALL["vip"].items() for word in ("--set", f"{name}={value}")]
    options = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"), "--workers", "1", *settings]
    assert main(["eval", "vip", "--ckpt", "rgb", *options]) == 2
    told, said = capsys.readouterr()
    assert "1 clips" in told
    assert "failed: odd_jump_0: odd_jump_0: frame 3 (" in said
    assert "is 128x96, frame 0 is 64x48." in said


def with_alpha(pixels: np.ndarray) -> Image.Image:
    alpha = np.random.default_rng(0).integers(0, 255, pixels.shape[:2], np.uint8)
    return Image.fromarray(np.dstack([pixels, alpha]))


def of_16_bits(pixels: np.ndarray) -> np.ndarray:
    return pixels[..., 0].astype(np.uint16) * 256 + 77


FORMS: dict[str, tuple[Callable[[np.ndarray, Path], object], Callable[[np.ndarray], np.ndarray]]] = {
    "grey.png": (
        lambda pixels, path: Image.fromarray(pixels[..., 0]).save(path),
        lambda pixels: np.repeat(pixels[..., :1], 3, axis=2),
    ),
    "16 bits.png": (
        lambda pixels, path: Image.fromarray(of_16_bits(pixels)).save(path),
        lambda pixels: np.repeat(pixels[..., :1], 3, axis=2),
    ),
    "16 bits colour.png": (
        lambda pixels, path: cv2.imwrite(str(path), pixels[..., ::-1].astype(np.uint16) * 256 + 77),
        lambda pixels: pixels,
    ),
    "palette.png": (
        lambda pixels, path: Image.fromarray(pixels).quantize(64, dither=Image.Dither.NONE).save(path),
        lambda pixels: np.asarray(Image.fromarray(pixels).quantize(64, dither=Image.Dither.NONE).convert("RGB")),
    ),
    "alpha.png": (lambda pixels, path: with_alpha(pixels).save(path), lambda pixels: pixels),
    "grey alpha.png": (
        lambda pixels, path: Image.fromarray(pixels[..., 0]).convert("LA").save(path),
        lambda pixels: np.repeat(pixels[..., :1], 3, axis=2),
    ),
    "inks.tif": (lambda pixels, path: Image.fromarray(pixels).convert("CMYK").save(path), lambda pixels: pixels),
    "one bit.png": (
        lambda pixels, path: Image.fromarray(pixels[..., 0] > 127).save(path),
        lambda pixels: np.repeat((pixels[..., :1] > 127) * np.uint8(255), 3, axis=2),
    ),
}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("form", FORMS)
def test_one_frame_of_another_mode_counts_as_the_pixels_that_it_holds(task: str, form: str, tmp_path: Path):
    """The metrics are those of the same pixels as RGB PNGs, which are written out here by hand."""
    write, as_colours = FORMS[form]
    found = []
    for name in ("odd", "plain"):
        victim = sorted(make_two(task, tmp_path / name).iterdir())[3]
        with Image.open(victim) as image:
            pixels = np.asarray(image.convert("RGB"))
        victim.unlink()
        if name == "odd":
            write(pixels, victim.with_suffix(Path(form).suffix))
        else:
            Image.fromarray(as_colours(pixels)).save(victim.with_suffix(".png"))
        result = evaluated(task, tmp_path / name)
        assert not result.failures
        found.append((result.summary["metrics"], pixels_of(task, tmp_path / name)))
    np.testing.assert_equal(found[0], found[1])


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("tag", [1, 3, 6, 8])
def test_one_frame_that_is_stored_turned_counts_as_it_is_meant(task: str, tag: int, tmp_path: Path):
    degrees = {1: 0, 3: 180, 6: 90, 8: -90}[tag]  # counter-clockwise, by which it is stored
    orientation = Image.Exif()
    orientation[0x0112] = tag
    found = []
    for name in ("odd", "plain"):
        victim = sorted(make_two(task, tmp_path / name).iterdir())[3]
        with Image.open(victim) as image:
            picture = image.convert("RGB")
        victim.unlink()
        if name == "odd":
            picture.rotate(degrees, expand=True).save(victim.with_suffix(".png"), exif=orientation)
        else:
            picture.save(victim.with_suffix(".png"))
        found.append((evaluated(task, tmp_path / name).summary["metrics"], pixels_of(task, tmp_path / name)))
    np.testing.assert_equal(found[0], found[1])


@pytest.mark.parametrize("task", TASKS)
def test_a_clip_of_a_single_frame_is_noted_and_costs_no_other(task: str, tmp_path: Path):
    """VIP counts the first label, as published: then the number says less than it seems to."""
    root = tmp_path / "data"
    if task == "davis":
        davis_folder.make_clip(root, "odd_jump_0", frames=1, size=(48, 64))
        davis_folder.make_clip(root, "good_jump_0", frames=6, size=(48, 64))
    elif task == "vip":
        vip_folder.make_clip(root, "odd_jump_0", frames=1)
        vip_folder.make_clip(root, "good_jump_0", frames=6)
    else:
        jhmdb_folder.make_clip(root, "odd_jump_0", frames=1)
        jhmdb_folder.make_clip(root, "good_jump_0", frames=6)
    result = evaluated(task, root)
    assert not result.failures
    assert any("without a scored frame" in note and "odd_jump_0" in note for note in result.notes), result.notes
    assert not any("good_jump_0" in note and "without a scored frame" in note for note in result.notes)
    if task != "vip":
        alone = evaluated(task, root, clips=["good_jump_0"])
        assert result.summary["metrics"] == alone.summary["metrics"]


def test_a_vip_clip_whose_first_label_alone_is_there_is_noted(tmp_path: Path):
    make_two("vip", tmp_path)
    for path in sorted((tmp_path / MASKS["vip"]).iterdir())[1:]:
        path.unlink()
    (note,) = [note for note in evaluated("vip", tmp_path).notes if "without a scored frame" in note]
    assert "odd_jump_0" in note
