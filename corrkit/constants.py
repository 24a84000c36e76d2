"""The only reader of constants (protocols, recipes, lists of sources): a table in, a checked frozen dataclass out.

Errors name the file and the dotted field. This module imports nothing heavy; every room may use it.
"""

import copy
import dataclasses
import functools
import math
import operator
import tomllib
import types
from collections.abc import Callable, Collection, Iterable, Mapping
from importlib import resources
from typing import Any, Literal, SupportsIndex, TypeVar, Union, get_args, get_origin, get_type_hints

from corrkit.errors import CorrkitError, closest
from corrkit.files.jsontext import Json, require_shallow

POSITIVE = types.MappingProxyType({"min": 0, "open": True})
NON_NEGATIVE = types.MappingProxyType({"min": 0})
AT_LEAST_ONE = types.MappingProxyType({"min": 1})
SHARE = types.MappingProxyType({"min": 0, "max": 1})
"""Limits of a field, for `dataclasses.field(metadata=...)`; of a tuple they hold for each item."""

_TRUTH = types.MappingProxyType({"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False})
_T = TypeVar("_T")


class Text(str):
    """A value as typed on the command line: the reader converts it to its field's type."""

    __slots__ = ()


_LONGEST = 1 << 16  # characters
_MAX_DOTS = 200
"""In a line: the standard library's time grows with the square of a dotted name's parts."""


def parse_toml(text: str) -> dict[str, Json]:
    """A TOML document. Raises ValueError for what is none, or is longer or nested deeper than a person writes."""
    if len(text) > _LONGEST:
        raise ValueError(f"it has {len(text)} characters; {_LONGEST} are the most that are read")
    if any(line.count(".") > _MAX_DOTS for line in text.split("\n")):
        raise ValueError(f"a line of it has more than {_MAX_DOTS} dots")
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    require_shallow(document)
    return document


@functools.cache
def packaged(package: str, path: str) -> Mapping[str, Json]:
    """A TOML document that comes with corrkit, parsed once. It is shared: copy it before you change it."""
    return tomllib.loads(resources.files(package).joinpath(path).read_text(encoding="utf-8"))


def with_parents(
    name: str, load: Callable[[str], Mapping[str, Json]], *, replaced: Collection[str] = ()
) -> dict[str, Json]:
    """A document with its chain of `extends` resolved, a copy of its own.

    Args:
        name: what `load` takes.
        load: from a name, as `extends` holds it, to a document.
        replaced: tables that take the place of the parent's; the entries of others are laid over the parent's.
    """
    document = copy.deepcopy(dict(load(name)))
    parent = document.pop("extends", None)
    if parent is None:
        return document
    merged = with_parents(str(parent), load, replaced=replaced)
    for key, value in document.items():
        above = merged.get(key)
        if isinstance(value, Mapping) and isinstance(above, Mapping) and key not in replaced:
            value = {**above, **value}
        merged[key] = value
    return merged


@dataclasses.dataclass(frozen=True, slots=True)
class Reader:
    """Reads one document.

    Args:
        file: how messages name it.
        error: what is raised.
    """

    file: str
    error: type[CorrkitError]

    def read(self, cls: type[_T], table: object, name: str = "", types_of: Mapping[str, object] | None = None) -> _T:
        """A table as a dataclass: no unknown name, none missing that has no default, every value checked.

        Args:
            cls: the dataclass; a field's metadata holds its limits ("min", "max", "open": the minimum is excluded).
            table: from the document.
            name: dotted name of the table in the document, empty for the document itself.
            types_of: types of fields that the class itself leaves open.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]  # any dataclass
        table = self.table(table, name, f"It holds: {', '.join(fields)}.")
        required = {key for key, field in fields.items() if _is_required(field)}
        self.require_names(table, required, fields, name)
        hints: dict[str, object] = {**get_type_hints(cls), **(types_of or {})}
        dotted = f"{name}." if name else ""
        values = {
            key: self.value(value, hints[key], f"{dotted}{key}", fields[key].metadata) for key, value in table.items()
        }
        return cls(**values)

    def table(self, value: object, name: str, remedy: str = "Write name = value lines.") -> Mapping[str, object]:
        """The value, if it is a table; raises the error otherwise."""
        if not isinstance(value, Mapping):
            raise self.error(f"{self.place(name)} is {value!r}, not a table.", remedy)
        return value

    def require_names(
        self, table: Mapping[str, object], required: Iterable[str], known: Iterable[str], name: str
    ) -> None:
        """Raises the error where a table lacks a required name or has one that isn't known."""
        missing, unknown = sorted(set(required) - set(table)), [key for key in table if key not in set(known)]
        if not missing and not unknown:
            return
        parts = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has unknown {', '.join(unknown)}"] * bool(unknown)
        remedy = closest(unknown[0], known) if unknown else f"It must hold: {', '.join(sorted(required))}."
        raise self.error(f"{self.place(name)} {' and '.join(parts)}.", remedy)

    def value(
        self, value: object, hint: object, name: str, limits: Mapping[str, float] = types.MappingProxyType({})
    ) -> object:
        """A value checked against the type of its field: list to tuple, whole number to float, text to what it says."""
        origin: object = get_origin(hint)
        inner = get_args(hint)
        if hint is Any:
            return value
        if origin in (types.UnionType, Union):
            if value is None and type(None) in inner:
                return None
            return self.value(value, next(kind for kind in inner if kind is not type(None)), name, limits)
        if origin is Literal:
            if value not in inner:
                raise self.error(f"{self.place(name)} is {value!r}.", f"Choose one of: {', '.join(map(str, inner))}.")
            return next(known for known in inner if known == value)
        if origin is tuple:
            return self._tuple(value, inner, name, limits)
        if origin is types.MappingProxyType:
            table = self.table(value, name)
            items = {key: self.value(item, inner[1], f"{name}.{key}") for key, item in table.items()}
            return types.MappingProxyType(items)
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            return self.read(hint, value, name)
        assert isinstance(hint, type), f"{name}: no reader for {hint}"
        return self._scalar(value, hint, name, limits)

    def full_name(self, name: str, known: Iterable[str]) -> str:
        """The dotted name that `name`, dotted itself or the last part of one, stands for among the known ones."""
        names = list(known)
        found = [name] if name in names else [one for one in names if one.rpartition(".")[2] == name]
        if len(found) > 1:
            raise self.error(f"{self.file} has several constants named {name!r}.", f"Write {' or '.join(found)}.")
        if not found:
            leaves = {one.rpartition(".")[2] for one in names}
            raise self.error(f"{self.file} has no constant named {name!r}.", closest(name.rpartition(".")[2], leaves))
        return found[0]

    def place(self, name: str) -> str:
        """File and field, as messages begin."""
        return f"{self.file} {name}" if name else self.file

    def _tuple(
        self, value: object, inner: tuple[object, ...], name: str, limits: Mapping[str, float]
    ) -> tuple[object, ...]:
        if isinstance(value, Text):
            parts = value.strip().removeprefix("[").removesuffix("]").split(",")
            value = [Text(part.strip().strip("\"'")) for part in parts if part.strip()]
        if not isinstance(value, list | tuple):
            raise self.error(f"{self.place(name)} is {value!r}, not a list.", "Write it as [a, b].")
        kinds = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        if len(kinds) != len(value):
            shown = [str(item) for item in value]
            raise self.error(f"{self.place(name)} is [{', '.join(shown)}].", f"It must hold {len(kinds)} values.")
        numbered = enumerate(zip(value, kinds, strict=True))
        return tuple(self.value(item, kind, f"{name}.{index}", limits) for index, (item, kind) in numbered)

    def _scalar(self, value: object, hint: type, name: str, limits: Mapping[str, float]) -> object:
        place = self.place(name)
        if isinstance(value, Text):
            value = self._from_text(value, hint, place)
        if hint in (int, float) and isinstance(value, SupportsIndex) and not isinstance(value, bool):
            value = hint(operator.index(value))  # whole numbers of any library
        if type(value) is not hint:
            raise self.error(f"{place} is {value!r}, not of type {hint.__name__}.", "Correct the value.")
        if isinstance(value, float) and not math.isfinite(value):
            raise self.error(f"{place} is {value}, not a finite number.", "Give a finite number.")
        if not isinstance(value, int | float):
            return value
        low, high = limits.get("min"), limits.get("max")
        if low is not None and (value < low or (limits.get("open") and value == low)):
            raise self.error(
                f"{place} is {value}.", f"It must be {'greater than' if limits.get('open') else 'at least'} {low}."
            )
        if high is not None and value > high:
            raise self.error(f"{place} is {value}.", f"It must be at most {high}.")
        return value

    def _from_text(self, text: Text, hint: type, place: str) -> object:
        if hint is bool:
            if text.lower() not in _TRUTH:
                raise self.error(f"{place} is {str(text)!r}.", "Write true or false.")
            return _TRUTH[text.lower()]
        try:
            value: object = hint(str(text))
        except (TypeError, ValueError):
            raise self.error(f"{place} is {str(text)!r}, not of type {hint.__name__}.", "Correct the value.") from None
        return value


def _is_required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
