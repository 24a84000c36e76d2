"""The published scripts' own runs, repeated end to end on real frames (golden/davis/level2)."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import corrkit
from corrkit.errors import DataError
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


class ProbeNetwork(torch.nn.Module):
    """The convolutions of models/probe_cnn_s8.pth (golden/davis/README.md, level2)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 24, 7, stride=2, padding=3)
        self.conv2 = torch.nn.Conv2d(24, 32, 3, stride=2, padding=1)
        self.conv3 = torch.nn.Conv2d(32, 48, 3, stride=2, padding=1)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.conv3(self.conv2(self.conv1(frames).relu()).relu())


def probe(golden, name: str):
    """The model of a run as `corrkit.evaluate` takes it, and the options of its loading."""
    if name == "vit":
        return golden("davis/models/probe_vit64_dino.pth"), {"heads": 4}
    network = ProbeNetwork()
    network.load_state_dict(torch.load(golden("davis/models/probe_cnn_s8.pth"), weights_only=True))
    return corrkit.wrap(network, stride=8), {}


def evaluated(shared: Path, golden, folder: Path, run: str, protocol: str, model: str):
    root, entry = assemble(shared, folder / "davis", run)
    checkpoint, options = probe(golden, model)
    result = corrkit.evaluate(
        "davis", checkpoint, data=root, protocol=protocol, out=folder / "run", save_predictions=True, device="cpu",
        **options,
    )  # fmt: skip
    assert result.failures == {}
    return result, entry, shared / "golden/davis/level2" / run / "pred"


def assert_masks_and_scores_agree(result, entry, published: Path, parity) -> None:
    differing, compared = 0, 0
    for clip, num_frames in entry["clips"].items():
        ours = np.stack([read_mask(result.folder / "predictions" / clip / f"{i:05d}.png") for i in range(num_frames)])
        theirs = np.stack([read_mask(published / clip / f"{i:05d}.png") for i in range(num_frames)])
        differing, compared = differing + int((ours != theirs).sum()), compared + ours.size
        print(f"{clip}: {(ours != theirs).sum()} of {ours.size} pixels differ")
        assert np.mean(ours == theirs) >= MASKS_AGREE, clip
        for object_id in range(1, theirs[0].max() + 1):
            a, b = ours == object_id, theirs == object_id
            iou = (a & b).sum() / (a | b).sum()
            assert iou >= OBJECT_IOU, (clip, object_id, iou)
    for name in ("J&F-Mean", "J-Mean", "F-Mean"):
        value, expected = result.summary["metrics"][name], entry["scores"][name]
        print(f"{name}: {value:.6f}, published {expected:.6f}")
        assert abs(value - expected) <= SCORE_TOLERANCE, name
        parity(result.summary["protocol"].partition("@")[0], "score", abs(value - expected), 1)
    parity(result.summary["protocol"].partition("@")[0], "end to end", differing, compared, "pixels")


@pytest.mark.parametrize(
    ("run", "protocol", "model"),
    [
        ("dino", "dino", "vit"),
        ("cropmae", "cropmae", "vit"),
        pytest.param("rsp", "rsp", "vit", marks=pytest.mark.slow),
        ("crw_1", "crw", "cnn"),
        ("crw_2", "crw", "cnn"),
        pytest.param("crw_3", "crw", "cnn", marks=pytest.mark.slow),
        pytest.param("vfs", "vfs", "cnn", marks=pytest.mark.slow),
    ],
)
def test_masks_and_scores_of_the_published_run(shared, golden, tmp_path, run, protocol, model, parity):
    result, entry, published = evaluated(shared, golden, tmp_path, run, protocol, model)
    assert_masks_and_scores_agree(result, entry, published, parity)


def test_copy_at_another_size_stays_in_memory_and_is_what_predictions_are_scored_against(shared, golden, tmp_path):
    result, _, _ = evaluated(shared, golden, tmp_path, "cropmae", "cropmae", "vit")
    files = [path for path in (tmp_path / "davis").rglob("*") if path.is_file()]
    assert len(files) == 2 * 24 + 1  # frames, masks and the list, as assembled
    scored = corrkit.score("davis", data=tmp_path / "davis", pred=result.folder / "predictions", protocol="cropmae")
    assert scored.summary["metrics"] == result.summary["metrics"]
    with pytest.raises(DataError, match="480 x 880, the annotation 480 x 854"):
        corrkit.score("davis", data=tmp_path / "davis", pred=result.folder / "predictions", protocol="dino")


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
