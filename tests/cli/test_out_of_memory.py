"""Commands with little memory left, under a limit of the system: they do their work, or exit 2 and a sentence."""

import os
import resource
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from clip_video import moving_square, write_video
from davis_folder import make_clips

from corrkit.cli import main
from corrkit.errors import is_out_of_memory
from corrkit.tasks.masks import write_mask

SAID = {
    "torch": RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: 9 bytes"),
    "oneDNN": RuntimeError("could not create a primitive"),
    "a map": RuntimeError("unable to mmap 9 bytes from file <a>: Cannot allocate memory (12)"),
    "a thread": RuntimeError("can't start new thread"),
    "a library": ImportError("a.so: failed to map segment from shared object"),
    "the system": OSError(12, "Cannot allocate memory"),
    "Python": MemoryError(),
}


@pytest.mark.parametrize("error", SAID.values(), ids=SAID)
def test_every_way_to_say_it_is_known(error: Exception):
    assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("memory")
    make_clips(folder / "DAVIS")
    network = timm.create_model("vit_tiny_patch16_224", num_classes=0)
    torch.save(network.state_dict(), folder / "net.pth")
    write_video(folder / "video.mp4", moving_square())
    mask = np.zeros((48, 64), np.uint8)
    mask[16:32, 4:20] = 1
    write_mask(folder / "mask.png", mask)
    evaluation = ["eval", "davis", "--ckpt", "rgb", "-q", "--workers", "1", "--out", str(folder / "scored")]
    assert main([*evaluation, *on(folder)]) == 0
    return folder


def on(given: Path) -> list[str]:
    return ["--data", str(given / "DAVIS"), "--set", "size=[48]"]


COMMANDS: dict[str, Callable[[Path, Path], list[str]]] = {
    "inspect": lambda given, out: ["inspect", str(given / "net.pth")],
    "convert": lambda given, out: ["convert", str(given / "net.pth"), str(out / "net.safetensors")],
    "eval": lambda given, out: [
        *("eval", "davis", "--ckpt", str(given / "net.pth"), *on(given), "--workers", "1", "--out", str(out / "run")),
    ],
    "sweep": lambda given, out: [
        *("sweep", "davis", "--ckpt", "hog", "--topk", "3,5", *on(given), "--out", str(out / "sweep")),
    ],
    "track": lambda given, out: [
        *("track", str(given / "video.mp4"), "--mask", str(given / "mask.png"), "--ckpt", "hog"),
        *("--out", str(out / "tracked.mp4")),
    ],
    "score": lambda given, out: ["score", "davis", "--pred", str(given / "scored" / "predictions"), *on(given)],
    "pretrain": lambda given, out: [
        *("pretrain", "siammae", "--scale", "tiny", "--data", "embedded", "--embedded-clips", "2", "--workers", "0"),
        *("--batch", "2", "--steps", "2", "--device", "cpu", "--out", str(out / "trained")),
    ],
}


def with_little_memory(command: Sequence[str], mebibytes: int) -> tuple[int, str]:
    """Exit code and stderr of a command in a child that has so much more address space than this process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(writing, 2)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        signal.alarm(60)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (mebibytes << 20),) * 2)
        code = 1
        try:
            code = main(list(command))
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, errors="replace") as said:
        text = said.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text


def codes(name: str, limits: Sequence[int], given: Path, out: Path) -> Counter[int]:
    found: Counter[int] = Counter()
    for limit in limits:
        (out / str(limit)).mkdir()
        code, text = with_little_memory(COMMANDS[name](given, out / str(limit)), limit)
        assert code in {0, 2}, f"{limit} MiB: {text}"
        assert "Traceback" not in text
        found[code] += 1
    return found


@pytest.mark.parametrize("name", ["inspect", "convert", "eval"])
def test_a_command_that_gets_no_memory_says_so(name: str, given: Path, tmp_path: Path):
    assert codes(name, [4], given, tmp_path) == {2: 1}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_commands_with_any_memory_end_well_or_with_a_sentence(name: str, given: Path, tmp_path: Path):
    found = codes(name, [2, 4, 8, 12, 16, 24, 40, 60, 100, 150, 1 << 20], given, tmp_path)
    assert found[0]


def test_clips_that_were_finished_stay(given: Path, tmp_path: Path):
    command = COMMANDS["eval"](given, tmp_path)
    assert main([*command, "-q"]) == 0
    clips = tmp_path / "run" / "clips"
    (clips / "c.json").unlink()
    kept = {path: path.read_bytes() for path in clips.iterdir()}
    code, _ = with_little_memory(command, 4)
    assert code == 2
    assert {path: path.read_bytes() for path in clips.iterdir()} == kept
    assert main([*command, "-q"]) == 0
    assert len([*clips.iterdir()]) == 3
