"""From a spec to a backbone: a file, a folder, a built-in, a timm name, a function of one's own."""

import contextlib
import gc
import hashlib
import importlib
import json
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from corrkit.backbones.contract import Backbone, Interface, Report
from corrkit.errors import CheckpointError, UsageError, closest

if TYPE_CHECKING:
    from corrkit.backbones.building import Built
    from corrkit.backbones.framewise import Framewise
    from corrkit.checkpoints.opening import Opened, Pages
    from corrkit.checkpoints.recognised import Recognised
    from corrkit.checkpoints.system import System

BUILT_IN = {"rgb": "RgbCells", "hog": "HogCells"}
"""Backbones without weights, in `corrkit.backbones.cells`."""

SHIPPED = {"demo": Path(__file__).parent / "demo" / "demo.pth"}
"""Checkpoints that come with corrkit; their folders say how they were trained."""

_PREFIXES = ("random:", "timm:", "hf:", "py:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """Options of loading: what a checkpoint can't tell, or the user chooses. None: not given.

    heads: attention heads; of networks in stages the first stage's. layer: layer to evaluate. key: dotted path of the
    branch, in a file that holds several networks. window: frames that a video network sees at a time. system: name of
    the system, where a file fits several. layout: path of a layout file (`checkpoints.layout_files`).
    """

    heads: int | None = None
    layer: int | str | None = None
    key: str | None = None
    window: int | None = None
    system: str | None = None
    layout: str | Path | None = None

    @property
    def given(self) -> dict[str, int | str | Path]:
        """Name to value of those that were given."""
        options = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in options.items() if value is not None}

    def refuse(self, spec: str | Path) -> None:
        """Raises CheckpointError where one was given, for a spec that takes none."""
        if self.given:
            words = " and no ".join(self.given)
            raise CheckpointError(f"{spec} takes no {words}.", "Leave these options out.")


NO_OPTIONS = Loading()


def load_backbone(
    spec: str | Path,
    *,
    heads: int | Sequence[int] | None = None,
    layer: int | str | None = None,
    key: str | None = None,
    window: int | None = None,
    system: str | None = None,
    layout: str | Path | None = None,
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
        layout: path of a layout file (TOML), for names that corrkit doesn't know.

    Raises:
        CheckpointError: nothing at that path, an unknown spec, or a file that doesn't load completely. Only "random:"
            makes weights up.
    """
    first = heads[0] if isinstance(heads, Sequence) else heads
    return load(spec, Loading(heads=first, layer=layer, key=key, window=window, system=system, layout=layout))


def load(spec: str | Path, loading: Loading) -> Backbone:
    """See `load_backbone`."""
    text = str(spec)
    if text in BUILT_IN:
        loading.refuse(text)
        made: Backbone = getattr(importlib.import_module("corrkit.backbones.cells"), BUILT_IN[text])()
        return made
    if text.startswith("py:"):
        from corrkit.backbones.own_code import from_function

        loading.refuse(text)
        return from_function(text)
    if text.startswith(("random:", "timm:")):
        from corrkit.backbones import timm_models

        loading.refuse(text)
        return _ready(timm_models.load(text))
    return _from_files(text, loading)


def examine(spec: str | Path, loading: Loading) -> Backbone:
    """As `load`, for a report: the weights of a single file keep its precision, so that looking copies nothing."""
    if loading.window is None and _names_one_file(str(spec)):
        return _layers(spec, loading)(loading.layer)
    return load(spec, loading)


def examine_opened(opened: "Opened", loading: Loading) -> "Framewise":
    """As `examine`, of a file that is open."""
    return _layers_of_any(opened, loading)(loading.layer)


def open_layers(spec: str | Path, loading: Loading) -> "Callable[[int | str | None], Framewise]":
    """Opens a file once; what is returned makes the backbone of each of its layers that is asked for.

    Args:
        spec: a file or folder, "demo" or "hf:...".
        loading: heads and key are obeyed, layer and window are not.

    Raises:
        CheckpointError: as `load_backbone`, when opening or when a layer is asked for.
        UsageError: for a spec that names no single file.
    """
    text = str(spec)
    if not _names_one_file(text) and (text in BUILT_IN or text.startswith(_PREFIXES) or _pair(text)):
        raise UsageError(f"{spec} has no layers to choose from.", "Leave --layers out.")
    opened = open_spec(spec)
    layers = _layers_of_any(opened, loading)
    return lambda layer: _ready(layers(layer), opened.pages)


def from_opened(opened: "Opened") -> "Framewise":
    """A backbone from an opened file, or from the same tree in memory. Raises CheckpointError."""
    return _ready(_layers_of(opened, NO_OPTIONS)(None), opened.pages)


def open_spec(spec: str | Path) -> "Opened":
    """Opens what names a single checkpoint: a file or folder, "demo" or "hf:...". Raises CheckpointError."""
    text = str(spec)
    if text.startswith("hf:"):
        from corrkit.backbones.hub import open_model

        return open_model(text.removeprefix("hf:"))
    from corrkit.checkpoints.opening import open_checkpoint

    path = Path(SHIPPED.get(text, text))
    if not path.exists():
        if text in BUILT_IN or text.startswith(_PREFIXES) or _pair(text):
            raise CheckpointError(
                f"{text} names no single checkpoint.", "Name a file or folder, demo or hf:OWNER/NAME."
            )
        raise _nothing_there(text)
    return open_checkpoint(path)


def _names_one_file(spec: str) -> bool:
    """Whether `open_spec` takes a spec."""
    if spec.startswith(("random:", "timm:", "py:")) or spec in BUILT_IN:
        return False
    return spec.startswith("hf:") or spec in SHIPPED or Path(spec).exists()


def _pair(path: str) -> list[Path]:
    """The two files that FILE+FILE names, where both are there."""
    parts = [Path(part) for part in path.split("+")]
    return parts if not Path(path).exists() and len(parts) == 2 and all(part.exists() for part in parts) else []


def _from_files(path: str, loading: Loading) -> Backbone:
    """A backbone from a file or folder of any known system, or from two files joined by +."""
    if pair := _pair(path):
        from corrkit.backbones.fusion import fuse

        loading.refuse(path)
        return fuse(*(_loaded(part, loading) for part in pair))
    backbone = _loaded(path, loading)
    if loading.window is None:
        return backbone
    from corrkit.backbones.windowed import Windowed

    return Windowed(backbone, loading.window)


def _loaded(spec: str | Path, loading: Loading) -> "Framewise":
    """The backbone of one layer; nothing else holds on to what the file has beside it."""
    opened = open_spec(spec)
    pages, backbone = opened.pages, _layers_of_any(opened, loading)(loading.layer)
    del opened
    gc.collect()  # what recognising found refers to itself, and to all tensors
    return _ready(backbone, pages)


def _ready(backbone: "Framewise", pages: "Pages | None" = None) -> "Framewise":
    """With its weights in float32; the memory of mapped bytes that were converted is given back."""
    from corrkit.backbones.building import to_float32

    to_float32(backbone.network, pages.release if pages is not None else lambda _: None)
    return backbone


def _layers(spec: str | Path, loading: Loading) -> "Callable[[int | str | None], Framewise]":
    """Opens a file; see `open_layers`. The weights keep its precision."""
    return _layers_of_any(open_spec(spec), loading)


def _layers_of_any(opened: "Opened", loading: Loading) -> "Callable[[int | str | None], Framewise]":
    from corrkit.checkpoints.heads import entry

    if entry(opened.config, "architecture") is not None:  # timm's config.json
        from corrkit.backbones import timm_models

        if name := timm_models.named_by_config(opened):
            replace(loading, layer=None, window=None).refuse(opened.path)
            return lambda layer: timm_models.fill(name, opened, layer)
    return _layers_of(opened, loading)


def _layers_of(opened: "Opened", loading: Loading) -> "Callable[[int | str | None], Framewise]":
    from corrkit.checkpoints.recognition import recognise

    with _names_of_timm(opened):
        recognised = recognise(opened, loading.key, loading.system, own_system(loading))
    build: Callable[..., Built] = pkgutil.resolve_name(recognised.system.build)

    def backbone(layer: int | str | None) -> "Framewise":
        with _names_of_timm(opened):
            built = build(recognised, heads=loading.heads, layer=layer)
        options = replace(loading, layer=layer, window=None, layout=None)
        return _backbone(built, recognised, _digest(opened.digest, options, recognised.system.digest))

    return backbone


def own_system(loading: Loading) -> "System | None":
    """What the layout file among the options describes. Raises CheckpointError."""
    if loading.layout is None:
        return None
    if loading.system is not None:
        raise CheckpointError(f"--system {loading.system} and --layout exclude each other.", "Use one of them.")
    from corrkit.checkpoints.layout_files import read_layout

    return read_layout(Path(loading.layout))


@contextlib.contextmanager
def _names_of_timm(opened: "Opened") -> Iterator[None]:
    """Where a file is no network that is known: the error with the architectures of timm that it is nearest to."""
    from corrkit.checkpoints import timm_names
    from corrkit.checkpoints.completeness import UnknownNetworkError
    from corrkit.checkpoints.naming import flatten

    try:
        yield
    except UnknownNetworkError as error:
        near = timm_names.nearest(flatten(opened.tree))
        remedy = f"{error.remedy} Nearest of timm's: {', '.join(near)}." if near else error.remedy
        raise CheckpointError(error.problem, remedy) from error


def _backbone(built: "Built", recognised: "Recognised", digest: str) -> "Framewise":
    from corrkit.backbones.framewise import Framewise
    from corrkit.backbones.recurrent import Recurrent

    kinds: dict[str, type[Framewise]] = {"framewise": Framewise, "recurrent": Recurrent}
    interface = Interface(
        stride=built.stride,
        multiple=built.multiple,
        mean=recognised.mean,
        std=recognised.std,
        colour=built.colour,
        mode=built.mode,
        report=report(built, recognised),
        digest=digest,
    )
    return kinds[built.mode.kind](built.network, interface)


def report(built: "Built", recognised: "Recognised") -> Report:
    """Every decision of recognising and building, in one record."""
    from corrkit.checkpoints.pretraining import pretraining

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
        pretraining=pretraining(recognised.tree),
    )


def _digest(file: str, loading: Loading, layout: str) -> str:
    """The file's own sha256 where neither option nor layout file (its digest) changes what is made of it."""
    given = {name: str(value) for name, value in loading.given.items()} | ({"layout": layout} if layout else {})
    return hashlib.sha256(json.dumps([file, given], sort_keys=True).encode()).hexdigest() if given else file


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
