"""VIP on disk: layouts, lists, labels, and the errors of bad input; label maps of golden/vip."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from colour_backbone import ColourBackbone
from PIL import Image
from vip_folder import CATEGORY_IDS, make_clip, save_label

import corrkit
from corrkit.errors import DataError, ProtocolError
from corrkit.metrics.confusion import class_areas, class_iou
from corrkit.protocols import load_protocol, override
from corrkit.tasks import load_task
from corrkit.tasks.contract import Geometry
from corrkit.tasks.masks import MaskCodec
from corrkit.tasks.vip import class_names

TASK = load_task("vip")
CROPMAE = load_protocol("vip/cropmae")
SMALL = {"resize": "native", "size": []}


def open_root(root, split="val"):
    return TASK.open(root, split=split, dataset_name=None)


def counts_of(clip, predictions, protocol=CROPMAE) -> np.ndarray:
    scorer = TASK.scorer(clip, protocol, TASK.truth(clip, protocol))
    for index, prediction in enumerate(predictions):
        if prediction is not None:
            scorer.update(index, prediction)
    return np.array(scorer.result()["counts"])


# --- goldens: labels on the grid and back -----------------------------------------------------------------------------


def codec_of(arrays, case: str, protocol: str, *, grid: tuple[int, int]) -> tuple[MaskCodec, np.ndarray]:
    image = arrays[f"{case}/label_image"]
    network: Any = tuple(map(int, arrays[f"{case}/network_hw"]))
    geometry = Geometry(original=network, network=network, grid=grid, stride=network[0] // grid[0])
    constants = load_protocol(protocol, "vip")
    return MaskCodec(image, geometry, constants.labels, constants.readout), image


@pytest.mark.golden
@pytest.mark.parametrize(
    ("case", "protocol"),
    [
        ("cropmae_long320", "cropmae"),
        ("cropmae_long320_portrait", "cropmae"),
        ("cropmae_160x224", "cropmae"),
        ("crw_160", "crw"),
        ("crw_native", "crw"),
    ],
)
def test_labels_of_the_crw_family_equal_the_published_ones(golden, case, protocol, parity):
    arrays = np.load(golden("vip/labels.npz"))
    codec, image = codec_of(arrays, case, protocol, grid=arrays[f"{case}/grid"].shape[:2])
    np.testing.assert_array_equal(codec.ids, arrays[f"{case}/label_set"][:, 0])
    np.testing.assert_array_equal(codec.to_network(image), arrays[f"{case}/label_at_network_size"])
    np.testing.assert_array_equal(codec.encode(image).numpy(), arrays[f"{case}/grid"])
    decoded = codec.decode(torch.from_numpy(arrays[f"{case}/decode_soft"]))
    expected = arrays[f"{case}/decode_ids"]
    np.testing.assert_array_equal(decoded, expected)
    grid = codec.encode(image).numpy()
    parity(f"vip/{protocol}", "labels", np.abs(grid - arrays[f"{case}/grid"]).max(), grid.size)
    parity(f"vip/{protocol}", "read-out", (decoded != expected).sum(), expected.size, "pixels")


@pytest.mark.golden
@pytest.mark.parametrize(("case", "protocol"), [("vfs", "spa-then-temp"), ("uvc", "uvc")])
def test_labels_by_nearest_equal_the_published_ones(golden, case, protocol, parity):
    arrays = np.load(golden("vip/labels.npz"))
    expected = arrays[f"{case}/grid_ids"]
    codec, image = codec_of(arrays, case, protocol, grid=expected.shape)
    ours = codec.ids[codec.encode(image).argmax(-1).numpy()]
    np.testing.assert_array_equal(ours, expected)
    parity(f"vip/{protocol}", "labels", (ours != expected).sum(), expected.size, "cells")


@pytest.mark.golden
@pytest.mark.parametrize("case", ["vfs_vip_circle_nr24", "sptt_vip_square_nr32"])
def test_masks_at_frame_size_equal_the_published_ones(golden, case, parity):
    arrays = np.load(golden("vip/propagation.npz"))
    label = arrays[f"{case}/label_image_at_input_size"]
    original: Any = tuple(map(int, arrays[f"{case}/frame_hw"]))
    geometry = Geometry(original=original, network=label.shape, grid=(14, 14), stride=8)
    constants = load_protocol("vip/spa-then-temp")
    codec = MaskCodec(label, geometry, constants.labels, constants.readout)
    published = arrays[f"{case}/pred"]
    np.testing.assert_array_equal(codec.first_prediction(label), published[0])
    for soft, expected in zip(torch.from_numpy(arrays[f"{case}/soft"]), published[1:], strict=True):
        decoded = codec.decode(soft.permute(1, 2, 0))
        np.testing.assert_array_equal(decoded, expected)
        parity("vip/spa-then-temp", "read-out", (decoded != expected).sum(), expected.size, "pixels")


@pytest.mark.golden
def test_masks_of_uvc_equal_the_published_ones(golden, parity):
    arrays = np.load(golden("vip/propagation.npz"))
    published = arrays["uvc_vip_pre1_top5/pred_x8"]
    size = published.shape[1:]
    constants = load_protocol("vip/uvc")
    geometry = Geometry(original=size, network=size, grid=(size[0] // 8, size[1] // 8), stride=8)
    first = arrays["uvc_vip_pre1_top5/onehot0"].argmax(0).astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    codec = MaskCodec(first, geometry, constants.labels, constants.readout)
    for soft, expected in zip(torch.from_numpy(arrays["uvc_vip_pre1_top5/soft"]), published, strict=True):
        decoded = codec.decode(soft.permute(1, 2, 0))
        np.testing.assert_array_equal(decoded, expected)
        parity("vip/uvc", "read-out", (decoded != expected).sum(), expected.size, "pixels")


def test_bilinear_label_resize_makes_false_ids_that_a_field_mends():
    image = np.zeros((90, 160), np.uint8)
    image[:, 81:] = 19
    geometry = Geometry(original=(90, 160), network=(64, 64), grid=(8, 8), stride=8)
    crw = load_protocol("vip/crw")
    false_ids = MaskCodec(image, geometry, crw.labels, crw.readout).ids
    assert len(false_ids) > 2
    mended = override(crw, {"network_resize": "nearest-opencv"})
    assert MaskCodec(image, geometry, mended.labels, mended.readout).ids.tolist() == [0, 19]


def test_ids_without_a_channel_count_as_background():
    geometry = Geometry(original=(16, 16), network=(16, 16), grid=(2, 2), stride=8)
    first = np.zeros((16, 16), np.uint8)
    first[:8] = 4
    codec = MaskCodec(first, geometry, CROPMAE.labels, CROPMAE.readout)
    assert codec.ids.tolist() == [0, 4]
    maps = codec.encode(np.full((16, 16), 7, np.uint8))
    np.testing.assert_array_equal(maps[..., 0].numpy(), np.ones((2, 2)))


# --- layout -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [CATEGORY_IDS, "Category_ids", "Annotations"])
@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_labels_are_found_in_every_layout_and_mode(tmp_path, labels, mode):
    masks = make_clip(tmp_path, labels=labels, mode=mode)
    (clip,) = open_root(tmp_path).clips
    for index, mask in enumerate(masks):
        np.testing.assert_array_equal(clip.annotation(index), mask)


def test_lists_take_names_paths_and_pairs(tmp_path):
    for name in ("videos1", "videos2", "videos3", "videos@4"):
        make_clip(tmp_path, name, listed=False)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/val_videos.txt").write_text("videos2\nvideos@4\n")
    (tmp_path / "lists/train_videos.txt").write_text("/somewhere/VIP/Images/videos3\n")
    pairs = "VIP/Images/videos1 VIP/Annotations/Category_ids/videos1\n"
    (tmp_path / "vip_vallist.txt").write_text(pairs + pairs.replace("/videos1", "/videos3/"))
    assert [clip.name for clip in open_root(tmp_path).clips] == ["videos2", "videos@4"]
    assert [clip.name for clip in open_root(tmp_path, "train").clips] == ["videos3"]
    assert [clip.name for clip in open_root(tmp_path, "vip_vallist").clips] == ["videos1", "videos3"]
    with pytest.raises(DataError, match="Known: train, val"):
        open_root(tmp_path, "test")


def test_without_lists_all_clips_are_taken_and_noted(tmp_path):
    make_clip(tmp_path, listed=False)
    dataset = open_root(tmp_path)
    assert [clip.name for clip in dataset.clips] == ["videos1"]
    assert "has no lists" in dataset.notes[0]
    assert not dataset.official


@pytest.mark.parametrize("where", [".", ".."])
def test_a_root_one_folder_too_high_is_found(tmp_path, where):
    make_clip(tmp_path / "VIP_Fine")
    assert len(open_root((tmp_path / "VIP_Fine" / where).resolve()).clips) == 1


def test_a_root_of_another_layout_names_the_expected_tree(tmp_path):
    (tmp_path / "Images").mkdir()
    with pytest.raises(DataError, match="Category_ids"):
        open_root(tmp_path)


def test_a_list_of_clips_that_are_elsewhere_is_an_error(tmp_path):
    make_clip(tmp_path)
    (tmp_path / "lists/val_videos.txt").write_text("videos9\n")
    with pytest.raises(DataError, match="none of which"):
        open_root(tmp_path)
    (tmp_path / "lists/val_videos.txt").write_text("\n")
    with pytest.raises(DataError, match="names no clip"):
        open_root(tmp_path)


def test_label_caches_of_other_tools_are_named(tmp_path):
    make_clip(tmp_path)
    (tmp_path / CATEGORY_IDS / "videos1/000000000001_onehot.npy").write_bytes(b"")
    assert "1 .npy label caches" in open_root(tmp_path).notes[0]


# --- clips ------------------------------------------------------------------------------------------------------------


def test_frames_without_a_label_are_propagated_through_but_not_scored(tmp_path):
    masks = make_clip(tmp_path, frames=5, labelled=(0, 2, 4))
    (clip,) = open_root(tmp_path).clips
    assert [clip.annotation(index) is None for index in range(5)] == [False, True, False, True, False]
    assert counts_of(clip, masks).sum() == 3 * 48 * 64
    result = corrkit.evaluate("vip", ColourBackbone(8), data=tmp_path, **SMALL)
    assert not result.failures
    assert result.summary["metrics"]["mIoU"] > 0.5


def test_frame_zero_is_scored_unless_the_protocol_says_otherwise(tmp_path):
    masks = make_clip(tmp_path)
    (clip,) = open_root(tmp_path).clips
    assert counts_of(clip, masks).sum() == 4 * 48 * 64
    assert counts_of(clip, masks, override(CROPMAE, {"score_first": False})).sum() == 3 * 48 * 64


def test_void_pixels_are_not_scored_and_are_background_in_the_labels(tmp_path):
    masks = make_clip(tmp_path)
    masks[0][:10] = 255
    save_label(tmp_path / CATEGORY_IDS / "videos1/000000000001.png", masks[0], "L")
    (clip,) = open_root(tmp_path).clips
    assert not (clip.annotation(0) == 255).any()
    assert counts_of(clip, [clip.annotation(0)]).sum() == 38 * 64
    assert not corrkit.evaluate("vip", ColourBackbone(8), data=tmp_path, **SMALL).failures


@pytest.mark.parametrize(("value", "named"), [(20, "20"), (254, "254")])
def test_ids_beyond_the_classes_are_an_error(tmp_path, value, named):
    masks = make_clip(tmp_path)
    masks[1][0, 0] = value
    save_label(tmp_path / CATEGORY_IDS / "videos1/000000000026.png", masks[1], "L")
    (clip,) = open_root(tmp_path).clips
    with pytest.raises(DataError, match=rf"000000000026\.png: mask with wrong ids \(holds id {named};"):
        clip.check()


def test_a_colour_label_is_an_error(tmp_path):
    make_clip(tmp_path)
    path = tmp_path / CATEGORY_IDS / "videos1/000000000001.png"
    Image.open(tmp_path / "Images/videos1/000000000001.jpg").save(path)
    with pytest.raises(DataError, match="its colours are no ids"):
        open_root(tmp_path).clips[0].annotation(0)


def test_a_label_of_another_size_than_its_frame_is_an_error(tmp_path):
    make_clip(tmp_path)
    save_label(tmp_path / CATEGORY_IDS / "videos1/000000000026.png", np.zeros((24, 32), np.uint8), "P")
    result = corrkit.evaluate("vip", "identity", data=tmp_path)
    assert "(32x24, the frames are 64x48)" in str(result.failures["videos1"])


def test_a_label_without_its_frame_is_an_error(tmp_path):
    make_clip(tmp_path)
    (tmp_path / "Images/videos1/000000000026.jpg").unlink()
    with pytest.raises(DataError, match=r"000000000026\.png: mask without a frame"):
        _ = open_root(tmp_path).clips[0].frames


def test_a_first_frame_without_a_label_is_an_error(tmp_path):
    make_clip(tmp_path, labelled=(1, 2))
    with pytest.raises(DataError, match="the first frame has none"):
        _ = open_root(tmp_path).clips[0].frames


def test_an_empty_clip_fails_alone(tmp_path):
    make_clip(tmp_path)
    make_clip(tmp_path, "videos2")
    for folder in (tmp_path / "Images/videos2", tmp_path / CATEGORY_IDS / "videos2"):
        for path in folder.iterdir():
            path.unlink()
    result = corrkit.evaluate("vip", "identity", data=tmp_path)
    assert list(result.failures) == ["videos2"]
    assert result.summary["partial"]


def test_a_set_of_which_no_clip_can_be_evaluated_has_nan_scores(tmp_path):
    make_clip(tmp_path, labelled=(1, 2))
    result = corrkit.evaluate("vip", "identity", data=tmp_path)
    assert list(result.failures) == ["videos1"]
    assert np.isnan(result.summary["metrics"]["mIoU"])


# --- scores -----------------------------------------------------------------------------------------------------------


def test_iou_per_class_and_their_mean_over_the_pixels_of_all_clips(tmp_path):
    """Two clips of one frame and 48 x 64 pixels, everything predicted as background: its IoU is its share."""
    masks = [make_clip(tmp_path, name, frames=1)[0] for name in ("videos1", "videos2")]
    result = corrkit.evaluate("vip", "identity", data=tmp_path)
    assert result.summary["metrics"]["mIoU"] == 1.0
    (first, second) = open_root(tmp_path).clips
    nothing = np.zeros_like(masks[0])
    records = {clip.name: {"counts": counts_of(clip, [nothing]).tolist()} for clip in (first, second)}
    metrics = TASK.scores(records, CROPMAE, split="val").metrics
    share = np.mean([(mask == 0).mean() for mask in masks])
    assert metrics["IoU/background"] == pytest.approx(share)
    assert [metrics[f"IoU/{name}"] for name in ("face", "dress", "right-leg")] == [0, 0, 0]
    assert np.isnan(metrics["IoU/hat"])
    assert metrics["mIoU"] == pytest.approx(share / 4)
    without = override(CROPMAE, {"background": False})
    assert TASK.scores(records, without, split="val").metrics["mIoU"] == 0
    assert len(metrics) == 1 + 20


def test_the_mean_is_rounded_where_the_protocol_says_so(tmp_path):
    masks = make_clip(tmp_path, frames=1)
    (clip,) = open_root(tmp_path).clips
    prediction = masks[0].copy()
    prediction[:7, :9] = 5
    records = {"videos1": {"counts": counts_of(clip, [prediction]).tolist()}}
    plain = TASK.scores(records, CROPMAE, split="val").metrics["mIoU"]
    rounded = TASK.scores(records, load_protocol("vip/spa-then-temp"), split="val").metrics["mIoU"]
    assert rounded != plain
    assert rounded == pytest.approx(round(plain, 4), abs=1e-12)


def test_class_names_are_those_of_vip():
    assert len(class_names()) == 20
    assert (class_names()[0], class_names()[14], class_names()[19]) == ("background", "right-arm", "left-shoe")


@pytest.mark.parametrize("protocol", ["cropmae", "crw", "spa-then-temp", "uvc"])
def test_every_protocol_follows_a_moving_figure(tmp_path, protocol):
    make_clip(tmp_path, size=(96, 128), frames=5)
    options = {"colour": "published", "resize": "native", "size": []}
    result = corrkit.evaluate("vip", ColourBackbone(8), data=tmp_path, protocol=protocol, **options)
    assert not result.failures
    metrics = result.summary["metrics"]
    assert np.mean([metrics[f"IoU/{name}"] for name in ("face", "dress", "right-leg")]) > 0.4


def test_protocols_of_other_colours_refuse_rgb_networks(tmp_path):
    make_clip(tmp_path)
    with pytest.raises(ProtocolError, match="lab pictures"):
        corrkit.evaluate("vip", ColourBackbone(16), data=tmp_path, protocol="spa-then-temp")


@pytest.mark.parametrize(("colour", "protocol"), [("lab", "spa-then-temp"), ("grey", "uvc")])
def test_networks_of_other_colours_get_them(tmp_path, colour, protocol):
    class Watching(ColourBackbone):
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

        def __call__(self, frames):
            self.largest, self.smallest = frames.amax((0, 2, 3)), frames.amin((0, 2, 3))
            return super().__call__(frames)

    make_clip(tmp_path)
    backbone: Any = Watching(8)
    backbone.input_colour = colour
    assert not corrkit.evaluate("vip", backbone, data=tmp_path, protocol=protocol).failures
    if colour == "lab":
        assert 50 < backbone.largest[0] <= 100
        assert backbone.smallest[2] < -50  # the dress is blue
    else:
        assert (backbone.largest == backbone.largest[0]).all()
        assert 0.5 < backbone.largest[0] < 1


def test_a_predicted_id_beyond_the_classes_spills_or_counts_as_the_last_class(tmp_path):
    masks = make_clip(tmp_path, frames=1)
    (clip,) = open_root(tmp_path).clips
    prediction = masks[0].copy()
    prediction[masks[0] == 5] = 20
    counts = counts_of(clip, [prediction])
    spilled = class_iou(class_areas(counts, rule="confusion"))  # true 5, predicted 20 counts as true 6, predicted 0
    np.testing.assert_equal(spilled[[5, 6, 19]], [np.nan, 0, np.nan])
    counted = class_iou(class_areas(counts, rule="histogram"))
    np.testing.assert_equal(counted[[5, 6, 19]], [0, np.nan, 0])


def test_every_enumerated_rule_changes_some_label_map_or_mask():
    """Sensitivity: no value of the label and read-out fields is without effect."""
    image = np.random.default_rng(1).integers(0, 20, (63, 108)).astype(np.uint8)
    geometry = Geometry(original=image.shape, network=(48, 96), grid=(6, 12), stride=8)
    soft = torch.rand(6, 12, 20, generator=torch.Generator().manual_seed(2))

    def outcome(**changes):
        labels = {k: v for k, v in changes.items() if hasattr(CROPMAE.labels, k)}
        readout = {k: v for k, v in changes.items() if hasattr(CROPMAE.readout, k)}
        rules = dataclasses.replace(CROPMAE.labels, **labels), dataclasses.replace(CROPMAE.readout, **readout)
        codec = MaskCodec(image, geometry, *rules)
        maps = codec.encode(image)
        decoded = codec.decode(soft[..., : len(codec.ids)])
        return maps.numpy().tobytes(), decoded.tobytes(), codec.first_prediction(image).tobytes()

    for name, values in {
        "network_resize": ["none", "nearest", "nearest-opencv", "bilinear-opencv"],
        "downsample": ["nearest", "stride", "bilinear", "bilinear-corners"],
        "resolution": ["network", "network-opencv", "original"],
        "minmax": ["none", "positive"],
        "first_frame": ["copy", "decoded", "network"],
    }.items():
        assert len({outcome(**{name: value}) for value in values}) == len(values), name
    upsample = ["bilinear", "bilinear-corners", "nearest", "nearest-exact"]
    assert len({outcome(upsample=value, resolution="original") for value in upsample}) == len(upsample)
