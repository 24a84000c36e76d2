"""The only reader of protocol files: TOML in, a checked frozen `Protocol` out; overrides by leaf or dotted name."""

import dataclasses
import math
import operator
import tomllib
import types
from collections.abc import Mapping
from importlib import resources
from typing import Any, Literal, get_args, get_origin, get_type_hints

from corrkit.errors import ProtocolError, closest
from corrkit.protocols.schema import GROUPS, DavisFrames, Protocol

DEFAULTS: Mapping[str, str] = types.MappingProxyType({"davis": "dino", "vip": "cropmae", "jhmdb": "cropmae"})
_HEAD = ("version", "summary", "proven", "cite", "quirks", "unreleased")


def protocol_names(task: str) -> list[str]:
    """Names of the protocols that exist for `task`, sorted."""
    folder = resources.files("corrkit.protocols") / task
    if task not in GROUPS or not folder.is_dir():
        raise ProtocolError(f"There is no task named {task!r}.", closest(task, GROUPS))
    files = [entry.name for entry in folder.iterdir() if entry.name.endswith(".toml")]
    return sorted(name.removesuffix(".toml") for name in files if not name.startswith("_"))  # "_base" is no protocol


def load_protocol(name: str, task: str | None = None) -> Protocol:
    """Reads a named protocol.

    Args:
        name: "davis/dino", or "dino" together with `task`.
        task: "davis", "vip" or "jhmdb"; only needed for a bare name.

    Raises:
        ProtocolError: for an unknown task or protocol, or an invalid file.
    """
    named_task, _, bare = name.rpartition("/")
    if named_task and task and named_task != task:
        raise ProtocolError(f"Protocol {name!r} belongs to {named_task}, not to {task}.", f"Use one of {task}'s own.")
    task = named_task or task
    if not task:
        raise ProtocolError(f"Protocol {name!r} does not say for which task.", f"Write TASK/{name}, e.g. davis/{name}.")
    if bare not in protocol_names(task):
        raise ProtocolError(f"There is no protocol {bare!r} for {task}.", closest(bare, protocol_names(task)))
    return parse_protocol(_read_toml(task, bare), task, bare)


def parse_protocol(document: Mapping[str, Any], task: str, name: str) -> Protocol:
    """Checks a parsed TOML document field by field. Raises ProtocolError naming protocol and field."""
    where = f"protocols/{task}/{name}.toml"
    groups = GROUPS[task]
    _require_keys(document, {*_HEAD, *groups}, where)
    values: dict[str, Any] = {key: document[key] for key in _HEAD}
    values |= {key: tuple(document[key]) for key in ("quirks", "unreleased")}
    sources: dict[str, str] = {}
    for group, cls in groups.items():
        hints = get_type_hints(cls)
        _require_keys(document[group], set(hints), f"{where} [{group}]")
        checked = {}
        for leaf, entry in document[group].items():
            place = f"{where} {group}.{leaf}"
            if not (isinstance(entry, dict) and set(entry) == {"value", "source"} and entry["source"]):
                raise ProtocolError(f'{place} is not {{ value = ..., source = "..." }}.', "Give both.")
            checked[leaf] = _checked(entry["value"], hints[leaf], _limits(cls, leaf), place)
            sources[f"{group}.{leaf}"] = entry["source"]
        values[group] = cls(**checked)
    return _consistent(Protocol(task=task, name=name, sources=types.MappingProxyType(sources), **values))


def override(protocol: Protocol, changes: Mapping[str, Any]) -> Protocol:
    """A copy of `protocol` with some constants changed; the changes are recorded in `overrides`.

    Args:
        protocol: any protocol.
        changes: leaf or dotted name to value. Text is converted to the field's type (for --set); a value equal to the
            protocol's own is not an override.

    Raises:
        ProtocolError: for an unknown name (with the nearest match) or a value out of range.
    """
    fields = field_names(protocol.task)
    groups: dict[str, Any] = {}
    recorded = dict(protocol.overrides)
    for name, raw in changes.items():
        dotted = name if "." in name else fields.get(name, "")
        if dotted not in fields.values():
            raise ProtocolError(f"{protocol.identifier} has no constant named {name!r}.", closest(name, fields))
        group, leaf = dotted.split(".")
        current = groups.get(group, getattr(protocol, group))
        hint = get_type_hints(type(current))[leaf]
        value = _from_text(raw, hint, dotted) if isinstance(raw, str) else raw
        value = _checked(value, hint, _limits(type(current), leaf), f"{protocol.identifier} {dotted}")
        if value != getattr(current, leaf):
            groups[group] = dataclasses.replace(current, **{leaf: value})
            recorded[dotted] = value
        if dotted in protocol.overrides and value == _published(protocol, group, leaf):
            recorded.pop(dotted, None)
    overrides = types.MappingProxyType(dict(sorted(recorded.items())))
    return _consistent(dataclasses.replace(protocol, **groups, overrides=overrides))


