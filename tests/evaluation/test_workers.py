"""Several processes on one run: workers, shards, torchrun's ranks. Whoever evaluates, the files are the same."""

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from davis_folder import make_clip
from hypothesis import given
from hypothesis import strategies as st
from run_files import run_files
from scripted import Scripted

import corrkit
from corrkit.cli import main
from corrkit.errors import CheckpointError, DataError, RunError, UsageError
from corrkit.evaluation import Result, evaluate_together
from corrkit.manifests.clips import official_clips
from corrkit.predictors.loading import Request
from corrkit.processes.ranks import evaluated_by_all
from corrkit.processes.remaining import Standing, Watch
from corrkit.processes.shares import Share
from corrkit.processes.workers import Staff, Work, _seconds_of_a_frame, suitable_workers
from corrkit.protocols import load_protocol, override
from corrkit.subject import open_subject
from corrkit.tasks import load_task

SMALL = {"size": [64], "multiple": 16}
MODEL = """
import multiprocessing, os, signal, sys
import torch, corrkit

class Network(torch.nn.Module):
    def forward(self, pixels):
        {act}
        return torch.nn.functional.avg_pool2d(pixels, 8)

def model():
    return corrkit.wrap(Network(), stride=8)
"""
IN_A_WORKER = "if multiprocessing.parent_process() is not None and pixels.shape[-1] > 100: "


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "DAVIS"
    for name, frames in (("a", 3), ("b", 6), ("c", 5)):
        make_clip(root, name, frames=frames, size=(48, 64))
    make_clip(root, "wide", frames=4, size=(48, 128))
    return root


def model(tmp_path: Path, act: str = "pass") -> str:
    file = tmp_path / "own.py"
    file.write_text(MODEL.format(act=act), encoding="utf-8")
    return f"py:{file}:model"


def test_two_workers_write_the_files_of_one_process(data: Path, tmp_path: Path):
    frames: dict[str, int] = {}
    options = {"data": data, "save_predictions": True, **SMALL}
    alone = corrkit.evaluate("davis", model(tmp_path), out=tmp_path / "one", **options)
    together = corrkit.evaluate(
        "davis",
        model(tmp_path),
        out=tmp_path / "two",
        workers=2,
        progress=lambda clip, done, total: frames.update({clip: done}),
        **options,
    )
    assert together.summary == alone.summary
    assert run_files(tmp_path / "two") == run_files(tmp_path / "one")
    assert frames == {"a": 3, "b": 6, "c": 5, "wide": 4}
    assert not list((tmp_path / "two" / "predictions").glob(".*"))


def test_a_killed_worker_costs_its_clip(data: Path, tmp_path: Path):
    spec = model(tmp_path, IN_A_WORKER + "os.kill(os.getpid(), signal.SIGKILL)")
    result = corrkit.evaluate("davis", spec, data=data, out=tmp_path / "run", workers=2, **SMALL)
    assert list(result.failures) == ["wide"]
    assert "was killed by SIGKILL" in str(result.failures["wide"])
    assert result.summary["partial"] == ["wide"]
    assert sorted(path.stem for path in (tmp_path / "run" / "clips").iterdir()) == ["a", "b", "c"]
    again = corrkit.evaluate("davis", spec, data=data, out=tmp_path / "run", **SMALL)
    assert again.summary == corrkit.evaluate("davis", spec, data=data, **SMALL).summary


def test_an_odd_clip_fails_in_a_worker_as_it_does_here(data: Path, tmp_path: Path):
    (data / "JPEGImages" / "480p" / "b" / "00002.jpg").write_bytes(b"no picture")
    here, there = (
        corrkit.evaluate("davis", model(tmp_path), data=data, workers=workers, **SMALL) for workers in (1, 2)
    )
    assert there.summary == here.summary
    assert {name: str(error) for name, error in there.failures.items()} == {
        name: str(error) for name, error in here.failures.items()
    }
    assert isinstance(there.failures["b"], DataError)


def test_a_fault_in_a_worker_ends_the_evaluation_with_its_traceback(data: Path, tmp_path: Path):
    spec = model(tmp_path, IN_A_WORKER + "import corrkit.passes; corrkit.passes.ClipRecord = None")
    with pytest.raises(TypeError, match="not callable") as caught:
        corrkit.evaluate("davis", spec, data=data, workers=2, **SMALL)
    assert "passes.py" in "".join(caught.value.__notes__)


