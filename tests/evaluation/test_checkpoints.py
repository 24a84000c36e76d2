"""Several checkpoints in one pass: each number and each run folder that of its own, a curve over their steps."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from davis_folder import make_clips
from run_files import run_files

from corrkit.cli import main
from corrkit.frames.pictures import read_image
from corrkit.predictors.checkpoints import each_checkpoint, place_of
from corrkit.tasks.davis import DavisTask


@pytest.fixture
def training(tmp_path: Path, golden, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of checkpoints of one network at steps 5, 40 and 200, beside their data."""
    monkeypatch.chdir(tmp_path)
    make_clips(tmp_path / "DAVIS", size=(64, 80))
    folder = tmp_path / "trained"
    folder.mkdir()
    tree = torch.load(golden("checkpoints/mae_headrule/mae_pretrain_vit_headrule.pth"), weights_only=False)
    for step in (5, 40, 200):
        weights = tree["model"]
        weights["patch_embed.proj.weight"] = weights["patch_embed.proj.weight"] * (1 + step / 100)
        torch.save(tree, folder / f"checkpoint{step}.pth")
    return folder


COMMON = ["eval", "davis", "--data", "DAVIS", "--set", "size=[64]", "--set", "multiple=16", "--quiet"]


def evaluated(capsys, *asked: str) -> tuple[list[dict], str]:
    assert main([*COMMON, *asked, "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    return (found if isinstance(found, list) else [found]), captured.err


def test_each_checkpoint_has_the_number_and_the_folder_of_its_own_run(training: Path, capsys):
    together, said = evaluated(capsys, "--ckpt", str(training))
    assert len({json.dumps(summary["metrics"]) for summary in together}) > 1
    folders = sorted(path.parent for path in Path("runs").glob("*/summary.json"))
    assert len(folders) == 3
    assert "curve: runs/curve-davis-" in said
    assert len(list(Path("runs").glob("curve-davis-*.svg"))) == len(list(Path("runs").glob("curve-davis-*.png"))) == 1
    for file, summary in zip(each_checkpoint([str(training)]), together, strict=True):
        (alone,), said = evaluated(capsys, "--ckpt", file)
        assert alone == summary
        assert "is resumed" in said
    shutil.rmtree("runs")
    (alone,), said = evaluated(capsys, "--ckpt", str(training / "checkpoint200.pth"))
    assert alone == together[2]
    assert "is resumed" not in said
    again, _ = evaluated(capsys, "--ckpt", *each_checkpoint([str(training)]), "--out", "below")
    assert again == together
    assert len(list(Path("below").glob("*/summary.json"))) == 3


def test_frames_are_decoded_and_truth_is_prepared_once(training: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    read: list[str] = []
    prepared: list[int] = []
    truth = DavisTask.truth

    def counted(self, clip, protocol):
        own = truth(self, clip, protocol)
        return lambda index: prepared.append(index) or own(index)

    monkeypatch.setattr("corrkit.frames.sequence.read_image", lambda path: read.append(str(path)) or read_image(path))
    monkeypatch.setattr(DavisTask, "truth", counted)
    evaluated(capsys, "--ckpt", str(training), "--clips", "a", "--no-keep")
    assert prepared == [1, 2]
    assert len(read) <= 4 + 1  # and the first one for its size


def test_a_bad_checkpoint_costs_itself(training: Path, capsys):
    (training / "checkpoint40.pth").write_bytes(b"nothing")
    assert main([*COMMON, "--ckpt", str(training), "--json"]) == 2
    captured = capsys.readouterr()
    assert len(json.loads(captured.out)) == 2
    assert "failed: " in captured.err
    assert "checkpoint40.pth" in captured.err
    for file in training.iterdir():
        file.write_bytes(b"nothing")
    assert main([*COMMON, "--ckpt", str(training)]) == 2
    assert "None of 3 checkpoints" in capsys.readouterr().err


def test_the_same_weights_twice_are_named(training: Path, capsys):
    other = training.parent / "copy" / training.name
    shutil.copytree(training, other)
    assert main([*COMMON, "--ckpt", str(training / "checkpoint5.pth"), str(other / "checkpoint5.pth"), "--json"]) == 2
    captured = capsys.readouterr()
    assert isinstance(json.loads(captured.out), dict)
    assert "the same weights under the same name" in captured.err


def test_options_for_one_checkpoint_are_refused_for_several(training: Path, capsys):
    assert main([*COMMON, "--ckpt", str(training), "--name", "mine"]) == 2
    assert "are for one checkpoint" in capsys.readouterr().err


def test_checkpoints_of_a_run_follow_its_steps_wherever_they_come_from(tmp_path: Path):
    for name in ("b/checkpoint-200.pth", "b/checkpoint-1000.pth", "b/last.pth", "a/step_3_acc71.ckpt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    b = [str(tmp_path / "b" / f"checkpoint-{step}.pth") for step in (200, 1000)]
    assert each_checkpoint([str(tmp_path / "b")]) == b
    assert each_checkpoint([b[1], "hog", b[0], b[1]]) == [*b, "hog"]
    assert each_checkpoint([str(tmp_path / "a")]) == [str(tmp_path / "a")]  # one file: opened as any folder
    assert place_of(b[1]).step == 1000
    assert place_of("random:vit_small_patch16_224") is None


def test_the_task_may_stand_behind_the_checkpoints(training: Path, capsys):
    files = [str(training / f"checkpoint{step}.pth") for step in (5, 40)]
    options = COMMON[2:]
    assert main(["eval", *options, "--json", "--ckpt", *files, "davis"]) == 0
    together = json.loads(capsys.readouterr().out)
    assert together == evaluated(capsys, "--ckpt", *files)[0]
    assert main(["eval", *options, "--ckpt", *files]) == 2
    assert "No task is named" in capsys.readouterr().err


def test_workers_give_each_checkpoint_the_files_of_one_process(training: Path, capsys):
    alone, _ = evaluated(capsys, "--ckpt", str(training), "--out", "one")
    together, _ = evaluated(capsys, "--ckpt", str(training), "--out", "two", "--workers", "2")
    assert together == alone
    assert run_files(Path("two")) == run_files(Path("one"))
