"""`corrkit regress`: has a checkpoint become worse than its baseline?"""

import argparse
from pathlib import Path

from corrkit.cli.arguments import add_device_argument, add_loading_arguments, loading_of
from corrkit.cli.talk import say, show

EXAMPLES = """\
examples:
  corrkit regress --ckpt last.pth --baseline baseline.json --update    write the baseline
  corrkit regress --ckpt last.pth --baseline baseline.json             exit 1 where a metric dropped

Baseline files are JSON; edit the tolerances (fractions) in them, --update keeps those."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `corrkit regress`."""
    parser.add_argument("--ckpt", required=True, metavar="SPEC", help="what to evaluate, as for corrkit eval")
    parser.add_argument("--baseline", required=True, type=Path, metavar="FILE", help="baseline file")
    parser.add_argument("--update", action="store_true", help="write the baseline instead of comparing with it")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="also write the comparison as JUnit XML")
    add_loading_arguments(parser, "layer", "window")
    add_device_argument(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")


def run(args: argparse.Namespace) -> int:
    """Compares, prints one line per metric, and returns 1 where one dropped."""
    from corrkit.cli.progress import ClipProgress
    from corrkit.files.atomic import write_atomic
    from corrkit.regression import compare, describe, junit, measure, read_baseline, write_baseline
    from corrkit.tasks.roots import require_outside_data

    for target in (*([args.baseline] if args.update else []), *([args.junit] if args.junit else [])):
        require_outside_data(target)
    is_new = args.update and not args.baseline.exists()
    baseline = None if is_new else read_baseline(args.baseline)  # of one that is updated the tolerances are kept
    options = {"device": args.device, **loading_of(args).given}
    with ClipProgress(quiet=args.quiet) as progress:
        measured = measure(args.ckpt, progress=progress, **options)
    if baseline is None or args.update:
        write_baseline(args.baseline, measured)
        say(f"written: {args.baseline}")
        baseline = read_baseline(args.baseline)
    rows = compare(measured, baseline, str(args.baseline))
    show(*map(describe, rows))
    if args.junit:
        write_atomic(args.junit, junit(rows))
    return int(any(row.dropped for row in rows))
