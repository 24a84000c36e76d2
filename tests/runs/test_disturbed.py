"""Every command that writes, killed or failed at each of its write points: repeated, it ends with the same bytes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from davis_folder import make_clip

from corrkit.cli import main

SUPPORT = Path(__file__).resolve().parents[1] / "support"
DATA = ["--data", "data", "--dataset-name", "x", "-q", "--device", "cpu", "--set", "size=[32]", "--set", "multiple=8"]
TRAINING = (
    "--scale tiny --batch 2 --steps 4 --log-every 1 --save-every 2 --picture-every 0 --device cpu --ema 0.9 --keep 1 "
    "--set views.size=32 --set masks.1.ratio=0.75 --set encoder.depth=1 --set views.gap=[1,1]"
)
MASK = "data/Annotations/480p/a/00000.png"
TRACKING = ["--ckpt", "rgb", "-q", "--device", "cpu", "--set"]
RUN = ["runs/rgb"]
COMMANDS: dict[str, list[str]] = {
    "board": ["leaderboard", *RUN, "--out", "board.html"],
    "card": ["card", *RUN, "--out", "card"],
    "eval": ["eval", "davis", "--ckpt", "rgb", "--out", "new", "--submission", "new.zip", "--workers", "1", *DATA],
    "many": ["eval", "davis", "--ckpt", "rgb", "hog", "--out", "new", "--workers", "1", *DATA],
    "shard": ["eval", "davis", "--ckpt", "rgb", "--out", "new", "--shard", "1/2", "--workers", "1", *DATA],
    "sweep": ["sweep", "davis", "--ckpt", "rgb", "--topk", "3,5", "--out", "new", *DATA],
    "score": ["score", "davis", "--pred", "runs/rgb/predictions", "--csv-dir", "csv", *DATA[:4]],
    "report": ["report", *RUN, "--out", "report.html", "--figures", "figures", "-q", "--no-features"],
    "regress": ["regress", "--ckpt", "rgb", "--baseline", "base.json", "--update", "--junit", "base.xml"],
    "pretrain": ["pretrain", "siammae", "--data", "frames", "--out", "trained", *TRAINING.split()],
    "convert": ["convert", "demo", "new.safetensors"],
    "suggest": ["inspect", "demo", "--suggest", "own.toml"],
    "clips": ["clips", "export", "clips", "--task", "davis", "--task", "jhmdb"],
    "track": [
        "track",
        "frames",
        "--mask",
        MASK,
        "--out",
        "followed.mp4",
        *TRACKING,
        "size=[32]",
        "--set",
        "multiple=8",
    ],
    "points": ["track", "frames", "--points", "points.csv", "--out", "followed.mp4", *TRACKING, "size=[32,32]"],
    "manifest": ["data", "manifest", "data", "--out", "manifest.csv"],
}
WRITTEN_BY_OTHERS = ("clips", "convert", "track", "points")
"""By copying whole files, safetensors, OpenCV: no write of theirs can be cut short from here."""
FAST = ("board", "card")
FAULTS = "ENOSPC,EIO,EROFS,EDQUOT"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data of two clips, the frames of one by themselves, and a finished run."""
    place = tmp_path_factory.mktemp("template")
    for name in ("a", "b c@d"):
        make_clip(place / "data", name, 3, (48, 64))
    shutil.copytree(place / "data/JPEGImages/480p/a", place / "frames")
    (place / "points.csv").write_text("nose,20,20\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main(["eval", "davis", "--ckpt", "rgb", "--out", *RUN, "--workers", "1", *DATA]) == 0
    return place


def outcomes(template: Path, place: Path, kinds: str, every: int, names: tuple[str, ...]) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, SUPPORT / "disturbed_commands.py", template, place, kinds, str(every)],
        input=json.dumps([COMMANDS[name] for name in names]),
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(SUPPORT.parents[1]), str(SUPPORT)]),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    for one in found:
        print(*one["words"][:2], one["points"], one["codes"])
        assert one["code"] == 0
        assert one["wrong"] == [], one["words"]
    return found


def total(found: list[dict[str, Any]], code: int) -> int:
    return sum(int(one["codes"].get(str(code), 0)) for one in found)


def test_a_killed_command_repeated_leaves_the_same_files(template: Path, tmp_path: Path):
    found = outcomes(template, tmp_path / "place", "kill", 4, FAST)
    assert total(found, -9) >= 15


def test_a_failed_write_is_a_sentence_and_the_repeated_command_leaves_the_same_files(template: Path, tmp_path: Path):
    found = outcomes(template, tmp_path / "place", FAULTS, 3, FAST)
    assert total(found, 2) >= 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kinds", "name"),
    [
        (kinds, name)
        for kinds in ("kill", FAULTS, "short")
        for name in COMMANDS
        if kinds != "short" or name not in WRITTEN_BY_OTHERS
    ],
)
def test_every_command_at_every_point(name: str, kinds: str, template: Path, tmp_path: Path):
    (found,) = outcomes(template, tmp_path / "place", kinds, 1, (name,))
    assert found["points"] >= 1
