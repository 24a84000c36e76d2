"""Tensors as the networks want them: pure functions from state dict to state dict, under canonical names."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from corrkit.checkpoints.system import State
from corrkit.files.jsontext import Json

if TYPE_CHECKING:
    from torch import Tensor


class IncompleteError(Exception):
    """Tensors that belong together are not all there: `names`, canonical."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = list(names)
        super().__init__(", ".join(self.names))


class ContradictionError(Exception):
    """A tensor has a shape that no network of its system has: `name`, canonical, and `problem`, in words."""

    def __init__(self, name: str, problem: str) -> None:
        self.name, self.problem = name, problem
        super().__init__(f"{name} {problem}")


def of_rank(name: str, tensor: "Tensor", *ranks: int) -> "Tensor":
    """The tensor, where its number of axes is one of `ranks`; else raises ContradictionError."""
    if tensor.ndim not in ranks:
        wanted = " or ".join(map(str, ranks))
        raise ContradictionError(name, f"has the shape {list(tensor.shape)}, not {wanted} axes")
    return tensor


# Axes of the tensors from which builders read sizes, before a whole network checks every shape.
_RANKS = tuple(
    (re.compile(pattern), ranks)
    for pattern, ranks in {
        r"patch_embed\.proj\.weight|stem\.0\.weight|.*\.conv_dw\.weight|(.*\.)?conv\d\.weight|neck\.0\.weight": (4, 5),
        r".*mlp\.(fc1|fc2|w12|w3)\.weight": (2, 4),
        r".*attn\.(qkv|proj)\.weight|.*relative_position_bias_table|.*rel_pos_[hwt]": (2,),
        r".*attn\.pool_[qkv]\.weight": (4, 5),
        r"(.*\.)?norm\d?(_[qkv])?\.(weight|bias)": (1,),
        r"cls_token|reg_token": (3,),
        r"pos_embed\w*": (2, 3, 4, 5),
    }.items()
)


def with_known_ranks(state: State) -> State:
    """The state, if each tensor that tells a size has as many axes as in every network; else ContradictionError."""
    for name, tensor in state.items():
        for pattern, ranks in _RANKS:
            if pattern.fullmatch(name):
                of_rank(name, tensor, *ranks)
    return state


def _joined(parts: "Mapping[str, Tensor]") -> "Tensor":
    """Tensors by name, one behind the other along the first axis."""
    import torch

    name, first = next(iter(parts.items()))
    for other, tensor in parts.items():
        if not tensor.ndim or tensor.shape[1:] != first.shape[1:] or tensor.dtype != first.dtype:
            shapes = f"{list(tensor.shape)} {tensor.dtype}, {name} {list(first.shape)} {first.dtype}"
            raise ContradictionError(other, f"can't be joined with its like: {shapes}")
    return torch.cat(list(parts.values()))


def unify(state: State) -> State:
    """What is the same for all layouts: fused q, k, v with their biases, a fused gate, and leading axes of tokens."""
    state = _fuse_gate(_fuse_attention(state))
    for name in ("cls_token", "reg_token", "pos_embed"):
        if name in state and state[name].ndim in (1, 2):
            state = {**state, name: state[name].reshape(1, -1, state[name].shape[-1])}
    return state


def without_some_biases(state: State, config: Mapping[str, Json]) -> State:
    """Zeros for the biases of queries, keys or values that a configuration leaves out while others are there."""
    import torch

    filled = dict(state)
    for switch, part in (("query_bias", "q"), ("key_bias", "k"), ("value_bias", "v")):
        if config.get(switch) is False:
            for stem in _stems(state, r"attn\.(?=[qkv]\.bias$)"):
                bias = next(state[f"{stem}{other}.bias"] for other in "qkv" if f"{stem}{other}.bias" in state)
                filled.setdefault(f"{stem}{part}.bias", torch.zeros_like(bias))
    return filled


def _fuse_attention(state: State) -> State:
    """attn.{q,k,v}.{weight,bias} and attn.{q,v}_bias to attn.qkv; a bias that is missing for k alone is zero."""
    import torch

    fused = dict(state)
    for stem in _stems(state, r"attn\.(?=[qkv]\.weight$)"):
        names = [f"{stem}{part}.weight" for part in "qkv"]
        if absent := [name for name in names if name not in fused]:
            raise IncompleteError(absent)
        fused[f"{stem}qkv.weight"] = _joined({name: fused.pop(name) for name in names})
    for stem in _stems(state, r"attn\.(?=([qkv]\.bias|[qv]_bias)$)"):
        spelling = "{}_bias" if f"{stem}q_bias" in state or f"{stem}v_bias" in state else "{}.bias"
        biases = {part: fused.pop(stem + spelling.format(part), None) for part in "qkv"}
        q, k, v = biases["q"], biases["k"], biases["v"]
        if q is None or v is None:
            raise IncompleteError([stem + spelling.format("q" if q is None else "v")])
        if k is None and any(name.endswith("attn.k.bias") for name in state):
            raise IncompleteError([f"{stem}k.bias"])
        k = torch.zeros_like(q) if k is None else k
        parts = zip("qkv", (q, k, v), strict=True)
        fused[f"{stem}qkv.bias"] = _joined({stem + spelling.format(part): bias for part, bias in parts})
    return fused


