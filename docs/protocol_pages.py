"""A page for each protocol, every constant with what it means and where it was read, and a list of them."""

from collections.abc import Mapping

from corrkit.protocols import Protocol, load_protocol
from corrkit.protocols.explaining import bibtex, explanations
from corrkit.protocols.files import shipped
from corrkit.protocols.reader import constants
from corrkit.task_table import task_facts, task_names


def protocol_pages() -> dict[str, str]:
    """File name to Markdown: `constants.md`, the list, and a page for each protocol that comes with corrkit."""
    found = {task: [load_protocol(name, task) for name in shipped(task)] for task in task_names()}
    every = [protocol for protocols in found.values() for protocol in protocols]
    return {"constants.md": _list(found), **{_file(protocol): _page(protocol) for protocol in every}}


def _list(found: Mapping[str, list[Protocol]]) -> str:
    lines = ["# Every constant of every protocol", ""]
    for task, protocols in found.items():
        lines += [f"## {task_facts(task).title}", ""]
        lines += [f"- [{protocol.identifier}]({_file(protocol)}): {_text(protocol.summary)}" for protocol in protocols]
        lines += [""]
    return "\n".join(lines)


def _page(protocol: Protocol) -> str:
    meanings = explanations(protocol.task)
    lines = [f"# {protocol.identifier}", "", f"{_text(protocol.summary)}.", "", f"Proven: {_text(protocol.proven)}", ""]
    for title, sentences in (("Quirks", protocol.quirks), ("Not released", protocol.unreleased)):
        lines += [f"## {title}", "", *(f"- {_text(sentence)}" for sentence in sentences), ""] if sentences else []
    lines += ["## Constants", ""]
    group = ""
    for dotted, value in constants(protocol).items():
        if dotted.partition(".")[0] != group:
            group = dotted.partition(".")[0]
            lines += [
                f"### {group}",
                "",
                "| constant | value | what it means | where it was read |",
                "|---|---|---|---|",
            ]
        cells = (
            f"`{dotted.partition('.')[2]}`",
            f"`{value}`",
            _text(meanings[dotted]),
            _text(protocol.sources[dotted]),
        )
        lines.append(f"| {' | '.join(cells)} |")
        lines += [""] * _ends(dotted, list(constants(protocol)))
    if entry := bibtex(protocol):
        lines += ["", "## Cite", "", "```bibtex", entry, "```", ""]
    return "\n".join(lines) + "\n"


def _ends(dotted: str, names: list[str]) -> bool:
    """Whether a constant is the last of its group."""
    place = names.index(dotted) + 1
    return place == len(names) or names[place].partition(".")[0] != dotted.partition(".")[0]


def _file(protocol: Protocol) -> str:
    return f"{protocol.task}-{protocol.name}.md"


def _text(words: str) -> str:
    """Plain words in a cell of a table, or an item."""
    for special in "\\|*_<`[":
        words = words.replace(special, f"\\{special}")
    return words
