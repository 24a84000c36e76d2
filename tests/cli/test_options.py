"""The closed list of what the command line takes: a new option has to be added here, with a help text.

Options are forever: before one is added here, ask whether a constant (--set) or an existing option says it already.
"""

import argparse
from pathlib import Path

import pytest
from command_line import KINDS, OF_COMMANDS, command_parsers, every_option, taken_by

DATA = "--data --split --clips --dataset-name --protocol --set"
TRAINING = (
    "--data --out --show --scale --set --init --heads --batch --accumulate --steps --seed --workers --precision --ema "
    "--parallel --device --keep --resume-with --damaged --log --log-every --picture-every --save-every --eval-every "
    "--eval-tasks --embedded-clips"
)
TAKEN = {
    "eval": (
        f"TASK --ckpt {DATA} --resolution --heads --layer --layers --window --ckpt-key --name --seed-of --system "
        "--layout --device --precision --workers --shard --out --save-predictions --no-keep --submission "
        "--reference-rows --against --fail-below --json --format --columns --wide --quiet"
    ),
    "sweep": (
        "TASK --ckpt --temperature --topk --context --radius --resolution --layers --preset --data --select-on "
        "--report-on --clips --dataset-name --protocol --set --heads --ckpt-key --system --layout --device --workers "
        "--out --json --format --quiet"
    ),
    "score": (
        f"TASK --pred --grid {DATA} --allow-partial --allow-ground-truth --csv-dir --json --format --columns --wide"
    ),
    "track": (
        "VIDEO --mask --points --boxes --ckpt --out --protocol --set --heads --layer --ckpt-key --system --layout "
        "--device --quiet"
    ),
    "protocols": "WHAT --explain --json --bibtex",
    "published": "TASK --protocol --method --json --csv",
    "verify": "ROW --ckpt --fetch --yes --task --data --device --by --out --json --quiet",
    "clips": "",
    "clips export": "FOLDER --task",
    "data": "",
    "data check": "TASK --data --split --manifest --dataset-name --json",
    "data manifest": "DATA --task --split --out",
    "data get": "TASK --to --split --print --yes --sources",
    "inspect": "FILE --heads --layer --ckpt-key --system --layout --suggest --json",
    "systems": "WORD --json",
    "convert": "FILE OUT --heads --ckpt-key --system --layout",
    "pretrain": f"RECIPE {TRAINING}",
    "leaderboard": "RUNS --out --reference --published --format --columns --wide --timing",
    "compare": "REFERENCE RUNS --fail-below --json --format",
    "report": "RUNS --out --figures --data --no-features --trust --quiet",
    "card": "RUNS --out --model --benchmark --by",
    "regress": (
        "--ckpt --baseline --update --junit --heads --layer --window --ckpt-key --system --layout --device --quiet"
    ),
    "docs": "PAGE",
    "doctor": "--json",
}


@pytest.fixture(scope="module")
def parsers() -> dict[str, argparse.ArgumentParser]:
    return command_parsers()


def test_the_list_has_every_command(parsers):
    assert sorted(parsers) == sorted(TAKEN)


@pytest.mark.parametrize("command", TAKEN)
def test_a_command_takes_what_the_list_says(parsers, command: str):
    assert sorted(taken_by(parsers[command])) == sorted(TAKEN[command].split())


def test_an_option_of_one_name_reads_alike_in_all_commands(parsers):
    """--heads of eval and of convert: the same type and the same number of values."""
    kinds: dict[str, set[tuple[object, ...]]] = {}
    for command, parser in parsers.items():
        for action in parser._actions:
            several = (command, action.dest) == ("eval", "ckpt")  # in one pass
            if command != "pretrain" and action.option_strings and action.dest != "help" and not several:
                text = action.type in (None, str, Path)
                kinds.setdefault(action.option_strings[-1], set()).add((text or action.type, action.nargs))
    differing = {name: kinds[name] for name in kinds if len(kinds[name]) > 1}
    assert differing == {}


def test_of_every_option_it_is_said_whether_it_names_a_file():
    """The border tests take from there what they read and where they write: `tests/support/command_line.py`."""
    assert [pair for pair, kind in every_option().items() if not kind] == []
    assert sorted({option for _, option in every_option()} ^ {*KINDS}) == []
    assert {*OF_COMMANDS} <= {*every_option()}
