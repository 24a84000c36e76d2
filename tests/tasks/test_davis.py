"""DAVIS on disk: layouts, odd masks, and everything that can be wrong with a clip."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from davis_folder import make_clip
from PIL import Image

from corrkit.errors import DataError
from corrkit.palette import voc_palette
from corrkit.tasks.davis import DavisTask
from corrkit.tasks.masks import read_mask, write_mask


def open_davis(root: Path, split: str = "val"):
    return DavisTask().open(root, split=split, dataset_name=None)


def test_a_root_one_folder_too_high_is_found_and_noted(tmp_path: Path):
    make_clip(tmp_path / "data" / "DAVIS")
    make_clip(tmp_path / "data" / "DAVIS-more")
    assert open_davis(tmp_path / "data/DAVIS").notes == ()
    data = open_davis(tmp_path / "data")
    assert data.root == tmp_path / "data" / "DAVIS"
    assert "data/DAVIS is, and was taken. So are" in data.notes[0]
    assert "DAVIS-more" in data.notes[0]


@pytest.mark.parametrize("named", ["mine", "JPEGImages", "Annotations/480p"])
def test_a_named_folder_is_never_replaced_by_its_parent(tmp_path: Path, named: str):
    make_clip(tmp_path / "DAVIS")
    (tmp_path / "DAVIS/mine/girls").mkdir(parents=True)
    with pytest.raises(DataError, match=f"{named} is not in DAVIS layout.*\n.*/DAVIS, which it lies in, is: name that"):
        open_davis(tmp_path / "DAVIS" / named)


def test_layout_without_lists_takes_all_clips_and_says_so(tmp_path: Path):
    make_clip(tmp_path, "b")
    make_clip(tmp_path, "a")
    (tmp_path / "ImageSets/2017/val.txt").unlink()
    data = open_davis(tmp_path)
    assert [clip.name for clip in data.clips] == ["a", "b"]
    assert "no ImageSets" in data.notes[0]


def test_of_two_resolutions_the_benchmarks_is_taken_and_both_are_named(tmp_path: Path):
    root = make_clip(tmp_path / "DAVIS")
    assert open_davis(root).notes == ()
    for folder in ("JPEGImages", "Annotations"):
        shutil.copytree(root / folder / "480p", root / folder / "Full-Resolution")
    assert open_davis(root).notes == (f"{root} holds 480p and Full-Resolution: 480p is taken.",)
    assert open_davis(root).clips[0].files.annotation == root / "Annotations/480p/walk"


def test_2016_lists_name_files_not_clips(tmp_path: Path):
    make_clip(tmp_path, "a")
    make_clip(tmp_path, "b")
    (tmp_path / "ImageSets/2017/val.txt").unlink()
    (tmp_path / "ImageSets/480p").mkdir()
    (tmp_path / "ImageSets/480p/val.txt").write_text(
        "".join(f"/JPEGImages/480p/b/{i:05d}.jpg /Annotations/480p/b/{i:05d}.png\n" for i in range(4))
    )
    assert [clip.name for clip in open_davis(tmp_path).clips] == ["b"]


@pytest.mark.parametrize("mode", ["L", "P", "LA"])
def test_binary_masks_of_any_mode_give_one_object(tmp_path: Path, mode: str):
    make_clip(tmp_path)
    for path in (tmp_path / "Annotations/480p/walk").iterdir():
        ids = read_mask(path)
        binary = Image.fromarray(np.where(ids > 0, 255, 0).astype(np.uint8))
        if mode == "P":
            binary.putpalette(voc_palette().tobytes())
        (binary.convert("LA") if mode == "LA" else binary).save(path)
    (clip,) = open_davis(tmp_path).clips
    assert clip.num_objects == 1
    assert set(np.unique(clip.annotation(1))) == {0, 1}


def test_void_is_background_beside_real_ids(tmp_path: Path):
    make_clip(tmp_path)
    path = tmp_path / "Annotations/480p/walk/00001.png"
    ids = read_mask(path)
    ids[0] = 255
    write_mask(path, ids)
    (clip,) = open_davis(tmp_path).clips
    assert set(np.unique(clip.annotation(1))) == {0, 1, 2}


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_pngs_of_any_width_give_their_indices(tmp_path: Path, bits: int):
    ids = (np.arange(12).reshape(3, 4) % 2**bits).astype(np.uint8)
    image = Image.fromarray(ids)
    image.putpalette(voc_palette().tobytes()[: 3 * 2**bits])
    image.save(tmp_path / "mask.png", bits=bits)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), ids)


def test_palette_is_that_of_davis():
    # First colours of the PASCAL VOC map, which DAVIS masks carry.
    assert voc_palette()[:4].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]


def test_written_masks_are_read_back(tmp_path: Path):
    ids = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write_mask(tmp_path / "a" / "mask.png", ids)
    np.testing.assert_array_equal(read_mask(tmp_path / "a" / "mask.png"), ids)


def test_missing_root_is_named(tmp_path: Path):
    with pytest.raises(DataError, match="does not exist"):
        open_davis(tmp_path / "nothing")


def test_folder_in_another_layout_gets_the_expected_tree(tmp_path: Path):
    (tmp_path / "data" / "deep").mkdir(parents=True)
    with pytest.raises(DataError, match="ROOT/Annotations/480p/CLIP"):
        open_davis(tmp_path / "data" / "deep")


def test_unknown_split_gets_the_nearest_match(tmp_path: Path):
    make_clip(tmp_path)
    with pytest.raises(DataError, match="Did you mean 'val'"):
        open_davis(tmp_path, split="vall")


def test_clip_without_frames_is_named(tmp_path: Path):
    make_clip(tmp_path)
    for path in (tmp_path / "JPEGImages/480p/walk").iterdir():
        path.unlink()
    (clip,) = open_davis(tmp_path).clips
    with pytest.raises(DataError, match="holds no frame"):
        len(clip.frames)


def test_mask_without_a_frame_is_named(tmp_path: Path):
    make_clip(tmp_path)
    (tmp_path / "JPEGImages/480p/walk/00002.jpg").unlink()
    (clip,) = open_davis(tmp_path).clips
    with pytest.raises(DataError, match=r"00002\.png: mask without a frame"):
        len(clip.frames)


def test_frame_without_a_mask_is_noted_and_not_scored(tmp_path: Path):
    make_clip(tmp_path, frames=5)
    (tmp_path / "Annotations/480p/walk/00002.png").unlink()
    (clip,) = open_davis(tmp_path).clips
    clip.check()
    assert clip.annotation(2) is None
    assert clip.scored_frames("first-last") == [1, 3]
    assert "mask missing: frames without a mask" in clip.notes[0][0]
    assert clip.notes[0][1] == "1 of 5, first 00002"


def test_mask_of_another_size_is_named(tmp_path: Path):
    make_clip(tmp_path)
    write_mask(tmp_path / "Annotations/480p/walk/00002.png", np.ones((7, 9), np.uint8))
    (clip,) = open_davis(tmp_path).clips
    with pytest.raises(DataError, match=r"00002.png: mask of another size than the frames \(9x7, the frames are 32x24"):
        clip.check()


def test_empty_first_mask_is_named(tmp_path: Path):
    make_clip(tmp_path)
    write_mask(tmp_path / "Annotations/480p/walk/00000.png", np.zeros((24, 32), np.uint8))
    (clip,) = open_davis(tmp_path).clips
    with pytest.raises(DataError, match="holds no object"):
        clip.num_objects  # noqa: B018 - the property raises


def test_truncated_jpeg_is_named(tmp_path: Path):
    make_clip(tmp_path)
    path = tmp_path / "JPEGImages/480p/walk/00001.jpg"
    path.write_bytes(path.read_bytes()[:-40])
    (clip,) = open_davis(tmp_path).clips
    with pytest.raises(DataError, match=r"00001\.jpg can't be decoded .*Premature end of JPEG file"):
        clip.frames[1]


@pytest.mark.parametrize("content", [b"", b"not an image"])
def test_undecodable_files_are_named(tmp_path: Path, content: bytes):
    make_clip(tmp_path)
    for folder, name in (("JPEGImages", "00001.jpg"), ("Annotations", "00001.png")):
        (tmp_path / folder / "480p/walk" / name).write_bytes(content)
    (clip,) = open_davis(tmp_path).clips
    with pytest.raises(DataError, match=r"00001.jpg can't be decoded"):
        clip.frames[1]
    with pytest.raises(DataError, match=r"00001.png can't be decoded"):
        clip.annotation(1)


def test_rgb_masks_are_refused(tmp_path: Path):
    make_clip(tmp_path)
    Image.new("RGB", (32, 24), (128, 0, 0)).save(tmp_path / "Annotations/480p/walk/00001.png")
    (clip,) = open_davis(tmp_path).clips
    with pytest.raises(DataError, match="mode RGB"):
        clip.annotation(1)


def test_caches_of_other_tools_are_ignored_and_named(tmp_path: Path):
    make_clip(tmp_path)
    (tmp_path / "Annotations/480p/walk/00000.png_onehot.npy").write_bytes(b"stale")
    data = open_davis(tmp_path)
    assert "1 .npy label caches of another tool are ignored" in data.notes[0]
    assert len(data.clips[0].annotation_files) == 4


def test_macos_companion_files_are_ignored(tmp_path: Path):
    make_clip(tmp_path)
    (tmp_path / "JPEGImages/480p/walk/._00000.jpg").write_bytes(b"mac")
    (clip,) = open_davis(tmp_path).clips
    assert len(clip.frames) == 4


def test_test_sets_with_only_the_first_mask_have_no_scored_frame(tmp_path: Path):
    make_clip(tmp_path)
    for index in (1, 2, 3):
        (tmp_path / f"Annotations/480p/walk/{index:05d}.png").unlink()
    (clip,) = open_davis(tmp_path).clips
    assert clip.annotation(2) is None
    assert list(clip.scored_frames("first-last")) == []


def test_first_and_last_frame_are_not_scored(tmp_path: Path):
    make_clip(tmp_path)
    (clip,) = open_davis(tmp_path).clips
    assert list(clip.scored_frames("first-last")) == [1, 2]
