"""The published VIP code's own runs, repeated end to end on eight frames in VIP layout (golden/vip/e2e)."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from patch_backbone import PatchBackbone
from PIL import Image
from recipe_weights import save_crw_resnet18, save_vit

import corrkit
from corrkit.frames.preparation import FramePreparation, network_size
from corrkit.metrics.confusion import class_areas, class_iou, confusion_matrix
from corrkit.protocols import load_protocol
from corrkit.tasks import load_task
from corrkit.tasks.masks import read_mask, resize_nearest

pytestmark = pytest.mark.golden

PIXELS_AGREE = 0.995  # golden/vip/README.md
MEAN_IOU = 0.002
TASK = load_task("vip")
FRAMES = (1, 4, 7, 10, 13, 16, 19, 22)


@pytest.fixture(scope="module")
def data(shared: Path, tmp_path_factory) -> Path:
    """The frames that golden/vip/README.md names, in a root of their own."""
    root = tmp_path_factory.mktemp("vip")
    source = shared / "data/VIP_rendered"
    for folder, suffix in (("Images/videos1", "jpg"), ("Annotations/Category_ids/videos1", "png")):
        (root / folder).mkdir(parents=True)
        for number in FRAMES:
            shutil.copyfile(source / folder / f"{number:012d}.{suffix}", root / folder / f"{number:012d}.{suffix}")
    (root / "lists").mkdir()
    (root / "lists/val_videos.txt").write_text("videos1\n")
    return root


def run(data: Path, tmp_path: Path, model, protocol: str):
    result = corrkit.evaluate(
        "vip", model, data=data, protocol=protocol, out=tmp_path / "run", save_predictions=True, device="cpu"
    )
    assert not result.failures
    return result


def assert_masks_agree(result, published: dict[str, np.ndarray], parity) -> None:
    """Each frame's masks, the published ones resized to the frames' size as their score does."""
    assert len(published) == len(FRAMES)
    for stem, theirs in published.items():
        ours = read_mask(result.folder / f"predictions/videos1/{stem}.png")
        differs = ours != resize_nearest(theirs, ours.shape)
        agreement = 1 - np.mean(differs)
        parity(result.summary["protocol"].partition("@")[0], "end to end", differs.sum(), differs.size, "pixels")
        print(f"{stem}: {agreement:.6f} of pixels agree")
        assert agreement >= PIXELS_AGREE, stem


def assert_scores_agree(result, arrays, parity) -> None:
    metrics = result.summary["metrics"]
    print(f"mIoU {metrics['mIoU']:.6f}, published {float(arrays['mean_iou']):.6f}")
    difference = abs(metrics["mIoU"] - float(arrays["mean_iou"]))
    assert difference <= MEAN_IOU
    parity(result.summary["protocol"].partition("@")[0], "score", difference, 1)
    ious = np.array([value for name, value in metrics.items() if name.startswith("IoU/")])
    np.testing.assert_array_equal(np.isnan(ious), np.isnan(arrays["iou"]))


@pytest.mark.parametrize(("name", "protocol", "stride"), [("patch_cropmae", "cropmae", 16), ("patch_crw", "crw", 8)])
def test_patch_features_give_the_published_masks(shared, data, tmp_path, name, protocol, stride, parity):
    arrays = np.load(shared / f"golden/vip/e2e/{name}.npz")
    result = run(data, tmp_path, PatchBackbone(stride), protocol)
    assert_masks_agree(result, {f"{n:012d}": arrays[f"pred_{n:012d}"] for n in FRAMES}, parity)
    assert_scores_agree(result, arrays, parity)


def published_masks(folder: Path) -> dict[str, np.ndarray]:
    return {path.stem: np.array(Image.open(path)) for path in sorted((folder / "videos1").iterdir())}


@pytest.mark.slow
def test_vit_by_recipe_gives_the_published_masks(shared, data, tmp_path, parity):
    checkpoint = save_vit(shared / "golden/jhmdb/e2e/cropmae.npz", tmp_path / "vit.pth")
    result = run(data, tmp_path, checkpoint, "cropmae")
    assert_masks_agree(result, published_masks(shared / "golden/vip/e2e/cropmae"), parity)
    assert_scores_agree(result, np.load(shared / "golden/vip/e2e/cropmae/scores.npz"), parity)


@pytest.mark.slow
def test_resnet_by_recipe_gives_the_published_masks(shared, data, tmp_path, parity):
    checkpoint = save_crw_resnet18(shared / "golden/jhmdb/e2e/crw.npz", tmp_path / "crw.pth")
    result = run(data, tmp_path, checkpoint, "crw")
    assert_masks_agree(result, published_masks(shared / "golden/vip/e2e/crw"), parity)
    assert_scores_agree(result, np.load(shared / "golden/vip/e2e/crw/scores.npz"), parity)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "step"), [("cropmae", 4), ("crw", 8)])
def test_network_input_and_features_equal_the_published_ones(shared, data, tmp_path, name, step, parity):
    weights = shared / f"golden/jhmdb/e2e/{name}.npz"
    if name == "crw":
        backbone = corrkit.load_backbone(save_crw_resnet18(weights, tmp_path / "crw.pth"))
    else:
        backbone = corrkit.load_backbone(save_vit(weights, tmp_path / "vit.pth")).with_position("dino")
    arrays = np.load(shared / f"golden/vip/e2e/{name}/scores.npz")
    clip = TASK.open(data, split="val", dataset_name=None).clips[0]
    rule = load_protocol(name, "vip").frames
    size = network_size(clip.frames.size, rule, backbone.multiple)
    frame = FramePreparation(size, rule, backbone.mean, backbone.std)(clip.frames[0])
    ours, theirs = frame[:, ::16, ::16].numpy(), arrays["input_frame0_every16"]
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    parity(f"vip/{name}", "frames", np.abs(ours - theirs).max(), theirs.size)
    with torch.no_grad():
        features = backbone(frame[None])[0, ::step, ::step].numpy()
    expected = arrays[f"features_frame0_every{step}"]
    assert np.abs(features - expected).max() <= 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize("name", ["patch_cropmae", "patch_crw"])
def test_published_masks_score_as_published(shared, data, name):
    """The golden's own masks through our score: the same confusion matrix."""
    arrays = np.load(shared / f"golden/vip/e2e/{name}.npz")
    protocol = load_protocol("vip/cropmae")
    (clip,) = TASK.open(data, split="val", dataset_name=None).clips
    scorer = TASK.scorer(clip, protocol, TASK.truth(clip, protocol))
    for index, number in enumerate(FRAMES):
        scorer.update(index, resize_nearest(arrays[f"pred_{number:012d}"], clip.frames.size))
    counts = np.array(scorer.result()["counts"])
    np.testing.assert_array_equal(confusion_matrix(counts), arrays["hist"])
    np.testing.assert_allclose(class_iou(class_areas(counts, rule="confusion")), arrays["iou"], atol=1e-12)
