"""Where a file tells its number of attention heads after all: shapes of some tensors, the config beside it."""

import re
from collections.abc import Mapping
from typing import Literal

from corrkit.checkpoints.opening import Stub
from corrkit.checkpoints.opening.inert import Tree
from corrkit.files.jsontext import Json

# Pattern of a name, axis of its shape, and whether the axis counts heads or (parts of) the channels of one head.
_SHAPES: tuple[tuple[str, int, Literal["heads", "width"], int], ...] = (
    (r".*MultiHeadDotProductAttention_1\.query\.kernel", 1, "heads", 1),  # JAX: [D, heads, hd]
    (r"encoder\.layers_\d+\.attention\.query\.kernel", 1, "heads", 1),  # RVM: [D, heads, hd]
    (r".*relative_position_bias_table", 1, "heads", 1),  # BEiT: [offsets, heads]
    (r"rope_embed\.periods", 0, "width", 4),  # DINOv3: [hd / 4]
    (r"(blocks\.\d+\.attn\.)?rope\.freqs_cos", 1, "width", 1),  # EVA-02: [N, hd]
    (r"encoder\.blocks\.\d+\.residual1\.fn\.rope\.freqs", 1, "width", 1),  # CAPI: [2, hd]
    (r"class_pos_emb", 1, "width", 2),  # MLCD: [1, hd / 2]
    (r"blocks\.\d+\.attn\.scale", 0, "heads", 1),  # VideoMAE v2's cosine attention: [heads, 1, 1]
    (r"blocks\.\d+\.attn\.rel_pos_h", 1, "width", 1),  # SAM: [offsets, hd]
)
_CONFIG = ("num_attention_heads",)
_FILE = ("croco_kwargs.enc_num_heads", "recipe.encoder.heads")  # CroCo, corrkit pretrain


def stored(
    shapes: Mapping[str, tuple[int, ...]], dim: int, config: Mapping[str, Json], tree: Tree
) -> tuple[int, str] | None:
    """Number of heads and where it stands, or None.

    Args:
        shapes: of the network's tensors, by name relative to its prefix.
        dim: width of the network.
        config: the part about the vision model of the configuration beside the checkpoint.
        tree: the whole file.
    """
    for source, words, names in ((config, "the config beside the file", _CONFIG), (tree, "the file", _FILE)):
        for name in names:
            number = entry(source, name)
            if isinstance(number, int) and number > 0:
                return number, f"{words} says so ({name})"
    for pattern, axis, kind, parts in _SHAPES:
        for name, shape in shapes.items():
            if re.fullmatch(pattern, name) and len(shape) > axis:
                size = shape[axis] * parts
                return (size if kind == "heads" else dim // size), f"the shape of {name}, {list(shape)}"
    return None


def tells(name: str) -> bool:
    """Whether a tensor of this relative name tells the number of heads by its shape."""
    return any(re.fullmatch(pattern, name) for pattern, *_ in _SHAPES)


def entry(source: Tree, dotted: str) -> Tree:
    """A value inside nested mappings and stubs of a file, or None."""
    for part in dotted.split("."):
        source = source.fields if isinstance(source, Stub) else source
        source = source.get(part) if isinstance(source, Mapping) else None
    return source
