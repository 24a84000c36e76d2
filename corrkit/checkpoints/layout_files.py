"""Layout files: names and rules of a vision transformer of one's own, as plain data in TOML (docs/checkpoints.md).

A package offers such files to all its users by an entry point of the group `corrkit.systems` that names a package with
NAME.toml files in it.
"""

import functools
import re
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata, resources
from pathlib import Path
from typing import Literal

from corrkit.checkpoints.registry import SYSTEMS
from corrkit.checkpoints.rules import ViTRules
from corrkit.checkpoints.system import Layout, System
from corrkit.constants import AT_LEAST_ONE, POSITIVE, Reader, parse_toml
from corrkit.errors import CheckpointError
from corrkit.files.jsontext import Json
from corrkit.files.reading import regular_text

ENTRY_POINTS = "corrkit.systems"
_MAX_FILE = 1 << 20  # bytes
_MAX_NAMES = 256  # of anchors, renames and drops, each
_MAX_NAME = 256  # characters
_MAX_STARS = 4
_Names = types.MappingProxyType[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutFile:
    """What a layout file holds; the fields of `Layout`, `System` and `ViTRules`. No rule has a default.

    Names are relative to the network's prefix; in them `*` is a segment that is a number.

    title: of the network, for reports. anchors: names that must be there, with their numbers of axes. renames: names,
        or whole segments at their beginning, to canonical names; applied in order, each once.
    prefix: of the network's names, or the end of it; needed where the anchors stand at several places. prefer: pairs of
        segments, the one that is evaluated first. drop: names, or their beginnings, to the reason why they are no part
        of the backbone; all else must be used. heads: attention heads. no_bias: parts without biases.
    mean, std: of the input in [0, 1]. final_norm, norm, eps, activation, position: see `ViTRules`; "none" where nothing
        tells the network where its patches are.
    """

    title: str = ""
    anchors: types.MappingProxyType[str, int]
    renames: _Names = field(default_factory=lambda: types.MappingProxyType({}))
    prefix: str = ""
    prefer: tuple[tuple[str, str], ...] = ()
    drop: _Names = field(default_factory=lambda: types.MappingProxyType({}))
    heads: int | None = field(default=None, metadata=AT_LEAST_ONE)
    no_bias: tuple[Literal["patch", "qkv", "proj", "mlp"], ...] = ()
    mean: tuple[float, float, float]
    std: tuple[float, float, float] = field(metadata=POSITIVE)
    final_norm: Literal["affine", "weightless", "none"]
    norm: Literal["layer", "rms"]
    eps: float = field(metadata=POSITIVE)
    activation: Literal["gelu", "gelu-tanh", "quick-gelu"]
    position: Literal[
        "dino", "size", "bilinear", "bilinear-antialias", "antialias", "crop", "nearest", "sincos", "none"
    ]


def read_layout(path: Path) -> System:
    """The system that a layout file describes, named by the file's stem. Raises CheckpointError for a file in error."""
    try:
        if path.stat().st_size > _MAX_FILE:
            raise CheckpointError(f"{path} is larger than 1 MiB.", "A layout file holds names and rules only.")
        text = regular_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"The layout file {path} can't be read: {error}.", "Correct the path.") from error
    return _parsed(text, path.stem, str(path))