def test_a_checkpoint_that_changes_meanwhile_is_refused(tmp_path: Path):
    work = Work(
        request=Request(spec=model(tmp_path)),
        lanes=(("own.py-model", "another", load_protocol("dino", "davis")),),
        task=load_task("davis"),
    )
    with pytest.raises(CheckpointError, match="has changed while"):
        work.make()


@pytest.mark.slow
def test_an_interrupt_of_all_processes_ends_them_quietly_while_workers_start(data: Path, tmp_path: Path):
    words = ("eval", "davis", "--ckpt", "rgb", "--data", str(data), "--set", "size=64", "--workers", "2", "--out")
    process = subprocess.Popen(
        [sys.executable, "-m", "corrkit", *words, str(tmp_path / "run"), "-q"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    try:
        while not any("spawn_main" in line for line in group(process.pid)):
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(0.3)  # it imports, and is not ours yet
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=60)[1]
        assert process.returncode == 130
        assert said.splitlines()[-1] == "corrkit: interrupted."
        assert "Traceback" not in said
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def group(leader: int) -> list[str]:
    """Command lines of the processes of a group."""
    listed = subprocess.run(["ps", "-eo", "pgid=,args="], capture_output=True, text=True, check=True).stdout
    found = (line.split(maxsplit=1) for line in listed.splitlines())
    return [words[1] for words in found if len(words) == 2 and words[0] == str(leader)]


@pytest.mark.parametrize(
    ("options", "words"), [({"workers": 0}, "0 workers"), ({"workers": 2, "model": object}, "live model")]
)
def test_workers_that_cannot_be_are_refused(data: Path, options: dict[str, object], words: str):
    chosen = {**options}
    if chosen.pop("model", None) is not None:
        import torch

        network = corrkit.wrap(torch.nn.AvgPool2d(8), stride=8)
    else:
        network = "rgb"
    with pytest.raises(UsageError, match=words):
        corrkit.evaluate("davis", network, data=data, **chosen)


def test_errors_and_protocols_travel_between_processes():
    error = pickle.loads(pickle.dumps(DataError("a.png is no picture.", "Copy it again.")))
    assert (type(error), error.problem, error.remedy) == (DataError, "a.png is no picture.", "Copy it again.")
    protocol = override(load_protocol("dino", "davis"), {"radius": 3})
    copy = pickle.loads(pickle.dumps(protocol))
    assert copy == protocol
    assert copy.published == protocol.published
    with pytest.raises(TypeError):
        copy.overrides["radius"] = 4


@pytest.mark.parametrize(
    ("parameters", "stride", "frames", "workers"),
    [
        (0, 8, 600, 1),  # 18 s of work beside no network
        (0, 8, 2000, 2),
        (22_000_000, 16, 60, 1),  # a ViT-S/16: some 0.7 s a frame
        (22_000_000, 16, 100, 2),
        (22_000_000, 8, 100, 8),  # four times the cells
        (300_000_000, 16, 2000, 8),
        (300_000_000, 16, 0, 1),
    ],
)
def test_workers_are_started_where_they_pay(
    parameters: int, stride: int, frames: int, workers: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("corrkit.processes.workers.processors", lambda: 8)
    monkeypatch.setattr("corrkit.processes.workers._fit_into_memory", lambda: 8)
    predictor = Scripted("network")
    predictor.report, predictor.stride = replace(predictor.report, parameters=parameters), stride
    assert suitable_workers(frames * _seconds_of_a_frame(predictor), "cpu") == workers
    monkeypatch.setattr("corrkit.processes.workers._fit_into_memory", lambda: 1)
    assert suitable_workers(frames * _seconds_of_a_frame(predictor), "cpu") == 1


class Frames:
    """As much of a clip as shares look at."""

    def __init__(self, name: str, num_files: int) -> None:
        self.name, self.num_files = name, num_files


@given(st.lists(st.integers(1, 200), max_size=40), st.integers(1, 9))
def test_every_clip_is_in_one_share(lengths: list[int], count: int):
    clips = [Frames(str(number), length) for number, length in enumerate(lengths)]
    shares = [Share(index, count).of(clips) for index in range(count)]
    names = [clip.name for share in shares for clip in share]
    assert sorted(names) == sorted(clip.name for clip in clips)
    for share in shares:
        places = [int(clip.name) for clip in share]
        assert places == sorted(places)


def test_eight_ranks_are_balanced_on_the_clips_of_davis():
    clips = [Frames(clip.clip, clip.num_frames or 0) for clip in official_clips("davis", "val")]
    loads = [sum(clip.num_files for clip in Share(rank, 8).of(clips)) for rank in range(8)]
    assert len(clips) == 30
    assert max(loads) <= 1.25 * sum(loads) / 8


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2"])
def test_a_share_that_cannot_be_is_refused(text: str):
    with pytest.raises(UsageError, match="is no share of the clips"):
        Share.read(text)


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (["--shard", "3/2"], "'3/2' is no share of the clips"),
        (["--shard", "1/2", "--reference-rows"], "Leave --reference-rows out"),
        (["--workers", "0"], "0 workers"),
    ],
)
def test_processes_that_cannot_be_are_refused_before_a_checkpoint_is_opened(
    capsys: pytest.CaptureFixture[str], words: list[str], refused: str
):
    assert main(["eval", "davis", "--ckpt", "nowhere.pth", *words]) == 2
    said = capsys.readouterr().err
    assert refused in said
    assert "nowhere.pth" not in said


