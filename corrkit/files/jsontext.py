"""JSON as corrkit writes it: NaN is null, floats round-trip exactly, keys keep their order."""

import json
import math
from collections.abc import Mapping
from typing import Any, TypeAlias

Json: TypeAlias = Any
"""A value of a parsed JSON or TOML document: of any kind, until a reader says which."""


def to_json(value: Json) -> str:
    """Text of plain values, tuples and numpy numbers or arrays; ends with a newline. Raises ValueError for infinity."""
    text = json.dumps(_plain(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    # Names of files may hold bytes that are no UTF-8 (lone surrogates): written as JSON's own escapes.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def from_json(text: str) -> Json:
    """The values of a JSON text, null as None. Raises ValueError where the text is no JSON or holds NaN or infinity."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def with_nan(value: Json) -> Json:
    """A copy in which every None is NaN, for places that hold numbers only."""
    if isinstance(value, dict):
        return {key: with_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_nan(item) for item in value]
    return math.nan if value is None else value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _plain(value: Json) -> Json:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return None if math.isnan(value) else float(value)
    if hasattr(value, "tolist"):  # numpy numbers and arrays
        return _plain(value.tolist())
    return value
