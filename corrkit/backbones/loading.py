"""From a spec to a backbone: a file, a folder, a built-in, a timm name, a function of one's own."""

import hashlib
import importlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corrkit.backbones.contract import Backbone, Report
from corrkit.errors import CheckpointError, CorrkitError, closest

if TYPE_CHECKING:
    from corrkit.backbones.building import Built
    from corrkit.backbones.framewise import Framewise
    from corrkit.checkpoints.opening import Opened
    from corrkit.checkpoints.recognition import Recognised

BUILT_IN = {"rgb": "RgbCells", "hog": "HogCells"}
"""Backbones without weights, in `corrkit.backbones.cells`."""

SHIPPED = {"demo": Path(__file__).parent / "demo" / "demo.pth"}
"""Checkpoints that come with corrkit; their folders say how they were trained."""

_PREFIXES = ("random:", "timm:", "hf:", "py:")


def load_backbone(
    spec: str | Path,
    *,
    heads: int | Sequence[int] | None = None,
    layer: int | str | None = None,
    key: str | None = None,
    window: int | None = None,
    system: str | None = None,
) -> Backbone:
    """A frozen backbone from a spec.

    Args:
        spec: a file or folder, "demo" (the checkpoint that comes with corrkit), "rgb", "hog",
            "random:TIMM_NAME[@SEED]", "timm:TIMM_NAME=FILE", "hf:OWNER/NAME[@REVISION]", "py:FILE.py:FUNCTION" (returns
            a module or backbone), or "a.pth+b.pth" for a system that needs two files.
        heads: attention heads, where the file can't tell; of networks in stages the first stage's, alone or with the
            others, which follow from it.
        layer: layer to evaluate; None takes the system's default. ViTs count blocks, others stages, both from 1.
        key: dotted path of the branch, in a file that holds several networks.
        window: frames that a video network sees at a time; None: each frame on its own.
        system: name of the system (docs/checkpoints.md), where a file fits several.

    Raises:
        CheckpointError: nothing at that path, an unknown spec, or a file that doesn't load completely. Only "random:"
            makes weights up.
    """
    text = str(SHIPPED.get(str(spec), spec))
    heads = heads[0] if isinstance(heads, Sequence) else heads
    options = {"heads": heads, "layer": layer, "key": key, "window": window, "system": system}
    kind = next((prefix for prefix in _PREFIXES if text.startswith(prefix)), None)
    if text in BUILT_IN:
        _refuse_options(text, options)
        made: Backbone = getattr(importlib.import_module("corrkit.backbones.cells"), BUILT_IN[text])()
        return made
    if kind is None:
        return load_file(text, heads=heads, layer=layer, key=key, window=window, system=system)
    if kind == "hf:":
        from corrkit.backbones.hub import download

        return load_file(
            download(text.removeprefix("hf:")), heads=heads, layer=layer, key=key, window=window, system=system
        )
    _refuse_options(text, options)
    if kind == "py:":
        return _from_function(text)
    from corrkit.backbones import timm_models

    return timm_models.load(text)


def load_file(
    path: str | Path,
    *,
    heads: int | None = None,
    layer: int | str | None = None,
    key: str | None = None,
    window: int | None = None,
    system: str | None = None,
) -> Backbone:
    """A backbone from a file or folder of any known system, or from two files joined by +.

    Raises:
        CheckpointError: as `load_backbone`.
    """
    parts = [Path(part) for part in str(path).split("+")]
    if not Path(path).exists() and len(parts) == 2 and all(part.exists() for part in parts):
        from corrkit.backbones.fusion import fuse

        _refuse_options(str(path), {"heads": heads, "layer": layer, "key": key, "window": window, "system": system})
        return fuse(*(_from_file(part, None, None, None, None) for part in parts))
    if not Path(path).exists():
        raise _nothing_there(str(path))
    backbone = _from_file(path, heads, layer, key, system)
    if window is None:
        return backbone
    from corrkit.backbones.windowed import Windowed

    return Windowed(backbone, window)


def _from_file(
    path: str | Path, heads: int | None, layer: int | str | None, key: str | None, system: str | None
) -> "Framewise":
    from corrkit.checkpoints.heads import entry
    from corrkit.checkpoints.opening import open_checkpoint

    opened = open_checkpoint(path)
    if entry(opened.config, "architecture") is not None:  # timm's config.json
        from corrkit.backbones import timm_models

        if name := timm_models.named_by_config(opened):
            _refuse_options(str(path), {"heads": heads, "key": key, "system": system})
            return timm_models.fill(name, opened, layer)
    return from_opened(opened, heads=heads, layer=layer, key=key, system=system)


