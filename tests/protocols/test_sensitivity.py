"""Each constant of a protocol, changed, breaks some golden of the published code that its protocol meets; or is listed.

A probe repeats one small golden under a protocol with changes and says whether it is met.
"""

import csv
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import corrkit
from corrkit.backbones.contract import with_position
from corrkit.backbones.under_protocol import under
from corrkit.frames.pictures import read_image
from corrkit.frames.preparation import FramePreparation, network_size
from corrkit.frames.resaved import ResavedFrames
from corrkit.frames.sequence import ImageFolder
from corrkit.metrics.confusion import joint_counts
from corrkit.metrics.davis import object_statistics, table_metrics
from corrkit.metrics.keypoints import THRESHOLDS
from corrkit.protocols import load_protocol, override
from corrkit.protocols.schema import Frames, groups_of
from corrkit.task_table import task_names
from corrkit.tasks import load_task
from corrkit.tasks.contract import Geometry
from corrkit.tasks.jhmdb import JhmdbScorer
from corrkit.tasks.jhmdb_points import PointCodec
from corrkit.tasks.masks import MaskCodec, read_mask
from tests.checkpoints import test_video_goldens as video_test
from tests.metrics import test_keypoints as keypoints_test
from tests.propagation import test_goldens as level1
from tests.published import test_davis_stages as stages_test

pytestmark = pytest.mark.golden

REPOSITORY = Path(__file__).resolve().parents[2]

NEAR_TIES = 0.005  # golden/davis/README.md: share of a case's ok cells that a flipped near tie may reach


def close(ours, theirs, tolerance: float) -> bool:
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    return ours.shape == theirs.shape and bool(np.allclose(ours, theirs, rtol=0, atol=tolerance, equal_nan=True))


def propagation(code: str, name: str, case: str):
    """Soft maps of a setting of golden/davis/level1, under its named protocol or as overrides of davis/dino."""

    def meets(shared: Path, changes: dict) -> bool:
        golden = (shared / "golden").joinpath
        setting = level1.settings_of(golden, code)[name]
        published = np.load(golden(f"davis/level1/{code}/{case}.npz"))
        features, first, _ = level1.clip(golden, setting, case)
        named = level1.NAMED.get((code, name))
        base = load_protocol(named or "dino", "davis")
        rules = {"group_weights": level1.FUSION} if "fuse" in setting else {}
        protocol = override(base, (rules if named else level1.overrides(setting)) | changes)
        soft = torch.stack(list(corrkit.propagate(features, first, protocol=protocol))).permute(0, 3, 1, 2).numpy()
        want, ok = published[f"{name}.soft"][-len(soft) :], published[f"{name}.ok"][-len(soft) :]
        return ((np.abs(soft - want).max(1) > level1.SOFT) & ok).sum() <= NEAR_TIES * ok.sum()

    return meets


def mast(case: str):
    """Soft maps of golden/davis/level1/mast."""

    def meets(shared: Path, changes: dict) -> bool:
        golden = (shared / "golden").joinpath
        maps, codec = level1.mast_clip(golden, case, override(load_protocol("davis/mast"), changes))
        published = np.load(golden(f"davis/level1/mast/{case}.npz"))
        return level1.mast_cells_that_differ(maps, codec, published, "default")[0] == 0

    return meets


def windows(shared: Path, changes: dict) -> bool:
    """Time slices of VideoMAE on a window of frames (golden/checkpoints): the first and the last frame's maps."""
    backbone, arrays = video_test.loaded((shared / "golden").joinpath, "videomae")
    clip = torch.from_numpy(arrays["clip"])
    rules = override(load_protocol("davis/dino"), {"window": len(clip)} | changes).features
    with torch.no_grad():
        maps = list(under(backbone, rules).encode(iter(clip)))
    slices = arrays["f_clip"]
    return all(close(maps[end].numpy(), slices[end], 1e-3 * np.abs(slices).max()) for end in (0, -1))


