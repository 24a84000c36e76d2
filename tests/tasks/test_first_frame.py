"""The first frame's labels are given: predictions that lose them there are of another kind, which the score says."""

from pathlib import Path

import davis_folder
import jhmdb_folder
import numpy as np
import pytest
import vip_folder

import corrkit
from corrkit.tasks.masks import read_mask, write_mask

NOTE = "The labels of the first frame, which are given, are not found again in its prediction"


def noted(result) -> list[str]:
    return [note for note in result.notes if note.startswith(NOTE)]


@pytest.mark.parametrize(
    ("changed", "detail"),
    [
        (lambda true: true + 0.5, ""),
        (lambda true: true / 2, "x is 0.5 and y 0.5 times"),
        (lambda true: true / (64, 48), "x is 0.0156 and y 0.0208 times"),
        (lambda true: true * 2, "x is 2 and y 2 times"),
        (lambda true: true[..., ::-1] + 40, "pixels apart"),
        (lambda true: np.full_like(true, np.nan), ""),
    ],
)
def test_joints_of_another_scale_are_noted(tmp_path: Path, changed, detail: str):
    true = jhmdb_folder.make_clip(tmp_path / "data", "walk")
    (tmp_path / "pred").mkdir()
    np.save(tmp_path / "pred/walk.npy", changed(true))
    notes = noted(corrkit.score("jhmdb", pred=tmp_path / "pred", data=tmp_path / "data", split="split1"))
    assert [detail in note for note in notes] == [True] * bool(detail)


@pytest.mark.parametrize(
    ("changed", "detail"),
    [
        (lambda true: true, ""),
        (lambda true: np.roll(true, 1, axis=1), ""),
        (lambda true: np.array([0, 2, 1], np.uint8)[true], "0% of the labelled pixels"),
        (lambda true: np.array([1, 0, 0], np.uint8)[true], "0% of the labelled pixels"),
    ],
)
def test_masks_of_other_ids_are_noted(tmp_path: Path, changed, detail: str):
    data = davis_folder.make_clip(tmp_path / "data")
    for path in sorted((data / "Annotations/480p/walk").iterdir()):
        write_mask(tmp_path / "pred/walk" / path.name, changed(read_mask(path)))
    result = corrkit.score("davis", pred=tmp_path / "pred", data=data, allow_ground_truth=True)
    assert [detail in note for note in noted(result)] == [True] * bool(detail)
    (tmp_path / "pred/walk/00000.png").write_bytes(b"not scored")
    assert noted(corrkit.score("davis", pred=tmp_path / "pred", data=data, allow_ground_truth=True)) == []
    (tmp_path / "pred/walk/00000.png").unlink()
    assert noted(corrkit.score("davis", pred=tmp_path / "pred", data=data, allow_ground_truth=True)) == []


def test_classes_of_another_order_are_noted(tmp_path: Path):
    masks = vip_folder.make_clip(tmp_path / "data")
    for index, ids in enumerate(masks):
        others = np.where(ids > 0, ids - 1, 0).astype(np.uint8)
        write_mask(tmp_path / f"pred/videos1/{index * 25 + 1:012d}.png", others)
    (note,) = noted(corrkit.score("vip", pred=tmp_path / "pred", data=tmp_path / "data"))
    assert "videos1 (0% of the labelled pixels)" in note


def test_what_eval_keeps_is_not_noted(tmp_path: Path):
    data = davis_folder.make_clip(tmp_path / "data")
    corrkit.evaluate("davis", "hog", data=data, out=tmp_path / "run")
    assert noted(corrkit.score("davis", pred=tmp_path / "run/predictions", data=data)) == []
