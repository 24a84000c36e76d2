"""The published DINO script's own run, repeated end to end on real frames (golden/davis/level2/dino)."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import corrkit
from corrkit.frames.pictures import read_image
from corrkit.frames.preparation import FramePreparation, network_size
from corrkit.protocols import load_protocol
from corrkit.tasks.masks import read_mask

pytestmark = pytest.mark.golden

MASKS_AGREE = 0.999  # share of pixels per clip, golden/davis/README.md
OBJECT_IOU = 0.99  # DESIGN.md, section 4
SCORE_TOLERANCE = 0.001


def assemble(shared: Path, root: Path, run: str) -> tuple[Path, dict]:
    """The data root that index.json describes: first N frames of named clips, annotations of their own where given."""
    entry = json.loads((shared / "golden/davis/level2/index.json").read_text())[run]
    for clip, num_frames in entry["clips"].items():
        source = shared / entry["frames"][clip]["folder"]
        masks = shared / "golden/davis/level2/annotations" / clip
        if not masks.is_dir():
            masks = source.parents[2] / "Annotations/480p" / source.name
        digest = hashlib.sha256()
        for kind, folder, suffix in (("JPEGImages", source, "jpg"), ("Annotations", masks, "png")):
            target = root / kind / "480p" / clip
            target.mkdir(parents=True)
            for index in range(num_frames):
                shutil.copyfile(folder / f"{index:05d}.{suffix}", target / f"{index:05d}.{suffix}")
                if suffix == "jpg":
                    digest.update((target / f"{index:05d}.jpg").read_bytes())
        assert digest.hexdigest() == entry["frames"][clip]["sha256_of_concatenated_jpgs"], clip
    (root / "ImageSets/2017").mkdir(parents=True)
    (root / "ImageSets/2017/val.txt").write_text("\n".join(entry["clips"]))
    return root, entry


@pytest.fixture(scope="module")
def dino_run(shared: Path, golden, tmp_path_factory):
    folder = tmp_path_factory.mktemp("level2")
    root, entry = assemble(shared, folder / "davis", "dino")
    checkpoint = golden("davis/models/probe_vit64_dino.pth")
    result = corrkit.evaluate(
        "davis", checkpoint, heads=4, data=root, out=folder / "run", save_predictions=True, device="cpu"
    )
    assert result.failures == {}
    return result, entry, shared / "golden/davis/level2/dino/pred"


def test_masks_agree_with_the_published_ones(dino_run):
    result, entry, published = dino_run
    for clip, num_frames in entry["clips"].items():
        ours = [read_mask(result.folder / "predictions" / clip / f"{i:05d}.png") for i in range(num_frames)]
        theirs = [read_mask(published / clip / f"{i:05d}.png") for i in range(num_frames)]
        agreement = np.mean(np.stack(ours) == np.stack(theirs))
        print(f"{clip}: {agreement:.6f} of pixels agree")
        assert agreement >= MASKS_AGREE, clip
        for object_id in range(1, np.max(theirs[0]) + 1):
            a, b = np.stack(ours) == object_id, np.stack(theirs) == object_id
            iou = (a & b).sum() / (a | b).sum()
            print(f"  object {object_id}: IoU {iou:.5f}")
            assert iou >= OBJECT_IOU, (clip, object_id)


def test_scores_agree_with_the_official_ones(dino_run):
    result, entry, _ = dino_run
    for name in ("J&F-Mean", "J-Mean", "F-Mean"):
        difference = result.summary["metrics"][name] - entry["scores"][name]
        print(f"{name}: {result.summary['metrics'][name]:.6f}, published {entry['scores'][name]:.6f}")
        assert abs(difference) <= SCORE_TOLERANCE, name


def test_network_input_equals_the_published_one(shared: Path):
    stages = np.load(shared / "golden/davis/level2/dino/stages_dog-split3.npz")
    protocol = load_protocol("davis/dino")
    for index in (0, 1):
        frame = read_image(shared / f"data/DAVIS/JPEGImages/480p/dog/{index:05d}.jpg")
        size = network_size(frame.shape[:2], protocol.frames, 16)
        prepare = FramePreparation(size, protocol.frames, (0.485, 0.456, 0.406), protocol.features.std)
        if hashlib.sha256(frame[..., ::-1].tobytes()).hexdigest() != str(stages[f"sha256_decoded{index}"]):
            pytest.skip("this machine's JPEG decoder differs from the golden's: the crops below would too")
        crop = prepare(frame).numpy()[:, 192:256, 352:416]
        np.testing.assert_allclose(crop, stages[f"input_crop{index}"], atol=1e-5)
