"""timm's networks as backbones: untrained ("random:"), or from files in timm's own names ("timm:", config.json)."""

import difflib
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from corrkit.backbones.contract import Interface, Report
from corrkit.backbones.framewise import Framewise
from corrkit.backbones.timm_arguments import architecture_arguments, statistics
from corrkit.checkpoints.heads import entry
from corrkit.checkpoints.statistics import Channels
from corrkit.errors import CheckpointError
from corrkit.files.jsontext import Json

if TYPE_CHECKING:
    from torch import Tensor, nn

    from corrkit.checkpoints.opening import Opened

_SHOWN = 6
_NAME = re.compile(r"\w+(\.\w+)?")  # architecture and tag: nothing that timm could take for a folder or an address
_MAX_BUFFERS = 64 << 20  # bytes beyond those of the file that what timm computes (masks, indices, angles) may take


def load(spec: str) -> Framewise:
    """The backbone of "random:TIMM_NAME[@SEED]" or "timm:TIMM_NAME=FILE".

    Raises:
        CheckpointError: a malformed spec, a name that timm doesn't know, or a file that doesn't fill the network.
    """
    untrained = re.fullmatch(r"random:([^@=]+)(?:@(\d+))?", spec)
    if untrained:
        name, seed = untrained[1], int(untrained[2] or 0)
        from corrkit.backbones.wrapped import state_digest

        model = _initialised(name, {}, seed)
        report = Report(system="random", architecture=name, parameters=0, pretraining="none")
        return _backbone(model, name, report, state_digest(model, name), statistics(None, _published(model)))
    from_file = re.fullmatch(r"timm:([^=]+)=(.+)", spec)
    if from_file:
        from corrkit.checkpoints.opening import open_checkpoint

        return fill(from_file[1], open_checkpoint(from_file[2]))
    raise CheckpointError(
        f"{spec!r} is malformed.", "Write random:TIMM_NAME, random:TIMM_NAME@SEED or timm:TIMM_NAME=FILE."
    )


def named_by_config(opened: "Opened") -> str | None:
    """The architecture that timm's config.json beside the weights names, where this timm has it; else None."""
    name = entry(opened.config, "architecture")
    if not isinstance(name, str) or entry(opened.config, "pretrained_cfg") is None:
        return None
    return name if _is_known(name) else None


def fill(name: str, opened: "Opened", layer: int | str | None = None) -> Framewise:
    """A timm network filled strictly from an opened file in timm's names, under whatever prefix.

    Args:
        name: as timm calls the architecture.
        opened: the file; statistics and arguments in a config.json beside it are obeyed.
        layer: block to stop after, of a plain ViT.

    Raises:
        CheckpointError: an unknown name, an argument in config.json that isn't one of the architecture, or tensors that
            are missing or of another shape.
    """
    from corrkit.checkpoints.naming import flatten
    from corrkit.checkpoints.opening import require_usable

    tensors = flatten(opened.tree)
    arguments = architecture_arguments(opened, len(tensors))
    blank = _on_meta(name, arguments)
    expected = blank.state_dict()
    some = next(iter(expected))
    prefixes = sorted({key.removesuffix(some) for key in tensors if key.endswith(some)}, key=len) or [""]
    state = next((found for prefix in prefixes if (found := _under(prefix, tensors, expected))), None)
    if state is None:
        raise _misfit(name, opened, tensors, expected, prefixes[0])
    _require_small(blank, opened)
    require_usable(state, opened.path)
    model = _filled(blank, name, arguments, state)
    unused = len(tensors) - len(state)
    report = Report(
        system="timm",
        architecture=name,
        parameters=0,
        tensors_used=len(state),
        tensors_total=len(tensors),
        dropped=(("all others", f"not in timm's {name} without its classifier ({unused})"),) if unused else (),
        notes=opened.notes,
    )
    digest = hashlib.sha256(f"{opened.digest} {name} {layer}".encode()).hexdigest()
    return _backbone(model, name, report, digest, statistics(opened, _published(model)), layer)


def _misfit(
    name: str, opened: "Opened", tensors: "Mapping[str, Tensor]", expected: "Mapping[str, Tensor]", prefix: str
) -> CheckpointError:
    absent = [prefix + key for key in expected if prefix + key not in tensors]
    wrong = [
        f"{prefix + key} {list(tensors[prefix + key].shape)} instead of {list(tensor.shape)}"
        for key, tensor in expected.items()
        if prefix + key in tensors and tensors[prefix + key].shape != tensor.shape
    ]
    what = f"{', '.join(absent[:_SHOWN])} missing" if absent else f"it has {', '.join(wrong[:_SHOWN])}"
    return CheckpointError(
        f"{opened.path} doesn't fill timm's {name}: {what}.",
        "Name the architecture that was trained, as timm calls it.",
    )


def _under(
    prefix: str, tensors: "Mapping[str, Tensor]", expected: "Mapping[str, Tensor]"
) -> "dict[str, Tensor] | None":
    """The network's tensors under a prefix, where all are there in the right shapes."""
    state = {key: tensors[prefix + key] for key in expected if prefix + key in tensors}
    complete = len(state) == len(expected) and all(state[key].shape == expected[key].shape for key in expected)
    return state if complete else None