def parse_layout(document: Mapping[str, Json], name: str, where: str) -> System:
    """The system of a layout file's document.

    Args:
        document: as in TOML.
        name: of the system.
        where: how messages name the document.

    Raises:
        CheckpointError: naming the document and the field.
    """
    if name in SYSTEMS or not re.fullmatch(r"[\w.-]{1,80}", name):
        raise CheckpointError(
            f"{where} is named {name!r}, which {'is' if name in SYSTEMS else 'can not be'} the name of a system.",
            "Name the file in letters and digits, otherwise than any of `corrkit systems`.",
        )
    reader = Reader(where, CheckpointError)
    read = reader.read(LayoutFile, document)
    for key, table in (("anchors", read.anchors), ("renames", read.renames), ("drop", read.drop)):
        if len(table) > _MAX_NAMES:
            raise CheckpointError(f"{reader.place(key)} has {len(table)} entries.", f"At most {_MAX_NAMES} are read.")
    if not read.anchors:
        raise CheckpointError(f"{reader.place('anchors')} is empty.", "Name the patch embedding and a block's weight.")
    if wrong := [name for name, axes in read.anchors.items() if not 1 <= axes <= 5]:
        raise CheckpointError(
            f"{reader.place('anchors')}: {wrong[0]} has {read.anchors[wrong[0]]} axes.", "Give a number from 1 to 5."
        )
    layout = Layout(
        name=f"layout {name}",
        anchors={_pattern(key, reader.place("anchors")): axes for key, axes in read.anchors.items()},
        renames=tuple(_rename(key, value, reader.place("renames")) for key, value in read.renames.items()),
    )
    return System(
        name=name,
        title=read.title or name,
        layouts=(layout,),
        prefers=read.prefer,
        drop={rf"{_pattern(key, reader.place('drop'))}(\..*)?": reason for key, reason in read.drop.items()},
        rules=ViTRules(
            cls=None,
            final_norm=read.final_norm,
            norm=read.norm,
            eps=read.eps,
            activation=read.activation,
            position=None if read.position == "none" else read.position,
            absent=frozenset(read.no_bias),
        ),
        mean=read.mean,
        std=read.std,
        heads=read.heads,
        prefix=read.prefix.strip("."),
        document=dict(document),
        source=where,
        proven="unknown",
        notes=(f"Names and rules are those of the layout file {where}; only its author knows that they hold.",),
    )


@functools.cache
def installed() -> Mapping[str, System]:
    """Name to system of installed packages.

    Raises:
        CheckpointError: for a package that can't be imported, a file in error, or a name that is taken.
    """
    found: dict[str, System] = {}
    for entry in metadata.entry_points(group=ENTRY_POINTS):
        try:
            files = [file for file in resources.files(entry.value).iterdir() if file.name.endswith(".toml")]
            texts = {file.name: file.read_text(encoding="utf-8") for file in files}
        except (ImportError, TypeError, OSError, UnicodeDecodeError) as error:
            raise CheckpointError(
                f"The entry point {entry.name} = {entry.value} of {ENTRY_POINTS} can't be opened: {error}.",
                "Mend or uninstall the package that declares it; its value is the name of a package.",
            ) from error
        for name, text in sorted(texts.items()):
            system = _parsed(text, name.removesuffix(".toml"), f"{entry.value}/{name}")
            if system.name in found:
                raise CheckpointError(
                    f"{entry.value} offers {system.name}, a name that is taken.", "Rename the file in that package."
                )
            found[system.name] = system
    return types.MappingProxyType(found)


def _parsed(text: str, name: str, where: str) -> System:
    try:
        document = parse_toml(text)
    except ValueError as error:
        raise CheckpointError(f"{where} can't be read as TOML: {error}.", "Correct the file.") from error
    return parse_layout(document, name, where)


def _pattern(name: str, place: str) -> str:
    """A pattern that takes time in proportion to the name that it is held against: literal text and whole numbers."""
    segments = name.split(".")
    if len(name) > _MAX_NAME or not all(segments) or re.search(r"\s", name) or segments.count("*") > _MAX_STARS:
        raise CheckpointError(
            f"{place}: {name[:80]!r} is no name of a tensor.",
            f"Write segments with dots between, at most {_MAX_NAME} characters and {_MAX_STARS} times *.",
        )
    if any("*" in segment and segment != "*" for segment in segments):
        raise CheckpointError(f"{place}: {name!r} has * within a word.", "A * stands for a whole segment, a number.")
    return r"\.".join(r"\d+" if segment == "*" else re.escape(segment) for segment in segments)


def _rename(name: str, canonical: str, place: str) -> tuple[str, str]:
    """Pattern and replacement; the numbers go over in order."""
    pattern = _pattern(name, place).replace(r"\d+", r"(\d+)")
    _pattern(canonical, place)
    if name.count("*") != canonical.count("*"):
        raise CheckpointError(f"{place}: {name!r} and {canonical!r} differ in their numbers of *.", "Correct one.")
    numbers = iter(range(1, _MAX_STARS + 1))
    parts = (rf"\g<{next(numbers)}>" if part == "*" else part.replace("\\", r"\\") for part in canonical.split("."))
    return rf"{pattern}(?=\.|$)", ".".join(parts)
