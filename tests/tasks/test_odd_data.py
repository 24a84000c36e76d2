"""Data as people have them: what annotations can't be is refused, what a score depends on is noted, by each command."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from davis_folder import make_clip, make_split
from jhmdb_folder import make_clip as make_jhmdb_clip
from jhmdb_folder import save_joints
from PIL import Image
from scipy.io import savemat
from small_copies import pack
from vip_folder import CATEGORY_IDS, save_label
from vip_folder import make_clip as make_vip_clip

import corrkit
from corrkit.datasets.checking import DataCheck
from corrkit.errors import DataError
from corrkit.evaluation import Result
from corrkit.files.archive import open_root
from corrkit.palette import voc_palette
from corrkit.tasks.masks import read_mask, resize_nearest, write_mask

MASKS = "Annotations/480p/walk"
FRAMES = "JPEGImages/480p/walk"


def masks_of(root: Path) -> list[Path]:
    return sorted((root / MASKS).iterdir())


def checked(root: Path, task: str = "davis") -> tuple[list[str], list[str]]:
    """Problems with their first file, and notes, of `corrkit data check`."""
    check = DataCheck(task, open_root(root), split="split1" if task == "jhmdb" else "val", expected=())
    problems = [f"{fault.problem} {fault.files[0] if fault.files else ''}" for fault in check.faults()]
    return problems, check.notes


def evaluated(root: Path, **options) -> Result:
    return corrkit.evaluate("davis", "identity", data=root, **options)


def relabel(path: Path, ids: dict[int, int]) -> None:
    write_mask(path, np.vectorize(lambda value: ids.get(value, value), otypes=[np.uint8])(read_mask(path)))


# --- masks that are no id maps ----------------------------------------------------------------------------------------


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


# --- what a score depends on ------------------------------------------------------------------------------------------


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


# --- sparse annotation ------------------------------------------------------------------------------------------------


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


# --- objects that enter later -----------------------------------------------------------------------------------------


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


# --- predictions ------------------------------------------------------------------------------------------------------


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


# --- joints -----------------------------------------------------------------------------------------------------------


def test_joints_that_are_not_scored_are_counted(tmp_path: Path):
    truth = make_jhmdb_clip(tmp_path / "data", size=(240, 320))
    (tmp_path / "p").mkdir()
    predicted = truth.copy()
    predicted[1:, 2:] = np.nan
    np.save(tmp_path / "p/Ball_jump_f_nm_np1_fr_med_0.npy", predicted)
    result = corrkit.score("jhmdb", data=tmp_path / "data", pred=tmp_path / "p", allow_ground_truth=True)
    assert any(note.startswith("Scored are 6 of 45 joints (13.3%)") for note in result.notes), result.notes
    np.save(tmp_path / "p/Ball_jump_f_nm_np1_fr_med_0.npy", truth + 1)
    assert not corrkit.score("jhmdb", data=tmp_path / "data", pred=tmp_path / "p").notes


def test_archives_of_joints_are_read_but_for_pickles(tmp_path: Path):
    truth = make_jhmdb_clip(tmp_path / "data", size=(240, 320))
    for name in ("npy", "dat"):
        (tmp_path / name).mkdir()
    np.save(tmp_path / "npy/Ball_jump_f_nm_np1_fr_med_0.npy", truth + 1)
    (truth + 1).transpose(2, 1, 0).dump(tmp_path / "dat/0.dat")
    options = {"data": tmp_path / "data", "grid": (320, 240)}
    archives = [pack(tmp_path / name, tmp_path / f"{name}.zip") for name in ("npy", "dat")]
    expected = corrkit.score("jhmdb", pred=tmp_path / "npy", **options).summary["metrics"]
    assert corrkit.score("jhmdb", pred=archives[0], **options).summary["metrics"] == expected
    with pytest.raises(DataError, match=r"0\.dat is a pickle in an archive"):
        corrkit.score("jhmdb", pred=archives[1], **options)


@pytest.mark.parametrize("size", [(120, 160), (480, 640)])
def test_frames_of_another_size_than_jhmdbs_are_noted(size: tuple[int, int], tmp_path: Path):
    make_jhmdb_clip(tmp_path, size=size)
    notes = corrkit.evaluate("jhmdb", "identity", data=tmp_path).notes
    assert any(f"({size[1]}x{size[0]})" in note and "320x240" in note for note in notes)
    own = corrkit.evaluate("jhmdb", "identity", data=tmp_path, dataset_name="mine").notes
    assert all("upper left quarter" in note for note in own), "what else these frames are too large for is not known"


@pytest.mark.parametrize("factor", [0.5, 0.9, 2, 3])
@pytest.mark.parametrize("dataset_name", [None, "mine"])
def test_the_frame_size_that_joints_assume_stands_in_their_file(
    factor: float, dataset_name: str | None, tmp_path: Path
):
    """JHMDB's pos_world is pos_img relative to the frame: together they tell its size, whoever's the data are."""
    height, width = 240, 320
    truth = make_jhmdb_clip(tmp_path, size=(round(height * factor), round(width * factor)))
    scale = np.linspace(0.3, 0.5, len(truth))
    x, y = truth[..., 0] + 1, truth[..., 1] + 1
    world = np.stack([(x / width - 0.5) * width / height, y / height - 0.5]) / scale[None, :, None]
    path = tmp_path / "joint_positions/jump/Ball_jump_f_nm_np1_fr_med_0/joint_positions.mat"
    found = {"pos_img": np.stack([x, y]).transpose(0, 2, 1), "pos_world": world.transpose(0, 2, 1), "scale": scale}
    savemat(path, found)
    notes = corrkit.evaluate("jhmdb", "identity", data=tmp_path, dataset_name=dataset_name).notes
    assert any("of 320x240, the frames are" in note for note in notes)
    assert any("of 320x240, the frames are" in problem for problem in checked(tmp_path, "jhmdb")[0])
    savemat(path, found | {"pos_world": found["pos_world"] * 1.3})  # somebody's own unit tells nothing
    notes = corrkit.evaluate("jhmdb", "identity", data=tmp_path, dataset_name=dataset_name).notes
    assert not any("of 320x240, the frames are" in note for note in notes)


def test_joints_outside_of_the_frames_are_noted_for_any_data(tmp_path: Path):
    truth = make_jhmdb_clip(tmp_path)
    save_joints(tmp_path / "joint_positions/jump/Ball_jump_f_nm_np1_fr_med_0/joint_positions.mat", truth * 2)
    notes = corrkit.evaluate("jhmdb", "identity", data=tmp_path, dataset_name="mine").notes
    assert any("Joints outside of the frames" in note and "frames are 64x48" in note for note in notes)
    assert any("Joints outside of the frames" in note for note in checked(tmp_path, "jhmdb")[1])
