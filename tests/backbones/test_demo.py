"""The checkpoint that comes with corrkit: `--ckpt demo`."""

import tomllib
from pathlib import Path

import pytest
import torch

from corrkit.backbones import load_backbone
from corrkit.backbones.loading import SHIPPED
from corrkit.cli import main
from corrkit.files.jsontext import as_plain, table_of
from corrkit.runs.logs import read_log
from corrkit.training import checkpoint
from corrkit.training.recipe import load_recipe

MEGABYTE = 2**20
DEMO = SHIPPED["demo"]


def test_the_demo_is_a_file_like_any_other() -> None:
    demo, read = load_backbone("demo"), load_backbone(DEMO)
    frames = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    assert torch.equal(demo(frames), read(frames))
    assert demo.digest == read.digest
    assert demo(frames).shape == (1, 8, 12, 128)
    assert DEMO.stat().st_size <= 3 * MEGABYTE


def test_its_recipe_log_and_command_come_with_it() -> None:
    tree = checkpoint.read(DEMO)
    assert table_of(tree["recipe"])["name"] == "siammae"
    rows = read_log(DEMO.parent / "log.csv")
    assert rows[-1]["step"] == tree["step"]
    text = (DEMO.parent / "README.md").read_text(encoding="utf-8")
    (command,) = [line for line in text.splitlines() if line.startswith("corrkit pretrain")]
    pairs = [part.split("=", 1) for part in command.split() if "=" in part]
    changes = {name: tomllib.loads(f"value = {value}")["value"] for name, value in pairs}
    differing = checkpoint.differences(tree["recipe"], as_plain(load_recipe("siammae", scale="demo", changes=changes)))
    gone = ("teacher.rule", "teacher.by")  # which no code read
    differing = [line for line in differing if "was None" not in line]  # constants may be added later
    assert [line for line in differing if not line.startswith(gone)] == []
    assert command.split()[command.split().index("--steps") + 1] == str(tree["step"])


def test_a_name_close_to_it_is_suggested(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["eval", "davis", "--ckpt", "dem", "--out", str(tmp_path / "run")]) != 0
    assert "'demo'" in capsys.readouterr().err
