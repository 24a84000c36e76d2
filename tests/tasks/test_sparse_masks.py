"""Masks of some frames only, in the layouts that have them so, and objects that enter later."""

import json
from pathlib import Path

import numpy as np
import pytest
from davis_folder import make_clip, make_split
from odd_data import checked, evaluated, masks_of, relabel

import corrkit
from corrkit.datasets.checking import DataCheck
from corrkit.errors import DataError
from corrkit.tasks.masks import read_mask, write_mask


def sparse(root: Path, step: int) -> Path:
    for index, path in enumerate(masks_of(root)):
        if index % step:
            path.unlink()
    return root


@pytest.mark.parametrize(("left_out", "positions"), [("first-last", [2, 4, 6]), ("first", [2, 4, 6, 8])])
def test_sparse_annotation_scores_the_annotated_frames_of_the_same_predictions(left_out, positions, tmp_path: Path):
    options = {"data": tmp_path / "data", "save_predictions": True}
    make_clip(tmp_path / "data", frames=10)
    dense = corrkit.evaluate("davis", "identity", out=tmp_path / "dense", left_out="first", **options)
    sparse(tmp_path / "data", 2)
    result = corrkit.evaluate("davis", "identity", out=tmp_path / "sparse", left_out=left_out, **options)
    of_all, of_some = (
        json.loads(next((run / "clips").iterdir()).read_text())["record"]["statistics"]
        for run in (dense.folder, result.folder)
    )
    assert of_some["J"] == [[row[index - 1] for index in positions] for row in of_all["J"]]
    assert any(f"left_out = {left_out}" in note for note in result.notes)
    assert any("5 of 10, first 00001" in note for note in result.notes)
    problems, notes = checked(tmp_path / "data")
    assert not problems
    assert any("5 of 10, first 00001" in note for note in notes)
    predictions = result.folder / "predictions"
    for index in range(10):
        if index not in positions:
            (predictions / f"walk/{index:05d}.png").unlink()
    scored = corrkit.score("davis", data=tmp_path / "data", pred=predictions, left_out=left_out)
    assert scored.summary["metrics"] == result.summary["metrics"]


def test_layouts_of_youtube_vos_and_visor_are_read(tmp_path: Path):
    """meta.json or nothing instead of ImageSets, folders without 480p; lists of another year, names with a prefix."""
    expected = evaluated(sparse(make_clip(tmp_path / "davis", frames=6), 2)).summary["metrics"]
    youtube = tmp_path / "youtube"
    for folder in ("JPEGImages", "Annotations"):
        (youtube / folder).mkdir(parents=True)
        (tmp_path / "davis" / folder / "480p/walk").rename(youtube / folder / "walk")
    assert evaluated(youtube).summary["metrics"] == expected
    frames = ["00000", "00002", "00004"]
    objects = {"1": {"category": "ball", "frames": frames}}
    (youtube / "meta.json").write_text(json.dumps({"videos": {"walk": {"objects": objects}}}))
    (youtube / "Annotations/stray").mkdir()
    (youtube / "Annotations/stray/00000.png").write_bytes(b"")
    result = evaluated(youtube)
    assert result.summary["metrics"] == expected
    assert any("clips of meta.json" in note for note in result.notes)
    visor = tmp_path / "visor"
    for folder in ("JPEGImages", "Annotations"):
        (visor / folder / "480p").mkdir(parents=True)
        (youtube / folder / "walk").rename(visor / folder / "480p/P01_seq_1")
        for path in (visor / folder / "480p/P01_seq_1").iterdir():
            path.rename(path.with_name(f"P01_frame_{path.name}"))
    (visor / "ImageSets/2022").mkdir(parents=True)
    (visor / "ImageSets/2022/val.txt").write_text("P01_seq_1\n")
    assert evaluated(visor).summary["metrics"] == expected


def test_each_split_of_youtube_vos_and_mose_is_its_folder(tmp_path: Path):
    root = make_split(make_split(tmp_path / "vos", "train", "a"), "valid", "b")
    for split, clip in (("train", "a"), ("valid", "b"), ("val", "b")):
        result = evaluated(root, split=split)
        assert [*result.summary["per_clip"]] == [clip]
        assert result.summary["data"]["name"] == "vos"
        assert DataCheck("davis", root, split=split, expected=()).faults is not None
    with pytest.raises(DataError, match="no split 'test'"):
        evaluated(root, split="test")
    assert checked(root)[0] == []


def test_all_frames_of_youtube_vos_are_propagated_through(tmp_path: Path):
    """Masks of every second frame, beginning in the third: the frames before it are no part of the clip."""
    root = make_split(tmp_path / "vos", "valid", "a")
    (root / "valid/JPEGImages").rename(tmp_path / "every")
    (root / "valid_all_frames").mkdir()
    (tmp_path / "every").rename(root / "valid_all_frames/JPEGImages")
    for path in (root / "valid/Annotations/a").iterdir():
        if int(path.stem) % 2 or int(path.stem) < 2:
            path.unlink()
    result = evaluated(root, split="valid_all_frames", left_out="first")
    shapes = [read_mask(root / f"valid/Annotations/a/{index:05d}.png") for index in (2, 4, 6, 8)]
    expected = np.mean(
        [
            [((m == k) & (shapes[0] == k)).sum() / ((m == k) | (shapes[0] == k)).sum() for m in shapes[1:]]
            for k in (1, 2)
        ]
    )
    assert result.summary["metrics"]["J-Mean"] == pytest.approx(expected, abs=1e-12)
    assert any("before the first mask" in note and "2" in note for note in result.notes)


