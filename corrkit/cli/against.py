"""`corrkit eval --against RUN`: the run that results are held against, and how they compare."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from corrkit.errors import UsageError

if TYPE_CHECKING:
    from corrkit.evaluation import Result
    from corrkit.runs.comparable import StoredRun
    from corrkit.runs.comparison import Comparison
    from corrkit.subject import Subject


def references_of(args: argparse.Namespace, tasks: Sequence[str]) -> "dict[str, StoredRun]":
    """The runs of --against by task, one for each task that is evaluated; {} without that option."""
    from corrkit.runs.comparison import runs_by_task

    if args.against is None:
        if args.fail_below is not None:
            raise UsageError("--fail-below limits a difference, but nothing is compared.", "Add --against RUN.")
        return {}
    found = runs_by_task(args.against)
    for task in tasks:
        if task not in found:
            raise UsageError(
                f"{args.against} holds runs of {', '.join(found)}, none of {task}.", "Name one of that task."
            )
    return found


def require_alike(subject: "Subject", reference: "StoredRun") -> None:
    """Refuses a reference of another protocol or other data before the work starts."""
    from corrkit.runs import comparison

    column = subject.protocol.identifier, subject.data.split, subject.data.identity
    comparison.require_alike("This evaluation", column, None, reference)


def compared(results: "Sequence[Result]", reference: "StoredRun") -> "list[Comparison]":
    """The finished runs of one task against the reference."""
    from corrkit.runs.comparable import read_runs
    from corrkit.runs.comparison import compare_with

    runs, _ = read_runs([result.folder for result in results if result.folder is not None])
    return compare_with(reference, runs)
