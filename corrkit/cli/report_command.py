"""`corrkit report`: finished runs as one HTML file."""

import argparse
from pathlib import Path

from corrkit.cli.talk import say, show

EXAMPLES = """\
examples:
  corrkit report runs/hog --out report.html
  corrkit report runs/before runs/after --out report.html --figures figures

Floor, ceiling, curves, the best, median and worst clip with truth beside prediction, failures, and what the network
sees. The file opens offline. See corrkit docs report."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `corrkit report`."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of finished runs, of any task")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.html", help="the page")
    parser.add_argument("--figures", type=Path, metavar="DIR", help="also write the figures as PNG")
    parser.add_argument("--data", metavar="ROOT", help="data root, if it isn't where the runs recorded it")
    parser.add_argument(
        "--no-features", action="store_true", help="leave out features and matches: the network is not run"
    )
    parser.add_argument(
        "--trust",
        action="store_true",
        help="load networks that are code (py:) or on a hub (hf:): the runs are your own",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")


def run(args: argparse.Namespace) -> int:
    """Writes the page."""
    from corrkit.report import write_report

    notes = write_report(
        args.runs,
        args.out,
        data=args.data,
        figures=args.figures,
        with_features=not args.no_features,
        trusted=args.trust,
        **({} if args.quiet else {"say": say}),
    )
    for note in notes:
        say(f"note: {note}")
    show(str(args.out))
    return 0
