"""Protocols as text: the schema's sentences beside the constants, what differs between protocols, how to cite them."""

import inspect
import re
import unicodedata
from collections.abc import Mapping, Sequence

from corrkit.files.jsontext import Json
from corrkit.protocols.reader import constants, field_names
from corrkit.protocols.schema import Protocol, groups_of

_FIELD = re.compile(r"^(\w+): ", re.MULTILINE)


def explanations(task: str) -> Mapping[str, str]:
    """Dotted name of each constant to the sentence that the schema's docstrings say of it."""
    found: dict[str, str] = {}
    for group, cls in groups_of(task).items():
        sentences: dict[str, str] = {}
        for base in reversed(cls.__mro__[:-1]):
            sentences |= _sentences(inspect.cleandoc(base.__doc__ or ""))
        found |= {f"{group}.{leaf}": text for leaf, text in sentences.items()}
    return {dotted: found[dotted] for dotted in field_names(task).values()}


def differences(protocols: Sequence[Protocol]) -> dict[str, list[Json]]:
    """Dotted name to the value in each protocol, None where its task has no such constant; only what differs."""
    tables = [constants(protocol) for protocol in protocols]
    names = dict.fromkeys(name for table in tables for name in table)
    rows = {name: [table.get(name) for table in tables] for name in names}
    return {name: row for name, row in rows.items() if any(value != row[0] for value in row)}


def as_json(protocol: Protocol) -> dict[str, Json]:
    """Everything that a protocol says, as plain values."""
    return {
        "protocol": protocol.identifier,
        **{
            name: getattr(protocol, name) for name in ("task", "name", "version", "summary", "proven", "cite", "digest")
        },
        "quirks": list(protocol.quirks),
        "unreleased": list(protocol.unreleased),
        "constants": {
            dotted: {"value": value, "source": protocol.sources[dotted]}
            for dotted, value in constants(protocol).items()
        },
    }


def markdown_table(protocols: Sequence[Protocol]) -> str:
    """One line for each protocol: what it is, and what proves it."""
    rows = [f"| `{p.task}/{p.name}` | {p.summary} | {p.proven} |" for p in protocols]
    return "\n".join(["| protocol | what | proven by |", "|---|---|---|", *rows])


def bibtex(protocol: Protocol) -> str:
    """A BibTeX entry made of `cite`: "AUTHORS, TITLE, VENUE YEAR"; "" where the protocol cites nothing."""
    authors, _, rest = protocol.cite.partition(", ")
    title, _, place = rest.rpartition(", ")
    venue, _, year = place.rpartition(" ")
    if not (title and venue and year.isdecimal()):
        return ""
    first = unicodedata.normalize("NFKD", authors.split(" ")[0])
    lines = {
        "author": authors.replace(" et al.", " and others"),
        "title": f"{{{title}}}",
        "booktitle": venue,
        "year": year,
        "note": f"Evaluated under corrkit's protocol {protocol.identifier}",
    }
    fields = ",\n".join(f"  {name} = {{{value}}}" for name, value in lines.items())
    return f"@inproceedings{{{re.sub(r'[^A-Za-z0-9]', '', first).lower()}{year},\n{fields}\n}}"


def _sentences(docstring: str) -> dict[str, str]:
    """The "name: text" paragraphs of a docstring, each on one line."""
    parts = _FIELD.split(docstring)[1:]
    return {name: " ".join(text.split()) for name, text in zip(parts[::2], parts[1::2], strict=True)}
