"""A run of real size: damaged data, numbers that aren't finite, changes, signals, and one process at a time."""

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import corrkit
from corrkit.backbones import load_backbone
from corrkit.cli import main
from corrkit.errors import CheckpointError, CorrkitError, DataError, RunError, UsageError
from corrkit.files.atomic import only_process
from corrkit.frames.items import build_index
from corrkit.runs.logs import read_log
from corrkit.training import checkpoint, loop
from corrkit.training.data import Samples
from corrkit.training.loop import pretrain
from corrkit.training.objectives import make_objective
from corrkit.training.recipe import load_recipe
from tests.training.test_loop import OPTIONS, KilledError, losses, siammae, stop_and_go_on, stopped_before

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def damage(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


# What can't be read


def test_one_damaged_frame_does_not_end_a_run(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage(clips / "clip1" / "002.png")
    options = dataclasses.replace(OPTIONS, steps=12)
    pretrain(siammae(), clips, tmp_path / "out", options)
    rows = read_log(tmp_path / "out" / "log.csv")
    assert len(rows) == 12
    assert rows[-1]["replaced"] > 1
    assert capsys.readouterr().err.count("002.png") == 1  # named once
    stop_and_go_on(siammae(), clips, tmp_path / "cut", options, step=8)
    for name in ("log.csv", "checkpoint.pth"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_a_clip_that_vanishes_while_training_is_replaced(clips: Path, tmp_path: Path) -> None:
    pretrain(siammae(), clips, tmp_path / "out", dataclasses.replace(OPTIONS, steps=3))
    for file in (clips / "clip2").iterdir():
        file.unlink()
    (clips / "clip2").rmdir()
    longer = dataclasses.replace(OPTIONS, steps=9, resume_with=("steps",))
    pretrain(siammae(), clips, tmp_path / "out", longer)
    assert len(losses(tmp_path / "out")) == 9


def test_too_many_damaged_files_stop_the_run_with_a_list(clips: Path, tmp_path: Path) -> None:
    for clip in (1, 2, 3):
        for frame in range(1, 5):
            damage(clips / f"clip{clip}" / f"{frame:03d}.png")
    with pytest.raises(DataError, match=r"more than 1\.0%") as caught:
        pretrain(siammae(), clips, tmp_path / "out", dataclasses.replace(OPTIONS, steps=12))
    assert caught.value.problem.count(".png") >= 2  # one may be damaged
    assert "--damaged" in caught.value.remedy
    pretrain(siammae(), clips, tmp_path / "out", dataclasses.replace(OPTIONS, steps=12, damaged=0.8))


def test_data_of_which_nothing_is_readable_is_refused_before_step_1(clips: Path, tmp_path: Path) -> None:
    for file in clips.rglob("*.png"):
        damage(file)
    with pytest.raises(DataError, match="can be decoded"):
        pretrain(siammae(), clips, tmp_path / "out", OPTIONS)


@pytest.mark.slow
def test_damaged_images_and_videos_in_worker_processes(shared: Path, tmp_path: Path) -> None:
    """A video cut off in the middle: its index counts what can be decoded, and what can't then is replaced."""
    for name in ("a", "b", "c"):
        Image.fromarray(np.random.default_rng(1).integers(0, 255, (40, 48, 3), dtype=np.uint8)).save(
            tmp_path / f"{name}.png"
        )
    (tmp_path / "data").mkdir()
    for name in "abc":
        (tmp_path / f"{name}.png").rename(tmp_path / "data" / f"{name}.png")
    index = build_index(tmp_path / "data", tmp_path / "out" / "index.json")
    assert len(index.entries) == 3
    damage(tmp_path / "data" / "b.png")
    sizes = {"views.size": 32, "encoder.depth": 1}
    mae = load_recipe("mae", scale="tiny", changes=sizes)
    pretrain(mae, tmp_path / "data", tmp_path / "out", dataclasses.replace(OPTIONS, workers=1))
    assert read_log(tmp_path / "out" / "log.csv")[-1]["replaced"] > 0


KILLED = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")


@pytest.mark.parametrize(
    "raised", [KILLED, ConnectionResetError("reset: pid 7"), EOFError("pid 7"), RuntimeError("other")]
)
def test_a_killed_process_that_decodes_is_named_wherever_torch_notices(
    raised: Exception, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch raises from its handler of SIGCHLD, in the middle of whatever runs."""

    def killed(*_: Any) -> None:
        raise raised

    monkeypatch.setattr(loop._Training, "_after", killed)
    with pytest.raises(RunError if "pid 7" in str(raised) else RuntimeError, match=r"pid 7|other"):
        pretrain(siammae(), clips, tmp_path / "out", OPTIONS)


def test_the_run_says_what_changed_in_its_data(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pretrain(siammae(), clips, tmp_path / "out", OPTIONS)
    before = capsys.readouterr().err
    (clips / "clip0").rename(clips / "clip9")
    pretrain(siammae(), clips, tmp_path / "out", OPTIONS)
    said = capsys.readouterr().err
    assert "gone" not in before
    assert "clip0" in said
    assert "clip9" in said


# Numbers that aren't finite


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_gradient_that_is_not_finite_is_never_stepped_nor_saved(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: Any
) -> None:
    unscale = torch.amp.GradScaler.unscale_

    def poisoned(self: torch.amp.GradScaler, optimiser: torch.optim.Optimizer) -> None:
        if len(read_log(tmp_path / "out" / "log.csv")) == 4:
            optimiser.param_groups[0]["params"][0].grad.view(-1)[0] = float("nan")
        unscale(self, optimiser)

    monkeypatch.setattr(torch.amp.GradScaler, "unscale_", poisoned)
    options = dataclasses.replace(OPTIONS, precision=precision)
    with pytest.raises(RunError, match=r"Step 5: the gradient is not finite") as caught:
        pretrain(siammae(), clips, tmp_path / "out", options)
    assert "--resume-with optimiser.clip" in caught.value.remedy
    tree = checkpoint.read(tmp_path / "out" / "checkpoint.pth")
    assert tree["step"] == 3
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    changed = siammae(**{"optimiser.clip": 1.0})
    pretrain(changed, clips, tmp_path / "out", dataclasses.replace(options, resume_with=("optimiser.clip",)))
    tree = checkpoint.read(tmp_path / "out" / "checkpoint.pth")
    assert tree["step"] == 6
    assert tree["history"] == [{"step": 3, "changes": ["recipe.optimiser.clip was 0.0, now 1.0"]}]


def test_weights_that_are_not_finite_are_not_saved(clips: Path, tmp_path: Path) -> None:
    objective: Any = make_objective(siammae())
    tree: Any = checkpoint.checkpoint_tree(objective, step=1)
    checkpoint.save(tmp_path / "checkpoint.pth", tree)
    tree["model"]["cls_token"] = tree["model"]["cls_token"] * float("nan")
    with pytest.raises(RunError, match="cls_token"):
        checkpoint.save(tmp_path / "checkpoint.pth", tree)
    assert checkpoint.read(tmp_path / "checkpoint.pth")["model"]["cls_token"].isfinite().all()


def test_the_gradient_s_norm_is_logged(clips: Path, tmp_path: Path) -> None:
    pretrain(siammae(), clips, tmp_path / "out", OPTIONS)
    assert all(row["gradient_norm"] > 0 for row in read_log(tmp_path / "out" / "log.csv"))


# Keeping, changing, going on


def test_the_last_checkpoints_are_kept_and_gone_on_from(clips: Path, tmp_path: Path) -> None:
    out, options = tmp_path / "out", dataclasses.replace(OPTIONS, save_every=1, keep=3)
    pretrain(siammae(), clips, out, options)
    assert sorted(path.name for path in out.glob("*.pth")) == [
        *(f"checkpoint-{step:08d}.pth" for step in (4, 5, 6)), "checkpoint.pth"
    ]  # fmt: skip
    whole = {name: (out / name).read_bytes() for name in ("checkpoint.pth", "log.csv")}
    damage(out / "checkpoint.pth")
    with pytest.raises(CheckpointError, match=r"checkpoint\.pth can't be read") as caught:
        pretrain(siammae(), clips, out, options)
    assert "checkpoint-00000006.pth" in caught.value.remedy
    (out / "checkpoint.pth").unlink()
    (out / "checkpoint-00000006.pth").unlink()
    pretrain(siammae(), clips, out, options)
    assert {name: (out / name).read_bytes() for name in whole} == whole


CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "optimiser.rate": ({"optimiser.rate": 1e-4}, {}),
    "precision": ({}, {"precision": "bf16"}),
    "steps": ({}, {"steps": 8}),
    "ranks": ({}, {"batch": 1, "accumulate": 2}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_may_change_does_so_when_it_is_named_and_is_recorded(name: str, clips: Path, tmp_path: Path) -> None:
    constants, options = CHANGES[name]
    out = tmp_path / "out"
    shorter = dataclasses.replace(OPTIONS, save_every=3)
    with pytest.raises(KilledError):
        stopped_before(4, siammae(), clips, out, shorter)
    recipe, changed = siammae(**constants), dataclasses.replace(shorter, **options)
    with pytest.raises(RunError, match=r"another run") as caught:
        pretrain(recipe, clips, out, changed)
    assert f"--resume-with {name}" in caught.value.remedy
    pretrain(recipe, clips, out, dataclasses.replace(changed, resume_with=(name,)))
    assert json.loads((out / "run.json").read_text())["history"][0]["step"] == 3
    pretrain(recipe, clips, out, changed)  # from now on it is the run's own


def test_what_may_not_change_stays_refused(clips: Path, tmp_path: Path) -> None:
    pretrain(siammae(), clips, tmp_path / "out", OPTIONS)
    for recipe, options in (
        (siammae(**{"masks.1.ratio": 0.5}), OPTIONS), (siammae(), dataclasses.replace(OPTIONS, seed=3)),
        (siammae(), dataclasses.replace(OPTIONS, batch=1)),  # of half the size in all
    ):  # fmt: skip
        with pytest.raises(RunError, match="another run"):
            pretrain(recipe, clips, tmp_path / "out", dataclasses.replace(options, resume_with=("ranks", "precision")))
    with pytest.raises(UsageError, match="seed"):
        pretrain(siammae(), clips, tmp_path / "out", dataclasses.replace(OPTIONS, seed=3, resume_with=("seed",)))


def test_fewer_items_a_pass_take_the_same_items_in_the_same_order(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[tuple[int, int]] = []
    samples_of = Samples.__getitem__
    monkeypatch.setattr(Samples, "__getitem__", lambda self, key: taken.append(key) or samples_of(self, key))
    pretrain(siammae(), clips, tmp_path / "whole", OPTIONS)
    whole, taken[:] = list(taken), []
    with pytest.raises(KilledError):
        stopped_before(4, siammae(), clips, tmp_path / "cut", OPTIONS)
    first = taken[: 3 * OPTIONS.batch]
    taken.clear()
    changed = dataclasses.replace(OPTIONS, batch=1, accumulate=2, resume_with=("ranks",))
    pretrain(siammae(), clips, tmp_path / "cut", changed)
    assert first + taken == whole


@pytest.mark.parametrize("more", [{}, {"average": 0.9}, {"precision": "fp16"}])
def test_log_and_checkpoint_of_a_resumed_run_are_equal_to_the_byte(
    more: dict[str, Any], clips: Path, tmp_path: Path
) -> None:
    options = dataclasses.replace(OPTIONS, **more)
    pretrain(siammae(), clips, tmp_path / "whole", options)
    stop_and_go_on(siammae(), clips, tmp_path / "cut", options, step=5)
    for name in ("log.csv", "checkpoint.pth", "run.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_second_process_in_the_same_folder_is_refused(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with only_process(tmp_path / "out"), pytest.raises(RunError, match=f"process {os.getpid()}"):
        pretrain(siammae(), clips, tmp_path / "out", OPTIONS)
    pretrain(siammae(), clips, tmp_path / "out", OPTIONS)


@pytest.mark.parametrize("name", ["index.json", "log.csv", "speed.csv", "scores.csv", "checkpoint.pth"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00rubbish", b"step,loss\nx,y\nz,1\n3,4\n", b'{"root": 3}', b"[]"])
def test_damaged_files_of_a_run_are_named(name: str, content: bytes, clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_bytes(content)
    with pytest.raises(CorrkitError) as caught:
        pretrain(siammae(), clips, out, OPTIONS)
    assert name in caught.value.problem
    assert "Remove it" in caught.value.remedy


# Scores


class Scores:
    def __init__(self, tasks: tuple[str, ...], metrics: str) -> None:
        self.calls = 0

    def __call__(self, backbone: Any, step: int) -> dict[str, float]:
        time.sleep(0.2)
        return {"step": step, "davis/J&F-Mean": float(backbone(torch.ones(1, 3, 32, 32)).square().mean())}


def test_scores_are_those_of_the_weights_that_eval_reads_and_of_the_average(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corrkit, "Evaluator", Scores, raising=False)
    options = dataclasses.replace(OPTIONS, evaluate_every=3, average=0.9, picture_every=6)
    path = pretrain(siammae(**{"optimiser.rate": 0.01, "optimiser.reference": 0}), clips, tmp_path / "out", options)
    with (tmp_path / "out" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["0", "3", "6"]
    for key, name in ((None, "davis/J&F-Mean"), ("ema", "ema/davis/J&F-Mean")):
        found = Scores((), "all")(load_backbone(path, key=key), 6)["davis/J&F-Mean"]
        assert float(rows[-1][name]) == pytest.approx(found, rel=1e-6)
    assert rows[-1]["davis/J&F-Mean"] != rows[-1]["ema/davis/J&F-Mean"]
    speed = read_log(tmp_path / "out" / "speed.csv")[-1]
    assert speed["samples_per_second"] > 6 * 4 / 1.2  # six evaluations of 0.2 s aren't in it


# Starting


def test_init_is_not_needed_to_go_on(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = pretrain(siammae(), clips, tmp_path / "first", OPTIONS)
    options = dataclasses.replace(OPTIONS, start_from=str(first), steps=3)
    capsys.readouterr()
    pretrain(siammae(), clips, tmp_path / "out", options)
    said = capsys.readouterr().err
    assert f"started from {first}" in said
    assert "heads: 1 (" in said
    assert "positions: those of the recipe" in said
    first.unlink()
    pretrain(siammae(), clips, tmp_path / "out", options)


def test_init_refuses_other_heads_and_resamples_learned_positions(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = pretrain(siammae(), clips, tmp_path / "first", OPTIONS)
    options = dataclasses.replace(OPTIONS, start_from=str(first))
    with pytest.raises(CheckpointError, match=r"2 heads \(1 there\)"):
        pretrain(siammae(**{"encoder.heads": 2}), clips, tmp_path / "heads", options)
    learned = siammae(**{"encoder.position": "learned", "views.size": 48})
    pretrain(learned, clips, tmp_path / "grid", options)
    assert "positions: interpolated from 4 x 4 to 6 x 6" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    ["--batch 0", "--accumulate 0", "--steps 0", "--steps -3", "--seed -1", "--workers -1", "--ema 1.5", "--ema -1",
     "--keep 0", "--log-every -1", "--save-every -5", "--eval-every -1", "--embedded-clips 0", "--damaged 2",
     "--device cuda:99", "--device meta", "--device abacus", "--eval-tasks davs --eval-every 1", "--heads 0",
     "--resume-with speed", "--resume-with steps=many", "--resume-with precision=fp8", "--scale huge",
     "--embedded-clips 9999999999", "--eval-tasks , --eval-every 1"],
)  # fmt: skip
def test_arguments_out_of_range_are_refused_in_a_sentence(
    arguments: str, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrain(siammae(), clips, tmp_path / "out", dataclasses.replace(OPTIONS, steps=1))
    capsys.readouterr()
    command = ["pretrain", "siammae", "--scale", "tiny", "--data", str(clips), "--out", str(tmp_path / "out")]
    assert main([*command, *arguments.split()]) == 2
    assert "bug" not in capsys.readouterr().err


@pytest.mark.parametrize(("rank", "begins"), [("0", "corrkit: There"), ("3", "corrkit: Rank 3: There")])
def test_errors_of_other_ranks_than_the_first_say_which(
    rank: str, begins: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "1", "RANK": rank, "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    command = [
        "pretrain",
        "siammae",
        "--data",
        str(tmp_path / "data"),
        "--out",
        str(tmp_path / "out"),
        "--device",
        "abacus",
    ]
    assert main(command) == 2
    assert capsys.readouterr().err.startswith(begins)


def test_the_start_is_summed_up(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (clips / "broken.mp4").write_bytes(b"no video")
    pretrain(siammae(), clips, tmp_path / "out", dataclasses.replace(OPTIONS, accumulate=2, steps=1))
    said = capsys.readouterr().err
    assert "4 clips of 20 frames, 1 left out" in said
    assert "4 items (2 x 2 x 1)" in said
    assert "peak learning rate 0.001" in said
    assert "without motion" not in said


def test_pictures_that_stand_for_clips_are_named(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2):
        Image.new("RGB", (40, 30), (90, 30 * number, 0)).save(clips / f"still{number}.png")
    pretrain(siammae(), clips, tmp_path / "out", dataclasses.replace(OPTIONS, steps=1))
    assert "(2 single pictures, which are repeated, without motion)" in capsys.readouterr().err
    pretrain(load_recipe("mae", scale="tiny"), clips, tmp_path / "mae", dataclasses.replace(OPTIONS, steps=1))
    assert "without motion" not in capsys.readouterr().err


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGTERM, 0), (signal.SIGUSR1, 1)])
def test_a_signal_saves_and_ends_with_0_and_the_run_goes_on(
    number: int, workers: int, clips: Path, tmp_path: Path
) -> None:
    """Sent to all processes of the job, as schedulers do: those that decode take no notice."""
    command = [sys.executable, "-m", "corrkit", "pretrain", "siammae", "--scale", "tiny", "--data", str(clips),
               "--steps", "100000", "--batch", "1", "--log-every", "1", "--save-every", "0", "--out",
               str(tmp_path / "out"), "--set", "views.size=32", "--set", "views.gap=[1,3]", "--device", "cpu",
               "--set", "masks.1.ratio=0.75", "--workers", str(workers)]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as run:
        for line in run.stderr:
            if line.startswith("step 3 "):
                break
        os.killpg(run.pid, number)
        rest = run.communicate(timeout=60)[1]
    assert run.returncode == 0, rest
    assert "told to stop: saved after step" in rest
    assert "killed" not in rest
    stored = checkpoint.read(tmp_path / "out" / "checkpoint.pth")["step"]
    assert losses(tmp_path / "out")[-1]
    assert read_log(tmp_path / "out" / "log.csv")[-1]["step"] == stored
