"""Which of timm's architectures a file in its names is nearest to, for the message that offers timm:NAME=FILE."""

import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

# A name that only timm gives its tensors -> which of its models have such.
_MARKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"(.*\.)?blocks\.\d+\.mlp\.fc1_[gx]\.weight", ("eva02*", "vit_*dinov3*")),
    (r"(.*\.)?attn_pool\.latent", ("vit_pe_core*", "vit_*siglip*")),
    (r"(.*\.)?norm_pre\.weight", ("vit_*clip*", "vit_pe_*")),
    (r"(.*\.)?blocks\.\d+\.gamma_1", ("vit_*rope*", "vit_*dinov3*", "beit*", "eva_*")),
    (r"(.*\.)?stages\.\d+\.blocks\.\d+\.mlp\.grn\.weight", ("convnextv2*",)),
    (r"(.*\.)?stages\.\d+\.blocks\.\d+\.conv_dw\.weight", ("convnext_*",)),
    (r"(.*\.)?layers\.\d+\.blocks\.\d+\.attn\.logit_scale", ("swinv2*",)),
    (r"(.*\.)?reg_token", ("vit_*reg*",)),
)
_SECONDS = 8.0  # of processor time
_NAMED = 3


def nearest(tensors: "Mapping[str, Tensor]") -> list[str]:
    """Up to three names of timm, the nearest first; none where nothing in the file is timm's alone.

    Architectures are built without memory ("meta"), for a few seconds at most.
    """
    filters = next((models for mark, models in _MARKS if any(re.fullmatch(mark, name) for name in tensors)), ())
    if not filters:
        return []
    import timm

    names = [name for pattern in filters for name in timm.list_models(pattern)]
    started, found = time.process_time(), {}
    mine = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in names:
        if time.process_time() - started > _SECONDS:
            break
        if (theirs := _shapes(name)) is not None:
            found[name] = _likeness(mine, theirs)
    return sorted(found, key=lambda name: (*(-share for share in found[name]), len(name)))[:_NAMED]


def _shapes(name: str) -> dict[str, tuple[int, ...]] | None:
    import timm
    import torch

    try:
        with torch.device("meta"):
            model: Any = timm.create_model(name, pretrained=False)
    except (RuntimeError, NotImplementedError, TypeError, ValueError):  # some can't be built without memory
        return None
    return {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}


def _likeness(mine: Mapping[str, tuple[int, ...]], theirs: Mapping[str, tuple[int, ...]]) -> tuple[float, float]:
    """Share of tensors that agree in name and shape, and of names that agree apart from numbers."""
    same = sum(mine.get(name) == shape for name, shape in theirs.items()) / len(theirs)
    kinds, others = ({re.sub(r"\d+", "#", name) for name in names} for names in (mine, theirs))
    return same, len(kinds & others) / len(kinds | others)