def _fuse_gate(state: State) -> State:
    """mlp.gate and mlp.value to mlp.w12."""
    fused = dict(state)
    for kind in ("weight", "bias"):
        for stem in _stems(state, rf"mlp\.(?=(gate|value)\.{kind}$)"):
            names = [f"{stem}{part}.{kind}" for part in ("gate", "value")]
            if absent := [name for name in names if name not in fused]:
                raise IncompleteError(absent)
            fused[f"{stem}w12.{kind}"] = _joined({name: fused.pop(name) for name in names})
    return fused


def _stems(state: State, pattern: str) -> list[str]:
    """Beginnings of names up to the end of a match."""
    return sorted({name[: match.end()] for name in state if (match := re.search(pattern, name))})


def packed_swiglu(state: State) -> State:
    """A SwiGLU whose gate and value timm packs into fc1, of twice the width that fc2 takes: to w12 and w3."""
    packed = {
        stem
        for stem in _stems(state, r"mlp\.(?=fc1\.weight$)")
        if f"{stem}fc2.weight" in state
        and of_rank(f"{stem}fc1.weight", state[f"{stem}fc1.weight"], 2).shape[0]
        == 2 * of_rank(f"{stem}fc2.weight", state[f"{stem}fc2.weight"], 2).shape[1]
    }
    renamed = {}
    for name, tensor in state.items():
        match = re.fullmatch(r"(.*mlp\.)fc([12])(\..+)", name)
        if match and match[1] in packed:
            name = f"{match[1]}{'w12' if match[2] == '1' else 'w3'}{match[3]}"
        renamed[name] = tensor
    return renamed


def without_key_bias(state: State) -> State:
    """DINOv3 multiplies qkv.bias by a mask that is 0 for k (facebookresearch/dinov3 6876159 layers/attention.py)."""
    masked = {}
    for name, tensor in state.items():
        if name.endswith("attn.qkv.bias"):
            tensor = of_rank(name, tensor, 1).clone()
            tensor[len(tensor) // 3 : 2 * len(tensor) // 3] = 0
        masked[name] = tensor
    return masked


def linear_patches(state: State) -> State:
    """A linear patch embedding over patches flattened (channel, row, column), as a convolution."""
    return _patches(state, lambda weight, side: weight.reshape(-1, 3, side, side))


def channel_last_patches(state: State) -> State:
    """A linear patch embedding over patches flattened (row, column, channel), as a convolution."""
    return _patches(state, lambda weight, side: weight.reshape(-1, side, side, 3).permute(0, 3, 1, 2))


def _patches(state: State, reshape: "Callable[[Tensor, int], Tensor]") -> State:
    name = "patch_embed.proj.weight"
    if name not in state:
        raise IncompleteError([name])
    values = of_rank(name, state[name], 2).shape[1]
    side = math.isqrt(values // 3)
    if 3 * side * side != values:
        raise ContradictionError(name, f"takes {values} values, which are no square patch of RGB pixels")
    return {**state, name: reshape(state[name], side)}


def shared_frequencies(state: State) -> State:
    """CAPI stores the same frequencies in every block (rope_lr_mult is 0 in its recipe): one copy of them.

    Raises:
        IncompleteError: where they differ, since one rotation serves all blocks here.
    """
    import torch

    copies = {name: tensor for name, tensor in state.items() if name.endswith("attn.rope.freqs")}
    rest = {name: tensor for name, tensor in state.items() if name not in copies}
    first = next(iter(copies.values()), None)
    if first is None:
        raise IncompleteError(["blocks.0.attn.rope.freqs"])
    absent = {name.split("attn.")[0] for name in rest if name.startswith("blocks.")} - {
        name.split("attn.")[0] for name in copies
    }
    lacking = sorted(block for block in absent if re.fullmatch(r"blocks\.\d+\.", block))
    if lacking:
        raise IncompleteError(f"{block}attn.rope.freqs" for block in lacking)
    if not all(first.dtype == copy.dtype and torch.equal(first, copy) for copy in copies.values()):
        raise IncompleteError(["equal rotary frequencies of all blocks"])
    return {**rest, "rope.freqs": first}


def from_jax(state: State) -> State:
    """Kernels of flax [in, out], [in, heads, width], [heads, width, out] and [h, w, in, out] as torch weights."""
    converted = {}
    for name, tensor in state.items():
        stem, _, kind = name.rpartition(".")
        if kind == "kernel":
            kind = "weight"
            tensor = of_rank(name, tensor, 2, 3, 4, 5)
            if tensor.ndim == 5:  # convolutions over one frame
                tensor = tensor.squeeze(0)
            if tensor.ndim == 4:
                tensor = tensor.permute(3, 2, 0, 1)
            elif re.search(r"(attn|cross)\.[qkv]$", stem):
                tensor = tensor.flatten(1).T
            else:
                tensor = tensor.flatten(0, -2).T
        elif kind == "bias" and re.search(r"(attn|cross)\.[qkv]$", stem):
            tensor = tensor.flatten()
        converted[f"{stem}.{kind}" if stem else kind] = tensor
    return converted
