"""Networks with the weights of golden/jhmdb's recipe: CropMAE's ViT-S/16 and CRW's ResNet-18."""

import ast
import hashlib
import math
import zlib
from pathlib import Path

import numpy as np
import timm
import torch

import corrkit
from corrkit.backbones.contract import Backbone


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


def crw_resnet18(golden: Path) -> Backbone:
    """CRW's network: ResNet-18 without layer 4, layer 3 at stride 1, all padded convolutions by reflection.

    Source: ajabri/videowalk 047f3f4 code/resnet.py (golden/checkpoints/crw_resnet18/meta.json).
    """
    net = timm.create_model("resnet18", num_classes=0)
    net.layer3[0].conv1.stride = net.layer3[0].downsample[0].stride = (1, 1)
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d) and module.padding != (0, 0):
            module.padding_mode = "reflect"
    encoder = torch.nn.Sequential(
        *(getattr(net, name) for name in ("conv1", "bn1", "act1", "maxpool", "layer1", "layer2", "layer3"))
    )
    del net.layer4, net.global_pool
    net.load_state_dict({name.removeprefix("model."): value for name, value in recipe_state(golden).items()})
    return corrkit.wrap(encoder.eval(), stride=8)


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
