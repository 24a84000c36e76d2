"""`corrkit protocols`: what exists, and every constant with its source."""

import argparse

EXAMPLES = """\
examples:
  corrkit protocols
  corrkit protocols davis/dino"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `corrkit protocols`."""
    parser.add_argument("name", nargs="?", metavar="TASK/NAME", help="show one protocol; without it, list all")


def run(args: argparse.Namespace) -> int:
    """Prints the list, or one protocol."""
    print(_show(args.name) if args.name else _list())
    return 0


def _list() -> str:
    from corrkit.protocols import load_protocol, protocol_names
    from corrkit.task_table import task_facts, task_names

    lines = []
    for task in task_names():
        for name in protocol_names(task):
            protocol = load_protocol(name, task)
            mark = " (default)" if name == task_facts(task).default_protocol else ""
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
