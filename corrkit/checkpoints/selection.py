"""Which system a network is of: by marks that only its files bear, or a question to the user."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from corrkit.checkpoints import configuration, heads
from corrkit.checkpoints.branches import Candidate
from corrkit.checkpoints.completeness import UnknownNetworkError, ways_on
from corrkit.checkpoints.layout_files import installed
from corrkit.checkpoints.opening import Opened
from corrkit.checkpoints.registry import SYSTEMS
from corrkit.checkpoints.system import System
from corrkit.checkpoints.unrecognised import plain
from corrkit.errors import CheckpointError, closest

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Selection:
    """A system, the reading of the file that it takes, and the marks that tell it, in words."""

    reading: Candidate
    system: System
    marks: tuple[str, ...]


def relative(tensors: "Mapping[str, Tensor]", prefix: str) -> "dict[str, Tensor]":
    """The tensors under a prefix, by what follows it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def first(pattern: str, names: Iterable[str]) -> str | None:
    """The first name that a pattern fits."""
    compiled = re.compile(pattern)
    return next((name for name in names if compiled.fullmatch(name)), None)


def select(
    readings: Sequence[Candidate], tensors: "Mapping[str, Tensor]", opened: Opened, named: str | None = None
) -> Selection:
    """The system that a network is of, with the reading of the file that it takes.

    Args:
        readings: of the same network, in several layouts.
        tensors: of the whole file.
        opened: the file.
        named: the system by the user's word; only its layout must fit.

    Raises:
        CheckpointError: no system has these names, two with other features have and no mark tells them apart, the
            config beside the file is of another kind of model, or the named system has other names.
    """
    if named is not None:
        return _named(named, readings, opened)
    every = fitting(readings, tensors, opened)
    kind = configuration.model_type(opened.config)
    if kind is not None:
        every = [found for found in every if kind in found.system.model_types]
    possible: list[Selection] = []
    for found in every:
        if found.system.certain is None:
            if possible:
                break
            return found
        mark = found.system.certain(opened)
        if mark is not None or kind is not None:
            return Selection(found.reading, found.system, (*found.marks, *([mark] if mark else [])))
        possible.append(found)
    if possible:
        unmarked = [found for found in every if found.system.certain is None and found.system.distinction][:1]
        raise _question([*possible, *unmarked], opened)
    if kind is not None and not any(kind in system.model_types for system in SYSTEMS.values()):
        raise _other_model(kind, readings, opened)
    raise _no_system(readings, tensors, opened, kind)


def fitting(readings: Sequence[Candidate], tensors: "Mapping[str, Tensor]", opened: Opened) -> list[Selection]:
    """Every system whose signs are all there, in the order of the registry."""
    relatives = [(reading, relative(tensors, reading.prefix)) for reading in readings]
    kind = configuration.model_type(opened.config)
    found = []
    for system in SYSTEMS.values():
        told = system.told(opened) if system.told else ""
        if told is None or not _config_fits(system, opened):
            continue
        pairs = (pair for layout in system.layouts for pair in relatives if pair[0].layout == layout)
        for reading, names in pairs:
            marks = _marks(system, names, tensors)
            if marks is not None:
                words = [f"config.json, {name}" for name in system.config] + marks + ([told] if told else [])
                if kind is not None and kind in system.model_types:
                    words.append(f"the config beside the file, model_type {kind}")
                found.append(Selection(reading, system, tuple(words)))
                break
    return found


def _marks(system: System, names: "Mapping[str, Tensor]", tensors: "Mapping[str, Tensor]") -> list[str] | None:
    """What of a network's names the entry asks for, None where something lacks or shouldn't be there."""
    found = [first(sign, names) for sign in system.signs] + [first(sign, tensors) for sign in system.beside]
    if None in found or any(first(sign, names) for sign in system.without):
        return None
    if not all(_shaped(pattern, shape, names) for pattern, shape in system.shapes.items()):
        return None
    return [str(name) for name in found] + list(system.shapes)


def _config_fits(system: System, opened: Opened) -> bool:
    values = {name: heads.entry(opened.config, name) for name in system.config}
    return all(
        values[name] in allowed or (not allowed and values[name] is not None) for name, allowed in system.config.items()
    )


def _shaped(pattern: str, shape: tuple[int | None, ...], names: "Mapping[str, Tensor]") -> bool:
    """Whether some tensor of that name has the shape."""
    return any(
        len(shape) == tensor.ndim and all(want in (None, have) for want, have in zip(shape, tensor.shape, strict=True))
        for name, tensor in names.items()
        if re.fullmatch(pattern, name)
    )


def _named(name: str, readings: Sequence[Candidate], opened: Opened) -> Selection:
    if name not in SYSTEMS:
        raise CheckpointError(f"There is no system {name!r}.", closest(name, [*SYSTEMS, *installed()]))
    system = SYSTEMS[name]
    for layout in system.layouts:
        for reading in readings:
            if reading.layout == layout:
                return Selection(reading, system, ("named with --system",))
    fit = [other.name for other in SYSTEMS.values() if any(reading.layout in other.layouts for reading in readings)]
    raise CheckpointError(
        f"{opened.path} has {readings[0].layout.name} names, not those of {name} ({system.layouts[0].name}).",
        f"Systems with such names: {', '.join(fit)}.",
    )


def _question(possible: Sequence[Selection], opened: Opened) -> CheckpointError:
    listed = "; ".join(f"{found.system.name} ({found.system.distinction})" for found in possible)
    return CheckpointError(
        f"{opened.path} has {possible[0].reading.layout.name} names, which fit systems with different features, and "
        f"nothing in the file tells them apart: {listed}.",
        f"Say which it is: {' or '.join(f'--system {found.system.name}' for found in possible)}. {ways_on()}",
    )


def _other_model(kind: str, readings: Sequence[Candidate], opened: Opened) -> CheckpointError:
    """Names that a known layout has, beside the config of a model that isn't known to have them."""
    alike = [s.name for s in SYSTEMS.values() if any(reading.layout in s.layouts for reading in readings)]
    return CheckpointError(
        f"{opened.path} has {readings[0].layout.name} names, but the config beside it is of model_type {kind!r} "
        "(transformers), whose features corrkit isn't known to reproduce.",
        f"{ways_on()} If it computes what a system with the same names does: --system, one of {', '.join(alike)}.",
    )


def _no_system(
    readings: Sequence[Candidate], tensors: "Mapping[str, Tensor]", opened: Opened, kind: str | None
) -> CheckpointError:
    """The error for names that no system has in this combination; it says what each would need.

    `kind`: model type of the config beside the file, which only its own systems are compared with.
    """
    lacking = []
    systems = [system for system in SYSTEMS.values() if kind is None or kind in system.model_types]
    for system in systems:
        for reading in readings:
            if reading.layout in system.layouts:
                names = relative(tensors, reading.prefix)
                absent = next((sign for sign in (*system.signs, *system.shapes) if first(sign, names) is None), None)
                extra = next((name for sign in system.without if (name := first(sign, names))), None)
                here = reading.prefix + (plain(absent) if absent else extra or "")
                why = f"{here} is missing" if absent else f"{here} is too many" if extra else "others beside it"
                lacking.append(f"{system.name} ({why})")
    lacking = lacking or [f"{system.name} (other names)" for system in systems]
    alike = "" if kind is None else f", with the config of {kind!r} beside it,"
    return UnknownNetworkError(
        f"{opened.path} has {readings[0].layout.name} names in a combination that{alike} no known system has: it isn't "
        f"{', '.join(dict.fromkeys(lacking))}.",
        ways_on(),
    )
