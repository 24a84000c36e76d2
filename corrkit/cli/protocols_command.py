"""`corrkit protocols`: what exists, every constant with its source, and what differs."""

import argparse
import shutil
import textwrap
from typing import TYPE_CHECKING

from corrkit.cli.talk import show
from corrkit.errors import UsageError

if TYPE_CHECKING:
    from corrkit.protocols import Protocol

EXAMPLES = """\
examples:
  corrkit protocols
  corrkit protocols davis
  corrkit protocols show davis/dino --explain
  corrkit protocols show mine.toml
  corrkit protocols diff davis/dino davis/cropmae davis/dinov3-M
  corrkit protocols davis/cropmae --bibtex

A protocol is TASK/NAME, or a TOML file of one's own (corrkit docs protocols)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `corrkit protocols`."""
    parser.add_argument(
        "what", nargs="*", metavar="WORD", help="nothing: list all; TASK: list its own; [show] NAME; diff NAME NAME ..."
    )
    parser.add_argument("--explain", action="store_true", help="show: say what each constant means")
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--json", action="store_true", help="print as JSON")
    forms.add_argument("--bibtex", action="store_true", help="print what to cite")


def run(args: argparse.Namespace) -> int:
    """Prints a list, one protocol, or what differs between several."""
    from corrkit.files.jsontext import to_json

    verb, named = _request(args.what)
    if args.explain and verb != "show":
        raise UsageError("--explain belongs to show.", "Write: corrkit protocols show TASK/NAME --explain.")
    if args.bibtex:
        entries = [_bibtex(protocol) for protocol in named]
        show(*"\n\n".join(dict.fromkeys(entry for entry in entries if entry)).split("\n"))
    elif args.json:
        print(to_json(_json(verb, named)))
    else:
        show(*{"list": _list, "show": lambda ps: _show(ps[0], explain=args.explain), "diff": _diff}[verb](named))
    return 0


def _request(words: list[str]) -> "tuple[str, list[Protocol]]":
    """list, show or diff, and the protocols that it is about. Raises UsageError or ProtocolError."""
    from corrkit.protocols import load_protocol, protocol_names
    from corrkit.task_table import task_names

    tasks = list(task_names())
    if words[:1] == ["diff"]:
        if len(words) < 3:
            raise UsageError("diff was given fewer than two protocols.", "Write: corrkit protocols diff A B ...")
        return "diff", [load_protocol(name) for name in words[1:]]
    if words[:1] == ["show"] and len(words) == 2:
        return "show", [load_protocol(words[1])]
    if len(words) == 1 and words[0] not in tasks and ("/" in words[0] or words[0].endswith(".toml")):
        return "show", [load_protocol(words[0])]
    if len(words) > 1 or words == ["show"]:
        raise UsageError(
            f"{' '.join(words)!r} is no request.", "Write TASK, [show] TASK/NAME, or diff TASK/NAME TASK/NAME ..."
        )
    chosen = words or tasks
    return "list", [load_protocol(name, task) for task in chosen for name in protocol_names(task)]


def _list(protocols: "list[Protocol]") -> list[str]:
    """A line for each, cut where the terminal ends."""
    from corrkit.task_table import task_facts

    marks = [" (default)" if p.name == task_facts(p.task).default_protocol else "" for p in protocols]
    names = [protocol.identifier + mark for protocol, mark in zip(protocols, marks, strict=True)]
    column = max(map(len, names)) + 2
    room = max(_width() - column, 20)
    return [
        f"{name:<{column}}{textwrap.shorten(protocol.summary, room, placeholder=' ...')}"
        for name, protocol in zip(names, protocols, strict=True)
    ]


def _show(protocol: "Protocol", *, explain: bool) -> list[str]:
    """Everything that it says, folded at the terminal's width."""
    from corrkit.protocols.explaining import explanations
    from corrkit.protocols.reader import constants

    lines = [protocol.identifier, f"  {protocol.summary}", f"  proven: {protocol.proven}"]
    lines += [f"  cite: {protocol.cite}"] * bool(protocol.cite)
    sentences = explanations(protocol.task)
    for dotted, value in constants(protocol).items():
        lines += [f"  {dotted} = {value}", f"      {protocol.sources[dotted]}"]
        lines += [f"      {sentences[dotted]}"] * explain
    for title, sentences_of in (("quirks", protocol.quirks), ("unreleased", protocol.unreleased)):
        lines += [f"  {title}:", *(f"  - {sentence}" for sentence in sentences_of)] if sentences_of else []
    return [folded for line in lines for folded in _folded(line)]


def _folded(line: str) -> list[str]:
    """A line in pieces of the terminal's width, the later ones set in by two more; words are never divided."""
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.wrap(line, _width(), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _width() -> int:
    return shutil.get_terminal_size().columns


def _diff(protocols: "list[Protocol]") -> list[str]:
    """What differs, side by side; as many protocols in a table as have room beside the first column."""
    from corrkit.protocols.explaining import differences

    rows = [["", *(protocol.identifier for protocol in protocols)]]
    rows += [[name, *map(_cell, values)] for name, values in differences(protocols).items()]
    if len(rows) == 1:
        return [f"{' and '.join(rows[0][1:])} hold the same constants."]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    tables: list[list[int]] = []
    for column in range(1, len(widths)):
        if not tables or sum(widths[c] + 2 for c in (0, *tables[-1], column)) - 2 > _width():
            tables.append([])
        tables[-1].append(column)
    lines: list[str] = []
    for columns in tables:
        padded = ["  ".join(row[c].ljust(widths[c]) for c in (0, *columns)) for row in rows]
        lines += [""] * bool(lines) + [line.rstrip() for line in padded]
    return lines


def _cell(value: object) -> str:
    return "-" if value is None else str(value)


def _json(verb: str, protocols: "list[Protocol]") -> object:
    from corrkit.protocols.explaining import as_json, differences

    if verb == "diff":
        return {"protocols": [protocol.identifier for protocol in protocols], "differences": differences(protocols)}
    return as_json(protocols[0]) if verb == "show" else [as_json(protocol) for protocol in protocols]


def _bibtex(protocol: "Protocol") -> str:
    from corrkit.protocols.explaining import bibtex

    return bibtex(protocol)
