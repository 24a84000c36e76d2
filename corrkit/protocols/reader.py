"""Protocol files: TOML in, a checked frozen `Protocol` out; overrides by leaf or dotted name."""

import dataclasses
import hashlib
import json
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

from corrkit.constants import Reader, Text
from corrkit.errors import ProtocolError, closest
from corrkit.files.jsontext import Json
from corrkit.protocols import files
from corrkit.protocols.schema import DavisFrames, Protocol, groups_of
from corrkit.task_table import task_facts

_HEAD = ("version", "summary", "proven", "cite", "quirks", "unreleased")


def protocol_names(task: str) -> list[str]:
    """Names of the protocols that exist for `task`, those of installed packages included, sorted.

    Raises:
        UsageError: for an unknown task.
    """
    task_facts(task)
    return sorted([*files.shipped(task), *files.installed(task)])


def load_protocol(name: str, task: str | None = None) -> Protocol:
    """Reads a protocol.

    Args:
        name: "davis/dino", or "dino" together with `task`, each also as tables print it ("dino@1"); or the path of a
            TOML file of one's own.
        task: "davis", "vip" or "jhmdb"; only needed for a bare name.

    Raises:
        ProtocolError: for an unknown task or protocol, another version than corrkit has, or an invalid file.
    """
    if files.is_file(name):
        document, own_task = files.own_document(Path(name), task)
        return _own(parse_protocol(document, own_task, Path(name).stem, where=name))
    named_task, _, versioned = name.rpartition("/")
    bare, _, version = versioned.partition("@")
    if named_task and task and named_task != task:
        raise ProtocolError(f"Protocol {name!r} belongs to {named_task}, not to {task}.", f"Use one of {task}'s own.")
    task = named_task or task
    if not task:
        raise ProtocolError(f"Protocol {name!r} does not say for which task.", f"Write TASK/{name}, e.g. davis/{name}.")
    if bare not in protocol_names(task):
        raise ProtocolError(f"There is no protocol {bare!r} for {task}.", closest(bare, protocol_names(task)))
    protocol = parse_protocol(_read_toml(task, bare), task, bare)
    found = protocol if bare in files.shipped(task) else _own(protocol)
    if versioned not in {bare, found.identifier.rpartition("/")[2]}:
        raise ProtocolError(
            f"Version {version!r} of {task}/{bare} was asked for; here it is {found.identifier}.",
            "Leave the version out to take this one: CHANGELOG.md says what other versions printed.",
        )
    return found


def parse_protocol(document: Mapping[str, Json], task: str, name: str, *, where: str | None = None) -> Protocol:
    """Checks a parsed TOML document field by field. Raises ProtocolError naming the file (`where`) and the field."""
    reader = Reader(where or f"protocols/{task}/{name}.toml", ProtocolError)
    groups = groups_of(task)
    reader.require_names(document, {*_HEAD, *groups}, {*_HEAD, *groups}, "")
    values: dict[str, object] = {"task": task, "name": name, **{key: document[key] for key in _HEAD}}
    sources: dict[str, Json] = {}
    for group in groups:
        table = document[group]
        if not isinstance(table, Mapping):
            raise ProtocolError(f"{reader.place(group)} is {table!r}, not a table.", f"Write [{group}].")
        constants: dict[str, Json] = {}
        for leaf, entry in table.items():
            if not (isinstance(entry, Mapping) and set(entry) == {"value", "source"} and entry["source"]):
                place = reader.place(f"{group}.{leaf}")
                raise ProtocolError(f'{place} is not {{ value = ..., source = "..." }}.', "Give both.")
            constants[leaf], sources[f"{group}.{leaf}"] = entry["value"], entry["source"]
        values[group] = constants
    kinds = {**groups, "sources": types.MappingProxyType[str, str]}
    return _consistent(reader.read(Protocol, {**values, "sources": sources}, types_of=kinds))


