"""From a spec, backbone or module to a predictor, and the device it runs on."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from corrkit.backbones.contract import Backbone, network_of
from corrkit.backbones.loading import NO_OPTIONS, Loading, load
from corrkit.backbones.precision import Precision, require_precision
from corrkit.errors import UsageError
from corrkit.files.jsontext import Json
from corrkit.predictors.contract import Predictor
from corrkit.predictors.propagator import Propagator
from corrkit.predictors.references import Identity, Oracle

if TYPE_CHECKING:
    import torch


_SAYS_NOTHING = re.compile(
    r"(?:(?:pytorch|tf|flax)[-_]?)?(?:checkpoints?|ckpts?|weights?|models?|last|best|latest|final|epoch|step|iter(?:ation)?"
    r"|state|network|net|encoder|backbone|snapshots?|files)(?:[-_]?(?:checkpoint|ckpt|model|weights|epoch|state|dict))*"
    r"(?P<number>[-_=.]?\d+)?"
)
"""File and folder names that hold the checkpoint of any training run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be evaluated, by its spec: another process makes the same predictors of it.

    spec, device, loading, precision: as for `make_predictor`. further: specs of other checkpoints beside it. layers: as
    for `layer_predictors`, or None. name, seed_of: as for `Predictor.declare`.
    """

    spec: str | Path
    further: tuple[str | Path, ...] = ()
    device: str = "auto"
    loading: Loading = NO_OPTIONS
    precision: Precision = "float32"
    layers: tuple[str, ...] | None = None
    name: str | None = None
    seed_of: str | None = None

    def predictors(self) -> list[Predictor]:
        """One predictor of each spec, or one for each layer. Raises as `make_predictor` and `layer_predictors` do."""
        return [predictor for spec in (self.spec, *self.further) for predictor in self._of(spec)]

    def _of(self, spec: str | Path) -> list[Predictor]:
        if self.layers is not None:
            return layer_predictors(
                str(spec), self.layers, device=self.device, loading=self.loading, precision=self.precision
            )
        predictor = make_predictor(spec, device=self.device, loading=self.loading, precision=self.precision)
        predictor.declare(self.name, self.seed_of)
        return [predictor]


def make_predictor(
    model: "str | Path | Backbone | torch.nn.Module | Predictor",
    *,
    device: str = "auto",
    loading: Loading = NO_OPTIONS,
    precision: Precision = "float32",
) -> Predictor:
    """The predictor of a spec, backbone or module.

    Args:
        model: see `corrkit.evaluate`.
        device: see `resolve_device`.
        loading: options of loading a spec.
        precision: of the network's products.

    Raises:
        CheckpointError: for a spec that gives no backbone.
        UsageError: for an unknown device, a precision that it hasn't, or options of loading with a live model.
    """
    if loading.given and not isinstance(model, str | Path):
        raise UsageError(f"{', '.join(loading.given)}: options of loading.", "Leave them out for a live model.")
    reference = _reference(model, loading)
    if reference is not None:
        if precision != reference.precision:
            raise UsageError(f"{reference.name} doesn't work in {precision}.", "Leave --precision out.")
        return reference
    target = resolve_device(device)
    require_precision(precision, target)  # before a checkpoint is opened
    if isinstance(model, str | Path):
        predictor = Propagator(load(model, loading), target, name=spec_name(model), precision=precision)
        predictor.origin = _origin(model, loading)
        if str(model).startswith("random:"):
            predictor.seed_of = re.sub(r"@\d+$", "", predictor.name)
        return predictor
    assert not isinstance(model, Predictor), "taken as it is"
    live = model if isinstance(model, Backbone) else _wrapped(model)
    predictor = Propagator(live, target, name=live.report.architecture, precision=precision)
    predictor.live = network_of(live)
    return predictor


def _reference(model: object, loading: Loading) -> Predictor | None:
    """A predictor that is given as it is, or one that needs neither device nor network; None for all others."""
    if isinstance(model, Predictor):
        return model
    if model == "identity":
        loading.refuse(model)
        return Identity()
    if isinstance(model, str) and model.partition("@")[0] == "oracle":
        loading.refuse(model)
        return _oracle(model)
    return None


def _wrapped(module: "torch.nn.Module") -> Backbone:
    from corrkit.backbones import wrap

    backbone: Backbone = wrap(module)
    return backbone


def spec_name(spec: str | Path) -> str:
    """A name for tables and run folders: a file's stem, or the spec with its separators replaced.

    A stem that says nothing (checkpoint, last, model, ...) gives way to the folder's name, or joins it where it says at
    least how far the training was (epoch_20).
    """
    path = Path(spec)
    if not path.exists():
        return re.sub(r"[^A-Za-z0-9._@+-]+", "-", str(spec))
    own = path.stem if path.is_file() else path.resolve().name
    telling = (folder.name for folder in path.resolve().parents if not _SAYS_NOTHING.fullmatch(folder.name.lower()))
    found = _SAYS_NOTHING.fullmatch(own.lower())
    folder = next(telling, "") if found else ""
    if not folder:
        return own
    return f"{folder}-{own}" if found and found["number"] else folder


def layer_predictors(
    spec: str,
    layers: Sequence[str],
    *,
    device: str = "auto",
    loading: Loading = NO_OPTIONS,
    precision: Precision = "float32",
) -> list[Predictor]:
    """One predictor per layer of a checkpoint, for `evaluate_together`: they share one pass of the network.

    Args:
        spec: a checkpoint file or folder.
        layers: numbers from 1, or ["all"].
        device: see `resolve_device`.
        loading: options of loading, without layer or window.
        precision: of the network's products.

    Raises:
        CheckpointError: as `corrkit.load_backbone`.
        UsageError: for a network without intermediate layers, or options that several layers exclude.
    """
    from corrkit.backbones.layers import load_layers

    target, name = resolve_device(device), spec_name(spec)
    require_precision(precision, target)
    predictors: list[Predictor] = []
    for backbone in load_layers(spec, layers, loading):
        own_name = f"{name}-layer{backbone.report.layer}"
        predictors.append(Propagator(backbone, target, name=own_name, precision=precision))
        predictors[-1].origin = _origin(spec, replace(loading, layer=backbone.report.layer))
    return predictors


def _origin(spec: str | Path, loading: Loading) -> dict[str, Json]:
    """What a run records, to be made again from elsewhere: a path that exists is made absolute."""
    options = {name: str(value) if isinstance(value, Path) else value for name, value in loading.given.items()}
    return {"spec": str(Path(spec).resolve()) if Path(spec).exists() else str(spec), **options}


def resolve_device(name: str) -> "torch.device":
    """Torch's device for "auto" or a torch device name. Raises UsageError for a device that this machine lacks."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        here = ["cpu"] + ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available()
        reason = str(error).splitlines()[0]
        if name.partition(":")[0] not in {"cpu", "cuda", "mps"}:
            reason = "there is no such kind; a GPU is cuda, Apple's mps"
        raise UsageError(
            f"The device {name!r} can't be used ({reason}).",
            f"--device takes what this machine has: {', '.join(here)}.",
        ) from None
    return device


def _oracle(spec: str) -> Oracle:
    """From "oracle", or "oracle@8" for the grid of another stride."""
    stride = spec.partition("@")[2]
    if not stride:
        return Oracle()
    if not stride.isdecimal() or int(stride) == 0:
        raise UsageError(f"{spec!r} does not name a stride.", "Write oracle@16 or oracle@8.")
    return Oracle(stride=int(stride))
