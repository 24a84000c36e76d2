"""Checkpoints that are code: an edited file, or an edited module beside it, is another checkpoint."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from davis_folder import make_clip

import corrkit
from corrkit.errors import RunError
from corrkit.predictors.loading import spec_name

MODEL = """
import torch, corrkit
from parts import FACTOR

class Net(torch.nn.Module):
    def forward(self, frames):
        return torch.nn.functional.avg_pool2d(frames, 16) * FACTOR{change}

def build():
    return Net()

def own():
    return corrkit.wrap(Net(), forward=lambda frames: Net()(frames))

def rgb():
    return corrkit.load_backbone("rgb")
"""


def write(folder: Path, change: str = "", factor: int = 1) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "model.py").write_text(MODEL.format(change=change))
    (folder / "parts.py").write_text(f"FACTOR = {factor}\n")
    return f"py:{folder / 'model.py'}"


@pytest.mark.parametrize("function", ["build", "own", "rgb"])
def test_the_digest_follows_the_source_and_what_it_imports(tmp_path: Path, function: str):
    def digest(spec: str) -> str:
        found = corrkit.load_backbone(f"{spec}:{function}").digest
        assert found is not None
        return found

    digests = [digest(write(tmp_path / "a")), digest(write(tmp_path / "a", change=" + frames.mean()"))]
    digests += [digest(write(tmp_path / "a", factor=2)), digest(write(tmp_path / "b"))]
    assert digests[3] == digests[0]  # the same code in another folder
    assert len(set(digests)) == 3


def test_modules_of_one_name_come_from_their_own_folders(tmp_path: Path):
    frames = torch.ones(1, 3, 16, 16)
    one = corrkit.load_backbone(f"{write(tmp_path / 'one', factor=3)}:build")
    two = corrkit.load_backbone(f"{write(tmp_path / 'two', factor=5)}:build")
    assert (one(frames).mean().item(), two(frames).mean().item()) == (3, 5)
    assert "parts" not in sys.modules
    assert str(tmp_path / "one") not in sys.path


def test_a_file_of_the_current_folder_is_the_same_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    spec = write(tmp_path / "a")
    elsewhere = corrkit.load_backbone(f"{spec}:build").digest
    monkeypatch.chdir(tmp_path / "a")  # where torch.classes, which calls its file "_classes.py", would lie
    assert corrkit.load_backbone("py:model.py:build").digest == elsewhere


@pytest.mark.parametrize("name", ["__main__", "__mp_main__"])
def test_the_program_that_runs_is_no_part_of_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    spec = write(tmp_path / "a")
    before = corrkit.load_backbone(f"{spec}:build").digest
    program = ModuleType(name)
    program.__file__ = str(tmp_path / "a" / "script.py")
    Path(program.__file__).touch()
    monkeypatch.setitem(sys.modules, name, program)
    assert corrkit.load_backbone(f"{spec}:build").digest == before


def test_an_edited_file_does_not_resume_with_the_old_score(tmp_path: Path):
    make_clip(tmp_path / "DAVIS", "a", frames=4, size=(48, 64))
    options = {"data": tmp_path / "DAVIS", "out": tmp_path / "run", "size": [64]}
    corrkit.evaluate("davis", f"{write(tmp_path / 'a')}:build", **options)
    assert corrkit.evaluate("davis", f"{write(tmp_path / 'a')}:build", **options).notes
    with pytest.raises(RunError, match="checkpoint is"):
        corrkit.evaluate("davis", f"{write(tmp_path / 'a', factor=-2)}:build", **options)


def test_a_forward_function_can_be_given_a_name_and_a_digest():
    net = torch.nn.Conv2d(3, 4, 16, 16)
    assert corrkit.wrap(net, forward=net).digest is None
    one = corrkit.wrap(net, forward=net, name="probe", digest="v1")
    assert one.report.architecture == "probe"
    assert one.digest == corrkit.wrap(net, forward=net, name="probe", digest="v1").digest
    assert one.digest != corrkit.wrap(net, forward=net, name="probe", digest="v2").digest
    with torch.no_grad():
        net.weight += 1
    assert one.digest != corrkit.wrap(torch.nn.Conv2d(3, 4, 16, 16), forward=net, name="probe", digest="v1").digest


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("mae/checkpoint.pth", "mae"),
        ("dino/ckpts/last.ckpt", "dino"),
        ("siam/epoch_20.pth", "siam-epoch_20"),
        ("siam/checkpoint-799.pth", "siam-checkpoint-799"),
        ("siam/pytorch_model.bin", "siam"),
        ("hub/model.safetensors", "hub"),
        ("weights/dino_vits16.pth", "dino_vits16"),
        ("a/model_seed3.pth", "model_seed3"),
    ],
)
def test_a_stem_that_says_nothing_gives_way_to_its_folder(tmp_path: Path, file: str, name: str, monkeypatch):
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.touch()
    assert spec_name(path) == name
    monkeypatch.chdir(path.parent)
    assert spec_name(path.name) == name