def frames(code: str, size: str):
    """A picture at the network's size, normalised (golden/davis/stages)."""

    def meets(shared: Path, changes: dict) -> bool:
        stage = next(stage for stage in stages_test.STAGES if stage.key == code)
        rule = override(stage.constants(), changes).frames
        expected = np.load(shared / "golden/davis/stages/stages.npz")[f"{code}/frame/{size}{stage.side}"]
        frame = read_image(stages_test.image_of(shared, size, "img"))
        network = network_size(frame.shape[:2], rule, stage.patch)
        prepared = FramePreparation(network, rule, stage.mean, stage.std)(frame).numpy()
        return close(prepared, expected, 1e-5)

    return meets


def dino_frame(shared: Path, changes: dict) -> bool:
    protocol = override(load_protocol("davis/dino"), {"size": [128]} | changes)
    frame = read_image(stages_test.image_of(shared, "120x213", "img"))
    network = network_size(frame.shape[:2], protocol.frames, 1)
    std = protocol.features.std or (0.229, 0.224, 0.225)
    prepared = FramePreparation(network, protocol.frames, stages_test.MEAN, std)(frame).numpy()
    return close(prepared, np.load(shared / "golden/davis/stages/stages.npz")["dino/frame/120x213/128"], 1e-5)


def rvm_frame_of_patch_14(shared: Path, changes: dict) -> bool:
    rule = override(load_protocol("davis/rvm"), changes).frames
    frame = read_image(shared / "data/DAVIS/JPEGImages/480p/blackswan/00000.jpg")
    resized = FramePreparation(network_size(frame.shape[:2], rule, 14), rule, (0, 0, 0), (1, 1, 1)).resize(frame)
    arrays = np.load(shared / "golden/davis/level1/rvm/e2e/patch14.npz")
    return close(resized[::16, ::16], arrays["blackswan/network_frame0_every16"], 0)


def resaved_frame(shared: Path, changes: dict) -> bool:
    rule: Any = override(load_protocol("davis/cropmae"), changes).frames
    size = rule.stored_size
    source = ImageFolder([shared / "data/DAVIS/JPEGImages/480p/blackswan/00000.jpg"])
    frame = (ResavedFrames(source, size, "blackswan") if size else source)[0]
    digest = hashlib.sha256(np.ascontiguousarray(frame[..., ::-1]).tobytes()).hexdigest()
    return digest == str(np.load(shared / "golden/davis/level2/cropmae/stages_blackswan.npz")["sha256_decoded0"])


def probe_features(shared: Path, changes: dict) -> bool:
    """Features of the probe ViT under the position rule (golden/davis/level2/dino)."""
    protocol = override(load_protocol("davis/dino"), changes)
    backbone = corrkit.load_backbone(shared / "golden/davis/models/probe_vit64_dino.pth", heads=4)
    frame = read_image(shared / "data/DAVIS/JPEGImages/480p/dog/00001.jpg")
    size = network_size(frame.shape[:2], protocol.frames, 16)
    prepared = FramePreparation(size, protocol.frames, backbone.mean, protocol.features.std)(frame)
    with torch.no_grad():
        features = with_position(backbone, protocol.features.position)(prepared[None])[0].flatten(0, 1).numpy()
    expected = np.load(shared / "golden/davis/level2/dino/stages_dog-split3.npz")["feat1"]
    return close(features, expected, 1e-3 * np.abs(expected).max())


