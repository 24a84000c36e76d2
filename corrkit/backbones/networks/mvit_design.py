"""What an MViT is made of: widths and heads from the tensors, strides from the configuration kept in the file."""

import math
import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from corrkit.backbones.building import missing
from corrkit.checkpoints.recognised import Recognised
from corrkit.checkpoints.rules import MViTRules
from corrkit.errors import CheckpointError
from corrkit.files.jsontext import Json

Grid = tuple[int, int, int]  # time slices, rows, columns
_NEW_KEY_STRIDE = {True: 8, False: 4}  # of rows and columns in the first block, for videos and for images


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockDesign:
    """One block: widths (input, attention, output), heads, strides of queries, keys and values.

    widens_in_attention: whether the skip connection of the attention, not of the MLP, changes the width.
    adds_query: residual pooling. state: the block's tensors, for shapes and for which parts there are.
    """

    dim: int
    attention_dim: int
    out_dim: int
    heads: int
    query_stride: Grid
    key_stride: Grid
    adds_query: bool
    state: dict[str, Tensor]

    @property
    def widens_in_attention(self) -> bool:
        """Attention of another width than its input."""
        return self.attention_dim != self.dim


def read_config(recognised: Recognised) -> tuple[dict[str, Json], str]:
    """MVIT and DATA of the configuration that PySlowFast and mvit keep in the file, read as plain data."""
    import yaml

    text = recognised.tree.get("cfg") if isinstance(recognised.tree, dict) else None
    if not isinstance(text, str):
        return {}, "usual, since the file holds no configuration"
    try:
        if "<<" in text:
            raise ValueError("a mapping that takes in others, which may double again and again")
        config = yaml.safe_load(text)
    except Exception as error:  # what a constructor raises: IndexError for "!!int ''", KeyError for "!!bool x", ...
        raise CheckpointError(
            f"{recognised.path} holds a configuration that is no YAML: {str(error)[:100]}.", "Get the file again."
        ) from error
    parts = [config.get(name) for name in ("DATA", "MVIT")] if isinstance(config, dict) else []
    found = {str(name): value for part in parts if isinstance(part, dict) for name, value in part.items()}
    return found, "MVIT in the file's configuration"


