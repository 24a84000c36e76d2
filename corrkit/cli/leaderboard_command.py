"""`corrkit leaderboard`: comparable rows from run folders."""

import argparse
import shutil
from pathlib import Path

from corrkit.cli.arguments import add_table_arguments
from corrkit.cli.talk import say

EXAMPLES = """\
examples:
  corrkit leaderboard runs/*
  corrkit leaderboard runs/* --out leaderboard.csv
  corrkit leaderboard runs/* --out table.tex
  corrkit leaderboard runs/* --published
  corrkit leaderboard runs/* --reference runs/dino_vits16-1a2b3c4d-davis-dino

Official, own and embedded data, modified protocols, partial runs and reduced precision are kept apart and marked."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `corrkit leaderboard`."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIR", help="folders of finished runs, of any task")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="also write it: .csv, .md, .tex or .html (corrkit docs leaderboard)",
    )
    parser.add_argument(
        "--reference",
        action="append",
        default=[],
        type=Path,
        metavar="RUN",
        help="compare every row with this run on the same clips; once for each task at most",
    )
    parser.add_argument(
        "--published", action="store_true", help="also show the published numbers under the protocols of the runs"
    )
    parser.add_argument("--format", choices=["text", "markdown", "latex"], default="text", help="of the printed table")
    add_table_arguments(parser)
    parser.add_argument("--timing", action="store_true", help="also frames per second, which no two runs have alike")


def run(args: argparse.Namespace) -> int:
    """Prints the table and writes --out."""
    from corrkit.runs.columns import Chosen
    from corrkit.runs.leaderboard import leaderboard
    from corrkit.runs.leaderboard_files import leaderboard_text, published_text, write_leaderboard
    from corrkit.runs.published import numbers_beside
    from corrkit.tasks.roots import require_outside_data

    if args.out is not None:
        require_outside_data(args.out)
    names = None if args.columns is None else tuple(args.columns)
    chosen = Chosen(names=names, is_wide=args.wide, has_timing=args.timing)
    table = leaderboard(args.runs, args.reference)
    protocols = {identifier for identifiers in table["protocol"] for identifier in identifiers.split()}
    numbers = numbers_beside(protocols) if args.published else ()
    if args.out is not None:
        write_leaderboard(table, args.out, numbers, chosen)
    width = shutil.get_terminal_size().columns
    print(leaderboard_text(table, args.format, width, chosen), end="")
    for text in published_text(numbers, args.format, width):
        print(f"\n{text}", end="")
    for note in table.attrs["notes"]:
        say(f"note: {note}")
    return 0
