"""Tensors as the networks want them: pure functions from state dict to state dict."""

import re
from typing import TYPE_CHECKING

from corrkit.checkpoints.system import Layout, State

if TYPE_CHECKING:
    from torch import Tensor


class IncompleteError(Exception):
    """Tensors that belong together are not all there; the message lists what is missing."""


def unify(state: State, layout: Layout) -> State:
    """The layout's own conversion, then what is the same for all: fused q, k, v, biases, and leading axes of tokens."""
    if layout.convert is not None:
        state = layout.convert(state)
    state = _fuse_attention(state)
    state = _fuse_gate(state)
    for name in ("cls_token", "reg_token", "pos_embed"):
        if name in state and state[name].ndim in (1, 2):
            state = {**state, name: state[name].reshape(1, -1, state[name].shape[-1])}
    return state


def _fuse_attention(state: State) -> State:
    """attn.{q,k,v}.{weight,bias}, attn.{q_bias,v_bias} to attn.qkv; a bias that is missing for k only is zero."""
    import torch

    fused = dict(state)
    for stem in sorted(
        {name[: match.end()] for name in state if (match := re.search(r"attn\.(?=[qkv]\.weight$)", name))}
    ):
        parts = [fused.pop(f"{stem}{part}.weight", None) for part in "qkv"]
        if any(part is None for part in parts):
            raise IncompleteError(
                ", ".join(f"{stem}{name}.weight" for name, part in zip("qkv", parts, strict=True) if part is None)
            )
        fused[f"{stem}qkv.weight"] = torch.cat([part for part in parts if part is not None])
    biased = r"attn\.(?=(?:[qkv]\.bias|[qv]_bias)$)"
    for stem in sorted({name[: match.end()] for name in state if (match := re.search(biased, name))}):
        found = {part: fused.pop(f"{stem}{part}.bias", fused.pop(f"{stem}{part}_bias", None)) for part in "qkv"}
        if found["q"] is None or found["v"] is None:
            raise IncompleteError(f"{stem}{'q' if found['q'] is None else 'v'} bias")
        key = found["k"] if found["k"] is not None else torch.zeros_like(found["q"])
        fused[f"{stem}qkv.bias"] = torch.cat([found["q"], key, found["v"]])
    return fused


def _fuse_gate(state: State) -> State:
    """mlp.{gate,value} to mlp.w12."""
    import torch

    fused = dict(state)
    for stem, kind in sorted(
        {
            (match[1], match[3])
            for name in state
            if (match := re.fullmatch(r"(.*mlp\.)(gate|value)\.(weight|bias)", name))
        }
    ):
        parts: list[Tensor | None] = [fused.pop(f"{stem}{part}.{kind}", None) for part in ("gate", "value")]
        if any(part is None for part in parts):
            raise IncompleteError(f"{stem}{'gate' if parts[0] is None else 'value'}.{kind}")
        fused[f"{stem}w12.{kind}"] = torch.cat([part for part in parts if part is not None])
    return fused
