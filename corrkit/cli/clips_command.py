"""`corrkit clips export DIR`: the embedded clips as ordinary data roots."""

import argparse
import sys
from pathlib import Path

from corrkit.task_table import task_facts, task_names

_TASKS = tuple(name for name in task_names() if task_facts(name).embedded)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `corrkit clips`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    export = actions.add_parser(
        "export",
        help="write the embedded clips in the layouts of DAVIS, VIP and JHMDB",
        description="Writes the embedded clips to DIR/davis, DIR/vip and DIR/jhmdb, each a data root for --data.",
        epilog="example: corrkit clips export clips --task davis && corrkit eval davis --ckpt hog --data clips/davis",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    export.add_argument("folder", metavar="DIR", type=Path, help="a new or an empty folder")
    export.add_argument(
        "--task", dest="tasks", action="append", choices=_TASKS, help="only this task (may be repeated; default: all)"
    )


def run(args: argparse.Namespace) -> int:
    """Exports, and prints the data roots, one a line."""
    from corrkit.clips import export
    from corrkit.tasks.roots import require_outside_data

    require_outside_data(args.folder)
    for root in export(args.folder, tuple(dict.fromkeys(args.tasks or _TASKS))):
        sys.stdout.write(f"{root}\n")
    return 0
