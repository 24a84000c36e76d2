"""Every architecture of timm, from its state dict alone."""

import collections
import contextlib
import copy
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from swept import BLOCKS, LARGEST, Row, Undrawn, compared, constants, judge, opened_state, redraw, unread
from torch import Tensor, nn


def names() -> list[str]:
    import timm

    return timm.list_models()


def rows(names: list[str]) -> Iterator[Row]:
    """The rows; those of networks that differ in nothing but their sizes are measured on the smallest."""
    waiting: dict[object, list[tuple[int, Row]]] = collections.defaultdict(list)
    for name in names:
        try:
            model = made_by_timm(name, meta=True)
        except Exception as error:  # timm's own, of many kinds
            yield Row(name=name, outcome="unmade", words=f"{type(error).__name__}: {error}")
            continue
        with unread():
            row, built = judge(opened_state(constants(model)))
        row = replace(row, name=name, kind=type(model).__name__)
        true = timm_heads(model)
        if built is not None and true and re.sub(r"\D.*", "", row.heads.lstrip("(")) not in ("", str(true)):
            guessed = "heads assumed" in row.words
            row = replace(row, outcome="assumed" if guessed else "wrong", words=f"In truth {true} heads. {row.words}")
        if built is None or row.outcome == "wrong":
            yield row
        else:
            size = sum(parameter.numel() for parameter in model.parameters())
            waiting[(row.system, *structure(model))].append((size, row))
    for alike in waiting.values():
        alike.sort(key=lambda item: item[0])
        measured = compared_with_timm(alike[0][1], shrunk=alike[0][0] > LARGEST)
        yield measured
        for _, row in alike[1:]:
            words = measured.words if measured.outcome == "wrong" else row.words
            outcome = row.outcome if measured.outcome in ("equal", "noted") else measured.outcome
            found = {"outcome": outcome, "native": measured.native, "wider": measured.wider}
            yield replace(row, **found, words=f"As {measured.name}. {words}")


def structure(model: nn.Module) -> tuple[object, ...]:
    """What a network is apart from its sizes: names without numbers, classes of modules, their switches."""
    switches = (
        f"{type(module).__name__}.{name}={value}"
        for module in model.modules()
        for name, value in vars(module).items()
        if isinstance(value, bool | str) or name in ("eps", "num_prefix_tokens")
    )
    return (
        frozenset(re.sub(r"\d+", "#", name) for name in model.state_dict()),
        frozenset(type(module).__name__ for module in model.modules()),
        frozenset(switches),
    )


def made_by_timm(name: str, meta: bool = False, **options: Any) -> Any:
    """A network of timm, with its classifier, for any input size where the class takes one."""
    import timm

    problem: Exception = TypeError(name)
    for dynamic in ({"dynamic_img_size": True}, {"strict_img_size": False}, {}):
        try:
            with torch.device("meta" if meta else "cpu"), Undrawn():
                return timm.create_model(name, pretrained=False, **options, **dynamic).eval()
        except TypeError as error:
            problem = error
        except (RuntimeError, NotImplementedError):
            if not meta:
                raise
            return made_by_timm(name, **options)  # some can't be made without memory
    raise problem


def timm_heads(model: nn.Module) -> int | None:
    """Heads of the first attention."""
    return next((int(module.num_heads) for module in model.modules() if hasattr(module, "num_heads")), None)


def compared_with_timm(row: Row, shrunk: bool) -> Row:
    """The row with the differences; a large network is cut to a few blocks where its class has such an option."""
    model = None
    for smaller in ({"depth": BLOCKS}, {"depths": (1, 1, 1, 1)}) if shrunk else ():
        with contextlib.suppress(TypeError, AssertionError):
            model = model or made_by_timm(row.name, **smaller)
    model = model or made_by_timm(row.name)
    redraw(model)
    residual = hasattr(model, "layer2")
    layer = 2 if residual else 4 if row.system == "sam2" else None  # timm's features are the last stage's
    heads = timm_heads(model) if hasattr(model, "pos_embed") else None
    found, built = judge(opened_state(model.state_dict()), heads, layer)
    if built is None:
        return replace(row, outcome="wrong", words=f"With other weights: {found.words}")
    step = built.multiple if built.multiple > 1 else 32
    side = model.pretrained_cfg["input_size"][1]

    def peer(frames: Tensor) -> Tensor:
        if residual:  # the published strides are timm's up to the second layer
            output = model.layer2(model.layer1(model.maxpool(model.act1(model.bn1(model.conv1(frames))))))
            return output.movedim(1, -1)
        network = model
        if row.kind == "SwinTransformer":  # windows are laid out for one size
            network = copy.deepcopy(model)
            windows = [stage.blocks[0].window_size[0] for stage in model.layers]
            network.set_input_size(img_size=frames.shape[2:], window_size=windows)
        output = network.forward_features(frames)
        if output.ndim == 3:
            grid = (frames.shape[2] // built.stride, frames.shape[3] // built.stride)
            return output[:, getattr(model, "num_prefix_tokens", 0) :].unflatten(1, grid)
        return output if output.shape[-1] == model.num_features else output.movedim(1, -1)

    return compared(row, built, peer, [(side, side), (8 * step, 12 * step)])