def field_names(task: str) -> dict[str, str]:
    """Leaf name to dotted name, for every constant of a task's protocols."""
    return {f.name: f"{group}.{f.name}" for group, cls in GROUPS[task].items() for f in dataclasses.fields(cls)}


def _read_toml(task: str, name: str) -> dict[str, Any]:
    """The document with its chain of `extends` resolved: the child's entries win, field by field."""
    file = resources.files("corrkit.protocols") / task / f"{name}.toml"
    document = tomllib.loads(file.read_text(encoding="utf-8"))
    parent_name = document.pop("extends", None)
    if parent_name is None:
        return document
    parent = _read_toml(*parent_name.split("/")) if "/" in parent_name else _read_toml(task, parent_name)
    merged = {**parent, **document}
    for group in GROUPS[task]:
        merged[group] = {**parent.get(group, {}), **document.get(group, {})}
    return merged


def _published(protocol: Protocol, group: str, leaf: str) -> Any:
    return getattr(getattr(load_protocol(protocol.name, protocol.task), group), leaf)


def _consistent(protocol: Protocol) -> Protocol:
    """The protocol itself. Raises ProtocolError where constants contradict each other."""
    numbers = {"short-side": 1, "long-side": 1, "exact": 2, "native": 0}[protocol.frames.resize]
    if len(protocol.frames.size) != numbers:
        raise ProtocolError(
            f"{protocol.identifier}: frames.size is {list(protocol.frames.size)} with frames.resize "
            f"{protocol.frames.resize!r}.",
            f"Give {numbers} number(s): [side] for short-side or long-side, [height, width] for exact, [] for native.",
        )
    stored = protocol.frames.stored_size if isinstance(protocol.frames, DavisFrames) else ()
    if len(stored) not in (0, 2):
        raise ProtocolError(
            f"{protocol.identifier}: frames.stored_size is {list(stored)}.", "Give [height, width] or []."
        )
    return protocol


def _require_keys(table: Mapping[str, Any], expected: set[str], where: str) -> None:
    missing, unknown = expected - set(table), set(table) - expected
    if missing or unknown:
        parts = [f"lacks {', '.join(sorted(missing))}"] * bool(missing) + [
            f"has unknown {', '.join(sorted(unknown))}"
        ] * bool(unknown)
        raise ProtocolError(f"{where} {' and '.join(parts)}.", f"It must hold exactly: {', '.join(sorted(expected))}.")


def _limits(cls: type, leaf: str) -> Mapping[str, Any]:
    return next(f.metadata for f in dataclasses.fields(cls) if f.name == leaf)


def _checked(value: Any, hint: Any, limits: Mapping[str, Any], place: str) -> Any:
    """`value` converted to the field's type (list to tuple, whole number to float), or ProtocolError."""
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise ProtocolError(f"{place} is {value!r}.", f"Choose one of: {', '.join(map(str, get_args(hint)))}.")
        return value
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise ProtocolError(f"{place} is {value!r}, not a list.", "Write it as [a, b].")
        return tuple(_checked(item, get_args(hint)[0], limits, place) for item in value)
    if hint in (int, float) and hasattr(value, "__index__") and not isinstance(value, bool):
        value = hint(operator.index(value))  # whole numbers of any library
    if type(value) is not hint:
        raise ProtocolError(f"{place} is {value!r}, not of type {hint.__name__}.", "Correct the value.")
    if isinstance(value, float) and not math.isfinite(value):
        raise ProtocolError(f"{place} is {value}, not a finite number.", "Give a finite number.")
    minimum = limits.get("min")
    if minimum is not None and (value < minimum or (limits.get("open") and value == minimum)):
        relation = "greater than" if limits.get("open") else "at least"
        raise ProtocolError(f"{place} is {value}.", f"It must be {relation} {minimum}.")
    return value


def _from_text(text: str, hint: Any, place: str) -> Any:
    """Text of the command line as a value of the field's type; `_checked` judges the result."""
    if get_origin(hint) is Literal:
        return text
    if get_origin(hint) is tuple:
        inner = text.strip().removeprefix("[").removesuffix("]")
        return [_from_text(part.strip(), get_args(hint)[0], place) for part in inner.split(",") if part.strip()]
    if hint is bool:
        known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if text.lower() not in known:
            raise ProtocolError(f"{place} is {text!r}.", "Write true or false.")
        return known[text.lower()]
    try:
        return hint(text)
    except ValueError:
        raise ProtocolError(f"{place} is {text!r}, not of type {hint.__name__}.", "Correct the value.") from None
