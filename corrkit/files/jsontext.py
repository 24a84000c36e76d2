"""JSON as corrkit writes it: NaN is null, floats round-trip exactly, keys keep their order."""

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | int | float | bool | None"
"""A value of a parsed JSON or TOML document: one has to ask which kind before using it."""

_LARGEST_WHOLE = (1 << 63) - 1
_DEEPEST = 100
_TOO_DEEP = "it is nested too deeply"


def to_json(value: object) -> str:
    """Text of plain values, tuples and numpy numbers or arrays; ends with a newline. Raises ValueError for infinity.

    What isn't visible in names of files (bidi marks, lone surrogates of bytes that are no UTF-8) becomes JSON's escape.
    """
    text = json.dumps(_plain(value), indent=1, ensure_ascii=False, allow_nan=False)
    return "\n".join(_escaped(line) for line in text.split("\n")) + "\n"


def from_json(text: str) -> Json:
    """The values of a JSON text, null as None.

    Raises:
        ValueError: where the text is no JSON, is nested deeper than 100 levels, names something twice, or holds NaN,
            infinity, or a number that no float or 64-bit integer is.
    """
    try:
        value: Json = json.loads(
            text, parse_constant=_refuse, parse_float=_finite, parse_int=_whole, object_pairs_hook=_named_once
        )
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    require_shallow(value)
    return value


def from_others_json(text: str) -> Json:
    """The values of a JSON text that another program wrote, as plain as corrkit's own: no deeper than 100 levels.

    NaN and infinity, which Python's writers make, pass; a whole number beyond 64 bits is the nearest float.

    Raises:
        ValueError: where the text is no JSON, or is nested deeper.
    """
    try:
        value: Json = json.loads(text, parse_int=_whole_or_float)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    require_shallow(value)
    return value


def require_shallow(value: Json) -> None:
    """Raises ValueError where the values of a parsed document are nested deeper than 100 levels."""
    level: list[Json] = [value]
    for _ in range(_DEEPEST):
        level = [item for part in level if isinstance(part, dict | list) for item in _items(part)]
        if not level:
            return
    raise ValueError(_TOO_DEEP)


def table_of(value: Json) -> Mapping[str, Json]:
    """The value as a table, where it must be one. Raises TypeError for any other."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{repr(value)[:60]} is no table")
    return value


def list_of(value: Json) -> Sequence[Json]:
    """The value as a list, where it must be one. Raises TypeError for any other."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(f"{repr(value)[:60]} is no list")
    return value


def number_of(value: Json) -> float:
    """The value as a number, NaN for null, where it must be one. Raises TypeError for any other."""
    if not isinstance(value, int | float | None):
        raise TypeError(f"{repr(value)[:60]} is no number")
    return math.nan if value is None else value


def with_nan(value: Json) -> Json:
    """A copy in which every None is NaN, for places that hold numbers only."""
    if isinstance(value, dict):
        return {key: with_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_nan(item) for item in value]
    return math.nan if value is None else value


def as_plain(value: object) -> Json:
    """A dataclass of constants as nested dicts and lists, for checkpoints and run files."""
    if dataclasses.is_dataclass(value):
        return {field.name: as_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: as_plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [as_plain(item) for item in value]
    assert isinstance(value, str | int | float | None), f"{value!r} is no constant"
    return value


def leaves(value: Json, name: str = "") -> list[tuple[str, Json]]:
    """Every value of nested dicts and lists of dicts (`as_plain`) by its dotted name."""
    pairs: Iterable[tuple[object, Json]]
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        pairs = enumerate(value)
    else:
        return [(name, value)]
    return [leaf for key, item in pairs for leaf in leaves(item, f"{name}.{key}" if name else str(key))]


def _escaped(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line).replace("\x7f", "\\u007f")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:40]} is beyond all floats")
    return value


def _whole(text: str) -> int:
    value = int(text)
    if abs(value) > _LARGEST_WHOLE:
        raise ValueError(f"{text[:40]}... has more than 64 bits")
    return value


def _named_once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    """Of two values of one name a reader sees the last, and whoever looks at the file may see the first."""
    table = dict(pairs)
    if len(table) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise ValueError(f"{twice[:40]!r} stands there twice")
    return table


def _whole_or_float(text: str) -> int | float:
    value = int(text)
    return value if abs(value) <= _LARGEST_WHOLE else float(text)


def _items(part: Mapping[str, Json] | Sequence[Json]) -> Iterable[Json]:
    return part.values() if isinstance(part, Mapping) else part


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return None if math.isnan(value) else float(value)
    listing = getattr(value, "tolist", None)  # numpy numbers and arrays
    return value if listing is None else _plain(listing())
