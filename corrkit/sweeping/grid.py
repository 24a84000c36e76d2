"""Which settings a sweep tries: values of constants one by one, or the grid of a paper."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import Any

from corrkit.constants import Reader, packaged
from corrkit.errors import UsageError, closest
from corrkit.protocols import Protocol, load_protocol, override

AXES = ("temperature", "topk", "context", "radius", "shape", "size")
"""Constants that can be swept, in the order of columns."""
Values = Mapping[str, Sequence[object]]
"""Axis to its values; of a radius also "none", for no window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A grid that a paper searched.

    task, protocol: what it changes. default: constants of the setting that the others are compared with, over those of
    the protocol. grids: each gives all combinations of its axes, over the default. source: where it was read.
    """

    task: str
    protocol: str
    summary: str
    source: str
    default: MappingProxyType[str, Any]
    grids: tuple[MappingProxyType[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Settings, each a protocol and each there once; the default is one of them.

    Attributes:
        settings: in the order in which they were asked for.
        default: place of the setting that the others are compared with.
        axes: the constants in which they differ.
    """

    settings: tuple[Protocol, ...]
    default: int
    axes: tuple[str, ...]

    def values(self, setting: Protocol) -> dict[str, object]:
        """Axis to the value of a setting, as it is shown: a number, "none" for no window, "480" or "480x880"."""
        return {axis: _value(setting, axis) for axis in self.axes}


def preset_names() -> list[str]:
    """Those that come with corrkit."""
    folder = resources.files("corrkit.sweeping").joinpath("presets")
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))


def load_preset(name: str, task: str) -> Preset:
    """A paper's grid. Raises UsageError for an unknown one, or one of another task."""
    if name not in preset_names():
        raise UsageError(f"There is no preset {name!r}.", closest(name, preset_names()))
    document = packaged("corrkit.sweeping", f"presets/{name}.toml")
    preset = Reader(f"presets/{name}.toml", UsageError).read(Preset, document)
    if preset.task != task:
        raise UsageError(f"The preset {name} is for {preset.task}, not for {task}.", f"Sweep {preset.task} with it.")
    return preset


def grid_of(base: Protocol, values: Values, preset: Preset | None = None) -> Grid:
    """The settings of a sweep.

    Args:
        base: the protocol with the overrides that all settings have.
        values: of each axis; all combinations are tried, each with every setting of the preset.
        preset: over `base`, which is the preset's protocol.

    Raises:
        UsageError: an axis has a value twice, or a radius no window to change.
        ProtocolError: a value that a constant can't have.
    """
    for axis, given in values.items():
        if len({str(value) for value in given}) < len(given):
            raise UsageError(f"--{_option(axis)} names a value twice.", "Name each value once.")
    default = override(base, dict(preset.default)) if preset else base
    rows = [dict[str, object]()] if preset is None else [row for grid in preset.grids for row in _combined(grid)]
    chosen = [{**row, **further} for row in rows for further in _combined(values)]
    settings: list[Protocol] = []
    for setting in (*(override(default, _changes(default, row)) for row in chosen), default):
        if setting not in settings:
            settings.append(setting)
    return Grid(settings=tuple(settings), default=settings.index(default), axes=_axes(settings))


def _combined(values: Mapping[str, Sequence[object]]) -> Iterator[dict[str, object]]:
    """All combinations of the axes that have values."""
    given = {axis: one for axis, one in values.items() if one}
    for row in itertools.product(*given.values()):
        yield dict(zip(given, row, strict=True))


def _changes(default: Protocol, row: Mapping[str, object]) -> dict[str, object]:
    """Overrides that make a row of the grid."""
    changes = dict(row)
    if changes.get("radius") == "none":
        return {**changes, "radius": default.affinity.radius, "shape": "none"}
    if "radius" in changes and changes.get("shape", default.affinity.shape) == "none":
        raise UsageError(
            f"{default.identifier} has no window, so that a radius changes nothing.", "Add --set shape=circle."
        )
    return changes


def _axes(settings: Sequence[Protocol]) -> tuple[str, ...]:
    """Those in which settings differ; the shape only where windows do."""
    differing = [axis for axis in AXES if len({_value(setting, axis) for setting in settings}) > 1]
    shapes = {setting.affinity.shape for setting in settings} - {"none"}
    if "radius" in differing and len(shapes) < 2:
        differing = [axis for axis in differing if axis != "shape"]
    return tuple(differing)


def _value(setting: Protocol, axis: str) -> object:
    if axis == "size":
        return "x".join(map(str, setting.frames.size))
    if axis == "context":
        return setting.memory.context
    if axis == "radius":
        radius = setting.affinity.radius
        return "none" if setting.affinity.shape == "none" else int(radius) if radius == int(radius) else radius
    return getattr(setting.affinity, axis)


def _option(axis: str) -> str:
    return "resolution" if axis == "size" else axis


def base_of(task: str, protocol: str | Protocol | None, preset: Preset | None, default: str) -> str | Protocol:
    """The protocol that is swept. Raises UsageError where a preset's own and another one are asked for."""
    if preset is None:
        return protocol or default
    if protocol is not None:
        raise UsageError("A preset has a protocol of its own.", "Leave --protocol out, or the preset.")
    return load_protocol(preset.protocol, task)