def labels(code: str, size: str):
    """First labels on the grid (golden/davis/stages)."""

    def meets(shared: Path, changes: dict) -> bool:
        stage = next(stage for stage in stages_test.STAGES if stage.key == code)
        protocol = override(stage.constants(), changes)
        path = stages_test.image_of(shared, size, "lab")
        mask = read_mask(path)
        network = stage.network(mask.shape)
        grid = (-(-network[0] // stage.stride), -(-network[1] // stage.stride))
        geometry = Geometry(original=mask.shape, network=network, grid=grid, stride=stage.stride)
        codec = MaskCodec(mask, geometry, protocol.labels, protocol.readout)
        archive = np.load(shared / "golden/davis/stages/stages.npz")
        soft = codec.encode(mask).numpy()
        if f"{code}/seg/{size}{stage.side}" in archive:
            return close(codec.ids[soft.argmax(-1)], archive[f"{code}/seg/{size}{stage.side}"], 0)
        expected = archive[f"{code}/seg_soft/{size}"]
        return close(np.sort(soft.reshape(-1, soft.shape[-1]).sum(0)), np.sort(expected.sum((0, 1))), 1e-3)

    return meets


def channels(shared: Path, changes: dict) -> bool:
    """How many classes DINO's script has (golden/davis/stages); the thin object vanishes on some grids."""
    protocol = override(load_protocol("davis/dino"), {"size": [256]} | changes)
    mask = read_mask(stages_test.image_of(shared, "61x77", "lab"))
    network = network_size(mask.shape, protocol.frames, 16)
    grid = (network[0] // 16, network[1] // 16)
    geometry = Geometry(original=mask.shape, network=network, grid=grid, stride=16)
    expected = np.load(shared / "golden/davis/stages/stages.npz")["dino/seg_classes/61x77/256/16"]
    return len(MaskCodec(mask, geometry, protocol.labels, protocol.readout).ids) == int(expected)


def readout(protocol_name: str, case: str):
    """Soft maps to ids (golden/davis/stages)."""

    def meets(shared: Path, changes: dict) -> bool:
        archive = np.load(shared / "golden/davis/stages/stages.npz")
        soft = torch.from_numpy(archive[f"readout/{case}/soft"]).permute(1, 2, 0).contiguous()
        protocol = override(load_protocol(protocol_name, "davis"), {"classes": "original-max"} | changes)
        original: Any = tuple(map(int, archive[f"readout/{case}/size"]))
        at_cells = (soft.shape[0] * 16, soft.shape[1] * 16)
        network = at_cells if protocol_name == "dino" else original
        geometry = Geometry(original=original, network=network, grid=(soft.shape[0], soft.shape[1]), stride=16)
        codec = MaskCodec(np.full(original, soft.shape[2] - 1, np.uint8), geometry, protocol.labels, protocol.readout)
        theirs = archive[f"readout/{case}/{stages_test.READOUTS[protocol_name]}"]
        return np.mean(codec.decode(soft) == theirs) >= 0.999

    return meets


def first_mask(shared: Path, changes: dict) -> bool:
    """What CropMAE writes for frame 0 (golden/davis/level2/cropmae)."""
    protocol = override(load_protocol("davis/cropmae"), changes)
    task = load_task("davis")
    clips = task.open(shared / "data/DAVIS", split="val", dataset_name=None).clips
    clip = task.resaved(next(clip for clip in clips if clip.name == "blackswan"), protocol)
    geometry = Geometry(original=(480, 880), network=(480, 880), grid=(30, 55), stride=16)
    ours = task.codec(clip, geometry, protocol).first_prediction(clip.annotation(0))
    return close(ours, read_mask(shared / "golden/davis/level2/cropmae/pred/blackswan/00000.png"), 0)


def long_clip_decay(shared: Path, changes: dict) -> bool:
    """Decay of a 300-frame clip as the official tool gives it, under decay = uint8 (golden/metrics)."""
    protocol = override(load_protocol("davis/dino"), {"decay": "uint8"} | changes)
    values = np.linspace(1, 0, 298)
    wrapped = table_metrics([object_statistics([values], [values], decay=protocol.score.decay)])["J-Decay"]
    official = json.loads((shared / "golden/metrics/expected/official_full_precision.json").read_text())
    return np.isnan(wrapped) == np.isnan(official["global_"]["J-Decay"])


def clip_with_a_late_object(shared: Path, changes: dict) -> bool:
    """J of a clip in which an object appears later, by the official tool (golden/metrics)."""
    folder, clip = shared / "golden/metrics", "e09_lateobject"
    result = corrkit.score("davis", data=folder / "davis", pred=folder / "pred", clips=[clip], **changes)
    official = np.load(folder / f"expected/{clip}.npz")["stats_J"][:, 0].mean()
    return close(result.summary["metrics"]["J-Mean"], official, 1e-12)


VIP = load_task("vip")


def vip_mean(case: str, script: str, protocol_name: str):
    """mIoU of id maps (golden/vip/metric.npz)."""

    def meets(shared: Path, changes: dict) -> bool:
        archive = np.load(shared / "golden/vip/metric.npz")
        protocol = override(load_protocol(protocol_name, "vip"), changes)
        pairs = [(archive[f"{case}/gt_{i}"], archive[f"{case}/pred_{i}"]) for i in range(int(archive[f"{case}/n"]))]
        counts: Any = sum(joint_counts(truth, prediction) for truth, prediction in pairs)
        scores = VIP.scores({"a": {"counts": counts.tolist()}}, protocol, split="val")
        if script == "vfs":
            return close(100 * scores.metrics["mIoU"], archive[f"{case}/vfs/mean_iou_rounded_percent"], 1e-9)
        return close(scores.metrics["mIoU"], archive[f"{case}/{script}/mean_iou"], 1e-12)

    return meets


def vip_first_frame(shared: Path, changes: dict) -> bool:
    """How many pixels CropMAE's script counts on eight frames (golden/vip/e2e)."""
    protocol = override(load_protocol("vip/cropmae"), changes)
    clip = next(c for c in VIP.open(shared / "data/VIP_rendered", split="val", dataset_name="v").clips)
    truth = VIP.truth(clip, protocol)
    counted = sum(truth(index) is not None for index in range(8))
    return counted * 640 * 360 == int(np.load(shared / "golden/vip/e2e/patch_cropmae.npz")["hist"].sum())


def point_labels(case: str, protocol_name: str):
    """Joints to maps (golden/jhmdb/labelmaps.npz)."""

    def meets(shared: Path, changes: dict) -> bool:
        archive = np.load(shared / "golden/jhmdb/labelmaps.npz")
        protocol = override(load_protocol(protocol_name, "jhmdb"), changes)
        of_vfs = protocol_name == "spa-then-temp"
        expected = archive[f"{case}/labels_grid"].transpose(0, 2, 3, 1) if of_vfs else archive[f"{case}/labels"]
        original, network = (
            (int(height), int(width)) for height, width in (archive[f"{case}/{name}_hw"] for name in ("frame", "input"))
        )
        geometry = Geometry(
            original=original,
            network=network,
            grid=expected.shape[1:3],
            stride=8 if of_vfs else int(archive[f"{case}/map_scale"][0]),
        )
        codec = PointCodec(geometry, protocol.labels, protocol.readout)
        joints = archive[f"{case}/pos_img"].transpose(2, 1, 0) - 1
        return close(np.stack([codec.encode(frame).numpy() for frame in joints]), expected, 1e-6)

    return meets


def rvm_point_labels(shared: Path, changes: dict) -> bool:
    """Joints on the cropped grid of patch 14 (golden/jhmdb/rvm)."""
    archive = np.load(shared / "golden/jhmdb/rvm/patch14.npz")
    protocol = override(load_protocol("jhmdb/rvm"), changes)
    geometry = Geometry(original=(240, 320), network=(320, 320), grid=(22, 22), stride=14)
    codec = PointCodec(geometry, protocol.labels, protocol.readout)
    clips = load_task("jhmdb").open(shared / "data/JHMDB", split="split1", dataset_name=None).clips
    return all(
        close(codec.encode(clip.annotation(0)).numpy(), archive[f"{clip.name}/first_map"], 1e-6) for clip in clips
    )


def point_readout(shared: Path, changes: dict) -> bool:
    """Maps to joints on a grid of 20x20, frame 320x320 (golden/jhmdb/readout.npz)."""
    archive = np.load(shared / "golden/jhmdb/readout.npz")
    protocol = override(load_protocol("jhmdb/cropmae"), changes)
    geometry = Geometry(original=(320, 320), network=(320, 320), grid=(20, 20), stride=16)
    codec = PointCodec(geometry, protocol.labels, protocol.readout)
    ours = np.stack([codec.decode(maps) for maps in torch.from_numpy(archive["20x20/maps"])]) / 16
    unique = archive["20x20/cropmae_top5_unique"]
    return close(np.nan_to_num(ours, nan=-1)[unique], archive["20x20/cropmae_top5"].transpose(0, 2, 1)[unique], 1e-4)


def first_joints(shared: Path, changes: dict) -> bool:
    """What CropMAE writes for frame 0 (golden/jhmdb/e2e/patch_cropmae)."""
    archive = np.load(shared / "golden/jhmdb/e2e/patch_cropmae.npz")
    protocol = override(load_protocol("jhmdb/cropmae"), changes)
    clip = load_task("jhmdb").open(shared / "data/JHMDB", split="split1", dataset_name=None).clips[0]
    geometry = Geometry(original=(240, 320), network=(320, 320), grid=(20, 20), stride=16)
    ours = PointCodec(geometry, protocol.labels, protocol.readout).first_prediction(clip.annotation(0))
    unique = archive["coords_unique_0"].T[0]
    return close((ours / [16, 12])[unique], archive["coords_0"][..., 0].T[unique], 1e-4)


def pck(case: str, variant: str, protocol_name: str):
    """Scored joints (golden/jhmdb/pck.npz)."""

    def meets(shared: Path, changes: dict) -> bool:
        archive = np.load(shared / "golden/jhmdb/pck.npz")
        protocol = override(load_protocol(protocol_name, "jhmdb"), changes)
        counts = np.zeros((len(THRESHOLDS) + 1, 15))
        for predictions, truths in keypoints_test.clips(archive, case, variant):
            clip: Any = SimpleNamespace(source="video", notes=())
            scorer = JhmdbScorer(clip, protocol.score, truths.__getitem__)
            for index in range(min(len(predictions), len(truths))):
                scorer.update(index, predictions[index])
            counts += np.asarray(scorer.result()["counts"])
        return close(counts[-1], archive[f"{case}/{variant}/out_counts"], 0) and close(
            100 * counts[:-1] / counts[-1], archive[f"{case}/{variant}/out_per_joint"], 1e-9
        )

    return meets


Probe = Callable[[Path, dict], bool]

PROBES: dict[tuple[str, str], tuple[Probe, object]] = {
    ("DavisFrames", "resize"): (frames("dinov3nb", "120x213"), "long-side"),
    ("DavisFrames", "size"): (frames("dinov3nb", "120x213"), [120]),
    ("DavisFrames", "multiple"): (dino_frame, 32),
    ("DavisFrames", "side_rounding"): (frames("dinov3nb", "120x213"), "nearest"),
    ("DavisFrames", "interpolation"): (frames("dinov3nb", "120x213"), "lanczos"),
    ("DavisFrames", "indivisible"): (rvm_frame_of_patch_14, "resize"),
    ("DavisFrames", "stored_size"): (resaved_frame, []),
    ("Features", "std"): (dino_frame, []),
    ("Features", "position"): (probe_features, "size"),
    ("Features", "window"): (windows, 0),
    ("Features", "l2"): (propagation("dino", "default", "c05_odd"), False),
    ("Features", "group_weights"): (propagation("sfc", "default_fusion", "c02_multi4"), []),
    ("Memory", "context"): (propagation("dino", "default", "c07_long"), 6),
    ("Memory", "spacing"): (mast("c02_multi4"), 1),
    ("Memory", "distinct"): (mast("c02_multi4"), False),
    ("Memory", "long_term"): (propagation("crw", "default", "c07_long"), []),
    ("Memory", "first_copies"): (propagation("crw", "default", "c02_multi4"), "once"),
    ("Memory", "mask_first"): (propagation("crw", "r3", "c02_multi4"), True),
    ("Memory", "predict_first"): (propagation("rvm", "r4_n3_k10_T0.1", "c02_multi4"), False),
    ("Affinity", "radius"): (propagation("dino", "r1", "c02_multi4"), 2),
    ("Affinity", "shape"): (propagation("dinov3nb", "circle2.5_k5", "c02_multi4"), "square"),
    ("Affinity", "inclusive"): (propagation("crw", "r3", "c02_multi4"), True),
    ("Affinity", "topk"): (propagation("dino", "default", "c02_multi4"), 4),
    ("Affinity", "ties"): (propagation("dino", "default", "c03_constant"), "exact"),
    ("Affinity", "scope"): (propagation("dino", "default", "c02_multi4"), "frame"),
    ("Affinity", "temperature"): (propagation("dino", "default", "c02_multi4"), 0.2),
    ("Affinity", "normalise"): (propagation("uvc", "default", "c02_multi4"), "kept"),
    ("MaskLabels", "network_resize"): (labels("cropmae", "120x213"), "nearest"),
    ("MaskLabels", "downsample"): (labels("cropmae", "120x213"), "nearest"),
    ("MaskLabels", "classes"): (channels, "original-max"),
    ("MaskLabels", "feedback"): (propagation("timecycle", "default", "c02_multi4"), "soft"),
    ("MaskLabels", "rescale"): (propagation("crw", "normmask", "c02_multi4"), "none"),
    ("MaskReadout", "upsample"): (readout("dinov3-notebook", "a"), "bilinear"),
    ("MaskReadout", "resolution"): (readout("dino", "a"), "original"),
    ("MaskReadout", "minmax"): (readout("dino", "b"), "nan-to-zero"),
    ("MaskReadout", "first_frame"): (first_mask, "copy"),
    ("DavisScore", "decay"): (long_clip_decay, "exact"),
    ("DavisScore", "objects"): (clip_with_a_late_object, "all"),
    ("DavisScore", "entries"): (clip_with_a_late_object, "appearance"),
    ("DavisScore", "left_out"): (clip_with_a_late_object, "first"),
    ("VipScore", "score_first"): (vip_first_frame, False),
    ("VipScore", "counting"): (vip_mean("gt_value_21", "cropmae_L", "cropmae"), "histogram"),
    ("VipScore", "background"): (vip_mean("all_classes_same_size", "cropmae_L", "cropmae"), False),
    ("VipScore", "rounding"): (vip_mean("all_classes_same_size", "vfs", "spa-then-temp"), "none"),
    ("PointLabels", "sigma"): (point_labels("cropmae_320_s16", "cropmae"), 1.0),
    ("PointLabels", "sigma_unit"): (point_labels("vfs_sigma4_sq", "spa-then-temp"), "cells"),
    ("PointLabels", "scaling"): (rvm_point_labels, "stride"),
    ("PointLabels", "border"): (point_labels("cropmae_320_s16", "cropmae"), "floor"),
    ("PointLabels", "background"): (point_labels("cropmae_320_s16", "cropmae"), False),
    ("PointReadout", "peak_cells"): (point_readout, 3),
    ("PointReadout", "resolution"): (point_readout, "original"),
    ("PointReadout", "cell_origin"): (point_readout, "centre"),
    ("PointReadout", "first_frame"): (first_joints, "copy"),
    ("JhmdbScore", "score_first"): (pck("ordinary", "crw_res20x20_float32", "cropmae"), True),
    ("JhmdbScore", "visibility"): (pck("degenerate", "crw_res20x20_float32", "cropmae"), "positive"),
    ("JhmdbScore", "box_floor"): (pck("degenerate", "crw_res20x20_float32", "cropmae"), "invisible"),
}


def unproven() -> set[tuple[str, str]]:
    """Of docs/unproven.csv, which the parity page shows: class and field of the constants that no golden feels."""
    found = set()
    with (REPOSITORY / "docs/unproven.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            constant, _, task = row["constant"].partition(" of ")
            group, _, name = constant.partition(".")
            assert row["why"], constant
            found.add((groups_of(task or "davis")[group].__name__, name))
    return found


@pytest.mark.parametrize(("place", "probe"), PROBES.items(), ids=[".".join(place) for place in PROBES])
def test_a_changed_constant_breaks_a_golden_that_its_protocol_meets(shared, place, probe):
    meets, value = probe
    leaf = place[1]
    assert meets(shared, {}), "the golden is met as the protocol stands"
    assert not meets(shared, {leaf: value}), "the golden does not feel the change"


def test_every_constant_is_probed_or_listed_as_unproven():
    every = {
        ("DavisFrames" if cls is Frames else cls.__name__, name)  # the same fields and code
        for groups in map(groups_of, task_names())
        for cls in groups.values()
        for name in vars(cls)["__dataclass_fields__"]
    }
    assert set(PROBES) | unproven() == every
    assert not set(PROBES) & unproven()
