"""A copy of a data set with one thing wrong: exactly that is named, and a sound copy is called fine."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from davis_folder import make_clip
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat
from small_copies import make_jhmdb, make_vip, pack, write_picture

from corrkit.datasets.checking import DataCheck, expected_tree
from corrkit.datasets.describing import describe
from corrkit.errors import DataError
from corrkit.files.archive import open_root
from corrkit.manifests.clips import ManifestClip, official_clips
from corrkit.task_table import task_facts
from corrkit.tasks.faults import Fault
from corrkit.tasks.masks import read_mask, write_mask

FRAMES, MASKS = "JPEGImages/480p/walk", "Annotations/480p/walk"
IMAGES, LABELS = "Images/videos1", "Annotations/Category_ids/videos1"
PNGS, MAT = "Rename_Images/golf/a_golf_b_0", "joint_positions/golf/a_golf_b_0/joint_positions.mat"
MAKERS: dict[str, Callable[[Path], Path]] = {"davis": make_clip, "vip": make_vip, "jhmdb": make_jhmdb}


def faults_of(task: str, root: Path, expected=()) -> list[Fault]:
    split = expected[0].split if expected else task_facts(task).default_split
    return list(DataCheck(task, open_root(root), split=split, expected=expected).faults())


def brief(faults: list[Fault]) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(fault.kind, fault.problem.partition(" (")[0], fault.files) for fault in faults]


@pytest.mark.parametrize("task", MAKERS)
def test_sound_copies_are_fine_with_and_without_a_manifest(task: str, tmp_path: Path):
    root = MAKERS[task](tmp_path / "copy")
    manifest = list(describe(task, root, split=task_facts(task).default_split))
    assert faults_of(task, root) == []
    assert faults_of(task, root, manifest) == []
    assert faults_of(task, pack(root, tmp_path / "copy.zip", "DATA"), manifest) == []
    assert faults_of(task, pack(root, tmp_path / "copy.tar"), manifest) == []


def damage(path: Path, keep: float = 0.5) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def wrong_mode(path: Path) -> None:
    write_picture(path, (24, 32))


def set_ids(path: Path, ids: dict[int, int]) -> None:
    mask = read_mask(path)
    write_mask(path, np.vectorize(lambda value: ids.get(value, value), otypes=[np.uint8])(mask))


def resize(path: Path) -> None:
    with Image.open(path) as image:
        image.resize((16, 12), Image.Resampling.NEAREST).save(path)


def touch(path: Path) -> None:
    path.write_bytes(b"x")


def link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def joints(path: Path, frames: int) -> None:
    savemat(path, {"pos_img": np.ones((2, 15, frames))})


CASES: list[tuple[str, str, Callable[[Path], object], str, str]] = [
    ("davis", f"{FRAMES}/00001.jpg", Path.unlink, "missing", "frame missing"),
    ("davis", f"{FRAMES}/00001.jpg", damage, "damaged", "frame that can't be decoded"),
    ("davis", f"{FRAMES}/00002.jpg", lambda path: path.write_bytes(b""), "damaged", "frame that can't be decoded"),
    ("davis", f"{FRAMES}/00003.jpg", resize, "damaged", "frame of another size"),
    ("davis", f"{MASKS}/00002.png", Path.unlink, "missing", "mask missing"),
    ("davis", f"{MASKS}/00002.png", damage, "damaged", "mask that can't be used"),
    ("davis", f"{MASKS}/00002.png", wrong_mode, "damaged", "mask that can't be used"),
    ("davis", f"{MASKS}/00002.png", resize, "damaged", "mask of another size than the frames"),
    ("davis", f"{MASKS}/00002.png", lambda path: set_ids(path, {2: 7}), "damaged", "ids that come later"),
    ("davis", f"{MASKS}/00003_onehot.npy", touch, "surplus", "label cache of another tool"),
    ("davis", f"{MASKS}/00003_size480x854.npy", touch, "surplus", "label cache of another tool"),
    ("davis", f"{MASKS}/notes.txt", touch, "surplus", "unknown file"),
    ("davis", f"{FRAMES}/00001.gif", touch, "surplus", "unknown file"),
    ("davis", f"{FRAMES}/00001.png", wrong_mode, "surplus", "second file of one frame"),
    ("vip", f"{IMAGES}/000000000002.jpg", damage, "damaged", "frame that can't be decoded"),
    ("vip", f"{LABELS}/000000000001.png", Path.unlink, "missing", "mask missing"),
    ("vip", f"{LABELS}/000000000002.png", lambda path: set_ids(path, {13: 20}), "damaged", "mask with wrong ids"),
    ("vip", f"{LABELS}/000000000002.png", resize, "damaged", "mask of another size than the frames"),
    ("vip", f"{LABELS}/000000000001_onehot.npy", touch, "surplus", "label cache of another tool"),
    ("jhmdb", f"{PNGS}/00002.png", Path.unlink, "missing", "frame missing"),
    ("jhmdb", MAT, Path.unlink, "missing", "joints missing"),
    ("jhmdb", MAT, damage, "damaged", "joints that can't be read"),
    ("jhmdb", MAT, lambda path: joints(path, 5), "damaged", "joints that don't fit the frames"),
    ("jhmdb", MAT, lambda path: savemat(path, {"other": 1}), "damaged", "joints that can't be read"),
    ("jhmdb", str(Path(MAT).parent / "copy.txt"), touch, "surplus", "unknown file"),
]


@pytest.mark.parametrize("suffix", ["", ".tar"])
@pytest.mark.parametrize(("task", "file", "harm", "kind", "problem"), CASES)
def test_one_wrong_file_is_the_one_fault(task, file, harm, kind, problem, suffix: str, tmp_path: Path):
    root = MAKERS[task](tmp_path / "copy")
    manifest = list(describe(task, root, split=task_facts(task).default_split))
    harm(root / file)
    data = pack(root, tmp_path / f"copy{suffix}") if suffix else root
    assert brief(faults_of(task, data, manifest)) == [(kind, problem, (file,))]


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, list[ManifestClip]]]:
    copies = {task: make(tmp_path_factory.mktemp("sound") / task) for task, make in MAKERS.items()}
    return {
        task: (root, list(describe(task, root, split=task_facts(task).default_split))) for task, root in copies.items()
    }


@settings(max_examples=60, deadline=None)
@given(data=st.data(), task=st.sampled_from(sorted(MAKERS)))
def test_any_change_of_a_frame_or_annotation_is_noticed(described, data: st.DataObject, task: str):
    root, manifest = described[task]
    files = sorted(path for path in root.rglob("*") if path.suffix in {".jpg", ".png", ".mat"})
    path = data.draw(st.sampled_from(files))
    sound = path.read_bytes()
    start = data.draw(st.integers(0, len(sound)))
    length = data.draw(st.integers(0, len(sound) - start))
    changed = sound[:start] + data.draw(st.binary(max_size=8)) + sound[start + length :]
    try:
        path.write_bytes(changed)
        faults = faults_of(task, root, manifest)
    finally:
        path.write_bytes(sound)
    assert bool(faults) == (changed != sound)
    assert all(fault.clip == manifest[0].clip for fault in faults)


def test_link_to_nothing_is_missing(tmp_path: Path):
    root = make_clip(tmp_path)
    manifest = list(describe("davis", root, split="val"))
    link_to_nothing(root / FRAMES / "00001.jpg")
    found = brief(faults_of("davis", root, manifest))
    assert ("missing", "frame missing", (f"{FRAMES}/00001.jpg",)) in found
    assert ("missing", "link to nothing", (f"{FRAMES}/00001.jpg",)) in found


def test_linked_clip_folders_are_as_good_as_folders(tmp_path: Path):
    root = make_clip(tmp_path / "copy")
    shutil.move(root / FRAMES, tmp_path / "elsewhere")
    (root / FRAMES).symlink_to(tmp_path / "elsewhere")
    assert faults_of("davis", root) == []


@pytest.mark.parametrize(
    ("ids", "problem"),
    [
        ({1: 3}, "holds id 2, 3, but not 1"),
        ({1: 0, 2: 0}, "is empty"),
        ({2: 1}, "holds 1 objects, expected 2"),
        ({1: 255, 2: 255}, "DAVIS-2016's masks"),
    ],
)
def test_first_mask_must_hold_all_objects_without_a_gap(ids: dict[int, int], problem: str, tmp_path: Path):
    root = make_clip(tmp_path)
    manifest = list(describe("davis", root, split="val"))
    for path in (root / MASKS).iterdir():
        set_ids(path, ids)
    first = faults_of("davis", root, manifest)[0]
    assert first.kind == "damaged"
    assert problem in first.problem


def test_binary_masks_are_fine_where_one_object_is_expected(tmp_path: Path):
    root = make_clip(tmp_path)
    for path in (root / MASKS).iterdir():
        set_ids(path, {1: 255, 2: 0})
    assert faults_of("davis", root) == []


def test_other_bytes_of_the_same_form_are_noticed_by_the_manifest_alone(tmp_path: Path):
    root = make_clip(tmp_path)
    manifest = list(describe("davis", root, split="val"))
    write_picture(root / FRAMES / "00001.jpg", (24, 32), seed=9)
    assert faults_of("davis", root) == []
    (fault,) = faults_of("davis", root, manifest)
    assert (fault.kind, fault.clip) == ("damaged", "walk")
    assert "frames_sha256" in fault.problem


def test_hash_from_somebody_elses_copy_is_a_note_and_no_fault(tmp_path: Path):
    root = make_clip(tmp_path)
    manifest = [
        replace(clip, frames_sha256="0" * 64, hash_source="a copy") for clip in describe("davis", root, split="val")
    ]
    check = DataCheck("davis", root, split="val", expected=manifest)
    assert list(check.faults()) == []
    assert "no proof of damage" in check.notes[0]


def test_all_faults_come_at_once_grouped_by_clip(tmp_path: Path):
    root = make_clip(make_clip(tmp_path), "run")
    manifest = list(describe("davis", root, split="val"))
    for index in (0, 2):
        damage(root / FRAMES / f"{index:05d}.jpg")
    (root / MASKS / "00003.png").unlink()
    shutil.rmtree(root / "JPEGImages/480p/run")
    shutil.rmtree(root / "Annotations/480p/run")
    (root / "JPEGImages/480p/stranger").mkdir()
    assert brief(faults_of("davis", root, manifest)) == [
        ("damaged", "frame that can't be decoded", (f"{FRAMES}/00000.jpg", f"{FRAMES}/00002.jpg")),
        ("missing", "mask missing", (f"{MASKS}/00003.png",)),
        ("missing", "the whole clip", ("JPEGImages/480p/run", "Annotations/480p/run")),
        ("surplus", "clip folder that no list names", ("JPEGImages/480p/stranger",)),
    ]


def test_missing_folder_of_frames_is_said_once(tmp_path: Path):
    root = make_clip(tmp_path)
    manifest = list(describe("davis", root, split="val"))
    shutil.rmtree(root / FRAMES)
    assert brief(faults_of("davis", root, manifest)) == [("missing", "all frames", (FRAMES,))]


def test_a_listed_clip_may_have_spaces_in_its_name(tmp_path: Path):
    assert faults_of("davis", make_clip(tmp_path, "my clip 1")) == []


def test_frames_beyond_the_clip_are_surplus(tmp_path: Path):
    root = make_clip(tmp_path, frames=5)
    manifest = [replace(clip, num_frames=4, last_frame="00003") for clip in describe("davis", root, split="val")]
    found = brief(faults_of("davis", root, manifest))
    assert ("surplus", "frame beyond the clip's", (f"{FRAMES}/00004.jpg",)) in found


def test_numbers_without_names_are_compared_too(tmp_path: Path):
    root = make_vip(tmp_path)
    manifest = [replace(clip, num_frames=5) for clip in describe("vip", root, split="val")]
    (fault,) = faults_of("vip", root, manifest)
    assert (fault.kind, fault.problem) == ("missing", "3 frames, the manifest says 5")


def test_labels_may_be_fewer_than_frames_but_not_without_frame(tmp_path: Path):
    root = make_vip(tmp_path, frames=4)
    (root / IMAGES / "000000000002.jpg").unlink()
    assert brief(faults_of("vip", root)) == [("missing", "mask without a frame", (f"{LABELS}/000000000002.png",))]


def test_clip_that_only_the_copys_list_names_is_said(tmp_path: Path):
    root = make_clip(make_clip(tmp_path), "run")
    manifest = [clip for clip in describe("davis", root, split="val") if clip.clip == "walk"]
    (fault,) = faults_of("davis", root, manifest)
    assert (fault.kind, "names 1 clip(s) that the manifest lacks: run" in fault.problem) == ("surplus", True)


def test_missing_list_does_not_stop_the_check(tmp_path: Path):
    root = make_jhmdb(tmp_path)
    manifest = list(describe("jhmdb", root, split="split1"))
    shutil.rmtree(root / "splits")
    (root / PNGS / "00001.png").unlink()
    faults = faults_of("jhmdb", root, manifest)
    assert [fault.problem.partition(",")[0] for fault in faults] == [f"{root} has no folder splits", "frame missing"]


def test_folder_in_no_layout_names_what_is_absent(tmp_path: Path):
    (tmp_path / "JPEGImages/480p").mkdir(parents=True)
    (fault,) = faults_of("davis", tmp_path)
    assert (fault.kind, fault.files) == ("missing", ("ImageSets", "Annotations"))
    assert "it holds JPEGImages" in fault.problem


def test_root_that_does_not_exist_is_no_finding(tmp_path: Path):
    with pytest.raises(DataError, match="does not exist"):
        faults_of("davis", tmp_path / "nowhere")


def test_ignored_members_of_an_archive_are_noted(tmp_path: Path):
    import zipfile

    archive = pack(make_clip(tmp_path / "copy"), tmp_path / "copy.zip")
    with zipfile.ZipFile(archive, "a") as packed:
        packed.writestr("../evil.txt", "x")
    check = DataCheck("davis", open_root(archive), split="val", expected=())
    assert list(check.faults()) == []
    assert any("../evil.txt" in note for note in check.notes)


def test_progress_tells_clip_number_and_total(tmp_path: Path):
    root = make_clip(make_clip(tmp_path), "run")
    calls: list[tuple[str, int, int]] = []
    list(DataCheck("davis", root, split="val", expected=()).faults(lambda *call: calls.append(call)))
    assert calls == [("walk", 0, 2), ("run", 1, 2)]


def test_check_writes_nothing_into_the_data(tmp_path: Path):
    root = make_clip(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    faults_of("davis", root, official_clips("davis", "val"))
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_expected_tree_counts_what_the_manifest_knows():
    text = expected_tree("davis", "test-dev", official_clips("davis", "test-dev"))
    assert "30 clips, 2086 frames, 30 annotated frames, 89 objects" in text
    assert "ImageSets/2017/test-dev.txt" in text
    assert "(50 clips)" in expected_tree("vip", "val", official_clips("vip", "val"))


def test_test_dev_needs_only_first_masks(tmp_path: Path):
    root = make_clip(tmp_path)
    (root / "ImageSets/2017/val.txt").rename(root / "ImageSets/2017/test-dev.txt")
    expected = [
        ManifestClip(
            split="test-dev", clip="walk", folder="walk", num_frames=4, first_frame="00000", last_frame="00003",
            num_annotations=1, num_objects=2, width=32, height=24,
        )
    ]  # fmt: skip
    for index in (1, 2, 3):
        (root / MASKS / f"{index:05d}.png").unlink()
    assert faults_of("davis", root, expected) == []


def test_real_copies_are_fine_by_themselves_and_incomplete_by_the_official_list(shared: Path):
    copies = {
        "davis": ["DAVIS", "DAVIS_240p", "DAVIS_composite", "VOS_first_mask"],
        "vip": ["VIP_rendered", "VIP_derived"],
        "jhmdb": ["JHMDB"],
    }
    for task, names in copies.items():
        for name in names:
            assert faults_of(task, shared / "data" / name) == [], name
    faults = faults_of("davis", shared / "data/DAVIS", official_clips("davis", "val"))
    whole = [fault.clip for fault in faults if fault.problem == "the whole clip"]
    partial = {fault.clip: len(fault.files) for fault in faults if fault.problem == "frame missing"}
    assert len(whole) == 26
    assert partial == {"blackswan": 20, "dog": 40, "libby": 29}
    assert {fault.kind for fault in faults} == {"missing"}
