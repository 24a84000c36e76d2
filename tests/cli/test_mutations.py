"""Mutated pictures, joints, lists, archives and predictions: a command ends with 0, 1 or 2, and within seconds."""

import random
import shutil
import time
from collections import Counter
from pathlib import Path

import davis_folder
import jhmdb_folder
import pytest
import vip_folder
from small_copies import pack
from small_evaluation import evaluation_words

from corrkit.cli import main

TASKS = ("davis", "jhmdb", "vip")
SIDE = 32
LISTS = [
    b"",
    b"\xff\xfe\x00",
    b"../../etc/passwd\n",
    b"a" * 70_000,
    b"good\x00bad\n",
    b"good\n" * 5_000,
    b"good 1 2 3\n#x\n",
]
SECONDS = 20


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DATA/TASK with two clips each, and PREDICTIONS/TASK for them."""
    place = tmp_path_factory.mktemp("sound")
    for clip in ("good", "bad"):
        davis_folder.make_clip(place / "data/davis", clip, 3, (48, 64))
        vip_folder.make_clip(place / "data/vip", clip, frames=3, size=(48, 64))
        jhmdb_folder.make_clip(place / "data/jhmdb", f"{clip}_jump_0", frames=3)
    for task in TASKS:
        assert main(evaluation_words(task, "identity", place / "data" / task, place / "run" / task, SIDE)) == 0
        shutil.copytree(place / "run" / task / "predictions", place / "predictions" / task)
    return place


def mutated(content: bytes, rng: random.Random) -> bytes:
    data = bytearray(content or b"\0")
    place, other = rng.randrange(len(data)), rng.randrange(len(data))
    match rng.randrange(6):
        case 0:
            del data[place:]
        case 1:
            for _ in range(rng.choice([1, 3, 20])):
                data[rng.randrange(len(data))] = rng.randrange(256)
        case 2:
            place = rng.randrange(min(len(data), 200))
            data[place : place + 4] = rng.choice(
                [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"]
            )
        case 3:
            data[place:place] = rng.randbytes(rng.randrange(1, 300))
        case 4:
            del data[place : place + rng.randrange(1, 60)]
        case _:
            data[place : place + 30] = data[other : other + 30]
    return bytes(data)


def mutate_one(root: Path, rng: random.Random) -> Path:
    path = rng.choice(sorted(path for path in root.rglob("*") if path.is_file()))
    is_list = path.suffix == ".txt" and rng.random() < 0.5
    path.write_bytes(rng.choice(LISTS) if is_list else mutated(path.read_bytes(), rng))
    return path


def check(sound: Path, work: Path, num_inputs: int, seed: int) -> None:
    rng = random.Random(seed)
    codes: Counter[int] = Counter()
    for number in range(num_inputs):
        task, place = rng.choice(TASKS), work / "now"
        shutil.rmtree(place, ignore_errors=True)
        data = shutil.copytree(sound / "data" / task, place / "data")
        predictions = shutil.copytree(sound / "predictions" / task, place / "predictions")
        is_prediction = rng.random() < 1 / 3
        root = predictions if is_prediction else data
        suffix = rng.choice(["", "", ".zip", ".tar"])
        if suffix:
            changed = pack(root, place / f"packed{suffix}")
            changed.write_bytes(mutated(changed.read_bytes(), rng))
        else:
            mutate_one(root, rng)
            changed = root
        if is_prediction:
            words = [
                "score",
                task,
                "--pred",
                str(changed),
                "--data",
                str(data),
                "--allow-partial",
                "--allow-ground-truth",
            ]
        elif rng.random() < 0.5:
            words = ["data", "check", task, "--data", str(changed), "--dataset-name", "x"]
        else:
            words = evaluation_words(task, "rgb", changed, place / "run", SIDE)
        started = time.perf_counter()
        code = main(words)
        assert code in {0, 1, 2}, (seed, number, words)
        assert time.perf_counter() - started < SECONDS, (seed, number, words)
        codes[code] += 1
    assert codes[2] > num_inputs / 10
    assert codes[0] > num_inputs / 20


def test_mutated_data_and_predictions_end_with_0_1_or_2(sound: Path, tmp_path: Path):
    check(sound, tmp_path, 60, seed=0)


@pytest.mark.slow
def test_many_mutated_data_and_predictions_end_with_0_1_or_2(sound: Path, tmp_path: Path):
    check(sound, tmp_path, 1_000, seed=1)
