"""The RVM notebook's own evaluations on patch features, repeated end to end (golden/{davis/level1,jhmdb,vip}/rvm)."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from patch_backbone import PatchBackbone

import corrkit
from corrkit.frames.preparation import FramePreparation, network_size
from corrkit.protocols import load_protocol
from corrkit.task_table import task_facts
from corrkit.tasks import load_task
from corrkit.tasks.contract import Geometry
from corrkit.tasks.masks import read_mask
from tests.published.test_vip import FRAMES

pytestmark = pytest.mark.golden

FIRST_MAP = 1e-6  # golden/davis/README-recent.md
PIXELS_AGREE = 0.999
SCORES = 0.001
MEAN_IOU = 0.002
PCK_POINTS = 0.25
CELLS_OFF = {0.05: 0.10, 0.5: 0.01}  # golden/jhmdb/README-recent.md: at most this share is off by more
CLIPS = {"blackswan": ("DAVIS", 8), "composite-hike-dog-bear": ("DAVIS_composite", 6)}


@pytest.fixture(scope="module")
def davis(shared: Path, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("davis")
    for clip, (source, count) in CLIPS.items():
        for kind, suffix in (("JPEGImages", "jpg"), ("Annotations", "png")):
            (root / kind / "480p" / clip).mkdir(parents=True)
            for index in range(count):
                name = f"{kind}/480p/{clip}/{index:05d}.{suffix}"
                shutil.copyfile(shared / "data" / source / name, root / name)
    (root / "ImageSets/2017").mkdir(parents=True)
    (root / "ImageSets/2017/val.txt").write_text("\n".join(CLIPS))
    return root


@pytest.fixture(scope="module")
def vip(shared: Path, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("vip")
    for folder, suffix in (("Images/videos1", "jpg"), ("Annotations/Category_ids/videos1", "png")):
        (root / folder).mkdir(parents=True)
        for number in FRAMES:
            name = f"{folder}/{number:012d}.{suffix}"
            shutil.copyfile(shared / "data/VIP_rendered" / name, root / name)
    (root / "lists").mkdir()
    (root / "lists/val_videos.txt").write_text("videos1\n")
    return root


def run(task: str, data: Path, tmp_path: Path, patch: int):
    result = corrkit.evaluate(
        task, PatchBackbone(patch), data=data, protocol="rvm", out=tmp_path / "run", save_predictions=True, device="cpu"
    )
    assert not result.failures
    return result


@pytest.mark.parametrize("name", ["patch", pytest.param("patch14", marks=pytest.mark.slow)])
def test_davis_masks_and_scores(shared, davis, tmp_path, name, parity):
    arrays = np.load(shared / f"golden/davis/level1/rvm/e2e/{name}.npz")
    result = run("davis", davis, tmp_path, 14 if name == "patch14" else 16)
    for clip, (_, count) in CLIPS.items():
        ours = np.stack([read_mask(result.folder / f"predictions/{clip}/{i:05d}.png") for i in range(count)])
        print(f"{clip}: {(ours != arrays[f'{clip}/pred']).sum()} of {ours.size} pixels differ")
        assert np.mean(ours == arrays[f"{clip}/pred"]) >= PIXELS_AGREE
        parity("davis/rvm", "end to end", (ours != arrays[f"{clip}/pred"]).sum(), ours.size, "pixels")
    for metric, value in zip(arrays["scores_names"], arrays["scores"], strict=True):
        print(metric, result.summary["metrics"][metric], value)
        assert abs(result.summary["metrics"][metric] - value) <= SCORES
        parity("davis/rvm", "score", abs(result.summary["metrics"][metric] - value), 1)


def test_vip_parts_and_scores(shared, vip, tmp_path, parity):
    arrays = np.load(shared / "golden/vip/rvm/patch.npz")
    result = run("vip", vip, tmp_path, 16)
    ours = np.stack([read_mask(result.folder / f"predictions/videos1/{n:012d}.png") for n in FRAMES])
    print(f"{(ours != arrays['videos1/pred']).sum()} of {ours.size} pixels differ")
    assert np.mean(ours == arrays["videos1/pred"]) >= PIXELS_AGREE
    parity("vip/rvm", "end to end", (ours != arrays["videos1/pred"]).sum(), ours.size, "pixels")
    metrics = result.summary["metrics"]
    published = dict(zip(arrays["scores_names"].tolist(), arrays["scores"].tolist(), strict=True))
    mean_iou = published.pop("mean IoU")
    assert abs(metrics["mIoU"] - mean_iou) <= MEAN_IOU
    parity("vip/rvm", "score", abs(metrics["mIoU"] - mean_iou), 1)
    ours = np.array([value for name, value in metrics.items() if name.startswith("IoU/")])
    np.testing.assert_allclose(ours, list(published.values()), atol=MEAN_IOU)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["patch", "patch14"])
def test_jhmdb_joints_and_scores(shared, tmp_path, name, parity):
    arrays = np.load(shared / f"golden/jhmdb/rvm/{name}.npz")
    grid = 22 if name == "patch14" else 20
    result = run("jhmdb", shared / "data/JHMDB", tmp_path, 320 // grid)
    clips = {key.partition("/")[0] for key in arrays.files if "/" in key}
    off = []
    for clip in clips:
        ours = np.load(result.folder / f"predictions/{clip}.npy")
        visible = arrays[f"{clip}/visible"] > 0
        np.testing.assert_array_equal(~np.isnan(ours[..., 0]), visible)
        distance = np.abs(ours - arrays[f"{clip}/coords"]) * (grid / np.array([320, 240]))
        off.append(distance.max(axis=-1)[visible])
    distances = np.concatenate(off)
    for limit, share in CELLS_OFF.items():
        print(f"off by > {limit} cells: {np.mean(distances > limit):.4f}")
        assert np.mean(distances > limit) <= share
    parity("jhmdb/rvm", "end to end", np.mean(distances > 0.5), len(distances), "joints")
    for metric, value in zip(arrays["scores_names"], arrays["scores"], strict=True):
        print(metric, 100 * result.summary["metrics"][metric], value)
        assert abs(100 * result.summary["metrics"][metric] - value) <= PCK_POINTS
        parity("jhmdb/rvm", "score", abs(result.summary["metrics"][metric] - value / 100), 1)


@pytest.mark.parametrize(
    ("task", "path", "patch"),
    [
        ("davis", "davis/level1/rvm/e2e/patch.npz", 16),
        ("davis", "davis/level1/rvm/e2e/patch14.npz", 14),
        ("vip", "vip/rvm/patch.npz", 16),
        ("jhmdb", "jhmdb/rvm/patch.npz", 16),
        ("jhmdb", "jhmdb/rvm/patch14.npz", 14),
    ],
)
def test_network_input_and_first_maps(shared, request, task, path, patch, parity):
    arrays = np.load(shared / "golden" / path)
    data = shared / "data/JHMDB" if task == "jhmdb" else request.getfixturevalue(task)
    room, protocol = load_task(task), load_protocol("rvm", task)
    for clip in room.open(data, split=task_facts(task).default_split, dataset_name=None).clips:
        size = network_size(clip.frames.size, protocol.frames, patch)
        backbone = PatchBackbone(patch)
        prepare = FramePreparation(size, protocol.frames, backbone.mean, backbone.std)
        video = np.stack([prepare.resize(clip.frames[index]) for index in range(len(clip.frames))])
        np.testing.assert_array_equal(video[0, ::16, ::16], arrays[f"{clip.name}/network_frame0_every16"])
        assert hashlib.sha256(video.tobytes()).hexdigest() == str(arrays[f"{clip.name}/network_video_sha256"])
        grid = (size[0] // patch, size[1] // patch)
        codec = room.codec(clip, Geometry(original=clip.frames.size, network=size, grid=grid, stride=patch), protocol)
        first = codec.encode(clip.annotation(0)).numpy()
        np.testing.assert_allclose(first, arrays[f"{clip.name}/first_map"], atol=FIRST_MAP)
        parity(f"{task}/rvm", "frames", 0, video.size)  # equal by digest
        parity(f"{task}/rvm", "labels", np.abs(first - arrays[f"{clip.name}/first_map"]).max(), first.size)
