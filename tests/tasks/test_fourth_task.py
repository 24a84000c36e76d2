"""A fourth task, added by another package through the entry-point group: evaluated, scored and ranked."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from davis_folder import make_clip

FOURTH = Path(__file__).parents[1] / "support" / "fourth_task"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installed package: its modules and what `pip` writes beside them."""
    site = tmp_path_factory.mktemp("site")
    shutil.copytree(FOURTH, site / "fourth_task")
    info = site / "fourth_task-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fourth-task\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[corrkit.tasks]\nboxes = fourth_task:FACTS\n[corrkit.protocols]\nboxes = fourth_task\n"
    )
    return site


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "squares"
    for name in ("walk", "run", "rest"):
        make_clip(root, name, frames=5)
    return root


def corrkit(site: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "corrkit", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=site)


def test_is_evaluated_scored_and_ranked(site: Path, data: Path, tmp_path: Path):
    out = tmp_path / "run"
    options = ("boxes", "--data", str(data), "--set", "size=48", "--set", "multiple=8")
    done = corrkit(site, "eval", *options, "--ckpt", "rgb", "--out", str(out), "--save-predictions", "-q")
    assert done.returncode == 0, done.stderr
    assert "boxes/box@1+" in done.stdout
    assert "24 boxes" in done.stdout  # 3 clips, 4 frames, 2 objects
    summary = json.loads((out / "summary.json").read_text())
    assert 0.2 < summary["metrics"]["Box-IoU"] <= 1
    assert summary["intervals"]["Box-IoU"] is not None

    scored = corrkit(site, "score", *options, "--pred", str(out / "predictions"), "--json")
    assert scored.returncode == 0, scored.stderr
    # score takes the frames that DAVIS's official tool does: all but the first and the last
    assert json.loads(scored.stdout)["metrics"]["Box-IoU"] == pytest.approx(summary["metrics"]["Box-IoU"], abs=0.2)

    table = corrkit(site, "leaderboard", str(out), "--out", str(tmp_path / "table.csv"))
    assert table.returncode == 0, table.stderr
    assert "Box" in table.stdout
    assert f"{100 * summary['metrics']['Box-IoU']:.1f}" in table.stdout

    page = tmp_path / "report.html"
    reported = corrkit(site, "report", str(out), "--out", str(page))
    assert reported.returncode == 0, reported.stderr
    assert f"{100 * summary['metrics']['Box-IoU']:.1f}" in page.read_text()
    assert "data:image/webp" in page.read_text()

    other = ("--ckpt", "identity", "--out", str(tmp_path / "other"), "--against", str(out), "--json", "-q")
    compared = corrkit(site, "eval", *options, *other)
    assert compared.returncode == 0, compared.stderr
    printed = json.loads(compared.stdout)
    (comparison,), (result,) = printed["comparisons"], printed["results"]
    change = result["metrics"]["Box-IoU"] - summary["metrics"]["Box-IoU"]
    assert comparison["metrics"]["Box-IoU"]["difference"] == pytest.approx(change)
    assert set(comparison["per_clip"]) == {"walk", "run", "rest"}
    assert comparison["per_box"] == {}
    assert comparison["verdict"].startswith("Box ")


def test_its_protocols_and_metrics_are_named_with_the_others(site: Path):
    listed = corrkit(site, "protocols").stdout
    assert re.search(r"boxes/box@1\+[0-9a-f]{8} \(default\)", listed)  # somebody's own: told apart by its constants
    refused = corrkit(site, "eval", "boxs", "--ckpt", "rgb")
    assert refused.returncode == 2
    assert "Did you mean 'boxes'?" in refused.stderr


def test_embedded_clips_are_refused_where_a_task_has_none(site: Path):
    refused = corrkit(site, "eval", "boxes", "--ckpt", "rgb")
    assert refused.returncode == 2
    assert "no embedded clips" in refused.stderr


def test_a_box_is_the_smallest_around_a_mask():
    import importlib

    fourth = importlib.import_module("fourth_task")
    mask = np.zeros((4, 5), bool)
    mask[1, 1] = mask[2, 3] = True
    assert fourth._box(mask).sum() == 2 * 3
    assert fourth._box(mask & False).sum() == 0