def test_what_other_ranks_have_done_meanwhile_is_no_resumption(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Rank 1 works while rank 0 waits at the second of its meetings."""
    subject = open_subject("davis", data=data)
    meetings: list[str] = []
    told: list[Standing] = []

    def evaluated(shares: Iterable[Share], watch: Watch | None = None) -> Result:
        lanes = [(Scripted("truth"), subject.protocol)]
        (result,) = evaluate_together(subject, lanes, outs=[tmp_path / "run"], watch=watch, staff=Staff(shares=shares))
        return result

    def meet() -> None:
        meetings.append("all")
        if len(meetings) == 2:
            assert evaluated([Share(1, 2)]).waiting == ()

    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.barrier", meet)
    first = evaluated_by_all(0, 2, lambda shares: evaluated(shares, told.append))
    assert len(meetings) == 3
    assert list(first.summary["per_clip"]) == ["a", "b", "c", "wide"]
    assert not any("is resumed" in note for note in first.notes)
    assert [one.taken_over for one in told] == [0] * len(told)
    again = evaluated_by_all(0, 2, lambda shares: evaluated(shares, told.append))
    assert any("is resumed: 4 clip(s)" in note for note in again.notes)
    assert told[-1].taken_over == 4
    assert again.summary == first.summary


@pytest.mark.parametrize("meetings", [0, 1, 2])
def test_the_loss_of_another_rank_is_no_fault_of_this_one(meetings: int, monkeypatch: pytest.MonkeyPatch):
    """Gloo raises a RuntimeError for a connection that was closed, in whatever meeting that shows."""
    met: list[str] = []

    def meet() -> None:
        if len(met) == meetings:
            raise RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer [127.0.0.1]:8613.")
        met.append("all")

    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.barrier", meet)
    with pytest.raises(RunError, match=r"Another rank ended .*\n.*repeat the command"):
        evaluated_by_all(0, 2, lambda shares: list(shares))


def command(*words: str, module: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *module, "-m", "corrkit", "eval", "davis", *words, "-q", "--set", "size=64"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        check=False,
    )


def test_the_last_shard_prints_the_table(data: Path, tmp_path: Path):
    words = ("--ckpt", "rgb", "--data", str(data), "--json", "--out")
    one, first, last = (
        command(*words, str(tmp_path / out), *shard)
        for out, shard in (("one", ()), ("run", ("--shard", "2/2")), ("run", ("--shard", "1/2")))
    )
    assert (one.returncode, first.returncode, last.returncode) == (0, 0, 0)
    assert first.stdout == ""
    assert "2 clip(s)" in first.stderr
    assert last.stdout == one.stdout
    assert run_files(tmp_path / "run") == run_files(tmp_path / "one")


def test_ranks_of_torchrun_write_the_files_of_one_process(data: Path, tmp_path: Path):
    words = ("--ckpt", "rgb", "--data", str(data), "--json", "--out")
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    one = command(*words, str(tmp_path / "one"))
    both = command(*words, str(tmp_path / "both"), module=torchrun)
    assert both.returncode == 0, both.stderr
    assert both.stdout == one.stdout
    assert "is resumed" not in both.stderr
    recorded = json.loads((tmp_path / "both/run.json").read_text())["recorded"]
    assert recorded["command"].startswith("corrkit eval davis --ckpt rgb")
    assert run_files(tmp_path / "both") == run_files(tmp_path / "one")
