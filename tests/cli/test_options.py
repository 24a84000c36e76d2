"""The closed list of what the command line takes: a new option has to be added here, with a help text.

Options are forever: before one is added here, ask whether a constant (--set) or an existing option says it already.
"""

import argparse
import importlib
from pathlib import Path

import pytest

from corrkit.cli import COMMANDS

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


def parsers_of(parser: argparse.ArgumentParser, name: str) -> dict[str, argparse.ArgumentParser]:
    """A command's parser and those of its subcommands."""
    found = {name: parser}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice, below in action.choices.items():
                found |= parsers_of(below, f"{name} {choice}")
    return found


def taken_by(parser: argparse.ArgumentParser) -> list[str]:
    actions = [a for a in parser._actions if not isinstance(a, argparse._SubParsersAction) and a.dest != "help"]
    return [action.option_strings[-1] if action.option_strings else action.dest.upper() for action in actions]


@pytest.fixture(scope="module")
def parsers() -> dict[str, argparse.ArgumentParser]:
    found: dict[str, argparse.ArgumentParser] = {}
    for command in COMMANDS:
        parser = argparse.ArgumentParser(prog=command, allow_abbrev=False)
        importlib.import_module(f"corrkit.cli.{command}_command").add_arguments(parser)
        found |= parsers_of(parser, command)
    return found


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
