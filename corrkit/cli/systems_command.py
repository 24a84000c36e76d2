"""`corrkit systems`: the systems whose checkpoints are known, those of installed packages included."""

import argparse

from corrkit.cli.talk import show

EXAMPLES = """\
examples:
  corrkit systems
  corrkit systems dino
  corrkit systems --json

Names are those of --system; corrkit docs checkpoints says more. Networks of your own: --layout FILE.toml."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `corrkit systems`."""
    parser.add_argument("word", nargs="?", default="", metavar="WORD", help="only those with it in name or title")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(args: argparse.Namespace) -> int:
    """Prints one line a system."""
    import json

    from corrkit.checkpoints.layout_files import installed
    from corrkit.checkpoints.registry import SYSTEMS
    from corrkit.checkpoints.table import proof
    from corrkit.errors import UsageError

    word = args.word.lower()
    known = sorted({**SYSTEMS, **installed()}.values(), key=lambda system: system.name)
    found = [system for system in known if word in system.name.lower() or word in system.title.lower()]
    if not found:
        raise UsageError(f"No system has {args.word!r} in its name or title.", "`corrkit systems` lists all.")
    if args.json:
        rows = [{"name": s.name, "title": s.title, "proven": proof(s), "source": s.source} for s in found]
        print(json.dumps(rows, indent=2))
        return 0
    width = max(len(system.name) for system in found)
    print(f"{'name'.ljust(width)}  proven   system")
    show(*(f"{system.name.ljust(width)}  {proof(system).ljust(7)}  {system.title}" for system in found))
    return 0
