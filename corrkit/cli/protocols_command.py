"""`corrkit protocols`: what exists, and every constant with its source."""

import argparse
from collections.abc import Sequence

EXAMPLES = """\
examples:
  corrkit protocols
  corrkit protocols davis/dino"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `corrkit protocols`."""
    parser.add_argument("name", nargs="?", metavar="TASK[/NAME]", help="show one protocol, or list those of a task")


def run(args: argparse.Namespace) -> int:
    """Prints the list, or one protocol."""
    from corrkit.protocols import DEFAULTS

    tasks = [args.name] if args.name in DEFAULTS else list(DEFAULTS)
    print(_show(args.name) if args.name and args.name not in DEFAULTS else _list(tasks))
    return 0


def _list(tasks: Sequence[str]) -> str:
    from corrkit.protocols import DEFAULTS, load_protocol, protocol_names

    lines = []
    for task in tasks:
        default = DEFAULTS[task]
        for name in protocol_names(task):
            protocol = load_protocol(name, task)
            mark = " (default)" if name == default else ""
            lines.append(f"{protocol.identifier}{mark}\n    {protocol.summary}")
    return "\n".join(lines)


def _show(name: str) -> str:
    from corrkit.protocols import field_names, load_protocol

    protocol = load_protocol(name)
    lines = [protocol.identifier, f"  {protocol.summary}", f"  proven: {protocol.proven}", f"  cite: {protocol.cite}"]
    for dotted in field_names(protocol.task).values():
        group, leaf = dotted.split(".")
        value = getattr(getattr(protocol, group), leaf)
        shown = list(value) if isinstance(value, tuple) else value
        lines.append(f"  {dotted} = {shown}\n      {protocol.sources[dotted]}")
    lines.append("  quirks:")
    lines += [f"  - {quirk}" for quirk in protocol.quirks]
    return "\n".join(lines)
