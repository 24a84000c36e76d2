"""Options that several commands share, and their converters."""

import argparse
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING

from corrkit.files.jsontext import Json

if TYPE_CHECKING:
    from corrkit.runs.layout import Format
    from corrkit.runs.results import Summary
    from corrkit.subject import Subject


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """--data --split --clips --dataset-name --protocol --set."""
    parser.add_argument("--data", metavar="ROOT", help="data root; default $CORRKIT_DATA/TASK, else the embedded clips")
    parser.add_argument("--split", help="split list of the data set (davis: val)")
    parser.add_argument("--clips", metavar="NAME,NAME", type=names, help="only these clips")
    parser.add_argument("--dataset-name", metavar="NAME", help="name of a data set of your own in the task's layout")
    parser.add_argument("--protocol", metavar="NAME", help="published protocol (see corrkit protocols)")
    parser.add_argument(
        "--set", metavar="NAME=VALUE", action="append", default=[], type=assignment, help="override a constant"
    )


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """--json --format."""
    parser.add_argument("--json", action="store_true", help="print the summary (several: a list) as JSON, no table")
    parser.add_argument("--format", choices=["text", "markdown", "latex"], default="text", help="of the table")


def data_options(args: argparse.Namespace) -> dict[str, Json]:
    """--data --split --clips --dataset-name as keywords of `evaluate` and `score`."""
    return {"data": args.data, "split": args.split, "clips": args.clips, "dataset_name": args.dataset_name}


def opened_subject(args: argparse.Namespace, task: str) -> "Subject":
    """The request of the shared options; --set names constants only, never another option."""
    from corrkit.subject import open_subject

    return open_subject(task, protocol=args.protocol, overrides=dict(args.set), **data_options(args))


def print_json(summaries: "Sequence[Summary]") -> None:
    """One summary as an object, several as a list."""
    from corrkit.files.jsontext import to_json

    print(to_json(summaries[0] if len(summaries) == 1 else list(summaries)))


def print_table(summaries: "Sequence[Summary]", form: "Format") -> None:
    """All summaries as a table, as wide as the terminal."""
    from corrkit.runs.tables import results_table

    print(results_table(summaries, form, shutil.get_terminal_size().columns))


def names(text: str) -> list[str]:
    """Comma-separated text as a list."""
    return [name.strip() for name in text.split(",") if name.strip()]


def resolution(text: str) -> tuple[str, str]:
    """N or HxW as the pair that --set makes of frames.size."""
    sides = text.lower().split("x")
    if not 1 <= len(sides) <= 2 or not all(side.isdecimal() for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r} is neither N nor HEIGHTxWIDTH")
    return "size", f"[{', '.join(sides)}]"


def assignment(text: str) -> tuple[str, str]:
    """NAME=VALUE as a pair."""
    name, separator, value = text.partition("=")
    if not separator or not name.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name.strip(), value.strip()
