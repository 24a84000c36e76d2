"""From a recognised state dict to a vision transformer: everything that tensors tell is read from them."""

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from corrkit.backbones.building import Built, fill, missing
from corrkit.backbones.vit import Parts, VisionTransformer
from corrkit.checkpoints.recognition import Recognised
from corrkit.checkpoints.system import ViTRules
from corrkit.errors import CheckpointError

if TYPE_CHECKING:
    from torch import nn

_SIZES = {(192, 12): "tiny", (384, 12): "small", (768, 12): "base", (1024, 24): "large", (1280, 32): "huge"}


def build(recognised: Recognised, *, heads: int | None = None, layer: int | str | None = None) -> Built:
    """The network of a recognised ViT, filled.

    Args:
        recognised: the file's tensors under canonical names.
        heads: number of attention heads, where the file can't tell.
        layer: how many blocks to execute (1 is the first); None: the system's default, the last.

    Raises:
        CheckpointError: incomplete or contradictory tensors, unknown heads, a layer that doesn't exist.
    """
    import torch

    rules: ViTRules = recognised.system.rules
    state = recognised.state
    depth = _depth(recognised)
    dim, patch = _patch(recognised)
    chosen, why = _heads(recognised, dim, depth, heads)
    prefix, registers, rows, grid = _tokens(recognised, patch)
    parts = Parts(
        dim=dim,
        depth=depth,
        heads=chosen,
        patch=patch,
        hidden=_hidden(recognised),
        mlp="swiglu" if "blocks.0.mlp.w12.weight" in state else "mlp",
        activation=rules.activation,
        norm=rules.norm,
        final_norm=_final_norm(recognised),
        eps=rules.eps,
        biases=frozenset({"patch", "qkv", "proj", "mlp"}) - rules.absent,
        has_cls_token=prefix,
        num_registers=registers,
        position=rules.position,
        position_rows=rows,
        grid=grid,
        rotary=rules.rotary,
        stores_frequencies="rope.freqs" in state,
        relative=_relative(recognised),
        layerscale=any(re.fullmatch(r"blocks\.\d+\.ls[12]\.gamma", name) for name in state),
        mlp_norm=any(re.fullmatch(r"blocks\.\d+\.mlp\.norm\.\w+", name) for name in state),
        pre_norm=any(name.startswith("norm_pre.") for name in state),
        patch_norm=any(name.startswith("patch_embed.norm.") for name in state),
    )
    executed = _layer(recognised, layer, depth)
    with torch.device("meta"):
        network = VisionTransformer(parts, executed)
    fill(network, recognised)
    position = "absolute" if rules.position not in (None, "sincos") else "rotary" if rules.rotary else "relative"
    return Built(
        network=network,
        architecture=_name(parts),
        stride=patch[0],
        multiple=patch[0],
        layer=str(executed),
        position=position if position != "relative" or rules.relative else "none",  # type: ignore[arg-type]
        evidence=(("heads", f"{chosen}: {why}"), ("layer", _layer_words(executed, depth, parts))),
        notes=() if "usual" not in why else (f"{chosen} heads assumed ({why}); give --heads if the model has others.",),
    )


def from_timm(model: "nn.Module") -> Built | None:
    """The plain ViT of timm, its positions resampled by the published rules; None for any other class or variant."""
    from timm.models.vision_transformer import VisionTransformer as TimmViT

    from corrkit.checkpoints.opening import Opened
    from corrkit.checkpoints.recognition import recognise

    if type(model) is not TimmViT:
        return None
    opened = Opened(tree=dict(model.state_dict()), container="timm", digest="", path=Path(type(model).__name__))
    try:
        return build(recognise(opened), heads=cast(Any, model).blocks[0].attn.num_heads)
    except CheckpointError:  # a variant with parts that a plain ViT lacks (query norms, pooling, ...): timm's own runs
        return None


def _depth(recognised: Recognised) -> int:
    """One more than the highest block; gaps come out as missing tensors."""
    numbers = [int(match[1]) for name in recognised.state if (match := re.match(r"blocks\.(\d+)\.", name))]
    return max(numbers) + 1


def _patch(recognised: Recognised) -> tuple[int, tuple[int, int]]:
    """Width and patch size."""
    weight = recognised.state["patch_embed.proj.weight"]
    dim, channels, height, width = weight.shape
    if channels != 3:
        raise CheckpointError(
            f"{recognised.path}: {recognised.file_name('patch_embed.proj.weight')} takes {channels} input channels.",
            "Only networks for RGB frames can be evaluated.",
        )
    if height != width:
        raise CheckpointError(
            f"{recognised.path} has patches of {height}x{width} pixels.", "Only square patches can be evaluated."
        )
    return dim, (height, width)


def _hidden(recognised: Recognised) -> int:
    for name, share in (("mlp.fc1.weight", 1), ("mlp.w12.weight", 2)):
        for index in range(_depth(recognised)):
            weight = recognised.state.get(f"blocks.{index}.{name}")
            if weight is not None:
                return int(weight.shape[0]) // share
    raise missing(recognised, ["blocks.0.mlp.fc1.weight"])


