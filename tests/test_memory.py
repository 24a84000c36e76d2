"""What can't fit into memory is refused in a sentence, before it is taken; what fits is never refused."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from clip_video import moving_square, square_mask, write_video

import corrkit
from corrkit import memory
from corrkit.cli import main
from corrkit.errors import DataError
from corrkit.protocols import load_protocol, override
from corrkit.tasks.masks import write_mask
from corrkit.tracking.tracker import propagator_of

SIZES = ["60000", "200000", str((1 << 31) - 1)]


def told(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("size", SIZES, ids=SIZES)
def test_a_giant_input_is_refused_before_it_is_made(size: str):
    made, protocol = propagator_of("rgb", "cpu"), override(load_protocol("davis/dino"), {"size": [int(size)]})
    with pytest.raises(DataError, match=r"of memory|no frame is that large"):
        made.input_of(type(made), (480, 854), protocol)


def test_every_command_that_matches_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    video = write_video(tmp_path / "clip.mp4", moving_square(3))
    write_mask(tmp_path / "first.png", square_mask())
    giant = ["--set", "size=[60000]", "--quiet", "--ckpt", "rgb"]
    for words in (
        ["eval", "davis", *giant, "--workers", "1", "--out", str(tmp_path / "run")],
        ["sweep", "davis", *giant, "--topk", "5,7", "--workers", "1", "--out", str(tmp_path / "sweep")],
        ["track", str(video), "--mask", str(tmp_path / "first.png"), *giant, "--out", str(tmp_path / "out.mp4")],
    ):
        assert main(words) == 2, words
        said = capsys.readouterr().err
        assert "takes at least" in said, said
        assert "GB are free here" in said
    with pytest.raises(DataError, match="takes at least"):
        corrkit.Tracker("rgb", size=[60000]).start(moving_square(1)[0], square_mask())
    with pytest.raises(DataError, match="takes at least"):
        next(iter(corrkit.features("rgb", moving_square(1), size=[60000])))


def test_the_least_is_no_more_than_what_is_taken(tmp_path: Path):
    """Resized and normalised colours of one frame: nothing that fits is refused."""
    made = propagator_of("rgb", "cpu")
    seen = made.input_of(type(made), (96, 128), override(load_protocol("davis/dino"), {"size": [480]}))
    prepare = seen.preparation()
    resized = prepare.resize(np.zeros((96, 128, 3), np.uint8))
    taken = resized.nbytes + prepare.normalise(resized).nbytes
    from corrkit.predictors.propagator import _BYTES_PER_PIXEL

    assert taken >= _BYTES_PER_PIXEL * seen.size[0] * seen.size[1]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 1,000 kB free, as the files of its kernel tell it."""
    told(tmp_path / "proc/meminfo", "MemTotal: 9000 kB\nMemAvailable: 1000 kB\nSwapFree: 24 kB\n")
    monkeypatch.setattr(memory, "_GROUP", tmp_path / "group")
    monkeypatch.setattr(memory, "Path", lambda path: tmp_path / path.lstrip("/"))
    return tmp_path


def test_what_is_free_counts_swap_and_the_limit_of_a_container(machine: Path):
    assert memory.available_memory() == 1024 * 1024
    told(machine / "group/memory.max", "max\n")
    told(machine / "group/memory.current", "5000\n")
    assert memory.available_memory() == 1024 * 1024
    told(machine / "group/memory.max", "9000\n")
    told(machine / "group/memory.stat", "anon 4000\nfile 500\n")
    assert memory.available_memory() == 9000 - 5000 + 500 + 24 * 1024
    with pytest.raises(DataError, match=r"The clip takes at least 0\.1 GB of memory; 0\.0 GB are free here\."):
        memory.require_memory(100_000_000, "The clip", "Make it smaller.")
    memory.require_memory(20_000, "The clip", "")


def test_where_nothing_tells_nothing_is_refused(machine: Path):
    (machine / "proc/meminfo").unlink()
    assert memory.available_memory() is None
    memory.require_memory(1 << 80, "The clip", "")


