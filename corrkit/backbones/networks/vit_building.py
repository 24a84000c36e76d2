"""From a recognised state dict to a vision transformer: everything that tensors tell is read from them."""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corrkit.backbones.building import Built, chosen_layer, fill, missing
from corrkit.backbones.heads import KNOWN, USUAL, assumption, choose_heads
from corrkit.backbones.networks.vit import ALL_BIASES, Parts, VisionTransformer
from corrkit.checkpoints.completeness import UnknownNetworkError, ways_on
from corrkit.checkpoints.configuration import activation, epsilon, require_obeyed, rotary_base, switched_off
from corrkit.checkpoints.published_heads import CLASSLESS
from corrkit.checkpoints.recognised import Recognised
from corrkit.checkpoints.rules import ViTRules
from corrkit.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor, nn


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
    depth = recognised.depth("blocks")
    dim, patch, stem = _patch(recognised)
    prefix, registers, rows, grid = _tokens(recognised)
    chosen, why = choose_heads(recognised, dim, depth, heads, _family(recognised, rows, grid), rules.head_width)
    parts = Parts(
        dim=dim,
        depth=depth,
        heads=chosen,
        patch=patch,
        stem=stem,
        hidden=_hidden(recognised),
        mlp="swiglu" if "blocks.0.mlp.w12.weight" in state else "mlp",
        activation=_activation(recognised),
        norm=rules.norm,
        final_norm=_final_norm(recognised),
        eps=epsilon(recognised, rules.eps),
        biases=ALL_BIASES - rules.absent - switched_off(recognised.config),
        has_cls_token=prefix,
        num_registers=registers,
        position=rules.position,
        position_rows=rows,
        grid=grid,
        rotary=rules.rotary,
        frequencies="rope.freqs" in state and rules.rotary is not None,
        rotary_base=rotary_base(recognised.config),
        relative=_relative(recognised),
        relative_rule=rules.relative_rule,
        layerscale=any(re.fullmatch(r"blocks\.\d+\.ls[12]\.gamma", name) for name in state),
        mlp_norm=any(re.fullmatch(r"blocks\.\d+\.mlp\.norm\.\w+", name) for name in state),
        pre_norm=any(name.startswith("norm_pre.") for name in state),
        patch_norm=any(name.startswith("patch_embed.norm.") for name in state),
    )
    require_obeyed(recognised, _facts(parts, state))
    executed = chosen_layer(recognised, layer, depth)
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
        notes=assumption(chosen, why) + _contested(parts, why),
    )


def _contested(parts: Parts, why: str) -> tuple[str, ...]:
    """Where heads come from the table, and one network of the same tensors has others."""
    words = CLASSLESS.get((parts.dim, parts.depth))
    if words is None or parts.has_cls_token or parts.num_registers or not why.startswith(KNOWN):
        return ()
    return (f"{parts.heads} heads assumed ({why}); {words}.",)


_STEM = r"patch_embed\.proj\.(\d+\.)?weight"
_TIMM_ACTIVATIONS = {"GELU": "gelu", "GELUTanh": "gelu-tanh", "QuickGELU": "quick-gelu", "SiLU": "gelu"}
"""timm's classes; SiLU stands in a SwiGLU, where the rule isn't asked."""


def from_timm(model: "nn.Module", layer: int | str | None = None) -> Built | None:
    """The plain ViT of timm, with position rules to choose from and layers; None for any other class or variant."""
    from timm.models.vision_transformer import VisionTransformer as TimmViT

    from corrkit.checkpoints.opening import Opened
    from corrkit.checkpoints.recognition import recognise
    from corrkit.checkpoints.registry import SYSTEMS

    first: Any = next(iter(getattr(model, "blocks", [])), None)
    act = _TIMM_ACTIVATIONS.get(type(getattr(getattr(first, "mlp", None), "act", None)).__name__)
    if type(model) is not TimmViT or act is None:
        return None
    rules = replace(SYSTEMS["timm_vit"].rules, activation=act, eps=first.norm1.eps, absent=_absent(model))
    opened = Opened(tree=dict(model.state_dict()), container="timm", digest="", path=Path(type(model).__name__))
    try:
        recognised = recognise(opened)
        system = replace(SYSTEMS["timm_vit"], rules=rules)
        return build(replace(recognised, system=system), heads=first.attn.num_heads, layer=layer)
    except CheckpointError:  # a variant with parts that a plain ViT lacks (query norms, pooling, ...): timm's own runs
        if layer is not None:
            raise
        return None


