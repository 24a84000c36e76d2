"""Names of published pre-training classes under corrkit's, and comparison of gradients: for the golden tests."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

ROUNDING = 1e-6  # of float64 recomputations (golden/pretraining/*/README.md)
STORED = 1e-6  # arrays of more than 1500 elements are stored as float32

_DECODER = {
    r"decoder_embed(_mae)?\.": "embed.",
    r"mask_token$": "mask_token",
    r"decoder_pos_embed": "positions.pos_embed",
    r"decoder_cls_token$": "cls_token",
    r"decoder_norm\.": "norm.",
    r"decoder_pred\.": "head.",
    r"decoder_frame_info$": "frame_vectors",
}
_MAE_BLOCK = {"norm1.": "norms.s.", "attn.": "layers.s.", "norm2.": "norms.m.", "mlp.": "layers.m."}
_CSM_BLOCK = {
    "norm1.": "norms.c.", "norm_kv1.": "memory_norm.", "cattn.": "layers.c.", "norm3.": "norms.s.",
    "attn.": "layers.s.", "norm4.": "norms.m.", "mlp2.": "layers.m.",
}  # fmt: skip
_CROPMAE_BLOCK = {
    "multihead_attn.out_proj.": "layers.c.proj.", "multihead_attn.in_proj_": "layers.c.qkv.", "norm2.": "norms.c.",
    "linear1.": "layers.m.fc1.", "linear2.": "layers.m.fc2.", "norm3.": "norms.m.",
    "self_attn.in_proj_": "layers.s.qkv.", "self_attn.out_proj.": "layers.s.proj.", "norm1.": "norms.s.",
}  # fmt: skip
BLOCKS = {"mae": _MAE_BLOCK, "csm": _CSM_BLOCK, "cropmae": _CROPMAE_BLOCK}


def rename(name: str, block: Mapping[str, str]) -> str:
    """A name of an MAE-style class as a name of `MaskedPrediction`."""
    match = re.match(r"decoder_blocks\.(\d+)\.(.*)", name)
    if match:
        for old, new in block.items():
            if match[2].startswith(old):
                return f"decoders.0.blocks.{match[1]}.{new}{match[2].removeprefix(old)}"
        raise KeyError(name)
    for pattern, new in _DECODER.items():
        if re.match(pattern, name):
            return re.sub(pattern, f"decoders.0.{new}", name, count=1)
    return "encoder." + ("positions." if name.startswith("pos_embed") else "") + name


def published_weights(path: Path, prefix: str = "w.") -> dict[str, Tensor]:
    stored = np.load(path)
    return {n.removeprefix(prefix): torch.from_numpy(stored[n]).double() for n in stored.files if n.startswith(prefix)}


def repacked(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Cross-attention's packed projection as two, for queries and memory; thirds named "#0" to "#2" as one."""
    result = {}
    for name, tensor in state.items():
        if "#" in name:
            thirds = [state[re.sub(r"#\d", f"#{index}", name)] for index in range(3)]
            result[re.sub(r"#\d", "", name)] = torch.cat(thirds)
            continue
        if ".layers.c.qkv." in name:
            dim = len(tensor) // 3
            result[name.replace(".qkv.", ".q.")] = tensor[:dim]
            result[name.replace(".qkv.", ".kv.")] = tensor[dim:]
        else:
            result[name] = tensor
    return result


def fill(module: nn.Module, path: Path, mapping: Callable[[str], str]) -> None:
    """All published weights into the module, none left over and none missing."""
    tables = {name: table for name, table in module.named_buffers() if name.endswith("pos_embed")}
    state = repacked({mapping(name): tensor for name, tensor in published_weights(path).items()})
    module.double().load_state_dict({**tables, **state})  # some classes don't store their fixed tables
    module.eval()


def tensor(stored: Any, name: str) -> Tensor:
    """A stored array as float64 (whole numbers and booleans as they are)."""
    value = torch.from_numpy(np.asarray(stored[name]))
    return value.double() if value.is_floating_point() else value


def assert_close(actual: Tensor, expected: Tensor, tolerance: float = ROUNDING) -> None:
    torch.testing.assert_close(actual.detach().double(), expected.double(), rtol=tolerance, atol=tolerance)


def assert_gradients(
    module: nn.Module, stored: Any, mapping: Callable[[str], str], names: str = "grad_names", norms: str = "grad_norms"
) -> None:
    """Norms of all gradients equal the published ones; tensors without a gradient there have none here."""
    gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
    compared = set()
    for name, norm in zip(stored[names], stored[norms], strict=True):
        found = re.match(r"([^#]*)(#(\d))?", mapping(str(name)))
        assert found is not None
        own, _, third = found.group(1, 2, 3)
        own += mapping(str(name)).partition(f"#{third}")[2]
        parts = [own.replace(".c.qkv.", ".c.q."), own.replace(".c.qkv.", ".c.kv.")] if ".c.qkv." in own else [own]
        compared.update(parts)
        values = [torch.zeros(1, dtype=torch.float64) if (g := gradients[part]) is None else g for part in parts]
        if third is not None:
            values = [value.chunk(3)[int(third)] for value in values]
        actual = torch.stack([value.norm() for value in values]).norm()
        assert abs(float(actual) - norm) <= ROUNDING * max(1.0, abs(norm)), name
    assert not {name for name, gradient in gradients.items() if gradient is not None and name not in compared}