def override(protocol: Protocol, changes: Mapping[str, object]) -> Protocol:
    """A copy of `protocol` with some constants changed; the changes are recorded in `overrides`.

    Args:
        protocol: any protocol.
        changes: leaf or dotted name to value. Text is converted to the field's type (for --set); a value equal to the
            protocol's own is not an override.

    Raises:
        ProtocolError: for an unknown name (with the nearest match) or a value out of range.
    """
    reader, known = Reader(protocol.identifier, ProtocolError), field_names(protocol.task).values()
    published = protocol.published or protocol
    groups: dict[str, Any] = {}  # dataclasses.replace can't tell which names these are
    recorded = dict(protocol.overrides)
    for name, raw in changes.items():
        dotted = reader.full_name(name, known)
        group, leaf = dotted.split(".")
        current = groups.get(group, getattr(protocol, group))
        limits = next(field.metadata for field in dataclasses.fields(current) if field.name == leaf)
        given = Text(raw) if isinstance(raw, str) else raw
        value = reader.value(given, get_type_hints(type(current))[leaf], dotted, limits)
        if value != getattr(current, leaf):
            groups[group] = dataclasses.replace(current, **{leaf: value})
            recorded[dotted] = value
        if dotted in protocol.overrides and value == getattr(getattr(published, group), leaf):
            recorded.pop(dotted, None)
    overrides = types.MappingProxyType(dict(sorted(recorded.items())))
    return _consistent(dataclasses.replace(protocol, **groups, overrides=overrides, published=published))


def field_names(task: str) -> dict[str, str]:
    """Leaf name to dotted name, for every constant of a task's protocols."""
    return {f.name: f"{group}.{f.name}" for group, cls in groups_of(task).items() for f in dataclasses.fields(cls)}


def constants(protocol: Protocol) -> dict[str, Json]:
    """Dotted name to value of every constant, tuples as lists."""
    values = {}
    for dotted in field_names(protocol.task).values():
        group, leaf = dotted.split(".")
        value = getattr(getattr(protocol, group), leaf)
        values[dotted] = list(value) if isinstance(value, tuple) else value
    return values


def scoring_constants(protocol: Protocol) -> dict[str, Json]:
    """Those that decide what is scored: the score's own, and the size that true masks are brought to."""
    chosen = constants(protocol).items()
    return {name: value for name, value in chosen if name.startswith("score.") or name == "frames.stored_size"}


def _read_toml(task: str, name: str) -> dict[str, Json]:
    """The document of a shipped or installed protocol with its chain of `extends` resolved."""
    document = files.shipped(task).get(name) or files.installed(task)[name]
    return files.merged(files.read_document(document), task)


def _own(protocol: Protocol) -> Protocol:
    """Marked as not corrkit's, with a digest of its constants."""
    text = json.dumps([protocol.task, protocol.version, constants(protocol)], sort_keys=True)
    return dataclasses.replace(protocol, digest=hashlib.sha256(text.encode()).hexdigest()[:8])


def _consistent(protocol: Protocol) -> Protocol:
    """The protocol itself. Raises ProtocolError where constants contradict each other."""
    numbers = {"short-side": 1, "long-side": 1, "exact": 2, "native": 0}[protocol.frames.resize]
    if len(protocol.frames.size) != numbers:
        raise ProtocolError(
            f"{protocol.identifier}: frames.size is {list(protocol.frames.size)} with frames.resize "
            f"{protocol.frames.resize!r}.",
            f"Give {numbers} number(s): [side] for short-side or long-side, [height, width] for exact, [] for native; "
            "or override frames.resize as well.",
        )
    stored = protocol.frames.stored_size if isinstance(protocol.frames, DavisFrames) else ()
    if len(stored) not in (0, 2):
        raise ProtocolError(
            f"{protocol.identifier}: frames.stored_size is {list(stored)}.", "Give [height, width] or []."
        )
    window, memory = protocol.affinity, protocol.memory
    is_empty = window.shape != "none" and window.radius == 0 and not window.inclusive
    if is_empty and (memory.mask_first or not memory.long_term):
        raise ProtocolError(
            f"{protocol.identifier}: a strict {window.shape} window of radius 0 admits no cell (published code then "
            "returns NaN).",
            "Use radius >= 1, inclusive = true, shape = none, or leave frame 0 free with mask_first = false.",
        )
    return protocol