def _absent(model: "nn.Module") -> frozenset[str]:
    """Biases that timm's network lacks."""
    names = {"patch": "patch_embed.proj", "qkv": "blocks.0.attn.qkv", "proj": "blocks.0.attn.proj"}
    state = model.state_dict()
    return frozenset(part for part, name in names.items() if f"{name}.bias" not in state)


def _patch(recognised: Recognised) -> tuple[int, tuple[int, int], tuple[int, ...]]:
    """Width, patch size, and the widths of a convolutional stem, which halves the sides at each but the last."""
    found = {match[1] or "0.": name for name in recognised.state if (match := re.fullmatch(_STEM, name))}
    names = [name for _, name in sorted(found.items(), key=lambda item: int(item[0][:-1]))]
    weights = [recognised.state[name] for name in names if recognised.state[name].ndim == 4]
    if not weights:
        raise missing(recognised, ["patch_embed.proj.weight"])
    dim, (channels, height, width) = weights[-1].shape[0], weights[0].shape[1:]
    if channels != 3 and any(re.match(r"patch_embed\.(?!proj\.)", name) for name in recognised.state):
        raise UnknownNetworkError(
            f"{recognised.path}: {recognised.file_name(names[0])} takes {channels} channels of another network in "
            "front of it, whose names corrkit doesn't know.",
            ways_on(),
        )
    if channels != 3:
        raise CheckpointError(
            f"{recognised.path}: {recognised.file_name(names[0])} takes {channels} input channels.",
            "Only networks for RGB frames can be evaluated.",
        )
    if height != width:
        raise CheckpointError(
            f"{recognised.path} has patches of {height}x{width} pixels.", "Only square patches can be evaluated."
        )
    stem = tuple(weight.shape[0] for weight in weights[:-1])
    side = 2 ** len(stem) if stem else height
    return dim, (side, side), stem


def _hidden(recognised: Recognised) -> int:
    for name, share in (("mlp.fc1.weight", 1), ("mlp.w12.weight", 2)):
        for index in range(recognised.depth("blocks")):
            weight = recognised.state.get(f"blocks.{index}.{name}")
            if weight is not None:
                return int(weight.shape[0]) // share
    raise missing(recognised, ["blocks.0.mlp.fc1.weight"])


def _tokens(recognised: Recognised) -> tuple[bool, int, int, tuple[int, int] | None]:
    """Class token, number of registers, prefix tokens with a position row, and the stored grid."""
    rules: ViTRules = recognised.system.rules
    state = recognised.state
    has_cls = "cls_token" in state if rules.cls is None else rules.cls
    registers = state["reg_token"].shape[1] if "reg_token" in state else 0
    if rules.relative:
        return has_cls, registers, int(has_cls), _table_grid(recognised)
    if rules.position in (None, "sincos"):
        return has_cls, registers, 0, None
    if "pos_embed" not in state:
        leaves = {name.rpartition("attn.")[2] for name in recognised.origins}
        split = "q_bias" in leaves or ("q.bias" in leaves and "k.bias" not in leaves)  # as BEiT, which has tables
        tables = ("rel_pos_bias.", "blocks.0.attn.") if split else ()
        raise missing(recognised, ["pos_embed", *(f"{stem}relative_position_bias_table" for stem in tables)])
    if state["pos_embed"].ndim != 3:
        raise UnknownNetworkError(
            f"{recognised.path}: {recognised.file_name('pos_embed')} is {list(state['pos_embed'].shape)}, no table.",
            f"If the file is complete, its architecture is a variant that corrkit doesn't know. {ways_on()}",
        )
    length, first = state["pos_embed"].shape[1], int(has_cls)
    for rows in dict.fromkeys((first, 0, first + registers)):
        side = math.isqrt(max(length - rows, 0))
        if side > 0 and side * side == length - rows:
            return has_cls, registers, rows, (side, side)
        if rows == first and (grid := _sincos_grid(recognised, first)) is not None:
            return has_cls, registers, first, grid
    raise CheckpointError(
        f"{recognised.path}: {recognised.file_name('pos_embed')} has {length} rows, which is no square grid of patches"
        f"{' with a class token' if has_cls else ''}, and isn't the sine-cosine table of another grid.",
        f"Either {recognised.file_name('cls_token')} or {recognised.file_name('reg_token')} is missing, or the grid "
        "of training can't be known.",
    )


