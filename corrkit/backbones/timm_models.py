"""timm's networks as backbones: untrained ("random:"), or from files in timm's own names ("timm:", config.json)."""

import difflib
import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from corrkit.backbones.contract import Report
from corrkit.backbones.framewise import Framewise
from corrkit.checkpoints.heads import entry
from corrkit.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from corrkit.checkpoints.opening import Opened

_SHOWN = 6


def load(spec: str) -> Framewise:
    """The backbone of "random:TIMM_NAME[@SEED]" or "timm:TIMM_NAME=FILE".

    Raises:
        CheckpointError: a malformed spec, a name that timm doesn't know, or a file that doesn't fill the network.
    """
    untrained = re.fullmatch(r"random:([^@=]+)(?:@(\d+))?", spec)
    if untrained:
        name, seed = untrained[1], int(untrained[2] or 0)
        return _backbone(
            _untrained(name, seed), name, Report(system="random", architecture=name, parameters=0, pretraining="none")
        )
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
    import timm

    return name if timm.is_model(name) else None


def fill(name: str, opened: "Opened", layer: int | str | None = None) -> Framewise:
    """A timm network filled strictly from an opened file in timm's names, under whatever prefix.

    Args:
        name: as timm calls the architecture.
        opened: the file; statistics and arguments in a config.json beside it are obeyed.
        layer: block to stop after, of a plain ViT.

    Raises:
        CheckpointError: an unknown name, or tensors that are missing or of another shape.
    """
    from corrkit.checkpoints.naming import flatten
    from corrkit.checkpoints.opening import require_usable

    tensors = flatten(opened.tree)
    model = _create(name, entry(opened.config, "model_args") or {})
    expected = model.state_dict()
    some = next(iter(expected))
    prefixes = sorted({key.removesuffix(some) for key in tensors if key.endswith(some)}, key=len) or [""]
    state = next((found for prefix in prefixes if (found := _under(prefix, tensors, expected))), None)
    if state is None:
        raise _misfit(name, opened, tensors, expected, prefixes[0])
    require_usable(state, opened.path)
    model.load_state_dict({key: tensor.to(expected[key].dtype) for key, tensor in state.items()})
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
    return _backbone(model, name, report, digest, entry(opened.config, "pretrained_cfg"), layer)


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


def _untrained(name: str, seed: int) -> "nn.Module":
    """The network with timm's own initial weights, the same for a seed; no random state outside is touched."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _create(name, {})


def _create(name: str, arguments: Mapping[str, Any]) -> "nn.Module":
    """Without a classifier, and for any input size where the architecture has such an option."""
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=4)
        remedy = f"Near it: {', '.join(near)}." if near else "timm.list_models() lists them all."
        raise CheckpointError(f"timm {timm.__version__} has no model {name!r}.", remedy)
    options: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})
    for option in options:
        try:
            model: nn.Module = timm.create_model(name, **{"pretrained": False, **arguments, "num_classes": 0, **option})
        except TypeError:
            continue
        return model.requires_grad_(False).eval()
    raise CheckpointError(f"timm can't make {name} with {dict(arguments)}.", "Check model_args in config.json.")


def _backbone(
    model: "nn.Module",
    name: str,
    report: Report,
    digest: str | None = None,
    config: Mapping[str, Any] | None = None,
    layer: int | str | None = None,
) -> Framewise:
    """Features as `forward_features` gives them, at the stride that the network states."""
    from corrkit.backbones.vit_building import from_timm
    from corrkit.backbones.wrapped import WrappedNetwork, state_digest

    statistics: dict[str, Any] = {**model.pretrained_cfg, **(config or {})}  # type: ignore[dict-item]
    digest = digest or state_digest(model, name)
    report = replace(report, parameters=sum(parameter.numel() for parameter in model.parameters()))
    own = from_timm(model, layer)
    if own is not None:
        report = replace(report, layer=own.layer, position=own.position)
        network, stride = own.network, own.stride
    else:
        if layer is not None:
            raise CheckpointError(f"Layers of timm's {name} can't be chosen.", "Leave --layer out.")
        stride = _stride(model)
        network = WrappedNetwork(model, model.forward_features, stride)  # type: ignore[arg-type]
    return Framewise(
        network,
        stride=stride,
        mean=tuple(statistics["mean"]),
        std=tuple(statistics["std"]),
        report=report,
        digest=digest,
    )


def _stride(model: Any) -> int:
    """Pixels per cell of what `forward_features` gives."""
    info = getattr(model, "feature_info", None)
    if info:
        return int(info[-1]["reduction"])
    return int(model.patch_embed.patch_size[0])
