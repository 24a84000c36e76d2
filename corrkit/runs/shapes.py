"""Whether a parsed JSON value is what a type says, so that a damaged file is named instead of failing later."""

import dataclasses
import types
from collections.abc import Iterator, Mapping, Set
from typing import Literal, Union, get_args, get_origin, get_type_hints, is_typeddict


def mismatches(value: object, hint: object, where: str) -> Iterator[str]:
    """A clause on each place where a value of `from_json` isn't of a type; null stands for NaN among floats.

    Args:
        value: the parsed value.
        hint: str, int, float, bool, None, a union of them, Literal, dict, list, a TypedDict or a dataclass.
        where: dotted name of the value.
    """
    origin: object = get_origin(hint)
    arguments = get_args(hint)
    if hint is object:
        return
    if is_typeddict(hint) or dataclasses.is_dataclass(hint):
        yield from _fields(value, get_type_hints(hint), getattr(hint, "__optional_keys__", frozenset()), where)
    elif origin is dict:
        if not isinstance(value, Mapping):
            yield f"{where} is no object"
        else:
            for key, item in value.items():
                yield from mismatches(item, arguments[1], f"{where}.{key}")
    elif origin is list:
        if not isinstance(value, list):
            yield f"{where} is no list"
        else:
            for number, item in enumerate(value):
                yield from mismatches(item, arguments[0], f"{where}.{number}")
    elif origin is Literal:
        if value not in arguments:
            yield f"{where} is {value!r}"
    elif origin in (Union, types.UnionType):
        if all(any(mismatches(value, one, where)) for one in arguments):
            yield f"{where} is {value!r}"
    elif not _is_plain(value, hint):
        yield f"{where} is {value!r}"


def _fields(value: object, hints: Mapping[str, object], optional: Set[str], where: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"{where} is no object"
        return
    absent, unknown = sorted(hints.keys() - value.keys() - optional), sorted(value.keys() - hints.keys())
    words = [f"lacks {', '.join(absent)}"] * bool(absent) + [f"has unknown {', '.join(unknown)}"] * bool(unknown)
    if words:
        yield f"{where} {' and '.join(words)}"
    for name, hint in hints.items():
        if name in value:
            yield from mismatches(value[name], hint, f"{where}.{name}")


def _is_plain(value: object, hint: object) -> bool:
    if hint is float:
        return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(hint, type) and isinstance(value, hint)