def from_opened(
    opened: "Opened",
    *,
    heads: int | None = None,
    layer: int | str | None = None,
    key: str | None = None,
    system: str | None = None,
) -> "Framewise":
    """A backbone from an opened file, or from the same tree in memory. Raises CheckpointError."""
    from corrkit.checkpoints.completeness import UnknownNetworkError
    from corrkit.checkpoints.recognition import recognise

    try:
        recognised = recognise(opened, key, system)
        module, function = recognised.system.build.split(":")
        built: Built = getattr(importlib.import_module(module), function)(recognised, heads=heads, layer=layer)
    except UnknownNetworkError as error:
        raise _with_names_of_timm(error, opened) from error
    digest = _digest(opened.digest, {"heads": heads, "layer": layer, "key": key, "system": system})
    return _backbone(built, recognised, digest)


def _with_names_of_timm(error: CheckpointError, opened: "Opened") -> CheckpointError:
    """The error with the architectures of timm that the file is nearest to."""
    from corrkit.checkpoints import timm_names
    from corrkit.checkpoints.naming import flatten

    near = timm_names.nearest(flatten(opened.tree))
    return CheckpointError(error.problem, f"{error.remedy} Nearest of timm's: {', '.join(near)}.") if near else error


def _backbone(built: "Built", recognised: "Recognised", digest: str) -> "Framewise":
    from corrkit.backbones.framewise import Framewise
    from corrkit.backbones.recurrent import Recurrent

    kinds: dict[str, type[Framewise]] = {"framewise": Framewise, "recurrent": Recurrent}
    return kinds[built.mode.kind](
        built.network,
        stride=built.stride,
        mean=recognised.mean,
        std=recognised.std,
        report=report(built, recognised),
        digest=digest,
        multiple=built.multiple,
        input_colour=getattr(recognised.system.rules, "colour", "rgb"),
    )


def report(built: "Built", recognised: "Recognised") -> Report:
    """Every decision of recognising and building, in one record."""
    return Report(
        system=recognised.system.name,
        architecture=built.architecture,
        parameters=sum(parameter.numel() for parameter in built.network.parameters()),
        layer=built.layer,
        tensors_used=recognised.used,
        tensors_total=recognised.total,
        position=built.position,
        dropped=recognised.dropped,
        evidence=(*recognised.evidence, *built.evidence),
        notes=(*recognised.notes, *built.notes),
    )


def _digest(file: str, options: dict[str, Any]) -> str:
    """The file's own sha256 where no option changes what is made of it."""
    given = {name: str(value) for name, value in options.items() if value is not None}
    return hashlib.sha256(json.dumps([file, given], sort_keys=True).encode()).hexdigest() if given else file


def _from_function(spec: str) -> Backbone:
    """Runs the user's own file, as any script of theirs, and wraps what its function returns."""
    import runpy

    match = re.fullmatch(r"py:(.+\.py):(\w+)", spec)
    if match is None:
        raise CheckpointError(f"{spec!r} doesn't name a file and a function.", "Write py:FILE.py:FUNCTION.")
    path, name = match.groups()
    if not Path(path).is_file():
        raise CheckpointError(f"{path} doesn't exist.", "Give the path of a Python file: py:FILE.py:FUNCTION.")
    try:
        function = runpy.run_path(path).get(name)
        made = function() if callable(function) else None
    except CorrkitError:
        raise
    except Exception as error:  # the user's own code: whatever it raises is theirs to mend
        raise CheckpointError(
            f"{spec} raises {type(error).__name__}: {error}", "Correct the file; --debug shows the traceback."
        ) from error
    if not callable(function):
        raise CheckpointError(f"{path} has no function {name!r}.", "Write py:FILE.py:FUNCTION.")
    if isinstance(made, Backbone):
        return made
    from torch import nn

    from corrkit.backbones.wrapped import wrap

    if not isinstance(made, nn.Module):
        raise CheckpointError(
            f"{name} of {path} returns {type(made).__name__}, not a module or backbone.",
            "Return an nn.Module, or corrkit.wrap(module, patch=...).",
        )
    return wrap(made)


def _nothing_there(spec: str) -> CheckpointError:
    if "+" in spec:
        absent = [part for part in spec.split("+") if not Path(part).exists()]
        return CheckpointError(f"{' and '.join(absent)} of {spec!r} doesn't exist.", "Write FILE+FILE.")
    looks_like_path = "/" in spec or "." in spec
    if looks_like_path or ":" in spec:
        known = f"A spec that is no path starts with {', '.join(_PREFIXES)}." if ":" in spec else "Check the path."
        return CheckpointError(f"{spec} doesn't exist.", known)
    return CheckpointError(
        f"{spec!r} is neither a file nor a known spec.",
        closest(spec, [*SHIPPED, *BUILT_IN, *_PREFIXES]) + " Untrained networks: random:TIMM_NAME.",
    )


def _refuse_options(spec: str, options: dict[str, Any]) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise CheckpointError(f"{spec} takes no {' and no '.join(given)}.", "Leave these options out.")
