"""Training data as people have them: frames of other sizes, modes and orientations, cut, none, one; and videos."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from clip_video import moving_square, write_video
from PIL import Image

from corrkit.cli import main
from corrkit.errors import DataError
from corrkit.frames.items import build_index, read_frames
from corrkit.training.data import Samples
from corrkit.training.loop import pretrain
from corrkit.training.recipe import load_recipe
from tests.tasks.test_odd_frames import FORMS, changed, cut, resized
from tests.training.test_loop import OPTIONS, siammae


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def drawn(data: Path, stored: Path, recipe: str, count: int = 30) -> list[str]:
    """What was found wrong with clip1 by `count` of its samples; "" where nothing was."""
    index = build_index(data, stored)
    samples = Samples(index, load_recipe(recipe, scale="tiny").views, 0)
    (item,) = [number for number, entry in enumerate(index.entries) if entry.path == "clip1"]
    found = []
    for place in range(0, 4 * count, 4):
        sample, *_ = samples[(place, item)]
        found.append(" ".join(f"{path}: {why}" for path, why in sample.faults))
    return found


@pytest.mark.parametrize("recipe", ["siammae", "mae-st", "catmae"])
def test_frames_of_two_sizes_are_no_sample(recipe: str, clips: Path, tmp_path: Path):
    """One box cuts them: of the other frame it would be another part, or none of it."""
    assert not any(drawn(clips, tmp_path / "sound.json", recipe))
    resized((96, 80), 4)(sorted((clips / "clip1").iterdir()))
    faults = set(drawn(clips, tmp_path / "index.json", recipe))
    assert "clip1: clip1: frame 4 (004.png) is 96x80, frame 0 is 48x40." in faults


def test_pictures_of_many_sizes_in_a_folder_are_drawn_one_by_one(clips: Path, tmp_path: Path):
    """As ImageNet's folders of classes are."""
    for number, path in enumerate(sorted((clips / "clip1").iterdir())):
        changed(path, lambda picture, number=number: picture.resize((40 + number, 50)))  # type: ignore[misc]
    assert not any(drawn(clips, tmp_path / "index.json", "mae"))


def test_the_command_names_clip_and_frame(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for clip in range(4):
        resized((96, 80), 4)(sorted((clips / f"clip{clip}").iterdir()))
    options = ["--scale", "tiny", "--steps", "8", "--batch", "2", "--workers", "0", "--device", "cpu"]
    assert main(["pretrain", "siammae", "--data", str(clips), "--out", str(tmp_path / "out"), *options]) == 2
    said = capsys.readouterr().err
    assert "96x80" in said
    assert "more than 1.0%" in said or "No item of" in said


@pytest.mark.parametrize("form", FORMS)
def test_one_frame_of_another_mode_is_the_pixels_that_it_holds(form: str, clips: Path, tmp_path: Path):
    write, as_colours = FORMS[form]
    victim = clips / "clip1/002.png"
    pixels = np.asarray(Image.open(victim))
    victim.unlink()
    write(pixels, victim.with_suffix(Path(form).suffix))
    index = build_index(clips, tmp_path / "index.json")
    (item,) = [number for number, entry in enumerate(index.entries) if entry.path == "clip1"]
    np.testing.assert_array_equal(read_frames(index, item, [2])[0], as_colours(pixels))
    assert not any(drawn(clips, tmp_path / "index.json", "siammae"))


def test_a_frame_that_is_stored_turned_is_turned_back(clips: Path, tmp_path: Path):
    orientation = Image.Exif()
    orientation[0x0112] = 6
    victim = clips / "clip1/004.png"
    pixels = np.asarray(Image.open(victim))
    Image.fromarray(pixels).rotate(90, expand=True).save(victim, exif=orientation)
    index = build_index(clips, tmp_path / "index.json")
    (item,) = [number for number, entry in enumerate(index.entries) if entry.path == "clip1"]
    np.testing.assert_array_equal(read_frames(index, item, [4])[0], pixels)
    Image.fromarray(pixels).save(victim, exif=orientation)
    assert any("004.png" in fault and "40x48" in fault for fault in drawn(clips, tmp_path / "other.json", "siammae"))


def emptied(files: list[Path]) -> None:
    for path in files:
        path.unlink()


def alone(files: list[Path]) -> None:
    emptied(files[1:])


HARMS: dict[str, tuple[Callable[[list[Path]], None], bool]] = {
    "cut": (cut, True),
    "empty": (emptied, False),
    "single": (alone, False),
}


@pytest.mark.parametrize("name", HARMS)
def test_other_clips_train_where_one_is_odd(name: str, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    harm, is_named = HARMS[name]
    harm(sorted((clips / "clip1").iterdir()))
    pretrain(siammae(), clips, tmp_path / "out", dataclasses.replace(OPTIONS, steps=6, damaged=0.5))
    said = capsys.readouterr().err
    assert ("004.png" in said) == is_named
    assert ("1 single pictures, which are repeated, without motion" in said) == (name == "single")


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv"])
@pytest.mark.parametrize("count", [1, 2, 8])
def test_videos_of_few_frames_and_cut_ones(suffix: str, count: int, tmp_path: Path):
    data = tmp_path / "data"
    frames = moving_square(count)
    write_video(data / f"sound{suffix}", frames)
    whole = write_video(data / f"cut{suffix}", frames).read_bytes()
    (data / f"cut{suffix}").write_bytes(whole[: len(whole) // 2])
    index = build_index(data, tmp_path / "index.json")
    assert f"sound{suffix}" in {entry.path for entry in index.entries}
    for item, entry in enumerate(index.entries):
        assert 1 <= entry.frames <= count
        for number, frame in enumerate(read_frames(index, item, range(entry.frames))):
            assert np.abs(frame.astype(int) - frames[number]).mean() < 8, entry.path  # lossy; no other frame is as near
    assert {path for path, _ in index.broken} <= {f"cut{suffix}"}
    sound = next(item for item, entry in enumerate(index.entries) if entry.path.startswith("sound"))
    assert index.entries[sound].frames == count
    Samples(index, load_recipe("siammae", scale="tiny").views, 0)[(0, sound)]


def test_data_of_odd_clips_alone_are_refused_by_name(clips: Path, tmp_path: Path):
    for clip in (1, 2, 3):
        shutil.rmtree(clips / f"clip{clip}")
    for path in sorted((clips / "clip0").iterdir()):
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"000\.png"):
        pretrain(siammae(), clips, tmp_path / "out", OPTIONS)
