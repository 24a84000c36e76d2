"""`corrkit.score` against the official DAVIS tool's own numbers (golden/metrics)."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

import corrkit
from corrkit.tasks.masks import write_mask

pytestmark = pytest.mark.golden

LONG = "e21_T300"
TOLERANCE = 1e-12  # golden/metrics/README.md: ratios of integers


@pytest.fixture(scope="module")
def official(shared: Path) -> dict:
    return json.loads((shared / "golden/metrics/expected/official_full_precision.json").read_text())


@pytest.fixture
def metrics_data(shared: Path, tmp_path: Path) -> Path:
    """The golden data set without the 300-frame clip."""
    root = tmp_path / "davis"
    shutil.copytree(shared / "golden/metrics/davis", root, copy_function=shutil.copyfile)
    names = [name for name in (root / "ImageSets/2017/val.txt").read_text().split() if name != LONG]
    (root / "ImageSets/2017/val.txt").chmod(0o644)
    (root / "ImageSets/2017/val.txt").write_text("\n".join(names))  # no final newline: nothing may depend on it
    return root


def assert_equals_official(metrics: dict[str, float], expected: dict[str, float]) -> None:
    for name, value in expected.items():
        assert (math.isnan(value) and math.isnan(metrics[name])) or abs(metrics[name] - value) <= TOLERANCE, name


def test_global_and_per_object_scores_equal_the_official_ones(shared, official, metrics_data):
    result = corrkit.score("davis", data=metrics_data, pred=shared / "golden/metrics/pred")
    assert_equals_official(result.summary["metrics"], official["core_global"])
    for name, text in result.csvs.items():
        # The official tool's own files, byte for byte up to line ends.
        published = (shared / "golden/metrics/expected" / f"core_{name}").read_text()
        assert text.split() == published.split(), name


def test_clips_beyond_256_frames_wrap_only_under_the_official_rule(shared, official, metrics_data, tmp_path):
    arrays = np.load(shared / f"golden/metrics/expected/{LONG}.npz")
    pred = tmp_path / "pred"
    shutil.copytree(shared / "golden/metrics/pred", pred)
    for index, (truth, prediction) in enumerate(zip(arrays["gt"], arrays["pred"], strict=True)):
        write_mask(metrics_data / "Annotations/480p" / LONG / f"{index:05d}.png", truth)
        write_mask(pred / LONG / f"{index:05d}.png", prediction)
    names = (shared / "golden/metrics/davis/ImageSets/2017/val.txt").read_text()
    (metrics_data / "ImageSets/2017/val.txt").write_text(names)
    wrapped = corrkit.score("davis", data=metrics_data, pred=pred, decay="uint8")
    assert_equals_official(wrapped.summary["metrics"], official["global_"])
    right = corrkit.score("davis", data=metrics_data, pred=pred).summary["metrics"]
    assert not math.isnan(right["J-Decay"])
    assert right["J-Mean"] == wrapped.summary["metrics"]["J-Mean"]


def test_a_published_method_scores_as_published(shared):
    # data/README.md: OSVOS on car-shadow, mean J over frames 1-38 is 0.9284.
    result = corrkit.score(
        "davis", data=shared / "data/DAVIS", pred=shared / "data/DAVIS_results_osvos", clips=["car-shadow"]
    )
    assert round(result.summary["metrics"]["J-Mean"], 4) == 0.9284


def test_genuine_binary_masks_of_mode_la_are_read(shared):
    from corrkit.tasks.masks import read_mask

    path = shared / "data/DAVIS2016_Annotations/480p/bear/00077.png"
    mask = read_mask(path)
    assert mask.ndim == 2
    assert set(np.unique(mask)) == {0, 255}
