"""Predictions of VIP: written and read back, of the published names, and those that are missing."""

import json

import numpy as np
import pytest
from colour_backbone import ColourBackbone
from vip_folder import make_clip, save_label

import corrkit
from corrkit.errors import DataError
from corrkit.protocols import load_protocol
from corrkit.tasks import load_task
from corrkit.tasks.masks import read_mask

TASK = load_task("vip")
CROPMAE = load_protocol("vip/cropmae")
SMALL = {"resize": "native", "size": []}


def open_root(root):
    return TASK.open(root, split="val", dataset_name=None)


def read_all(folder, clip):
    return list(TASK.predictions(folder, {}).read(clip, CROPMAE))


def test_written_predictions_are_read_back_as_palette_files(tmp_path):
    masks = make_clip(tmp_path / "data", "videos@1")
    (clip,) = open_root(tmp_path / "data").clips
    for index, mask in enumerate(masks):
        TASK.write_prediction(tmp_path / "p", clip, index, mask)
    np.testing.assert_array_equal(read_all(tmp_path / "p", clip), masks)
    np.testing.assert_array_equal(read_mask(tmp_path / "p/videos@1/000000000026.png"), masks[1])


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_the_published_names_sizes_and_modes_are_read(tmp_path, mode):
    masks = make_clip(tmp_path / "data", frames=3, labelled=(0, 2))
    (clip,) = open_root(tmp_path / "data").clips
    for index in (0, 2):
        larger = masks[index].repeat(2, axis=0).repeat(2, axis=1)
        save_label(tmp_path / f"p/videos1/{clip.stems[index]}_mask.png", larger, mode)
    (tmp_path / f"p/videos1/{clip.stems[0]}_blend.jpg").write_bytes(b"a picture that other code leaves there")
    first, unscored, last = read_all(tmp_path / "p", clip)
    assert unscored is None
    np.testing.assert_array_equal(first, masks[0])
    np.testing.assert_array_equal(last, masks[2])


def test_missing_predictions_are_named(tmp_path):
    masks = make_clip(tmp_path / "data")
    (clip,) = open_root(tmp_path / "data").clips
    for index in (0, 2):
        TASK.write_prediction(tmp_path / "p", clip, index, masks[index])
    with pytest.raises(DataError, match="lacks 2 of 4 labelled frames: 000000000026, 000000000076"):
        read_all(tmp_path / "p", clip)


def test_a_prediction_folder_of_other_names_says_what_it_holds(tmp_path):
    masks = make_clip(tmp_path / "data")
    (clip,) = open_root(tmp_path / "data").clips
    save_label(tmp_path / "p/videos1/frame0.png", masks[0], "P")
    with pytest.raises(DataError, match=r"It holds frame0\.png"):
        read_all(tmp_path / "p", clip)
    assert not TASK.predictions(tmp_path / "q", {}).holds(clip)


def test_scoring_saved_predictions_equals_the_evaluation_that_saved_them(tmp_path):
    make_clip(tmp_path / "data")
    make_clip(tmp_path / "data", "videos2", frames=6, labelled=(0, 3, 5))
    run = corrkit.evaluate(
        "vip", ColourBackbone(8), data=tmp_path / "data", out=tmp_path / "run", save_predictions=True, **SMALL
    )
    scored = corrkit.score("vip", data=tmp_path / "data", pred=run.folder / "predictions")
    assert json.dumps(scored.summary["metrics"]) == json.dumps(run.summary["metrics"])  # NaN equals NaN