def _family(recognised: Recognised, rows: int, grid: tuple[int, int] | None) -> str:
    """The family of `published_heads` that the network is of."""
    rules: ViTRules = recognised.system.rules
    if rules.row_first_heads and grid is not None and "pos_embed" in recognised.state:
        table = recognised.state["pos_embed"][0, rows:].float()
        if table.shape[1] % 4 == 0 and _is_sincos(table, grid, "row"):
            return rules.row_first_heads
    return rules.heads


def _is_sincos(table: "Tensor", grid: tuple[int, int], order: str) -> bool:
    import torch

    from corrkit.backbones.networks.positions import sincos

    return torch.allclose(table, sincos(grid, table.shape[1], order).flatten(0, 1), atol=1e-4)


def _sincos_grid(recognised: Recognised, rows: int) -> tuple[int, int] | None:
    """The non-square grid whose fixed sine-cosine table a file stores (CatMAE trains on such)."""
    table = recognised.state["pos_embed"][0, rows:].float()
    cells, dim = table.shape
    if dim % 4:
        return None
    grids = [(height, cells // height) for height in range(1, cells + 1) if cells % height == 0]
    return next((grid for grid in grids for order in ("column", "row") if _is_sincos(table, grid, order)), None)


def _table_grid(recognised: Recognised) -> tuple[int, int]:
    name, table = next(
        (name, tensor) for name, tensor in recognised.state.items() if name.endswith("relative_position_bias_table")
    )
    side = math.isqrt(max(table.shape[0] - 3, 0))
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


def _activation(recognised: Recognised) -> str:
    """The config's beside the file, else the system's."""
    rules: ViTRules = recognised.system.rules
    if "blocks.0.mlp.w12.weight" not in recognised.state:
        return activation(recognised, rules.activation)
    named = recognised.config.get("hidden_act")
    if "model_type" in recognised.config and rules.gate == "config" and named not in (None, "silu"):
        raise CheckpointError(
            f"{recognised.path}: the config beside it names the activation {named!r} for a gated network.",
            "Only silu can be evaluated there.",
        )
    return rules.activation


def _facts(parts: Parts, state: "Mapping[str, Tensor]") -> dict[str, int]:
    """What of a network a configuration beside its file may say too, under transformers' names."""
    biases = {"qkv_bias": "attn.qkv.bias", "proj_bias": "attn.proj.bias"}
    facts: dict[str, int] = {
        "hidden_size": parts.dim,
        "num_hidden_layers": parts.depth,
        "intermediate_size": parts.hidden,
        "patch_size": parts.patch[0],
        "num_channels": 3,
        **{switch: f"blocks.0.{name}" in state for switch, name in biases.items()},
    }
    if parts.grid is not None and parts.grid[0] == parts.grid[1]:
        facts["max_img_size" if parts.position == "crop" else "image_size"] = parts.grid[0] * parts.patch[0]
    return facts


def _layer_words(executed: int, depth: int, parts: Parts) -> str:
    norm = "without a final norm" if parts.final_norm == "none" else "after the final norm"
    return f"block {executed} of {depth}, {norm}"


def _name(parts: Parts) -> str:
    size = USUAL.get((parts.dim, parts.depth), f"{parts.dim}x{parts.depth}")
    registers = f"_reg{parts.num_registers}" if parts.num_registers else ""
    return f"vit_{size}_patch{parts.patch[0]}{registers}"
