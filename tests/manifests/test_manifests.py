"""Manifests: the official ones, those of a copy, and files that are none."""

import csv
import hashlib
from dataclasses import fields
from pathlib import Path

import pytest
from davis_folder import make_clip
from small_copies import make_jhmdb, make_vip, pack

from corrkit.datasets.describing import describe, detect_task
from corrkit.errors import DataError
from corrkit.files.archive import open_root
from corrkit.manifests.clips import (
    COLUMNS,
    ManifestClip,
    digest_of_files,
    manifest_text,
    official_clips,
    official_splits,
    read_manifest,
)


def test_official_manifests_hold_every_clip():
    # Counts of reference/protocols-vip-jhmdb.md section 5.
    for split, clips, frames, objects in (("train", 60, 4209, 144), ("val", 30, 1999, 61), ("test-dev", 30, 2086, 89)):
        rows = official_clips("davis", split)
        assert (len(rows), sum(row.num_frames or 0 for row in rows), sum(row.num_objects or 0 for row in rows)) == (
            clips, frames, objects,
        )  # fmt: skip
        assert all(row.stems() and len(row.stems() or ()) == row.num_frames for row in rows)
    assert official_splits("davis") == ("train", "val", "test-dev")
    assert len(official_clips("vip", "val")) == 50
    rows = official_clips("jhmdb", "split1")
    assert (len(rows), sum(row.num_frames or 0 for row in rows)) == (268, 9126)
    assert official_clips("jhmdb", "split2") == ()


@pytest.mark.golden
def test_official_manifests_equal_the_reference_facts(shared: Path):
    with (shared / "reference/data/davis2017.csv").open() as file:
        expected = [(row["set"], row["name"], row["num_frames"], row["num_objects"]) for row in csv.DictReader(file)]
    found = [clip for split in official_splits("davis") for clip in official_clips("davis", split)]
    assert sorted((c.split, c.clip, str(c.num_frames), str(c.num_objects)) for c in found) == sorted(expected)
    with (shared / "reference/data/jhmdb_split1_test.csv").open() as file:
        actions = [(f"{row['action']}/{row['clip']}", row["num_frames"]) for row in csv.DictReader(file)]
    assert [(clip.folder, str(clip.num_frames)) for clip in official_clips("jhmdb", "split1")] == actions


def test_recorded_hash_is_that_of_the_frames_at_hand(shared: Path):
    (clip,) = [clip for clip in official_clips("davis", "val") if clip.frames_sha256]
    paths = sorted((shared / "data/DAVIS/JPEGImages/480p" / clip.clip).iterdir())
    assert len(paths) == clip.num_frames
    assert digest_of_files(paths) == clip.frames_sha256


@pytest.mark.parametrize("name", ["=1+1", "-AbC_12", "@SUM(A1)", "'=quoted", "-0.5", "plain"])
def test_a_clip_whose_name_looks_like_a_formula_is_read_back(tmp_path: Path, name: str):
    clip = ManifestClip(split="val", clip=name, folder=f"{name}/{name}")
    (tmp_path / "m.csv").write_text(manifest_text([clip]), encoding="utf-8")
    cells = [row["clip"] for row in csv.DictReader(manifest_text([clip]).splitlines())]
    assert not any(cell.startswith(("=", "@")) or cell == "-AbC_12" for cell in cells)
    assert read_manifest(tmp_path / "m.csv") == (clip,)


def test_digest_is_over_names_and_contents(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "b").write_bytes(b"")
    lines = f"a {hashlib.sha256(b'x').hexdigest()}\nb {hashlib.sha256(b'').hexdigest()}\n"
    assert digest_of_files([tmp_path / "a", tmp_path / "b"]) == hashlib.sha256(lines.encode()).hexdigest()


