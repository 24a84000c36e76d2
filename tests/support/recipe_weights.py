"""Networks with the weights of golden/jhmdb's recipe: CropMAE's ViT-S/16 and CRW's ResNet-18."""

import ast
import hashlib
import math
import zlib
from pathlib import Path

import numpy as np
import torch


def recipe_state(golden: Path) -> dict[str, torch.Tensor]:
    """The state dict of an npz with `parameter_names`, `parameter_shapes` and `weights_sha256`, which is checked."""
    with np.load(golden) as arrays:
        names = [str(name) for name in arrays["parameter_names"]]
        shapes = [ast.literal_eval(str(shape)) for shape in arrays["parameter_shapes"]]
        expected = str(arrays["weights_sha256"])
    state = {name: _draw(name, shape) for name, shape in zip(names, shapes, strict=True)}
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode() + state[name].numpy().tobytes())
    assert digest.hexdigest() == expected, "the recipe was not followed"
    return state


def save_vit(golden: Path, path: Path) -> Path:
    """CropMAE's ViT-S/16 as a checkpoint file."""
    torch.save({"model": recipe_state(golden)}, path)
    return path


def save_crw_resnet18(golden: Path, path: Path) -> Path:
    """CRW's ResNet-18 as its training script saves it, the head of pre-training beside it."""
    state = {f"encoder.{name}": value for name, value in recipe_state(golden).items()}
    head = {"selfsim_fc.0.weight": torch.zeros(128, 512), "selfsim_fc.0.bias": torch.zeros(128)}
    torch.save({"model": state | head}, path)
    return path


def _draw(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    x = np.random.RandomState(zlib.crc32(name.encode()) & 0x7FFFFFFF).standard_normal(shape)
    if name.endswith("running_var"):
        x = 1 + 0.1 * np.abs(x)
    elif name.endswith("running_mean"):
        x = 0.1 * x
    elif name in ("cls_token", "pos_embed"):
        x = 0.02 * x
    elif len(shape) >= 2:
        x = x / math.sqrt(math.prod(shape[1:]))
    elif name.endswith("weight"):
        x = 1 + 0.1 * x
    else:
        x = 0.02 * x
    return torch.from_numpy(np.asarray(x).astype(np.float32))
