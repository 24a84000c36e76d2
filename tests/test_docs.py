"""Every command and Python block of README and docs, run as a reader would run it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from clip_video import moving_square, square_mask, write_video
from davis_folder import make_clips

from corrkit.tasks.masks import write_mask

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SLOW = re.compile(r"corrkit (regress|eval all|pretrain)|random:|Evaluator|timm")
INSTALLS = re.compile(r"pip install \S+ (&& )?")


def blocks(kind: str) -> list:
    return [
        pytest.param(body, id=f"{page.name}-{number}", marks=[pytest.mark.slow] if SLOW.search(body) else [])
        for page in PAGES
        for number, (language, body) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")))
        if language == kind
    ]


@pytest.fixture
def folder(tmp_path: Path, golden) -> Path:
    """What the pages take for granted: a checkpoint, data in DAVIS layout, predictions, a video and first labels."""
    shutil.copyfile(golden("checkpoints/mae_headrule/mae_pretrain_vit_headrule.pth"), tmp_path / "my_checkpoint.pth")
    make_clips(tmp_path / "DAVIS")
    shutil.copytree(tmp_path / "DAVIS/Annotations/480p", tmp_path / "predictions")
    shutil.copyfile(tmp_path / "predictions/a/00001.png", tmp_path / "predictions/a/00002.png")
    write_video(tmp_path / "my_video.mp4", moving_square(2))
    write_mask(tmp_path / "first.png", square_mask())
    (tmp_path / "points.csv").write_text("name,x,y\nleft,8,24\nright,16,24\n")
    program = tmp_path / "bin" / "corrkit"  # the console script, also where corrkit is not installed
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m corrkit "$@"\n')
    program.chmod(0o755)
    return tmp_path


def run(command: list[str], folder: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("body", blocks("sh"))
def test_commands_run_as_written(folder: Path, body: str):
    """Installation is what CI does before the tests, and pytest is what runs this; all else is run here."""
    for line in body.splitlines():
        command = INSTALLS.sub("", line.split("#")[0]).strip()
        if command and command != "pytest":
            assert command.startswith(("corrkit ", "torchrun ")), f"unknown command in the docs: {command}"
            run(["bash", "-c", command], folder)


@pytest.mark.parametrize("body", blocks("python"))
def test_python_blocks_run_as_written(folder: Path, body: str):
    run([sys.executable, "-c", body], folder)


def test_callback_recipes_are_short():
    recipes = re.findall(r"^```python notest\n(.*?)^```$", (REPOSITORY / "docs/python.md").read_text(), re.M | re.S)
    assert len(recipes) == 2
    for recipe in recipes:
        compile(recipe, "recipe", "exec")
        assert len(recipe.splitlines()) <= 25
