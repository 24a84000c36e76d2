"""`corrkit card`: finished runs of one checkpoint, for others."""

import argparse
from pathlib import Path

from corrkit.cli.arguments import assignment
from corrkit.cli.talk import say, show

EXAMPLES = """\
examples:
  corrkit card runs/hog
  corrkit card runs/mae/* --model me/mae-small --out card

Without --out the model card is printed: Markdown with results in its head, as the Hugging Face hub reads them. With it
the folder gets README.md, .eval_results/corrkit.yaml, and records of Every Eval Ever. See corrkit docs card."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `corrkit card`."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of finished runs of one checkpoint")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the card and the records")
    parser.add_argument("--model", metavar="OWNER/NAME", help="the checkpoint's repository on the hub")
    parser.add_argument(
        "--benchmark",
        action="append",
        default=[],
        type=assignment,
        metavar="TASK=OWNER/NAME",
        help="the data set on the hub where a task's leaderboard lives",
    )
    parser.add_argument("--by", metavar="NAME", default="", help="who evaluated")


def run(args: argparse.Namespace) -> int:
    """Prints the card, or writes all files and prints their names."""
    from corrkit.runs.sharing import told_runs, write_card
    from corrkit.runs.sharing.model_card import model_card
    from corrkit.task_table import task_facts
    from corrkit.tasks.roots import require_outside_data

    benchmarks = {task_facts(task).name: name for task, name in args.benchmark}
    runs, notes = told_runs(args.runs, model=args.model, benchmarks=benchmarks, by=args.by)
    if args.out is None:
        print(model_card(runs), end="")
    else:
        require_outside_data(args.out)
        for path in write_card(runs, args.out):
            show(str(path))
    for note in notes:
        say(f"note: {note}")
    return 0
