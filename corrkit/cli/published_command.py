"""`corrkit published`: numbers of papers and repositories, with protocol, source and certainty."""

import argparse
import shutil

EXAMPLES = """\
examples:
  corrkit published
  corrkit published davis --protocol cropmae
  corrkit published --method dino --json
  corrkit published davis --csv

Numbers of different protocols can't be compared; those that are "remembered" are not to be cited from here."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `corrkit published`."""
    parser.add_argument("task", nargs="?", metavar="TASK", help="only numbers of this task")
    parser.add_argument("--protocol", metavar="NAME", default="", help="only numbers under this protocol")
    parser.add_argument("--method", metavar="WORD", default="", help="only methods with this word in their name")
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--json", action="store_true", help="print a list of the numbers as JSON")
    forms.add_argument("--csv", action="store_true", help="print them as CSV, in the columns of data_manifests")


def run(args: argparse.Namespace) -> int:
    """Prints the numbers. Raises UsageError where none is left."""
    from dataclasses import asdict, fields

    from corrkit.errors import UsageError
    from corrkit.files.jsontext import to_json
    from corrkit.manifests.published import PublishedNumber, published_numbers
    from corrkit.runs.layout import render
    from corrkit.runs.published import published_table
    from corrkit.task_table import task_facts
    from corrkit.tasks.official_csvs import csv_text

    task = None if args.task is None else task_facts(args.task).name
    numbers = published_numbers(task, protocol=_without_version(args.protocol, task), method=args.method)
    if not numbers:
        raise UsageError("No published number is known for that.", "`corrkit published` prints all.")
    if args.json:
        print(to_json([asdict(number) for number in numbers]), end="")
    elif args.csv:
        names = [field.name for field in fields(PublishedNumber)]
        cells = [["" if (v := getattr(n, name)) is None else str(v) for name in names] for n in numbers]
        print(csv_text([names, *cells]), end="")
    else:
        print(render(published_table(numbers), "text", shutil.get_terminal_size().columns), end="")
    return 0


def _without_version(protocol: str, task: str | None) -> str:
    """NAME or TASK/NAME of what tables print as NAME@VERSION. Raises ProtocolError for a version that isn't there."""
    from corrkit.protocols import load_protocol, protocol_names
    from corrkit.task_table import task_names

    name, at, _ = protocol.partition("@")
    if at:
        named = name.rpartition("/")[0] or task
        offering = [named] if named else [one for one in task_names() if name in protocol_names(one)]
        for one in offering:
            load_protocol(protocol, one)
    return name