def _filled(blank: "nn.Module", name: str, arguments: Mapping[str, Json], state: "Mapping[str, Tensor]") -> "nn.Module":
    """The network with the file's tensors; all but the plain ViT also hold values that only timm computes."""
    from timm.models.vision_transformer import VisionTransformer

    if type(blank) is VisionTransformer:
        blank.load_state_dict(state, assign=True)
        return blank.requires_grad_(False).eval()
    model = _initialised(name, arguments)
    model.load_state_dict(state)
    return model


def _require_small(blank: "nn.Module", opened: "Opened") -> None:
    """What a network holds beside the file's tensors is bounded by their size."""
    kept = {id(tensor) for tensor in blank.state_dict(keep_vars=True).values()}
    size = sum(tensor.nbytes for tensor in blank.state_dict().values())
    beside = sum(buffer.nbytes for buffer in blank.buffers() if id(buffer) not in kept)
    if beside > _MAX_BUFFERS + size:
        raise CheckpointError(
            f"{opened.path}: with the sizes in config.json timm would compute {beside:,} bytes of masks and tables, "
            f"for {size:,} bytes of weights.",
            "Check img_size in model_args.",
        )


def _initialised(name: str, arguments: Mapping[str, Json], seed: int = 0) -> "nn.Module":
    """The network with timm's own initial weights, the same for a seed; no random state outside is touched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _create(name, arguments)


class _CountsOnCpu(TorchFunctionMode):
    """Lets timm 1.0.21 to 1.0.2x compute the widths of a RegNet, with operations that the meta device lacks."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        device = {"device": "cpu"} if func is torch.arange else {}
        return func(*args, **{**device, **(kwargs or {})})


def _on_meta(name: str, arguments: Mapping[str, Json]) -> "nn.Module":
    """The network without any memory for its tensors."""
    with torch.device("meta"):
        if name.startswith("regnet"):
            with _CountsOnCpu():
                return _create(name, arguments)
        return _create(name, arguments)


def _is_known(name: str) -> bool:
    import timm

    if not _NAME.fullmatch(name) or not timm.is_model(name):
        return False
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError:  # an unknown tag of a known architecture
        return False
    return True


def _create(name: str, arguments: Mapping[str, Json]) -> "nn.Module":
    """Without a classifier, and for any input size where the architecture has such an option."""
    import timm

    if not _is_known(name):
        near = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=4)
        remedy = f"Near it: {', '.join(near)}." if near else "timm.list_models() lists them all."
        raise CheckpointError(f"timm {timm.__version__} has no model {name!r}.", remedy)
    options: tuple[dict[str, bool], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})
    problem = ""
    for option in options:
        try:
            given: dict[str, Any] = {"pretrained": False, **arguments, "num_classes": 0, **option}
            model: nn.Module = timm.create_model(name, **given)
        except TypeError as error:
            problem = str(error)
            continue
        except Exception as error:  # timm's own code, with arguments that contradict each other
            problem = f"{type(error).__name__}: {error}"
            break
        return model.requires_grad_(False).eval()
    raise CheckpointError(
        f"timm can't make {name} with {dict(arguments)} ({problem[:200]}).", "Check model_args in config.json."
    )


def _backbone(
    model: "nn.Module",
    name: str,
    report: Report,
    digest: str,
    statistics: tuple[Channels, Channels],
    layer: int | str | None = None,
) -> Framewise:
    """Features as `forward_features` gives them, at the stride that the network states."""
    from corrkit.backbones.networks.vit_building import from_timm
    from corrkit.backbones.wrapped import WrappedNetwork

    report = replace(report, parameters=sum(parameter.numel() for parameter in model.parameters()))
    own = from_timm(model, layer)
    if own is not None:
        report = replace(report, layer=own.layer, position=own.position)
        network, stride = own.network, own.stride
    else:
        if layer is not None:
            raise CheckpointError(f"Layers of timm's {name} can't be chosen.", "Leave --layer out.")
        stride = _stride(model, name)
        network = WrappedNetwork(model, model.forward_features, stride)  # type: ignore[arg-type]
    mean, std = statistics
    return Framewise(
        network, Interface(stride=stride, multiple=stride, mean=mean, std=std, report=report, digest=digest)
    )


def _published(model: Any) -> "Mapping[str, object]":
    """What timm says of the published weights: mean and std, among others."""
    found: Mapping[str, object] = model.pretrained_cfg
    return found


def _stride(model: Any, name: str) -> int:
    """Pixels per cell of what `forward_features` gives."""
    info = getattr(model, "feature_info", None)
    if info:
        return int(info[-1]["reduction"])
    sides = set(getattr(getattr(model, "patch_embed", None), "patch_size", ()))
    if len(sides) != 1:
        raise CheckpointError(
            f"timm's {name} has patches of {sorted(sides)} pixels." if sides else f"timm's {name} states no stride.",
            "Only networks with square cells of a stated size can be evaluated.",
        )
    return int(sides.pop())
