"""`corrkit score`: scores predictions of any method, without a network."""

import argparse

from corrkit.cli.arguments import (
    add_data_arguments,
    add_output_arguments,
    add_table_arguments,
    opened_subject,
    print_json,
    print_table,
)
from corrkit.cli.talk import say

EXAMPLES = """\
examples:
  corrkit score davis --data /data/DAVIS --pred results/my_method
  corrkit score davis --data /data/DAVIS --pred results/my_method --csv-dir tables --set decay=uint8"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `corrkit score`."""
    parser.add_argument("task", help="davis, vip or jhmdb")
    parser.add_argument("--pred", required=True, metavar="DIR", help="folder, .zip or .tar of predictions")
    parser.add_argument("--grid", metavar="W,H", type=_grid, help="cells of published JHMDB predictions (.dat)")
    add_data_arguments(parser)
    parser.add_argument("--allow-partial", action="store_true", help="leave out clips that have no predictions")
    parser.add_argument("--allow-ground-truth", action="store_true", help="score a copy of the ground truth, too")
    parser.add_argument("--csv-dir", metavar="DIR", help="write the task's official CSV files there")
    add_output_arguments(parser)
    add_table_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Scores and prints the table."""
    from corrkit.runs.tables import require_metrics
    from corrkit.scoring import score_subject
    from corrkit.tasks.roots import require_outside_data

    if args.csv_dir:
        require_outside_data(args.csv_dir, args.data)
    require_metrics(args.columns, [args.task])
    result = score_subject(
        opened_subject(args, args.task),
        args.pred,
        allow_partial=args.allow_partial,
        allow_ground_truth=args.allow_ground_truth,
        options={} if args.grid is None else {"grid": args.grid},
    )
    if args.csv_dir:
        from pathlib import Path

        from corrkit.files.atomic import write_atomic

        for name, text in result.csvs.items():
            write_atomic(Path(args.csv_dir) / name, text)
    if args.json:
        print_json([result.summary])
    else:
        print_table([result.summary], args)
    for note in result.notes:
        say(f"note: {note}")
    return 0


def _grid(text: str) -> tuple[int, int]:
    width, separator, height = text.partition(",")
    if not (separator and width.strip().isdecimal() and height.strip().isdecimal() and int(width) * int(height)):
        raise argparse.ArgumentTypeError(f"{text!r} is not W,H")
    return int(width), int(height)