def test_description_of_a_copy_counts_and_measures(tmp_path: Path):
    (davis,) = describe("davis", make_clip(tmp_path / "d", frames=3), split="val")
    assert (davis.clip, davis.num_frames, davis.num_annotations, davis.num_objects) == ("walk", 3, 3, 2)
    assert (davis.first_frame, davis.last_frame, davis.width, davis.height) == ("00000", "00002", 32, 24)
    (vip,) = describe("vip", make_vip(tmp_path / "v", frames=3), split="val")
    assert (vip.num_frames, vip.num_annotations, vip.num_objects) == (3, 2, 2)  # classes 2 and 13; void is none
    (jhmdb,) = describe("jhmdb", make_jhmdb(tmp_path / "j", frames=3), split="split1")
    assert (jhmdb.folder, jhmdb.num_frames, jhmdb.num_annotations) == ("golf/a_golf_b_0", 3, 3)
    assert jhmdb.num_objects is None


def test_description_of_an_archive_equals_that_of_the_folder(tmp_path: Path):
    root = make_jhmdb(make_jhmdb(tmp_path / "j"), "c_golf_d_1")
    archive = open_root(pack(root, tmp_path / "j.zip"))
    assert list(describe("jhmdb", archive, split="split1")) == list(describe("jhmdb", root, split="split1"))


def test_manifest_reads_back_as_it_was_written(tmp_path: Path):
    clips = tuple(describe("davis", make_clip(make_clip(tmp_path / "copy"), "a, b"), split="val"))
    (tmp_path / "mine.csv").write_text(manifest_text(clips))
    assert read_manifest(tmp_path / "mine.csv") == clips
    assert tuple(field.name for field in fields(ManifestClip)) == COLUMNS


def test_damaged_copy_is_not_described(tmp_path: Path):
    root = make_clip(tmp_path)
    for path in (root / "JPEGImages/480p/walk").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="holds no frame"):
        list(describe("davis", root, split="val"))


def test_layout_is_recognised(tmp_path: Path):
    for task, make in (("davis", make_clip), ("vip", make_vip), ("jhmdb", make_jhmdb)):
        assert detect_task(make(tmp_path / task / "copy")) == task
    (tmp_path / "empty/empty/empty").mkdir(parents=True)
    with pytest.raises(DataError, match="none of the layouts"):
        detect_task(tmp_path / "empty/empty/empty")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it has no row"),
        ("a,b\n1,2\n", "lacks the column split"),
        ("split,clip,folder,num_frames\nval,a,a,many\n", "line 2: num_frames is 'many'"),
        ("split,clip,folder\nval,,a\n", "line 2 has no clip"),
        ("split,clip,folder,num_frames\nval,a,a,9999999999\n", "line 2: num_frames is '9999999999'"),
        (f"split,clip,folder,width\nval,a,a,{'9' * 5_000}\n", "line 2: width is '9999"),
        ("split,clip,folder\nval,../up,a\n", r"line 2: clip is '../up', which leads out of the data"),
        ("split,clip,folder\nval,a,../../up\n", r"line 2: folder is '../../up', which leads out of the data"),
        ("split,clip,folder\nval,a,/up\n", "line 2: folder is '/up', which leads out of the data"),
    ],
)
def test_file_that_is_no_manifest_says_why(text: str, problem: str, tmp_path: Path):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(DataError, match=problem):
        read_manifest(tmp_path / "m.csv")


def test_missing_or_binary_manifest_says_why(tmp_path: Path):
    (tmp_path / "m.csv").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "m.csv", tmp_path / "none.csv", tmp_path):
        with pytest.raises(DataError, match="can't be read as a manifest"):
            read_manifest(path)


@pytest.mark.parametrize(
    ("first", "last", "num_frames", "stems"),
    [
        ("00000", "00002", 3, ("00000", "00001", "00002")),
        ("8", "11", 4, ("8", "9", "10", "11")),
        ("00000", "00004", 3, None),
        ("a", "c", 3, None),
        (None, None, 3, None),
    ],
)
def test_frame_names_follow_only_from_gapless_numbers(first, last, num_frames, stems):
    clip = ManifestClip(split="val", clip="c", folder="c", first_frame=first, last_frame=last, num_frames=num_frames)
    assert clip.stems() == stems