def make_late_clip(root: Path, names: dict[int, list[int]] | None = None, size: tuple[int, int] = (24, 32)) -> Path:
    """Nine frames, every second annotated, of a square with id 1; a still one with id 2 enters in frame 4.

    names: annotated frame to the ids that its mask holds.
    """
    height, width = size
    make_clip(root, frames=9, size=size)
    for path in masks_of(root):
        index = int(path.stem)
        ids = read_mask(path)
        ids[ids == 2] = 0
        ids[height * 5 // 8 : height * 7 // 8, width // 8 : width * 3 // 8] = 2 if index >= 4 else 0
        ids[~np.isin(ids, (names or {}).get(index, [1, 2]))] = 0
        write_mask(path, ids)
        if index % 2 or (names and index not in names):
            path.unlink()
    return root


def test_objects_that_enter_later_are_scored_after_their_entry(tmp_path: Path):
    """By hand: scored are the frames 2, 4, 6 for id 1, and 6 alone for id 2, which is given in 4 and stands still."""
    root = make_late_clip(tmp_path / "data")
    default = evaluated(root)
    assert default.summary["objects"] == 1
    assert any("Ids that come later" in note and "not scored" in note for note in default.notes)

    result = evaluated(root, entries="appearance")
    record = result.csvs["per-sequence_results-val.csv"].splitlines()
    assert [line.split(",")[0] for line in record[1:]] == ["walk_1", "walk_2"]
    assert record[2] == "walk_2,1.000,1.000"
    square = int((read_mask(masks_of(root)[0]) == 1).sum())
    heights = 24 // 2 - 24 // 6
    overlaps = [max(8 - moved, 0) * heights for moved in (2, 4, 6)]
    first = np.mean([inside / (2 * square - inside) for inside in overlaps])
    assert float(record[1].split(",")[1]) == pytest.approx(first, abs=6e-4)
    assert not any("count as background" in note for note in result.notes)
    assert any("enter later are given there" in note and "id 2 in 00004" in note for note in result.notes)

    scored_last = evaluated(root, entries="appearance", left_out="first")
    assert scored_last.summary["objects"] == 2


def test_the_rules_of_which_objects_are_scored(tmp_path: Path):
    """Id 2 alone in the first mask, id 1 from frame 4 on: the gap is an object, or what enters later, or nothing."""
    root = make_late_clip(tmp_path / "data")
    for path in masks_of(root):
        relabel(path, {1: 2, 2: 1})

    def objects(**rules) -> tuple[int, str]:
        result = evaluated(root, **rules)
        return result.summary["objects"], " ".join(result.notes)

    assert objects()[0] == 2
    assert "each missing id counts" in objects()[1]
    assert objects(objects="present")[0] == 1
    assert "each missing id counts" not in objects(objects="present")[1]
    count, notes = objects(entries="appearance")
    assert count == 2
    assert "each missing id counts" not in notes
    present = evaluated(root, objects="present").csvs["per-sequence_results-val.csv"].splitlines()
    assert [line.split(",")[0] for line in present[1:]] == ["walk_2"], "rows keep their ids"


def test_predictions_are_scored_by_the_same_rule_of_entry(tmp_path: Path):
    root = make_late_clip(tmp_path / "data")
    run = tmp_path / "run"
    made = evaluated(root, entries="appearance", out=run, save_predictions=True)
    again = corrkit.score("davis", pred=run / "predictions", data=root, entries="appearance")
    assert again.summary["metrics"] == made.summary["metrics"]
    with pytest.raises(DataError, match="holds id 2"):
        corrkit.score("davis", pred=run / "predictions", data=root)


@pytest.mark.parametrize("protocol", ["dino", "crw", "dense-ulearn-vos", "rvm", "timecycle"])
def test_a_network_follows_what_enters_later(protocol: str, tmp_path: Path):
    root = make_late_clip(tmp_path / "data", size=(96, 128))
    rules = {"entries": "appearance", "left_out": "first", "size": [], "resize": "native", "stored_size": []}
    tracked = corrkit.evaluate("davis", "rgb", data=root, protocol=protocol, **rules)
    scores = [line.split(",") for line in tracked.csvs["per-sequence_results-val.csv"].splitlines()[1:]]
    assert [name for name, *_ in scores] == ["walk_1", "walk_2"]
    assert float(scores[1][1]) > 0.1, "without an entry it would be background: 0"


def test_masks_that_only_give_objects_are_no_ground_truth(tmp_path: Path):
    """YouTube-VOS's valid set: a mask of each object in the frame where it enters, and nothing of the others."""
    root = make_late_clip(tmp_path / "data", {0: [1], 4: [2]})
    problems, notes = checked(root)
    assert problems == []
    for result in (evaluated(root), evaluated(root, entries="appearance")):
        assert np.isnan(result.summary["metrics"]["J&F-Mean"])
        assert any("no ground truth to score" in note for note in (*result.notes, *notes))


@pytest.mark.parametrize("content", ["{", "[]", '{"videos": {}}', '{"videos": {"../up": {}}}'])
def test_a_damaged_meta_json_is_named(content: str, tmp_path: Path):
    root = make_clip(tmp_path)
    (root / "ImageSets/2017/val.txt").unlink()
    (root / "meta.json").write_text(content)
    with pytest.raises(DataError, match=r"meta\.json names no clips"):
        evaluated(root)
