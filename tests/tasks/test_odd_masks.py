"""Masks as people have them: what ids can't be is refused, what a score depends on is noted, by each command."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from davis_folder import make_clip
from odd_data import FRAMES, MASKS, checked, evaluated, masks_of, relabel
from PIL import Image

import corrkit
from corrkit.errors import DataError
from corrkit.palette import voc_palette
from corrkit.tasks.masks import read_mask, write_mask


def as_jpeg(root: Path) -> None:
    for path in masks_of(root):
        Image.fromarray(read_mask(path) * 100).save(path, format="JPEG")


def soft_edges(root: Path) -> None:
    for path in masks_of(root):
        binary = Image.fromarray(np.where(read_mask(path) > 0, 255, 0).astype(np.uint8))
        binary.resize((16, 12), Image.Resampling.BILINEAR).resize((32, 24), Image.Resampling.BICUBIC).save(path)


def grey_levels(root: Path) -> None:
    for path in masks_of(root):
        with Image.open(path) as image:
            image.convert("RGB").convert("L").save(path)


def zero_and_128(root: Path) -> None:
    for path in masks_of(root):
        relabel(path, {1: 128, 2: 128})


def levels_in_a_later_mask(root: Path) -> None:
    relabel(masks_of(root)[2], {1: 38, 2: 75})


def noise(root: Path) -> None:
    for seed, path in enumerate(masks_of(root)):
        write_mask(path, np.random.default_rng(seed).integers(0, 200, (24, 32)).astype(np.uint8))


def no_background(root: Path) -> None:
    relabel(masks_of(root)[0], {0: 3})


def re_ordered_palette(root: Path) -> None:
    """Ids and colours turned around together, as an adaptive palette has them: every file looks as before."""
    for path in masks_of(root):
        image = Image.fromarray((2 - read_mask(path)).astype(np.uint8))
        image.putpalette(voc_palette()[[2, 1, 0]].tobytes())
        image.save(path)


def palette_of_each_file(root: Path) -> None:
    image = Image.fromarray(np.array([0, 2, 1], np.uint8)[read_mask(masks_of(root)[2])])
    image.putpalette(voc_palette()[[0, 2, 1]].tobytes())
    image.save(masks_of(root)[2])


def binary_then_ids(root: Path) -> None:
    for path in masks_of(root):
        relabel(path, {1: 255 if path.stem == "00000" else 1, 2: 0})


def ids_then_binary(root: Path) -> None:
    relabel(masks_of(root)[2], {1: 255, 2: 255})


def two_files(root: Path) -> None:
    with Image.open(root / FRAMES / "00001.jpg") as image:
        image.save(root / FRAMES / "00001.png")


def two_numbers(root: Path) -> None:
    with Image.open(root / FRAMES / "00001.jpg") as image:
        image.save(root / FRAMES / "1.jpg")


REFUSED: list[tuple[Callable[[Path], None], str, str]] = [
    (as_jpeg, f"{MASKS}/00000.png", "JPEG data"),
    (soft_edges, f"{MASKS}/0000", "values that are no ids"),
    (grey_levels, f"{MASKS}/00000.png", "values that are no ids"),
    (zero_and_128, f"{MASKS}/00000.png", "values that are no ids"),
    (levels_in_a_later_mask, f"{MASKS}/00002.png", "values that are no ids"),
    (noise, f"{MASKS}/0000", "values that are no ids"),
    (no_background, f"{MASKS}/00000.png", "no pixel of the first mask has id 0"),
    (re_ordered_palette, f"{MASKS}/00000.png", "re-ordered palette"),
    (palette_of_each_file, f"{MASKS}/00002.png", "re-ordered palette"),
    (binary_then_ids, f"{MASKS}/00001.png", "of another kind than the first"),
    (ids_then_binary, f"{MASKS}/00002.png", "of another kind than the first"),
    (two_files, f"{FRAMES}/00001.png", "second file of one frame"),
    (two_numbers, f"{FRAMES}/1.jpg", "second file of one frame"),
]


@pytest.mark.parametrize(("harm", "file", "reason"), REFUSED)
def test_what_a_mask_cannot_be_is_refused_by_all_three_commands(harm, file: str, reason: str, tmp_path: Path):
    root = make_clip(tmp_path / "data")
    predictions = make_clip(tmp_path / "other") / "Annotations/480p"
    assert not evaluated(root).failures
    harm(root)
    failure = str(evaluated(root).failures["walk"])
    assert reason in failure
    assert file in failure
    with pytest.raises(DataError) as refusal:
        corrkit.score("davis", data=root, pred=predictions)
    assert str(refusal.value) == failure
    problems, _ = checked(root)
    assert any(reason in problem and file in problem for problem in problems)


def test_grey_palettes_and_the_colours_of_davis_may_meet_in_one_clip(tmp_path: Path):
    root = make_clip(tmp_path)
    Image.fromarray(read_mask(masks_of(root)[1])).save(masks_of(root)[1])
    assert not evaluated(root).failures


def test_masks_of_one_bit_are_ids(tmp_path: Path):
    root = make_clip(tmp_path)
    for path in masks_of(root):
        relabel(path, {2: 0})
    expected = evaluated(root).summary["metrics"]
    for path in masks_of(root):
        Image.fromarray(read_mask(path) > 0).save(path)
    assert evaluated(root).summary["metrics"] == expected


def gap_in_ids(root: Path) -> None:
    for path in masks_of(root):
        relabel(path, {2: 10})


def later_object(root: Path) -> None:
    relabel(masks_of(root)[2], {2: 3})


def gap_in_numbers(root: Path) -> None:
    for folder, suffix in ((FRAMES, "jpg"), (MASKS, "png")):
        (root / folder / f"00003.{suffix}").rename(root / folder / f"00007.{suffix}")


def missing_mask(root: Path) -> None:
    masks_of(root)[2].unlink()


def missing_last_mask(root: Path) -> None:
    masks_of(root)[-1].unlink()


NOTED: list[tuple[Callable[[Path], None], str]] = [
    (gap_in_ids, "each missing id counts as an object"),
    (later_object, "Ids that come later"),
    (gap_in_numbers, "3 left out, the first after 2"),
    (missing_mask, "1 of 5, first 00002"),
    (missing_last_mask, "1 of 5, first 00004"),
]


@pytest.mark.parametrize(("harm", "words"), NOTED)
def test_what_a_score_depends_on_is_noted_by_all_three_commands(harm, words: str, tmp_path: Path):
    root = make_clip(tmp_path / "data", frames=5)
    predictions = make_clip(tmp_path / "other", frames=5) / "Annotations/480p"
    (predictions / "walk/00003.png").rename(predictions / "walk/00007.png") if harm is gap_in_numbers else None
    assert not evaluated(root).notes
    harm(root)
    result = evaluated(root)
    assert not result.failures
    assert any(words in note for note in result.notes), result.notes
    scored = corrkit.score("davis", data=root, pred=predictions, allow_ground_truth=True)
    assert any(words in note for note in scored.notes), scored.notes
    problems, notes = checked(root)
    assert any(words.lower() in text.lower() for text in (*problems, *notes)) or "ids with gaps" in problems[0]


def test_missing_ids_count_as_the_official_tool_counts_them(tmp_path: Path):
    """Ids 1 and 10: of ten objects the eight that are nowhere have J and F of 1."""
    root = make_clip(tmp_path)
    two = evaluated(root).summary["metrics"]["J-Mean"]
    gap_in_ids(root)
    result = evaluated(root)
    assert result.summary["objects"] == 10
    assert result.summary["metrics"]["J-Mean"] == pytest.approx((2 * two + 8) / 10)


def test_objects_that_no_prediction_holds_are_noted(tmp_path: Path):
    root = make_clip(tmp_path / "data")
    predictions = make_clip(tmp_path / "other") / "Annotations/480p"
    for path in (predictions / "walk").iterdir():
        relabel(path, {2: 0})
    result = corrkit.score("davis", data=root, pred=predictions)
    assert any("no scored prediction holds" in note and "walk (id 2)" in note for note in result.notes)


@pytest.mark.parametrize("protocol", ["dino", "crw", "vfs", "dinov3-notebook"])
@pytest.mark.parametrize(("side", "is_lost"), [(1, True), (40, False)])
def test_objects_without_a_cell_on_the_grid_are_noted(protocol: str, side: int, is_lost: bool, tmp_path: Path):
    """Decided on the label map: a pixel between the centres of cells of 8 pixels or more has none."""
    make_clip(tmp_path, frames=3, size=(96, 128))
    for path in masks_of(tmp_path):
        ids = (read_mask(path) == 1).astype(np.uint8)
        ids[50 : 50 + side, 81 : 81 + side] = 2
        write_mask(path, ids)
    rules = {"resize": "native", "size": [], "multiple": 1}
    notes = corrkit.evaluate("davis", "rgb", data=tmp_path, protocol=protocol, **rules).notes
    assert any("without a cell on the grid" in note and "walk (id 2)" in note for note in notes) == is_lost


def test_a_data_set_whose_last_mask_is_missing_is_not_the_benchmarks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from corrkit.manifests.clips import ManifestClip
    from corrkit.tasks import davis

    known = ManifestClip(split="val", clip="walk", folder="walk", num_frames=4, num_annotations=4)
    monkeypatch.setattr(davis, "official_clips", lambda task, split: (known,))
    root = make_clip(tmp_path)
    assert davis.DavisTask().open(root, split="val", dataset_name=None).official
    missing_last_mask(root)
    assert not davis.DavisTask().open(root, split="val", dataset_name=None).official