def _heads(recognised: Recognised, dim: int, depth: int, given: int | None) -> tuple[int, str]:
    """The number of heads and what it rests on: given, else the file, else known systems, else the usual width."""
    rules: ViTRules = recognised.system.rules
    stored = recognised.stored_heads
    if given is not None:
        if given < 1 or dim % given:
            raise CheckpointError(
                f"{given} heads don't divide the width {dim} of {recognised.path}.", "Give --heads a divisor of it."
            )
        return given, "given with --heads"
    if stored is not None:
        return stored
    if (dim, depth) in rules.heads:
        return rules.heads[dim, depth], f"known for {recognised.system.title} of width {dim} and depth {depth}"
    if dim % rules.head_width == 0:
        why = f"width {dim} / {rules.head_width}"
        usual = (dim, depth) in _SIZES or rules.head_width != 64
        return dim // rules.head_width, why + (
            ", as in all published models of this size" if usual else ", the usual rule"
        )
    raise CheckpointError(
        f"{recognised.path} ({recognised.system.name}) doesn't say how many attention heads it has, and its width "
        f"{dim} is no multiple of {rules.head_width}.",
        "Give the number of heads of the training configuration with --heads N.",
    )


def _tokens(recognised: Recognised, patch: tuple[int, int]) -> tuple[bool, int, int, tuple[int, int] | None]:
    """Class token, number of registers, prefix tokens with a position row, and the stored grid."""
    rules: ViTRules = recognised.system.rules
    state = recognised.state
    has_cls = "cls_token" in state if rules.cls is None else rules.cls
    registers = state["reg_token"].shape[1] if "reg_token" in state else 0
    if rules.relative:
        return has_cls, registers, int(has_cls), _table_grid(recognised)
    if rules.position in (None, "sincos"):
        return has_cls, registers, 0, recognised.stored_grid
    if "pos_embed" not in state:
        raise missing(recognised, ["pos_embed"])
    length = state["pos_embed"].shape[1]
    for rows in dict.fromkeys((int(has_cls), 0, int(has_cls) + registers)):
        side = math.isqrt(length - rows)
        if side * side == length - rows and rows <= int(has_cls) + registers:
            return has_cls, registers, rows, (side, side)
    grid = _sincos_grid(recognised, int(has_cls))
    if grid is not None:
        return has_cls, registers, int(has_cls), grid
    raise CheckpointError(
        f"{recognised.path}: {recognised.file_name('pos_embed')} has {length} rows, which is no square grid of patches"
        f"{' with a class token' if has_cls else ''}, and isn't the sine-cosine table of another grid.",
        "The grid that the model was trained on can't be known from this file.",
    )


def _sincos_grid(recognised: Recognised, rows: int) -> tuple[int, int] | None:
    """The non-square grid whose fixed sine-cosine table a file stores (CatMAE trains on such)."""
    import torch

    from corrkit.backbones.positions import sincos

    table = recognised.state["pos_embed"][0, rows:].float()
    cells, dim = table.shape
    if dim % 4:
        return None
    for height in range(1, cells + 1):
        if cells % height == 0:
            for order in ("column", "row"):
                grid = (height, cells // height)
                if torch.allclose(table, sincos(grid, dim, order).flatten(0, 1), atol=1e-4):
                    return grid
    return None


def _table_grid(recognised: Recognised) -> tuple[int, int]:
    name, table = next(
        (name, tensor) for name, tensor in recognised.state.items() if name.endswith("relative_position_bias_table")
    )
    side = math.isqrt(table.shape[0] - 3)
    if side * side != table.shape[0] - 3 or side % 2 == 0:
        raise CheckpointError(
            f"{recognised.path}: {recognised.file_name(name)} has {table.shape[0]} rows, which fits no square grid.",
            "Only tables of square grids can be resized.",
        )
    return (side + 1) // 2, (side + 1) // 2


def _relative(recognised: Recognised) -> Any:
    if not recognised.system.rules.relative:
        return None
    return "shared" if "rel_pos_bias.relative_position_bias_table" in recognised.state else "blockwise"


def _final_norm(recognised: Recognised) -> Any:
    rule = recognised.system.rules.final_norm
    if rule == "optional":
        return "affine" if any(name.startswith("norm.") for name in recognised.state) else "none"
    return rule


def _layer(recognised: Recognised, layer: int | str | None, depth: int) -> int:
    if layer is None or layer == "last":
        return depth
    try:
        number = int(layer)
    except ValueError:
        number = 0
    if not 1 <= number <= depth:
        raise CheckpointError(
            f"{recognised.path} has no layer {layer!r}: it has {depth} blocks.",
            f"Give --layer a number from 1 to {depth}.",
        )
    return number


def _layer_words(executed: int, depth: int, parts: Parts) -> str:
    norm = "without a final norm" if parts.final_norm == "none" else "after the final norm"
    return f"block {executed} of {depth}, {norm}"


def _name(parts: Parts) -> str:
    size = _SIZES.get((parts.dim, parts.depth), f"{parts.dim}x{parts.depth}")
    registers = f"_reg{parts.num_registers}" if parts.num_registers else ""
    return f"vit_{size}_patch{parts.patch[0]}{registers}"
