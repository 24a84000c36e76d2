"""The index, decoding of what a sample needs, and the order of samples."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from corrkit.errors import DataError
from corrkit.frames import index as frames_index
from corrkit.frames.crops import Box
from corrkit.frames.index import Entry
from corrkit.frames.items import build_index, read_frames
from corrkit.frames.video import VideoFile
from corrkit.training.data import (
    Batches,
    Sample,
    Samples,
    collate,
    loader,
    order,
    workers_for,
)
from corrkit.training.data.sampling import choose_frames, size_at
from corrkit.training.data.views import make_views
from corrkit.training.recipe import load_recipe


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One clip of six frames (frame f is grey 40 f), one image, one video that isn't one."""
    clip = tmp_path / "data" / "clip"
    clip.mkdir(parents=True)
    for frame in range(6):
        Image.new("RGB", (64, 48), (40 * frame,) * 3).save(clip / f"{frame}.png")
    Image.new("RGB", (40, 40), (255, 0, 0)).save(tmp_path / "data" / "photo.png")
    (tmp_path / "data" / "broken.mp4").write_bytes(b"no video")
    return tmp_path / "data"


def test_the_index_lists_clips_and_images_and_what_cannot_be_decoded(folder: Path, tmp_path: Path) -> None:
    index = build_index(folder, tmp_path / "index.json")
    assert index.entries == (Entry("photo.png", "image", 1), Entry("clip", "folder", 6))
    assert [path for path, _ in index.broken] == ["broken.mp4"]
    assert "broken.mp4" in index.broken[0][1]


def test_the_index_is_built_once(folder: Path, tmp_path: Path) -> None:
    first = build_index(folder, tmp_path / "index.json")
    (folder / "clip" / "5.png").unlink()
    assert build_index(folder, tmp_path / "index.json") == first
    assert build_index(folder, tmp_path / "other.json").digest != first.digest


def test_folders_without_frames_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder"):
        build_index(tmp_path / "absent", tmp_path / "index.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no video and no image"):
        build_index(tmp_path / "empty", tmp_path / "index.json")


def test_videos_are_read_frame_by_frame(shared: Path, tmp_path: Path) -> None:
    index = build_index(shared / "data" / "videos", tmp_path / "index.json")
    assert not index.broken
    for item, entry in enumerate(index.entries):
        assert entry.kind == "video"
        first, last = read_frames(index, item, (0, entry.frames - 1))
        assert first.shape == last.shape
        assert first.dtype == np.uint8


def test_seeking_gives_the_frame_that_reading_in_order_gives(shared: Path) -> None:
    for path in sorted((shared / "data" / "videos").iterdir())[:4]:
        video = VideoFile(path)
        in_order = video.read(range(9))
        np.testing.assert_array_equal(VideoFile(path)[8], in_order[8])


class CountedCapture:
    """A capture that counts how often it is told to seek."""

    def __init__(self, capture: Any) -> None:
        self.capture, self.seeks = capture, 0

    def set(self, *arguments: Any) -> Any:
        self.seeks += 1
        return self.capture.set(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.capture, name)


