"""Options that several commands share, and their converters."""

import argparse
import math
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from corrkit.cli.talk import say

if TYPE_CHECKING:
    from corrkit.backbones.loading import Loading
    from corrkit.protocols import Protocol
    from corrkit.runs.comparison import Comparison
    from corrkit.runs.layout import Format
    from corrkit.runs.protocol_rows import ProtocolRow
    from corrkit.runs.results import Summary
    from corrkit.subject import Subject


class DataOptions(TypedDict):
    """What the shared options say of the data."""

    data: str | None
    split: str | None
    clips: list[str] | None
    dataset_name: str | None


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """--data --split --clips --dataset-name --protocol --set."""
    parser.add_argument("--data", metavar="ROOT", help="data root; default $CORRKIT_DATA/TASK, else the embedded clips")
    parser.add_argument("--split", help="split of the data set (davis: val), or a .txt list of clips")
    parser.add_argument("--clips", metavar="NAME,NAME", type=names, help="only these clips")
    parser.add_argument("--dataset-name", metavar="NAME", help="name of a data set of your own in the task's layout")
    parser.add_argument("--protocol", metavar="NAME", help="as published (see corrkit protocols); eval takes several")
    parser.add_argument(
        "--set", metavar="NAME=VALUE", action="append", default=[], type=assignment, help="override a constant"
    )


def add_loading_arguments(parser: argparse.ArgumentParser, *further: str) -> None:
    """--heads --ckpt-key --system --layout, and of --layer and --window those that a command takes."""
    parser.add_argument("--heads", type=int, metavar="N", help="attention heads, where the checkpoint can't tell")
    if "layer" in further:
        parser.add_argument("--layer", metavar="N", help="layer to evaluate; default: as the system's paper does")
    if "window" in further:
        parser.add_argument("--window", type=int, metavar="N", help="frames that a video network sees at a time")
    parser.add_argument("--ckpt-key", metavar="KEY", help="branch of a checkpoint that holds several networks")
    parser.add_argument("--system", metavar="NAME", help="system of the checkpoint, where its names fit several")
    parser.add_argument("--layout", metavar="FILE", help="names and rules of a network of your own (TOML)")


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    """--device."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")


def loading_of(args: argparse.Namespace) -> "Loading":
    """What `add_loading_arguments` took."""
    from corrkit.backbones.loading import Loading

    given = {name: vars(args)[name] for name in ("heads", "layer", "window", "system", "layout") if name in args}
    return Loading(key=args.ckpt_key, **given)


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """--json --format."""
    parser.add_argument("--json", action="store_true", help="print the summary (several: a list) as JSON, no table")
    parser.add_argument("--format", choices=["text", "markdown", "latex"], default="text", help="of the table")


def add_table_arguments(parser: argparse.ArgumentParser) -> None:
    """--columns --wide."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--columns", metavar="NAME,NAME", type=names, help="of the table; default: what has room")
    group.add_argument("--wide", action="store_true", help="every column, however wide the terminal is")


def table_width(args: argparse.Namespace) -> int:
    """Columns of the terminal; no end with --wide."""
    return sys.maxsize if args.wide else shutil.get_terminal_size().columns


def add_limit_argument(parser: argparse.ArgumentParser) -> None:
    """--fail-below."""
    parser.add_argument(
        "--fail-below",
        type=points,
        metavar="X",
        help="exit 1 where the task's first metric changed by less than X points (-0.5: it fell by more than that)",
    )


def data_options(args: argparse.Namespace) -> "DataOptions":
    """--data --split --clips --dataset-name as keywords of `evaluate` and `score`."""
    return {"data": args.data, "split": args.split, "clips": args.clips, "dataset_name": args.dataset_name}


def opened_subject(args: argparse.Namespace, task: str, protocol: "Protocol | None" = None) -> "Subject":
    """The request of the shared options; --set names constants only, never another option.

    A protocol that is given has its overrides already.
    """
    from corrkit.subject import open_subject

    if protocol is not None:
        return open_subject(task, protocol=protocol, **data_options(args))
    return open_subject(task, protocol=args.protocol, overrides=dict(args.set), **data_options(args))


def print_json(
    summaries: "Sequence[Summary]",
    comparisons: "Sequence[Comparison] | None" = None,
    rows: "Sequence[ProtocolRow]" = (),
) -> None:
    """One summary as an object, several as a list; with comparisons or differences of protocols all in one object."""
    from corrkit.files.jsontext import to_json
    from corrkit.runs.comparison_text import comparison_plain

    further: dict[str, object] = {}
    if comparisons is not None:
        further["comparisons"] = [comparison_plain(one) for one in comparisons]
    if rows:
        further["differences"] = [row.plain() for row in rows]
    print(to_json({"results": summaries, **further} if further else one_or_all(summaries)))


def one_or_all(items: Sequence[object]) -> object:
    """What --json prints: one item by itself, several (or none) as a list."""
    return items[0] if len(items) == 1 else list(items)


def print_table(summaries: "Sequence[Summary]", args: argparse.Namespace) -> None:
    """All summaries as a table, by --format --columns --wide."""
    from corrkit.runs.tables import results_table

    print(results_table(summaries, args.format, table_width(args), args.columns))


def print_protocols(rows: "Sequence[ProtocolRow]", form: "Format") -> None:
    """Rows of several protocols, a table for each task, as wide as the terminal."""
    from corrkit.runs.protocol_rows import protocols_table

    for task in dict.fromkeys(row.summary["task"] for row in rows):
        of_task = [row for row in rows if row.summary["task"] == task]
        print(protocols_table(of_task, form, shutil.get_terminal_size().columns))


def print_comparisons(comparisons: "Sequence[Comparison]", form: "Format") -> None:
    """All comparisons as tables, as wide as the terminal."""
    from corrkit.runs.comparison_text import comparison_text

    width = shutil.get_terminal_size().columns
    for comparison in comparisons:
        print(comparison_text(comparison, form, width))


def judged(comparisons: "Sequence[Comparison]", fail_below: float | None) -> int:
    """1 where a difference is below the limit (points), and says so; else 0."""
    from corrkit.runs.comparison_text import verdict

    fallen = [one for one in comparisons if fail_below is not None and one.is_below(fail_below / 100)]
    for one in fallen:
        say(f"failed: {one.run.folder} is below the limit of {fail_below:+g} points: {verdict(one)}")
    return int(bool(fallen))


def names(text: str) -> list[str]:
    """Comma-separated text as a list."""
    return [name.strip() for name in text.split(",") if name.strip()]


def protocol_names(text: str | None) -> list[str | None]:
    """The names of --protocol; [None] for the task's default. A file's path may hold commas."""
    return [None] if text is None else [text] if Path(text).is_file() else [*names(text)] or [text]


def resolutions(text: str) -> list[list[int]]:
    """N or HxW, several separated by commas, as values of frames.size."""
    found = []
    for size in names(text) or [text]:
        sides = size.lower().split("x")
        if not 1 <= len(sides) <= 2 or not all(side.isdecimal() for side in sides):
            raise argparse.ArgumentTypeError(f"{size!r} is neither N nor HEIGHTxWIDTH")
        found.append([int(side) for side in sides])
    return found


def points(text: str) -> float:
    """A finite number; no comparison with NaN would ever fail."""
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is no finite number")
    return value


def assignment(text: str) -> tuple[str, str]:
    """NAME=VALUE as a pair."""
    name, separator, value = text.partition("=")
    if not separator or not name.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name.strip(), value.strip()
