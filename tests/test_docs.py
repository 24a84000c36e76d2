"""Every command and Python block of README and docs, run as a reader would run it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from clip_video import moving_square, square_mask, write_video
from davis_folder import make_clips

import corrkit
from corrkit.cli import main
from corrkit.documentation import pages
from corrkit.tasks.masks import write_mask

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NEEDS = re.compile(r"^python needs-(\w+)$")
SHOWN = {"", "text", "toml", "yaml"}
"""Blocks that are no commands."""
SLOW = re.compile(r"corrkit (regress|eval all|pretrain)|random:|Evaluator|timm")
INSTALLS = re.compile(r"pip install \S+ (&& )?")


def blocks(kind: re.Pattern[str]) -> list:
    """Language and body of the blocks whose language matches."""
    return [
        pytest.param(language, body, id=f"{page.name}-{number}", marks=[pytest.mark.slow] if SLOW.search(body) else [])
        for page in PAGES
        for number, (language, body) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")))
        if kind.match(language)
    ]


def save_vit(path: Path) -> None:
    """A ViT of patches of 16, drawn at random, as MAE saves its own: few cells, so that many commands can run."""
    generator = torch.Generator().manual_seed(0)
    blocks = {
        "norm1.weight": [128], "norm1.bias": [128], "attn.qkv.weight": [384, 128], "attn.qkv.bias": [384],
        "attn.proj.weight": [128, 128], "attn.proj.bias": [128], "norm2.weight": [128], "norm2.bias": [128],
        "mlp.fc1.weight": [32, 128], "mlp.fc1.bias": [32], "mlp.fc2.weight": [128, 32], "mlp.fc2.bias": [128],
    }  # fmt: skip
    shapes = {
        "cls_token": [1, 1, 128],
        "pos_embed": [1, 197, 128],
        "patch_embed.proj.weight": [128, 3, 16, 16],
        "patch_embed.proj.bias": [128],
        **{f"blocks.{number}.{name}": shape for number in range(2) for name, shape in blocks.items()},
        "norm.weight": [128],
        "norm.bias": [128],
    }
    torch.save({"model": {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}}, path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the pages take for granted: a checkpoint, data in DAVIS layout, predictions, a video and first labels."""
    save_vit(tmp_path / "my_checkpoint.pth")
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


def run(command: list[str], folder: Path, **variables: str) -> None:
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": path, **variables}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize(("language", "body"), blocks(re.compile("sh$")))
def test_commands_run_as_written(folder: Path, language: str, body: str):
    """Installation is what CI does before the tests, and pytest is what runs this; all else is run here."""
    for line in body.splitlines():
        command = INSTALLS.sub("", line.split("#")[0]).strip()
        if command and command != "pytest -n auto":
            assert command.startswith(("corrkit ", "torchrun ")), f"unknown command in the docs: {command}"
            run(["bash", "-c", command], folder)


@pytest.mark.parametrize(("language", "body"), blocks(re.compile("python$")))
def test_python_blocks_run_as_written(folder: Path, language: str, body: str):
    run([sys.executable, "-c", body], folder)


@pytest.mark.parametrize(("language", "body"), blocks(NEEDS))
def test_recipes_for_loggers_run_as_written_and_offline(folder: Path, language: str, body: str):
    log_offline(folder, language, body)


@pytest.mark.parametrize("recipe", [pytest.param(one.values, id=one.id) for one in blocks(NEEDS)])
def test_recipes_for_loggers_run_on_small_frames(folder: Path, recipe: tuple[str, str]):
    """The same with colours as features and 32 pixels, which takes seconds."""
    language, body = recipe
    small = body.replace('"my_checkpoint.pth"', '"rgb"').replace('data="DAVIS"', 'data="DAVIS", size=[32], multiple=8')
    assert small.count("size=[32]") == 2
    log_offline(folder, language, small)


def log_offline(folder: Path, language: str, body: str) -> None:
    logger = language.removeprefix("python needs-")
    pytest.importorskip(logger, reason=f"{logger} is not installed (extra loggers)")
    keeping = {"TRACKIO_DIR": str(folder / "logs"), "HF_HUB_OFFLINE": "1"}
    run([sys.executable, "-c", body], folder, WANDB_MODE="offline", WANDB_SILENT="true", **keeping)
    written = [path for name in ("wandb", "logs") for path in (folder / name).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in written) > 1000, "scores and pictures were logged"


def test_what_is_not_run_says_what_it_needs_and_what_stands_for_it():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in BLOCK.finditer(text):
            if block[1] not in {"sh", "python", *SHOWN}:
                above = text[: block.start()].rstrip().rsplit("\n", 1)[-1]
                assert above.startswith("*Needs "), f"{page.name}: {block[1]} {block[2][:60]!r}"
                assert NEEDS.match(block[1]) or "tests" in above


def test_callback_recipes_are_short():
    page = (REPOSITORY / "docs/training-loop.md").read_text()
    recipes = [body for language, body in BLOCK.findall(page) if language == "python notest"]
    assert len(recipes) == 2
    for recipe in recipes:
        compile(recipe, "recipe", "exec")
        assert len(recipe.splitlines()) <= 25


def test_pages_that_messages_and_pages_name_are_there():
    sources = [*(REPOSITORY / "corrkit").rglob("*.py"), *PAGES]
    pattern = re.compile(r"corrkit docs ([a-z-]+)|\bsee\([\"'](\w[\w-]*)[\"']\)|docs/([\w-]+)\.md")
    named = {name for path in sources for match in pattern.findall(path.read_text(encoding="utf-8")) for name in match}
    assert {"checkpoints", "report", "card"} <= named
    assert named - {""} - set(pages()) == set()


def test_docs_lists_pages_and_prints_one(capsys):
    assert main(["docs"]) == 0
    listed = capsys.readouterr().out
    assert str(Path(corrkit.__file__).parent) in listed or str(REPOSITORY / "docs") in listed
    assert listed.index("getting-started") < listed.index("architecture")
    assert main(["docs", "docs/card.md"]) == 0
    assert capsys.readouterr().out == (REPOSITORY / "docs/card.md").read_text(encoding="utf-8")
    assert main(["docs", "cards"]) == 2
    assert "Did you mean 'card'?" in capsys.readouterr().err
