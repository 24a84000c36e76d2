"""`corrkit doctor`: what this machine and installation can do."""

import argparse
import json
import shutil
import textwrap
from typing import TYPE_CHECKING

from corrkit.cli.talk import show
from corrkit.text import one_line

if TYPE_CHECKING:
    from corrkit.diagnosis.facts import Fact

EXAMPLES = """\
examples:
  corrkit doctor             takes a few seconds: part of it is measured
  corrkit doctor --json

Where something is missing or odd, the command that mends it stands below it, behind an arrow."""

_NAMES = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `corrkit doctor`."""
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object: section, name, value and what mends"
    )


def run(args: argparse.Namespace) -> int:
    """Prints the facts, each as soon as it is known."""
    from corrkit.diagnosis import diagnose

    if args.json:
        found = {section: {fact.name: _plain(fact) for fact in facts} for section, facts in diagnose()}
        print(json.dumps(found, indent=2))
        return 0
    width = shutil.get_terminal_size().columns
    for section, facts in diagnose():
        print(section)
        for fact in facts:
            show(*_lines(fact, width))
    return 0


def _plain(fact: "Fact") -> dict[str, object]:
    return {"value": fact.text if fact.value is None else fact.value, "text": fact.text, "mend": fact.mend or None}


def _lines(fact: "Fact", width: int) -> list[str]:
    """The fact, and what mends it, as wide as the terminal; a command is never cut."""
    indent = " " * (_NAMES + 4)
    first = f"  {one_line(fact.name):{_NAMES}}  "
    lines = textwrap.wrap(
        one_line(fact.text), max(width, 40), initial_indent=first, subsequent_indent=indent, break_on_hyphens=False
    )
    return [*lines, f"    -> {one_line(fact.mend)}"] if fact.mend else lines
