"""`corrkit compare`: is a difference between runs real, and where does it come from?"""

import argparse
from pathlib import Path

from corrkit.cli.arguments import (
    add_limit_argument,
    add_output_arguments,
    judged,
    one_or_all,
    print_comparisons,
)

EXAMPLES = """\
examples:
  corrkit compare runs/before runs/after
  corrkit compare runs/dino runs/mae runs/siammae --json
  corrkit compare runs/main runs/branch --fail-below -0.5      exit 1 where J&F fell by more than 0.5 points

Runs of one protocol, data and clips are compared; a folder may hold one run of each task. See corrkit docs compare."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `corrkit compare`."""
    parser.add_argument("reference", type=Path, metavar="A", help="run that the others are compared with")
    parser.add_argument("runs", nargs="+", type=Path, metavar="B", help="run to compare with it")
    add_limit_argument(parser)
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Compares, prints, and returns 1 where a run is below --fail-below."""
    from corrkit.files.jsontext import to_json
    from corrkit.runs.comparison import compare_folders
    from corrkit.runs.comparison_text import comparison_plain

    comparisons = compare_folders(args.reference, args.runs)
    if args.json:
        print(to_json(one_or_all([comparison_plain(one) for one in comparisons])))
    else:
        print_comparisons(comparisons, args.format)
    return judged(comparisons, args.fail_below)
