"""The command line as its own parsers describe it, and what each option names: what is read, or where to write."""

import argparse
import importlib
from types import MappingProxyType

from corrkit.cli import COMMANDS

WRITTEN = "a place that is written to"
NO_FILE = "no file"
_PLACES = "--out OUT FOLDER --submission --csv-dir --suggest --junit --figures --fetch --to"
_OTHERS = """
    TASK --clips --dataset-name --set --resolution --heads --layer --layers --window --ckpt-key --name --seed-of
    --system --device --precision --workers --shard --save-predictions --no-keep --reference-rows --fail-below --json
    --format --columns --wide --quiet --temperature --topk --context --radius --preset --grid --allow-partial
    --allow-ground-truth --boxes --explain --bibtex --method --csv ROW --yes --task --by --print WORD --show --scale
    --batch --accumulate --steps --seed --ema --parallel --keep --resume-with --damaged --log --log-every
    --picture-every --save-every --eval-every --eval-tasks --embedded-clips --published --timing --no-features --trust
    --model --benchmark --update PAGE
"""
KINDS = MappingProxyType(
    {
        "--ckpt": "checkpoint",
        "FILE": "checkpoint",
        "--init": "checkpoint",
        "--data": "data",
        "DATA": "data",
        "--pred": "prediction",
        "--split": "list",
        "--select-on": "list",
        "--report-on": "list",
        "--protocol": "protocol",
        "WHAT": "protocol",
        "--layout": "layout",
        "--mask": "mask",
        "--points": "points",
        "VIDEO": "video",
        "--manifest": "manifest",
        "--sources": "sources",
        "RECIPE": "recipe",
        "--baseline": "baseline",
        "RUNS": "run",
        "REFERENCE": "run",
        "--reference": "run",
        "--against": "run",
        **dict.fromkeys(_PLACES.split(), WRITTEN),
        **dict.fromkeys(_OTHERS.split(), NO_FILE),
    }
)
"""What an option, or an argument in capitals, names in every command that has it."""
OF_COMMANDS = MappingProxyType(
    {
        ("published", "--protocol"): NO_FILE,
        ("data check", "--split"): NO_FILE,
        ("data manifest", "--split"): NO_FILE,
        ("data get", "--split"): NO_FILE,
    }
)
"""Where one command means something else by it."""


def command_parsers() -> dict[str, argparse.ArgumentParser]:
    """Each command and subcommand with its parser."""
    found: dict[str, argparse.ArgumentParser] = {}
    for command in COMMANDS:
        parser = argparse.ArgumentParser(prog=command, allow_abbrev=False)
        importlib.import_module(f"corrkit.cli.{command}_command").add_arguments(parser)
        found |= _parsers_of(parser, command)
    return found


def taken_by(parser: argparse.ArgumentParser) -> list[str]:
    """Its options, and its arguments in capitals."""
    actions = [a for a in parser._actions if not isinstance(a, argparse._SubParsersAction) and a.dest != "help"]
    return [action.option_strings[-1] if action.option_strings else action.dest.upper() for action in actions]


def every_option() -> dict[tuple[str, str], str]:
    """(command, option) to what it names; "" where nobody has said so yet."""
    pairs = [(name, option) for name, parser in command_parsers().items() for option in taken_by(parser)]
    return {pair: OF_COMMANDS.get(pair, KINDS.get(pair[1], "")) for pair in pairs}


def reading() -> list[tuple[str, str]]:
    """(command, option) of every option that names what is read."""
    return [pair for pair, kind in every_option().items() if kind not in {WRITTEN, NO_FILE}]


def writing() -> list[tuple[str, str]]:
    """(command, option) of every option that names a place to write to."""
    return [pair for pair, kind in every_option().items() if kind == WRITTEN]


def _parsers_of(parser: argparse.ArgumentParser, name: str) -> dict[str, argparse.ArgumentParser]:
    found = {name: parser}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice, below in action.choices.items():
                found |= _parsers_of(below, f"{name} {choice}")
    return found