def read_designs(recognised: Recognised, config: Mapping[str, Json]) -> list[BlockDesign]:
    """What each block is made of. Raises CheckpointError where tensors of a block are missing."""
    state = recognised.state
    depth = 1 + max(int(match[1]) for name in state if (match := re.match(r"blocks\.(\d+)\.", name)))
    rules: MViTRules = recognised.system.rules
    video = state["patch_embed.proj.weight"].ndim == 5
    blocks = [
        {name.removeprefix(f"blocks.{i}."): tensor for name, tensor in state.items() if name.startswith(f"blocks.{i}.")}
        for i in range(depth)
    ]
    for index, block in enumerate(blocks):
        needed = ("norm1.weight", "attn.proj.weight", "mlp.fc1.weight", "mlp.fc2.weight", "attn.qkv.weight")
        absent = [f"blocks.{index}.{name}" for name in needed if name not in block]
        if absent:
            raise missing(recognised, absent)
    query_strides = _query_strides(config, blocks)
    adaptive = _numbers(config, "POOL_KV_STRIDE_ADAPTIVE")
    key_stride = _triple(adaptive) if adaptive else _usual_key_stride(rules, video)
    listed = _of_blocks(config, "POOL_KV_STRIDE")
    designs = []
    for index, block in enumerate(blocks):
        query_stride = query_strides.get(index, (1, 1, 1))
        key_stride = tuple(max(key // query, 1) for key, query in zip(key_stride, query_stride, strict=True))  # type: ignore[assignment]
        attention_dim = block["attn.proj.weight"].shape[0]
        width = len(block["attn.norm_k.weight"]) if "attn.norm_k.weight" in block else attention_dim
        designs.append(
            BlockDesign(
                dim=block["norm1.weight"].shape[0],
                attention_dim=attention_dim,
                out_dim=block["mlp.fc2.weight"].shape[0],
                heads=max(attention_dim // max(width, 1), 1),
                query_stride=query_stride,
                key_stride=key_stride if adaptive or not config else listed.get(index, (1, 1, 1)),
                adds_query=bool(config.get("RESIDUAL_POOLING", "attn.rel_pos_h" in block)),
                state=block,
            )
        )
    return designs


def new_designs(
    *, dim: int, heads: int, depth: int, widens: Sequence[int], pooled: int, grid: Grid, video: bool, in_attention: bool
) -> list[BlockDesign]:
    """Blocks of an MViTv2 that is in no file: facebookresearch/SlowFast 287ec00 video_model_builder.py:985.

    Args:
        dim: width of the first block.
        heads: of the first block.
        depth: number of blocks.
        widens: blocks (0 is the first) at which width and heads double.
        pooled: how many of these, the first ones, halve rows and columns.
        grid: of the embedded tokens.
        video: whether kernels have a time axis.
        in_attention: whether attention, or the MLP of the block before, changes the width.
    """
    import torch

    key, head = _NEW_KEY_STRIDE[video], dim // heads
    designs = []
    for index in range(depth):
        source = index - 1 if in_attention else index
        width, inside, after = (dim * 2 ** sum(at <= block for at in widens) for block in (source, index, source + 1))
        step = 2 if index in widens[:pooled] else 1
        key = max(key // step, 1)
        sides = dict(zip("thw" if video else "hw", grid if video else grid[1:], strict=True))
        rows = {axis: side if axis == "t" else max(side // step, side // key) for axis, side in sides.items()}
        shapes: dict[str, tuple[int, ...]] = {
            "attn.qkv.bias": (3 * inside,),
            "mlp.fc1.weight": (4 * inside, inside),
            **{f"attn.pool_{part}.weight": (head, 1, *(3,) * len(sides)) for part in "qkv"},
            **{f"attn.rel_pos_{axis}": (2 * count - 1, head) for axis, count in rows.items()},
            **({"proj.weight": (after, width)} if after != width else {}),
        }
        designs.append(
            BlockDesign(
                dim=width,
                attention_dim=inside,
                out_dim=after,
                heads=inside // head,
                query_stride=(1, step, step),
                key_stride=(1, key, key),
                adds_query=True,
                state={name: torch.empty(shape, device="meta") for name, shape in shapes.items()},
            )
        )
        grid = (grid[0], grid[1] // step, grid[2] // step)
    return designs


def new_config(designs: Sequence[BlockDesign], *, video: bool, cls: bool) -> str:
    """What a file must hold beside the tensors of `new_designs` so that `read_config` finds their strides."""
    import json

    side = _NEW_KEY_STRIDE[video]
    mvit = {
        "POOL_Q_STRIDE": [(index, *design.query_stride) for index, design in enumerate(designs)],
        "POOL_KV_STRIDE_ADAPTIVE": (1, side, side),
        "RESIDUAL_POOLING": True,
        "CLS_EMBED_ON": cls,
    }
    return json.dumps({"MVIT": mvit})  # JSON is YAML


def _query_strides(config: Mapping[str, Json], blocks: list[dict[str, Tensor]]) -> dict[int, Grid]:
    if config:
        return _of_blocks(config, "POOL_Q_STRIDE")
    widths = [block["attn.proj.weight"].shape[0] for block in blocks]
    return {index: (1, 2, 2) for index in range(1, len(blocks)) if widths[index] != widths[index - 1]}


def _usual_key_stride(rules: MViTRules, video: bool) -> Grid:
    side = rules.key_stride if video else rules.image_key_stride
    return (1, side, side)


def _of_blocks(config: Mapping[str, Json], name: str) -> dict[int, Grid]:
    """A stride for each block that a setting lists, [block, (time,) rows, columns]."""
    listed = config.get(name) or []
    if not isinstance(listed, list):
        raise _misread(name, listed)
    rows = [_numbers({name: row}, name) for row in listed]
    if any(len(row) < 3 for row in rows):
        raise _misread(name, listed)
    return {row[0]: _triple(row[1:]) for row in rows}


def _numbers(config: Mapping[str, Json], name: str) -> tuple[int, ...]:
    """A setting that is a list of two to four whole numbers; () where it isn't there or empty."""
    value = config.get(name) or []
    numbers = [number for number in value if isinstance(number, int)] if isinstance(value, list) else []
    if not isinstance(value, list) or len(numbers) != len(value) or not (2 <= len(numbers) <= 4 or not numbers):
        raise _misread(name, value)
    return tuple(numbers)


def _misread(name: str, value: Json) -> CheckpointError:
    return CheckpointError(
        f"The configuration in the file sets {name} to {reprlib.repr(value)}, no list of whole numbers.",
        "Get the file again.",
    )


def _triple(values: Sequence[int]) -> Grid:
    time, rows, columns = (1, *values)[-3:]
    return time, rows, columns


def patch_strides(weight: Tensor, config: Mapping[str, Json]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Stride and padding of the patch convolution."""
    usual = (2, 4, 4) if weight.ndim == 5 else (4, 4)
    stride = _numbers(config, "PATCH_STRIDE") or usual
    padding = _numbers(config, "PATCH_PADDING") or tuple(size // 2 for size in weight.shape[2:])
    return stride[-(weight.ndim - 2) :], padding[-(weight.ndim - 2) :]


def stored_grid(recognised: Recognised, config: Mapping[str, Json]) -> Grid | None:
    """The grid of a table with one row per token."""
    if "pos_embed" not in recognised.state:
        return None
    rows = recognised.state["pos_embed"].shape[1] - int("cls_token" in recognised.state)
    frames = config.get("NUM_FRAMES", 1)
    slices = max(frames // 2, 1) if isinstance(frames, int) else 1
    side = math.isqrt(rows // slices)
    if slices * side * side != rows:
        raise CheckpointError(
            f"{recognised.path}: {recognised.file_name('pos_embed')} has {rows} rows for {slices} time slices, "
            "which is no square grid.",
            "Only models that were trained on square frames can be evaluated.",
        )
    return slices, side, side