def test_frames_of_an_item_are_decoded_in_one_pass_by_one_thread(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = VideoFile(shared / "data" / "videos" / "cotracker_cat.mp4")
    expected = [VideoFile(video.path)[index] for index in (3, 20, 41, 60)]
    capture = CountedCapture(video._open())
    assert capture.get(cv2.CAP_PROP_N_THREADS) == 1
    monkeypatch.setattr(video, "_open", lambda: capture)
    np.testing.assert_array_equal(video.read((41, 3, 60, 20)), [expected[place] for place in (2, 0, 3, 1)])
    assert capture.seeks == 0
    assert VideoFile(video.path).read((80,))[0].shape == expected[0].shape  # far from the start: by seeking


def test_lists_name_clips_with_and_without_their_frames(folder: Path, tmp_path: Path) -> None:
    """As VideoMAE's: a path, and where known the number of frames."""
    for text in ("clip 6\nphoto.png\nabsent.mp4 300\n", "path,frames\nclip,6\nphoto.png,1\nabsent.mp4,300\n"):
        (folder / "list.csv").write_text(text)
        index = build_index(folder / "list.csv", tmp_path / f"{len(text)}.json")
        assert index.entries == (Entry("clip", "folder", 6), Entry("photo.png", "image", 1))
        assert [path for path, _ in index.broken] == ["absent.mp4"]
        assert index.summary == "1 clips of 6 frames and 1 images, 1 left out"
        assert read_frames(index, 0, (2,))[0].max() == 80
    (folder / "list.csv").write_text("clip six\n")
    with pytest.raises(DataError, match=r"list\.csv, line 1"):
        build_index(folder / "list.csv", tmp_path / "wrong.json")


def test_files_are_opened_once_for_all_runs_and_by_each_rank_its_share(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    opened: list[str] = []
    real = frames_index._open
    monkeypatch.setattr(frames_index, "_open", lambda *of: opened.append(of[1]) or real(*of))
    parts: list[Any] = []

    def gather(found: Any) -> list[Any]:
        parts.append(found)
        return parts

    with pytest.raises(KeyError):  # the other rank's share is missing
        build_index(folder, tmp_path / "0.json", share=(0, 2), gather=gather)
    first = list(opened)
    whole = build_index(folder, tmp_path / "1.json", share=(1, 2), gather=gather)
    assert sorted(opened) == ["broken.mp4", "clip", "photo.png"]
    assert len(first) == 2
    assert build_index(folder, tmp_path / "2.json") == whole
    assert len(opened) == 3  # a second run opens nothing
    Image.new("RGB", (40, 40)).save(folder / "new.png")
    assert len(build_index(folder, tmp_path / "3.json").entries) == 3
    assert opened[3:] == ["new.png"]


def test_decoding_processes_do_not_load_timm() -> None:
    code = "import sys, corrkit.training.data; print('timm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_batches_travel_as_bytes_and_have_the_values_of_floating_point(folder: Path, tmp_path: Path) -> None:
    index = build_index(folder, tmp_path / "index.json")
    samples = Samples(index, load_recipe("mae", scale="tiny").views, 0)
    batch = next(loader(samples, Batches(num_items=2, batch=2, seed=0, share=(0, 1), first=0), 0))
    (view,) = batch.views
    assert view.pixels.dtype == torch.uint8
    mean, std = (np.array(v, np.float32)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected = (view.pixels.numpy().astype(np.float32) / np.float32(255) - mean) / std
    np.testing.assert_array_equal(view.to(torch.device("cpu")).pixels.numpy(), expected)


def test_colours_of_the_device_are_those_of_the_processes(folder: Path, tmp_path: Path) -> None:
    """The same crops and draws, rounded elsewhere; before that the pixels travel as they were cut."""
    index = build_index(folder, tmp_path / "index.json")
    batches = []
    for colour in ("dino", "dino-device", "none"):
        views = load_recipe("dino", scale="tiny", changes={"views.colour": colour}).views
        keys = Batches(num_items=2, batch=2, seed=0, share=(0, 1), first=0)
        batches.append(next(loader(Samples(index, views, 0), keys, 0)).views)
    for done, later, plain in zip(*batches, strict=True):
        assert later.pixels.dtype == torch.uint8
        assert later.colours.shape == (2, 8)
        assert (done.colours, plain.colours) == (None, None)
        found, expected, never = (view.to(torch.device("cpu")) for view in (later, done, plain))
        assert found.colours is None
        three_levels = 3 / 255 / 0.225
        assert (found.pixels - expected.pixels).abs().mean() < three_levels
        assert (never.pixels - expected.pixels).abs().mean() > three_levels


def test_damaged_videos_are_listed_or_cut_to_what_can_be_decoded(shared: Path, tmp_path: Path) -> None:
    index = build_index(shared / "data" / "videos_bad", tmp_path / "index.json")
    listed = {path for path, _ in index.broken}
    assert {"empty.mp4", "text_named.mp4", "truncated_no_moov.mp4"} <= listed
    for item, entry in enumerate(index.entries):
        assert entry.path not in listed
        read_frames(index, item, (0, entry.frames - 1))


def test_samples_follow_from_seed_and_place(folder: Path, tmp_path: Path) -> None:
    index = build_index(folder, tmp_path / "index.json")
    views = load_recipe("siammae", scale="tiny").views
    one, same, other = (Samples(index, views, seed)[(5, 1)] for seed in (0, 0, 1))
    assert len(one) == views.repeat
    np.testing.assert_array_equal(one[0][0][0], same[0][0][0])
    assert one[0][1] != other[0][1]


def test_each_epoch_takes_every_item_once() -> None:
    items = [order(7, seed=3, place=place) for place in range(21)]
    assert [sorted(items[start : start + 7]) for start in (0, 7, 14)] == [list(range(7))] * 3
    assert items[:7] != items[7:14]


def taken(first: int, count: int, share: tuple[int, int] = (0, 1), **more: Any) -> list[list[tuple[int, int]]]:
    batches = iter(Batches(num_items=10, batch=4, seed=0, share=share, first=first, **more))
    return [next(batches) for _ in range(count)]


def test_ranks_share_a_step_without_overlap_and_resuming_needs_its_number_only() -> None:
    assert taken(3, 2) == taken(0, 5)[3:]
    ranks = taken(0, 3, (0, 2)), taken(0, 3, (1, 2))
    together = [key for pair in zip(*ranks, strict=True) for part in pair for key in part]
    assert [place for place, _ in together] == list(range(24))


MIXED: dict[str, Any] = {"images": (1, 2, 5, 6, 7, 9), "per_clip": 2}


def test_batches_hold_images_or_clips_in_proportion_to_the_items() -> None:
    """Six images and four clips: of ten batches six have four images and four have two clips."""
    items = [[item for _, item in batch] for batch in taken(0, 10, **MIXED)]
    kinds = [{item in MIXED["images"] for item in batch} for batch in items]
    assert kinds.count({True}) == 6
    assert kinds.count({False}) == 4
    assert {len(batch) for batch, kind in zip(items, kinds, strict=True) if kind == {True}} == {4}
    images, clips = ([i for batch in items for i in batch if (i in MIXED["images"]) is kind] for kind in (True, False))
    assert sorted(images[:6]) == sorted(images[6:12]) == [1, 2, 5, 6, 7, 9]  # each once before any comes again
    assert sorted(clips[:4]) == sorted(clips[4:8]) == [0, 3, 4, 8]
    assert taken(7, 3, **MIXED) == taken(0, 10, **MIXED)[7:]  # resuming needs the number only


def test_ranks_have_batches_of_the_same_kind_at_the_same_time() -> None:
    one, other = taken(0, 10, (0, 2), **MIXED), taken(0, 10, (1, 2), **MIXED)
    for first, second in zip(one, other, strict=True):
        assert len({item in MIXED["images"] for _, item in (*first, *second)}) == 1
    places = [place for pair in zip(one, other, strict=True) for batch in pair for place, _ in batch]
    assert len(set(places)) == len(places)
    clips = [item for pair in zip(one, other, strict=True) for batch in pair for _, item in batch]
    clips = [item for item in clips if item not in MIXED["images"]]
    assert sorted(clips[:4]) == [0, 3, 4, 8]  # shared out, not repeated


def test_data_of_one_kind_only_has_no_other_batches() -> None:
    everything = {item for batch in taken(0, 10, images=tuple(range(10)), per_clip=2) for _, item in batch}
    assert everything == set(range(10))
    assert taken(0, 3, per_clip=2) == taken(0, 3)


def test_images_become_one_tubelet_of_equal_frames_and_clips_are_repeated(folder: Path, tmp_path: Path) -> None:
    index = build_index(folder, tmp_path / "index.json")  # item 0 is an image, item 1 a clip
    recipe = load_recipe("omnimae", scale="tiny")
    samples = Samples(index, recipe.views, 0, image_views=recipe.image_views)
    (image,) = samples[(0, 0)]
    assert image[0][0].shape == (3, 2, 96, 96)
    np.testing.assert_array_equal(image[0][0][:, 0], image[0][0][:, 1])
    clips = samples[(1, 1)]
    assert [clip[0][0].shape for clip in clips] == [(3, 4, 96, 96)] * 4


def test_sizes_follow_the_share_of_the_training_that_is_done() -> None:
    views = load_recipe("fastmim-p").views
    assert [size_at(views, share) for share in (0, 0.2499, 0.25, 0.5, 0.75, 1)] == [128, 128, 160, 192, 224, 224]
    assert size_at(load_recipe("mae").views, 0.0) == 224


def test_all_items_of_a_step_have_one_size(folder: Path, tmp_path: Path) -> None:
    """Eight items a step, four steps, three more sizes: one a step."""
    index = build_index(folder, tmp_path / "index.json")
    views = load_recipe("fastmim-p", scale="tiny").views
    samples = Samples(index, views, seed=0, per_step=8, steps=4)
    sides = [samples[(place, place % 2)][0][0][0].shape[-1] for place in range(32)]
    assert sides == [64] * 8 + [72] * 8 + [80] * 8 + [96] * 8


@pytest.mark.slow
def test_worker_processes_give_the_same_batches(folder: Path, tmp_path: Path) -> None:
    index = build_index(folder, tmp_path / "index.json")
    samples = Samples(index, load_recipe("siammae", scale="tiny").views, 0)
    keys = Batches(num_items=2, batch=2, seed=0, share=(0, 1), first=0)
    alone, helped = loader(samples, keys, 0), loader(samples, keys, 1)
    for _ in range(2):
        assert torch.equal(next(alone).views[0].pixels, next(helped).views[0].pixels)


def test_frames_of_a_pair_share_box_and_flip() -> None:
    """A frame and itself give the same view twice; with boxes of their own they don't."""
    picture = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    views = load_recipe("siammae", scale="tiny").views
    (first, second), boxes, _ = make_views([picture, picture], views, Random(1))
    np.testing.assert_array_equal(first, second)
    assert boxes[0] == boxes[1]
    (first, second), *_ = make_views([picture, picture], dataclasses.replace(views, shared_box=False), Random(1))
    assert (first != second).any()


def test_a_clip_that_is_too_short_repeats_its_last_frame() -> None:
    views = load_recipe("videomae").views
    assert choose_frames(views, 3, Random(0)) == (0, *[2] * 15)


def test_cropmae_takes_its_local_crop_from_the_global_view() -> None:
    """The local box lies within the resized global view, whatever the frame's size."""
    picture = np.zeros((500, 700, 3), np.uint8)
    views = load_recipe("cropmae", scale="tiny").views
    for seed in range(20):
        pixels, boxes, _ = make_views([picture], views, Random(seed))
        box: Any = boxes[1][:5]
        inner = Box(*box)
        assert inner.top + inner.height <= views.size
        assert inner.frame_width == views.size
        assert pixels[0].shape == pixels[1].shape == (3, views.size, views.size)


def test_views_are_normalised_with_imagenet_s_statistics() -> None:
    white = np.full((50, 50, 3), 255, np.uint8)
    (pixels,), *_ = make_views([white], load_recipe("mae", scale="tiny").views, Random(0))
    expected = (1 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    batch = collate([[Sample([pixels], [(0, 0, 50, 50, 50, 0)])]] * 2)
    assert batch[0].pixels.dtype == torch.uint8
    np.testing.assert_allclose(batch[0].to(torch.device("cpu")).pixels.mean((0, 2, 3)), expected, rtol=1e-5)
    assert batch[0].pixels.shape == (2, 3, 96, 96)
    assert batch[0].boxes.tolist() == [[0, 0, 50, 50, 50, 0]] * 2


@pytest.mark.parametrize(("cores", "ranks", "expected"), [(2, 1, 1), (16, 1, 8), (32, 8, 3), (1, 1, 1)])
def test_workers_are_a_rank_s_share_of_the_cores_but_one(
    cores: int, ranks: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
    assert workers_for(torch.device("cuda")) == expected
    assert workers_for(torch.device("cpu")) == 0
