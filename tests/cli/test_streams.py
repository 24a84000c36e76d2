"""Streams that are full or closed, under every command of the command line: a sentence and exit 2, or nothing lost."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import davis_folder
import pytest
from clip_video import moving_square, square_mask, write_video
from command_line import command_parsers

from corrkit.cli import main
from corrkit.tasks.masks import write_mask

SMALL = "--set size=[32] --set multiple=8 --device cpu --workers 1"
COMMANDS = {
    "eval": f"davis --ckpt rgb --data DATA --out new/run {SMALL}",
    "sweep": f"davis --ckpt rgb --data DATA --topk 1,2 --out new/sweep --select-on val {SMALL}",
    "score": "davis --pred RUN/predictions --data DATA",
    "track": "VIDEO.mp4 --mask FIRST.png --ckpt rgb --out new/tracked.mp4 --device cpu --set size=64",
    "protocols": "show davis/dino",
    "published": "davis",
    "verify": "",
    "clips export": "new/clips --task davis",
    "data check": "davis --data DATA --dataset-name x",
    "data manifest": "DATA",
    "data get": "davis --print",
    "inspect": "demo",
    "systems": "",
    "convert": "demo new/demo.safetensors",
    "pretrain": (
        "siammae --scale tiny --data DATA/JPEGImages/480p --out new/p --steps 1 --batch 1 --workers 0 --device cpu"
    ),
    "leaderboard": "RUN",
    "compare": "RUN RUN",
    "report": "RUN --out new/report.html",
    "card": "RUN",
    "regress": "--ckpt identity --baseline new/baseline.json --update --device cpu",
    "docs": "",
    "doctor": "",
}
FAST = ("eval", "inspect", "docs")
ALONE = {"doctor"}
"""Commands whose threads a fork would lack: they run as processes."""
ODD = ({"1": "full"}, {"2": "full"}, {"1": "closed"}, {"0": "closed"}, {"2": "closed"}, {"0": "closed", "2": "closed"})
GROUPS = {"clips", "data"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("streams")
    davis_folder.make_clip(place / "DATA", "good", frames=3, size=(48, 64))
    write_video(place / "VIDEO.mp4", moving_square(3))
    write_mask(place / "FIRST.png", square_mask())
    run = f"eval davis --ckpt rgb --data {place}/DATA --out {place}/RUN --quiet {SMALL}"
    assert main(run.split()) == 0
    return place


def check(place: Path, commands: Iterable[str]) -> int:
    """How many commands with odd streams held."""
    driver = Path(__file__).parents[1] / "support/streams_driver.py"
    jobs = {command: command.split() + COMMANDS[command].split() for command in commands}
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, driver, place],
        input=json.dumps([[words, ODD] for words in jobs.values()]),
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for command, (as_it_is, *found) in zip(jobs, json.loads(done.stdout.splitlines()[-1]), strict=True):
        code, told, _ = as_it_is
        assert (code, bool(told)) == (0, True), (command, as_it_is)
        for odd, (other, printed, said) in zip(ODD, found, strict=True):
            if odd.get("1") == "full":
                assert other == 2, (command, said)
                assert "corrkit: stdout can't be written: No space left on device.\n" in said, command
                assert "Traceback" not in said
            else:
                assert (other, printed) == (0, "" if "1" in odd else told), (command, odd, said)
    return len(jobs) * len(ODD)


def test_every_command_has_a_case():
    assert {*COMMANDS} | GROUPS == {*command_parsers()}


def test_odd_streams_lose_nothing_or_are_a_sentence(place: Path):
    assert check(place, FAST) == 18


@pytest.mark.slow
def test_odd_streams_of_every_command_lose_nothing_or_are_a_sentence(place: Path):
    commands = [command for command in COMMANDS if command not in ALONE]
    assert check(place, commands) == 6 * (len(COMMANDS) - len(ALONE))


@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        ("systems nonesuch 2>/dev/full", 2, ""),
        ("nonesuch 2>/dev/full", 2, ""),
        ("--version 2>/dev/full", 0, "corrkit"),
        ("systems nonesuch 2> >(true)", 2, ""),
        ("data get davis --to new <&-", 2, ""),
        pytest.param("doctor 2>/dev/full", 0, "threads", marks=pytest.mark.slow),
        pytest.param("doctor >/dev/full", 2, "", marks=pytest.mark.slow),
        pytest.param("doctor >&-", 0, "", marks=pytest.mark.slow),
    ],
)
def test_odd_streams_of_a_process(command: str, code: int, told: str, tmp_path: Path):
    """As a shell gives them, with the end of Python itself."""
    words = ["bash", "-c", f"{sys.executable} -m corrkit {command}"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == code, done.stderr
    assert told in done.stdout
    assert "Traceback" not in done.stderr


def test_a_remark_is_there_before_the_next_step_and_survives_a_kill():
    code = (
        "import os; from corrkit.cli.talk import say, talk_costs_nothing; talk_costs_nothing(); say('a'); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE).stderr == b"a\n"
