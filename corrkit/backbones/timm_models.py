"""timm's networks as backbones: untrained ("random:") and from files in timm's own names ("timm:")."""

import difflib
import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from corrkit.backbones.contract import Backbone, Report
from corrkit.backbones.framewise import Framewise
from corrkit.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor, nn


def load(spec: str) -> Backbone:
    """The backbone of "random:TIMM_NAME[@SEED]" or "timm:TIMM_NAME=FILE".

    Raises:
        CheckpointError: a malformed spec, a name that timm doesn't know, or a file that doesn't fill the network.
    """
    untrained = re.fullmatch(r"random:([^@=]+)(?:@(\d+))?", spec)
    if untrained:
        name, seed = untrained[1], int(untrained[2] or 0)
        return _wrapped(_untrained(name, seed), name, Report(system="random", architecture=name, parameters=0))
    from_file = re.fullmatch(r"timm:([^=]+)=(.+)", spec)
    if from_file:
        return _from_file(*from_file.groups())
    raise CheckpointError(
        f"{spec!r} is malformed.", "Write random:TIMM_NAME, random:TIMM_NAME@SEED or timm:TIMM_NAME=FILE."
    )


def _from_file(name: str, path: str) -> Backbone:
    """A timm network filled strictly from a file in its own names."""
    from corrkit.checkpoints.naming import flatten
    from corrkit.checkpoints.opening import open_checkpoint, require_usable

    opened = open_checkpoint(path)
    tensors = flatten(opened.tree)
    model = _create(name)
    expected = model.state_dict()
    some = next(iter(expected))
    prefixes = sorted({key.removesuffix(some) for key in tensors if key.endswith(some)}, key=len)
    state = next((found for prefix in prefixes if (found := _under(prefix, tensors, expected))), None)
    if state is None:
        near = {key.removeprefix(prefixes[0]) for key in tensors} if prefixes else set()
        absent = [key for key in expected if key not in near]
        wrong = [key for key in expected if key in near and tensors[prefixes[0] + key].shape != expected[key].shape]
        listed = ", ".join((absent or wrong)[:6])
        raise CheckpointError(
            f"{path} doesn't fill timm's {name}: {listed} {'missing' if absent else 'of another shape'}.",
            "Name the architecture that was trained, as timm calls it.",
        )
    require_usable(state, path)
    model.load_state_dict({key: tensor.to(expected[key].dtype) for key, tensor in state.items()})
    unused = len(tensors) - len(state)
    dropped = (("all others", f"not in timm's {name} ({unused} tensors)"),) if unused else ()
    return _wrapped(
        model,
        name,
        Report(
            system="timm",
            architecture=name,
            parameters=0,
            tensors_used=len(state),
            tensors_total=len(tensors),
            dropped=dropped,
            notes=opened.notes,
        ),
        digest=hashlib.sha256(f"{opened.digest} {name}".encode()).hexdigest(),
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
        return _create(name)


def _create(name: str) -> "nn.Module":
    """Without a classifier, and for any input size where the architecture has such an option."""
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=4)
        remedy = f"Near it: {', '.join(near)}." if near else "timm.list_models() lists them all."
        raise CheckpointError(f"timm {timm.__version__} has no model {name!r}.", remedy)
    options: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})
    for option in options:
        try:
            model: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **option)
        except TypeError:
            continue
        return model.requires_grad_(False).eval()
    raise AssertionError("timm.create_model takes no options")


def _wrapped(model: "nn.Module", name: str, report: Report, digest: str | None = None) -> Backbone:
    """Features as `forward_features` gives them, at the stride that the network states."""
    from corrkit.backbones.vit_building import from_timm
    from corrkit.backbones.wrapped import WrappedNetwork, state_digest

    config: dict[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
    digest = digest or state_digest(model, name)
    report = replace(report, parameters=sum(parameter.numel() for parameter in model.parameters()))
    own = from_timm(model)
    stride = own.stride if own else _stride(model)
    if own:
        report = replace(report, layer=own.layer, position=own.position)
    return Framewise(
        own.network if own else WrappedNetwork(model, model.forward_features, stride),  # type: ignore[arg-type]
        stride=stride,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        report=report,
        digest=digest,
    )


def _stride(model: Any) -> int:
    """Pixels per cell of what `forward_features` gives."""
    info = getattr(model, "feature_info", None)
    if info:
        return int(info[-1]["reduction"])
    return int(model.patch_embed.patch_size[0])