def test_more_than_there_is_becomes_an_error_of_the_process(monkeypatch: pytest.MonkeyPatch):
    before = resource.getrlimit(resource.RLIMIT_DATA)
    asked = []
    monkeypatch.setattr(memory, "_CUDA", Path("/nowhere"))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: asked.append((kind, limits)))
    memory.refuse_what_is_not_there()
    ((kind, (soft, hard)),) = asked
    free = memory.available_memory() or 0
    assert (kind, hard) == (resource.RLIMIT_DATA, before[1])
    assert soft > free
    monkeypatch.setattr(memory, "_CUDA", Path("/"))
    memory.refuse_what_is_not_there()
    assert len(asked) == 1


def test_a_file_larger_than_memory_is_still_mapped(tmp_path: Path):
    """3 GiB of nothing, in a process that believes 200 MiB to be free."""
    file, nbytes = tmp_path / "large.safetensors", 3 << 30
    header = json.dumps({"x": {"dtype": "F32", "shape": [nbytes // 4], "data_offsets": [0, nbytes]}}).encode()
    with file.open("wb") as written:
        written.write(len(header).to_bytes(8, "little") + header)
        written.truncate(8 + len(header) + nbytes)
    program = (
        "import sys, corrkit.cli, corrkit.memory as memory\n"
        "memory.available_memory = lambda: 200 << 20\n"
        f"sys.argv = ['corrkit', 'inspect', {str(file)!r}]\n"
        "sys.exit(corrkit.cli.main())"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "its 1 tensors start with x" in ended.stderr, ended.stderr


def test_only_the_program_itself_is_limited(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    limited = []
    monkeypatch.setattr("corrkit.cli.refuse_what_is_not_there", lambda: limited.append(True))
    assert main(["--version"]) == 0
    assert limited == []
    monkeypatch.setattr("sys.argv", ["corrkit", "--version"])
    assert main() == 0
    assert limited == [True]
    capsys.readouterr()


def test_a_context_that_does_not_fit_is_a_sentence(monkeypatch: pytest.MonkeyPatch):
    """A frame of 10 x 12 cells with 28 channels takes 13 kB, seven of them 94 kB."""
    small = {"size": [80], "multiple": 8, "clips": ["embedded-0"]}
    free = 80 * 142 * 15
    monkeypatch.setattr(memory, "available_memory", lambda: free)
    assert not corrkit.evaluate("davis", "rgb", **small).failures
    error = corrkit.evaluate("davis", "rgb", finer=4, **small).failures["embedded-0"]
    assert "The context of" in str(error)
    assert "GB are free here" in str(error)


MEASURE = """
import resource, sys, torch, corrkit, corrkit.evaluation, corrkit.propagation, pandas, scipy.ndimage, cv2
torch.set_num_threads(1)
backbone = corrkit.load_backbone(sys.argv[1])
before = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
corrkit.evaluate("davis", backbone, clips=["embedded-0"], size=[int(sys.argv[2])])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "cell", "channels"), [("rgb", 8, 28), ("random:vit_small_patch16_224", 16, 384)])
@pytest.mark.parametrize("side", [240, 480])
def test_a_clip_takes_what_the_formula_says(spec: str, cell: int, channels: int, side: int):
    """An embedded clip of 8 frames of 240x426: 8 are the context of the last one."""
    told = subprocess.run([sys.executable, "-c", MEASURE, spec, str(side)], capture_output=True, text=True, check=True)
    rows, columns = side // cell, side * 426 // 240 // cell
    said = memory.memory_of_a_clip(cells=rows * columns, channels=channels, context=8, pixels=rows * columns * cell**2)
    assert 0.7 < said / int(told.stdout) < 1.5


def test_the_formula_is_the_sum_of_its_parts():
    """100 cells of 10 channels: 4,000 bytes a frame, 8 of the context, 4 ahead, 20 in a pass; 90 a pixel; 54 MiB."""
    said = memory.memory_of_a_clip(cells=100, channels=10, context=8, pixels=1000)
    assert said == 4000 * (8 + 4 + 20) + 90 * 1000 + (54 << 20)
