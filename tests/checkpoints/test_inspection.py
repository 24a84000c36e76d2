"""`corrkit inspect` and `corrkit convert`, as commands."""

import json
import shlex

import numpy as np
import pytest
import torch

from corrkit.backbones import load_backbone
from corrkit.cli import main
from tests.checkpoints.test_goldens import GOLDENS, finds_heads


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.golden
@pytest.mark.parametrize("name", GOLDENS)
def test_every_golden_file_is_inspected_without_being_told_its_heads(golden, name, capsys):
    folder = golden(f"checkpoints/{name}")
    meta = json.loads((folder / "meta.json").read_text())
    code, out, err = run(capsys, "inspect", folder / meta["file"], "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert found["tensors_used"] + sum(count(item) for item in found["dropped"]) == found["tensors_total"]
    assert found["evidence"].keys() >= {"container", "names", "system", "branch", "layer"}
    assert ("--heads N" in found["command"]) == found["heads_unknown"]
    assert not (finds_heads(name) and found["heads_unknown"])
    assert shlex.split(found["command"])[:5] == ["corrkit", "eval", "davis", "--ckpt", str(folder / meta["file"])]


def count(item):
    return int(item["reason"].rpartition("(")[2].split()[0])


@pytest.mark.golden
def test_text_names_system_tensors_and_reasons(golden, capsys):
    code, out, _ = run(capsys, "inspect", golden("checkpoints/mae") / "checkpoint-799.pth", "--heads", 4)
    assert code == 0
    assert "mae: MAE" in out
    assert "30 of 50 used" in out
    assert "decoder of pre-training (12 tensors)" in out
    assert "4: given with --heads" in out
    assert out.rstrip().endswith("--heads 4")


@pytest.mark.golden
def test_options_are_repeated_in_the_command(golden, capsys):
    path = golden("checkpoints/ijepa") / "IN1K-vit.t.14-300e.pth.tar"
    _, out, _ = run(capsys, "inspect", path, "--heads", 3, "--layer", 1, "--ckpt-key", "encoder", "--json")
    found = json.loads(out)
    assert found["command"].endswith("--heads 3 --layer 1 --ckpt-key encoder")
    assert found["layer"] == "1"
    assert "chosen with --ckpt-key" in found["evidence"]["branch"]


def test_a_file_that_is_not_there_is_exit_code_2(capsys):
    code, out, err = run(capsys, "inspect", "nowhere.pth")
    assert (code, out) == (2, "")
    assert "nowhere.pth doesn't exist" in err


@pytest.mark.golden
@torch.no_grad()
def test_convert_writes_a_file_that_needs_no_options(golden, tmp_path, capsys):
    folder = golden("checkpoints/mae")
    target = tmp_path / "clean.safetensors"
    code, out, err = run(capsys, "convert", folder / "checkpoint-799.pth", target, "--heads", 4)
    assert (code, out.strip()) == (0, str(target))
    assert "30 of 50 tensors written" in err
    with np.load(folder / "golden.npz") as arrays:
        frames, features = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["f"])
    torch.testing.assert_close(load_backbone(target)(frames), features, atol=1e-4, rtol=1e-4)


@pytest.mark.golden
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["checkpoint-799.pth", "clean.pth", "--heads", "4"], "isn't named *.safetensors"),
        (["absent.pth", "clean.safetensors"], "doesn't exist"),
        (["checkpoint-799.pth", "clean.safetensors"], "--heads N"),
    ],
)
def test_convert_writes_nothing_where_it_fails(golden, tmp_path, capsys, arguments, words):
    source, target, *options = arguments
    code, _, err = run(capsys, "convert", golden("checkpoints/mae") / source, tmp_path / target, *options)
    assert code == 2
    assert words in err
    assert list(tmp_path.iterdir()) == []
