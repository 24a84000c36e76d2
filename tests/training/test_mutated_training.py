"""A training's folder with one file changed: going on ends with a sentence on it, or with the same checkpoint."""

import random
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from mutated_files import mutate_one

from corrkit.errors import CheckpointError, CorrkitError, RunError
from corrkit.training.loop import pretrain
from tests.training.test_loop import OPTIONS, KilledError, siammae, stopped_before


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.mark.parametrize("name", ["log.csv", "speed.csv"])
@pytest.mark.parametrize("column", ["step,", "step,loss,los"])
def test_columns_of_another_log_are_named(name: str, column: str, clips: Path, tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        stopped_before(5, siammae(), clips, tmp_path / "out", OPTIONS)
    path = tmp_path / "out" / name
    _, *rows = path.read_text().splitlines()
    path.write_text(f"{column}x\n" + "".join(f"{row.split(',')[0]}{',1' * column.count(',')}\n" for row in rows))
    with pytest.raises(RunError, match=rf"{name} is damaged .its columns are step"):
        pretrain(siammae(), clips, tmp_path / "out", OPTIONS)


def test_a_changed_bit_of_a_checkpoint_is_named(clips: Path, tmp_path: Path) -> None:
    """torch.load reads other weights in silence."""
    with pytest.raises(KilledError):
        stopped_before(5, siammae(), clips, tmp_path / "out", OPTIONS)
    path = tmp_path / "out/checkpoint.pth"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert torch.load(path, weights_only=True)["step"] == 3
    with pytest.raises(CheckpointError, match=r"checkpoint\.pth can't be read .*another checksum"):
        pretrain(siammae(), clips, tmp_path / "out", OPTIONS)


def check(clips: Path, place: Path, number: int, seed: int) -> Counter[str]:
    rng, outcomes, wrong = random.Random(seed), Counter[str](), []
    pretrain(siammae(), clips, place / "whole", OPTIONS)
    with pytest.raises(KilledError):
        stopped_before(OPTIONS.steps - 1, siammae(), clips, place / "cut", OPTIONS)
    expected = (place / "whole/checkpoint.pth").read_bytes()
    for index in range(number):
        out = place / "now"
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(place / "cut", out)
        kind, path = mutate_one(out, rng)
        what = f"seed {seed}, number {index}: {kind} of {path.name}"
        try:
            pretrain(siammae(), clips, out, OPTIONS)
        except CorrkitError as error:
            outcomes["refused"] += 1
            if path.name not in str(error):
                wrong.append(f"{what}: {error}")
        except Exception as error:
            wrong.append(f"{what}: {error!r}")
        else:
            outcomes["went on"] += 1
            if (out / "checkpoint.pth").read_bytes() != expected:
                wrong.append(f"{what}: another checkpoint")
    print(f"{number} changed files: {dict(outcomes)}")
    assert wrong == [], "\n".join(wrong)
    return outcomes


def test_a_changed_file_of_a_training_is_named_or_does_no_harm(clips: Path, tmp_path: Path) -> None:
    assert check(clips, tmp_path, 12, seed=0).keys() == {"refused", "went on"}


@pytest.mark.slow
def test_many_changed_files_of_a_training_are_named_or_do_no_harm(clips: Path, tmp_path: Path) -> None:
    check(clips, tmp_path, 1000, seed=1)
