"""Predictions as people have them: other values, sizes, archives and numbers of frames; and labels beside them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from davis_folder import make_clip
from jhmdb_folder import make_clip as make_jhmdb_clip
from odd_data import masks_of, relabel
from PIL import Image
from small_copies import pack
from vip_folder import CATEGORY_IDS, save_label
from vip_folder import make_clip as make_vip_clip

import corrkit
from corrkit.errors import DataError
from corrkit.palette import voc_palette
from corrkit.tasks.masks import read_mask, resize_nearest


def one_object(root: Path) -> Path:
    for path in masks_of(root):
        relabel(path, {2: 0})
    return root


def saved_as(folder: Path, form: str) -> Path:
    """Predictions of one object: 0/1, 0/255, or of one bit; a shifted copy of the truth."""
    for path in (folder / "walk").iterdir():
        ids = np.roll(read_mask(path) > 0, 1, axis=0)
        Image.fromarray(ids if form == "1bit" else ids * np.uint8(form)).save(path)
    return folder


@pytest.mark.parametrize("truth", [1, 255])
@pytest.mark.parametrize("form", ["1", "255", "1bit"])
def test_predictions_of_one_object_may_be_0_and_255(form: str, truth: int, tmp_path: Path):
    root = one_object(make_clip(tmp_path / "data"))
    for path in masks_of(root):
        relabel(path, {1: truth})
    expected = corrkit.score(
        "davis", data=root, pred=saved_as(one_object(make_clip(tmp_path / "a")) / "Annotations/480p", "1")
    )
    result = corrkit.score(
        "davis", data=root, pred=saved_as(one_object(make_clip(tmp_path / "b")) / "Annotations/480p", form)
    )
    assert 0.5 < result.summary["metrics"]["J-Mean"] < 1
    assert result.summary["metrics"] == expected.summary["metrics"]


def test_predictions_of_two_kinds_are_refused_naming_both(tmp_path: Path):
    root = one_object(make_clip(tmp_path / "data"))
    predictions = saved_as(make_clip(tmp_path / "p") / "Annotations/480p", "1")
    relabel(predictions / "walk/00002.png", {1: 255})
    with pytest.raises(DataError, match=r"00002\.png marks its object by 255, .*00001\.png by 1"):
        corrkit.score("davis", data=root, pred=predictions)


def test_a_prediction_with_a_palette_of_its_own_is_refused(tmp_path: Path):
    make_clip(tmp_path / "data", frames=5)
    shutil.copytree(tmp_path / "data/Annotations/480p", tmp_path / "p")
    path = tmp_path / "p/walk/00002.png"
    image = Image.fromarray(np.array([0, 2, 1], np.uint8)[read_mask(path)])
    image.putpalette(voc_palette()[[0, 2, 1]].tobytes())
    image.save(path)
    with pytest.raises(DataError, match=r"00002\.png has a re-ordered palette"):
        corrkit.score("davis", data=tmp_path / "data", pred=tmp_path / "p")


@pytest.mark.parametrize("task", ["davis", "vip"])
def test_predictions_of_no_frame_are_noted(task: str, tmp_path: Path):
    """Of a method that counts frames from 1 the last one is too many, and all are shifted."""
    data, pred = tmp_path / "data", tmp_path / "p"
    if task == "davis":
        make_clip(data, frames=5)
        shutil.copytree(data / "Annotations/480p", pred)
    else:
        make_vip_clip(data)
        shutil.copytree(data / CATEGORY_IDS, pred)
    options = {"data": data, "pred": pred, "allow_ground_truth": True}
    assert not corrkit.score(task, **options).notes
    last = max(pred.rglob("*.png"))
    shutil.copy(last, last.with_stem("99999"))
    (note,) = corrkit.score(task, **options).notes
    assert "Predictions of no frame are ignored" in note
    assert "99999.png" in note


def test_joints_of_more_frames_than_the_clip_are_noted(tmp_path: Path):
    truth = make_jhmdb_clip(tmp_path / "data")
    (tmp_path / "p").mkdir()
    np.save(tmp_path / "p/Ball_jump_f_nm_np1_fr_med_0.npy", np.concatenate([truth, truth]) + 1)
    notes = corrkit.score("jhmdb", data=tmp_path / "data", pred=tmp_path / "p", dataset_name="mine").notes
    assert any("joints of 4 frames too many" in note for note in notes)


def test_labels_at_irregular_steps_are_noted(tmp_path: Path):
    make_vip_clip(tmp_path)
    assert not corrkit.evaluate("vip", "identity", data=tmp_path).notes
    labels = sorted((tmp_path / CATEGORY_IDS).rglob("*.png"))
    labels[1].unlink()
    notes = corrkit.evaluate("vip", "identity", data=tmp_path).notes
    assert any("Labels at irregular steps" in note and f"{len(labels) - 1} of {len(labels)}" in note for note in notes)


def test_a_prediction_of_255_among_two_objects_is_refused(tmp_path: Path):
    root = make_clip(tmp_path / "data")
    predictions = make_clip(tmp_path / "p") / "Annotations/480p"
    relabel(predictions / "walk/00002.png", {1: 255})
    with pytest.raises(DataError, match="255"):
        corrkit.score("davis", data=root, pred=predictions)


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
@pytest.mark.parametrize("top", ["", "results"])
def test_an_archive_of_predictions_is_as_good_as_its_folder(suffix: str, top: str, tmp_path: Path):
    root = one_object(make_clip(tmp_path / "data"))
    folder = saved_as(make_clip(tmp_path / "p") / "Annotations/480p", "1")
    expected = corrkit.score("davis", data=root, pred=folder).summary["metrics"]
    archive = pack(folder, tmp_path / f"mine{suffix}", top)
    result = corrkit.score("davis", data=root, pred=archive)
    assert result.summary["metrics"] == expected
    assert result.summary["checkpoint"]["spec"] == archive.name


def test_an_archive_without_predictions_names_what_it_holds(tmp_path: Path):
    root = make_clip(tmp_path / "data")
    archive = pack(make_clip(tmp_path / "p", "run") / "Annotations", tmp_path / "a.zip")
    with pytest.raises(DataError, match=r"lacks 1 of 1 clips: walk\. It holds 480p"):
        corrkit.score("davis", data=root, pred=archive)


def vip_predictions(root: Path, masks: list[np.ndarray], change: Callable[[np.ndarray], np.ndarray]) -> Path:
    for index, mask in enumerate(masks):
        save_label(root / f"videos1/{index * 25 + 1:012d}.png", change(np.roll(mask, 1, axis=0)), "L")
    return root


@pytest.mark.parametrize("value", [21, 254, 255])
def test_predictions_above_the_last_class_are_refused_where_the_published_script_stops(value: int, tmp_path: Path):
    masks = make_vip_clip(tmp_path / "data")
    folder = vip_predictions(tmp_path / "p", masks, lambda ids: np.where(ids == 13, np.uint8(value), ids))
    with pytest.raises(DataError, match=rf"frame 000000000001 holds ids above the last class, 19, the largest {value}"):
        corrkit.score("vip", data=tmp_path / "data", pred=folder)
    assert corrkit.score("vip", data=tmp_path / "data", pred=folder, counting="histogram").notes


def test_the_id_that_the_published_script_spills_is_noted(tmp_path: Path):
    masks = make_vip_clip(tmp_path / "data")
    folder = vip_predictions(tmp_path / "p", masks, lambda ids: np.where(ids == 13, np.uint8(20), ids))
    notes = corrkit.score("vip", data=tmp_path / "data", pred=folder).notes
    assert any("count as the protocol's published script counts them" in note for note in notes)


@pytest.mark.parametrize("size", [(64, 48), (48, 60), (24, 30), (96, 100)])
def test_predictions_of_another_aspect_ratio_are_refused(size: tuple[int, int], tmp_path: Path):
    masks = make_vip_clip(tmp_path / "data")
    folder = vip_predictions(tmp_path / "p", masks, lambda ids: np.resize(ids, size))
    with pytest.raises(DataError, match=f"is {size[1]}x{size[0]}, of another aspect ratio than the labels' 64x48"):
        corrkit.score("vip", data=tmp_path / "data", pred=folder)


@pytest.mark.parametrize("size", [(24, 32), (36, 48), (25, 33), (480, 640)])
def test_smaller_and_larger_predictions_of_the_same_aspect_ratio_are_resized(size: tuple[int, int], tmp_path: Path):
    masks = make_vip_clip(tmp_path / "data")
    folder = vip_predictions(tmp_path / "p", masks, lambda ids: resize_nearest(ids, size))
    result = corrkit.score("vip", data=tmp_path / "data", pred=folder, allow_ground_truth=True)
    assert result.summary["metrics"]["mIoU"] > 0.5


def test_classes_that_no_prediction_holds_are_noted(tmp_path: Path):
    masks = make_vip_clip(tmp_path / "data")
    folder = vip_predictions(tmp_path / "p", masks, lambda ids: np.where(ids == 5, np.uint8(0), ids))
    notes = corrkit.score("vip", data=tmp_path / "data", pred=folder).notes
    assert any("no prediction holds" in note and "videos1 (dress)" in note for note in notes)


def test_a_vip_label_without_background_is_noted(tmp_path: Path):
    masks = make_vip_clip(tmp_path)
    save_label(tmp_path / CATEGORY_IDS / "videos1/000000000001.png", np.where(masks[0] == 0, 1, masks[0]), "L")
    assert any("first label has id 0" in note for note in corrkit.evaluate("vip", "identity", data=tmp_path).notes)


@pytest.mark.parametrize("value", [0, 255])
def test_a_vip_label_without_a_class_is_refused(value: int, tmp_path: Path):
    masks = make_vip_clip(tmp_path)
    for index, mask in enumerate(masks):
        label = np.where(mask > 0, np.uint8(value), np.uint8(0))
        save_label(tmp_path / CATEGORY_IDS / f"videos1/{index * 25 + 1:012d}.png", label, "L")
    failure = str(corrkit.evaluate("vip", "identity", data=tmp_path).failures["videos1"])
    assert "000000000001.png" in failure
    assert "holds no class to propagate" in failure
