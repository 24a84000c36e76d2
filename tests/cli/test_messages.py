"""What the command line says where something is amiss: hints lead somewhere, nothing on a full disk is our bug."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from davis_folder import make_clip
from scripted import Scripted

import corrkit
from corrkit.backbones.contract import Mode
from corrkit.backbones.loading import Loading
from corrkit.cli import main
from corrkit.cli.eval_words import describe
from corrkit.errors import UsageError
from corrkit.predictors.loading import make_predictor
from corrkit.protocols import Protocol, load_protocol, override


@pytest.fixture
def data(tmp_path: Path) -> Path:
    make_clip(tmp_path / "DAVIS", "a,b", frames=4, size=(48, 64))
    make_clip(tmp_path / "DAVIS", "c", frames=4, size=(48, 64))
    return tmp_path / "DAVIS"


@pytest.mark.parametrize("option", [["--layers", "1,2"], ["--layers", "all"], ["--layer", "3"]])
@pytest.mark.parametrize("checkpoint", ["rgb", "random:vit_tiny_patch16_224"])
def test_hints_about_layers_lead_somewhere(capsys, checkpoint: str, option: list[str]):
    assert main(["eval", "davis", "--ckpt", checkpoint, *option]) == 2
    said = capsys.readouterr().err
    assert "Leave" in said
    assert "with --layer" not in said


def test_a_device_that_is_none_is_told_what_there_is(capsys):
    assert main(["eval", "davis", "--ckpt", "rgb", "--device", "gpu"]) == 2
    assert "a GPU is cuda" in (said := capsys.readouterr().err)
    assert "cpu" in said


@pytest.mark.parametrize("task", ["davis", "vip"])
def test_an_option_of_another_tasks_predictions_is_refused(capsys, tmp_path: Path, task: str):
    assert main(["score", task, "--pred", str(tmp_path), "--grid", "3,4"]) == 2
    assert f"Predictions for {task} are read without --grid" in capsys.readouterr().err


@pytest.mark.parametrize("grid", [(0, 4), (20,), (20, 20.5), "20,20"])
def test_a_grid_that_is_none_is_refused(tmp_path: Path, grid: object):
    with pytest.raises(UsageError, match="whole numbers from 1"):
        corrkit.score("jhmdb", pred=tmp_path, grid=grid)


def test_protocols_of_a_task_are_listed(capsys):
    assert main(["protocols", "davis"]) == 0
    said = capsys.readouterr().out
    assert "davis/dino@1 (default)" in said
    assert "vip/" not in said


def test_a_network_without_a_file_has_no_tensors_to_count(capsys):
    assert main(["inspect", "rgb"]) == 0
    assert "0 of 0" not in capsys.readouterr().out


@pytest.mark.parametrize(("patch", "set_to"), [(8, 16), (16, 8)])
def test_the_hint_about_patches_names_the_one_that_fits(patch: int, set_to: int):
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, patch, patch), torch.nn.Flatten(2))
    vars(module)["forward_features"] = lambda frames: module(frames).transpose(1, 2)
    with pytest.raises(UsageError, match=f"fits patch={patch}"):
        corrkit.wrap(module, patch=set_to)(torch.zeros(1, 3, 240, 432))


def test_clips_whose_names_hold_commas_can_be_chosen(data: Path, tmp_path: Path, capsys):
    options = ["eval", "davis", "--ckpt", "identity", "--data", str(data), "--out"]
    assert main([*options, str(tmp_path / "one"), "--clips", "a,b"]) == 0
    assert "1 clips" in capsys.readouterr().out
    assert main([*options, str(tmp_path / "two"), "--clips", "c,a,b"]) == 0
    assert "2 clips" in capsys.readouterr().out
    assert main([*options, str(tmp_path / "three"), "--clips", "a,c"]) == 2
    assert "no clip 'a'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: 99 bytes"),
    ],
)
def test_out_of_memory_says_what_to_change(data: Path, capsys, monkeypatch, error: Exception):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("corrkit.processes.workers.evaluate_clip", fail)
    assert main(["eval", "davis", "--ckpt", "identity", "--data", str(data), "--out", str(data.parent / "r")]) == 2
    said = capsys.readouterr().err
    assert "out of memory" in said
    assert "--set size" in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_device_behind_stdout_is_no_bug():
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        done = subprocess.run(
            [sys.executable, "-m", "corrkit", "protocols"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stderr == (
        "corrkit: stdout can't be written: No space left on device.\n"
        "Free some space or write elsewhere, then repeat the command.\n"
    )


def test_convert_on_a_full_disk_leaves_nothing_and_says_so(golden, tmp_path: Path, capsys, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    checkpoint = golden("davis/models/probe_vit64_dino.pth")
    assert main(["convert", str(checkpoint), str(tmp_path / "out.safetensors"), "--heads", "4"]) == 2
    said = capsys.readouterr().err
    assert "out.safetensors can't be written: No space left on device" in said
    assert list(tmp_path.iterdir()) == []


def test_names_from_files_never_steer_the_terminal(tmp_path: Path, capsys):
    root = tmp_path / "DAVIS"
    for name in ("ok\x1b[2J", "b"):
        make_clip(root, name, frames=4, size=(48, 64))
    (root / "JPEGImages/480p/b/00002.jpg").write_bytes(b"")
    main(["eval", "davis", "--ckpt", "identity", "--data", str(root), "--out", str(tmp_path / "run")])
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err
    assert r"ok\x1b[2J" in captured.err


@pytest.mark.golden
def test_the_header_names_the_branch_taken_the_others_and_how_to_choose(golden, tmp_path: Path, capsys):
    state = torch.load(golden("davis/models/probe_vit64_dino.pth"), weights_only=True)["teacher"]
    torch.save({"teacher": state, "student": state}, tmp_path / "both.pth")

    def header(key: str | None) -> str:
        predictor = make_predictor(tmp_path / "both.pth", device="cpu", loading=Loading(heads=4, key=key))
        return "\n".join(describe(predictor, [load_protocol("davis/dino")]))

    assert "branch 'teacher': not 'student': " in header(None)
    assert "--ckpt-key takes another one" in header(None)
    assert "branch 'student': chosen with --ckpt-key" in header("student")


class Windows(Scripted):
    """Sees windows where the protocol shows them."""

    def mode_under(self, protocol: Protocol) -> Mode:
        window = protocol.features.window
        return Mode(kind="windowed", sees_future=True, length=window, step=2) if window else Mode()


def test_the_header_says_how_time_is_seen_under_the_protocol():
    framewise = load_protocol("davis/dino")
    windowed = override(framewise, {"window": 16})
    (alone,) = describe(Windows("video"), [windowed])
    assert ", windowed (16 frames every 2) (sees later frames), on cpu" in alone
    assert "framewise" not in alone
    (both,) = describe(Windows("video"), [framewise, override(load_protocol("davis/rvm"), {"window": 4})])
    assert "framewise under davis/dino@1, windowed (4 frames every 2) (sees later frames) under davis/rvm@1" in both
