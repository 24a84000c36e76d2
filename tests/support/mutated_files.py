"""One change, drawn from a seeded generator, to a file that corrkit wrote: to values of JSON, to bytes of the rest."""

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HOLE = "@hole@"
"""Stands where a value's JSON text is put in, so that texts which no Python value has can be put there."""
VALUES = (
    *("null", "true", "[]", "{}", "[1]", '{"a": "b"}', '""', '"x"', "NaN", "Infinity", "-Infinity", "1e999", "-0.0"),
    *("0", "-1", "3", "0.5", '"0.5"', "1.5", "-0.3", "1e300", "9223372036854775807", "1" + "0" * 400, "9" * 5000),
    *(r'"\ud800"', r'"\u0000"', '"../../../etc/passwd"', '"/dev/zero"', '"a/b"', '"=1+1"', r'"\u001b[2J\u202e\n# x"'),
    *("[" * depth + "]" * depth for depth in (3, 90, 200, 900, 30_000)),
    '{"a":' * 900 + "1" + "}" * 900,
    '"' + "x" * 70_000 + '"',
)
STRAY = ("other.json", "%2E%2E.json", "x" * 200 + ".json")
"""Names of records of no clip."""
Place = tuple[Any, ...]


def mutate(path: Path, rng: random.Random) -> str:
    """Changes the file at a path; says how."""
    content = path.read_bytes()
    if path.suffix in {".json", ".jsonl"} and rng.random() < 0.7:
        kind, changed = _other_json(content.decode(), rng)
        path.write_text(changed)
        return kind
    kind, place = rng.choice([*_WHOLE, *_BYTES]), rng.randrange(len(content) or 1)
    if kind in _WHOLE:
        path.unlink()
        if kind == "folder":
            path.mkdir()
        elif kind == "loop":
            path.symlink_to(path.name)
        return kind
    path.write_bytes(_other_bytes(kind, content, place, rng))
    return kind


def mutate_one(root: Path, rng: random.Random) -> tuple[str, Path]:
    """Changes one of the files below a folder, each kind of file as often as any other; says how, and which."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    kinds = sorted({_kind_of(path.relative_to(root)) for path in files})
    kind = rng.choice(kinds)
    path = rng.choice([path for path in files if _kind_of(path.relative_to(root)) == kind])
    if path.parent.name == "clips" and rng.random() < 0.1:
        shutil.copy(path, path.with_name(rng.choice(STRAY)))
        return "duplicated clip", path
    return mutate(path, rng), path


def _kind_of(path: Path) -> str:
    return path.name if len(path.parts) == 1 else path.parts[0]


_WHOLE = ("gone", "folder", "loop")
_BYTES = ("empty", "truncated", "appended", "bom", "utf-16", "byte", "bit", "removed", "inserted", "repeated", "digit")


def _other_bytes(kind: str, content: bytes, place: int, rng: random.Random) -> bytes:
    data = bytearray(content)
    match kind:
        case "empty":
            return b""
        case "truncated":
            return content[:place]
        case "appended":
            return content + rng.choice([b"\0", b"}", b"x", content, rng.randbytes(40)])
        case "bom":
            return b"\xef\xbb\xbf" + content
        case "utf-16":
            return content.decode("latin-1").encode("utf-16")
        case "byte" if data:
            data[place] = rng.randrange(256)
        case "bit" if data:
            data[place] ^= 1 << rng.randrange(8)
        case "removed":
            del data[place : place + rng.randrange(1, 60)]
        case "inserted":
            data[place:place] = rng.choice([b"\xff\xfe", b"\xed\xa0\x80", b"\n", rng.randbytes(20)])
        case "repeated":
            data[place:place] = content[place : place + rng.randrange(1, 60)]
        case "digit":
            digits = [index for index, byte in enumerate(content) if chr(byte).isdigit()]
            if digits:
                data[rng.choice(digits)] = ord(rng.choice("0123456789"))
    return bytes(data)


def _other_json(text: str, rng: random.Random) -> tuple[str, str]:
    """Drops, renames, doubles, moves or replaces what stands at one place of a document."""
    document = json.loads(text)
    place = rng.choice(list(_places(document)))
    *way, last = place
    holder = document
    for key in way:
        holder = holder[key]
    value = holder[last]
    kind = rng.choice(["value", "value", "value", "number", "drop", "rename", "double", "swap"])
    if kind == "number" and isinstance(value, int | float):
        holder[last] = rng.choice([value + 1, value / 2, 1 - value, value + 1e-6, -value])
    elif kind == "drop":
        del holder[last]
    elif kind == "rename" and isinstance(holder, dict):
        holder[rng.choice(["x", "", "a.b", "\ud800", "=1"])] = holder.pop(last)
    elif kind == "swap":
        others = [*holder] if isinstance(holder, dict) else range(len(holder))
        other = rng.choice(list(others))
        holder[last], holder[other] = holder[other], holder[last]
    elif kind == "double" and isinstance(holder, list):
        holder.insert(last, value)
    elif kind == "double":
        holder[HOLE] = rng.choice([value, 0.5, None])
        return kind, json.dumps(document).replace(f'"{HOLE}"', json.dumps(last))
    else:
        holder[last] = HOLE
        return "value", json.dumps(document).replace(f'"{HOLE}"', rng.choice(VALUES))
    return kind, json.dumps(document)


def _places(value: Any, way: Place = ()) -> Iterator[Place]:
    """Of each value of a document; of long lists the first ones alone."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value[:3])
    for key, item in items:
        yield (*way, key)
        yield from _places(item, (*way, key))
