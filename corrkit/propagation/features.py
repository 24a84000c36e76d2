"""Features of one frame, made ready for matching: checked, float32, normalised as the protocol says."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from corrkit.errors import CorrkitError
from corrkit.protocols.schema import Features

if TYPE_CHECKING:
    from torch import Tensor

_EPSILON = 1e-12  # torch's F.normalize; every published script uses its default


def prepare(features: "Tensor", options: Features, frame: int) -> "tuple[Tensor, Tensor]":
    """A frame's features as the kernel wants them, and what `require_finite` looks at.

    Args:
        features: [h, w, C], any float type, any device.
        options: `finer`, `l2` and `group_weights` are obeyed here.
        frame: index in the clip, for messages.

    Returns:
        [h, w, C] float32 on the grid that `finer` gives, contiguous, on the same device, detached; and [2] int64, the
        number of cells that are NaN or infinite, and of all.

    Raises:
        CorrkitError: for channels that do not divide into the groups.
    """
    features = features.detach().to(torch.float32)
    norms = torch.linalg.vector_norm(features, dim=-1, keepdim=True)  # [h, w, 1]
    bad = (~torch.isfinite(norms)).sum()
    counts = torch.stack([bad, torch.full_like(bad, norms.numel())])
    if options.finer > 1:
        # As valeoai/NAF ad4e24d evaluation/eval_video_seg.py brings features to the labels' grid.
        enlarged = functional.interpolate(
            features.permute(2, 0, 1)[None], scale_factor=options.finer, mode="bilinear", align_corners=False
        )
        features = enlarged[0].permute(1, 2, 0)
        norms = torch.linalg.vector_norm(features, dim=-1, keepdim=True)
    if options.group_weights:
        features = _fused(features, options.group_weights, frame)
        norms = torch.linalg.vector_norm(features, dim=-1, keepdim=True)
    if options.l2:
        features = features / norms.clamp_min(_EPSILON)
    return features.contiguous(), counts


def require_finite(counts: "Mapping[int, Tensor]") -> None:
    """Raises CorrkitError for the first frame whose features are NaN or infinite.

    Args:
        counts: frame to what `prepare` counted. The host waits for the device once for all of them.
    """
    if not counts:
        return
    for frame, (bad, cells) in zip(counts, torch.stack([*counts.values()]).tolist(), strict=True):
        if bad:
            raise CorrkitError(
                f"The features of frame {frame} are NaN, infinite or beyond 1e19 in {bad} of {cells} cells.",
                "Look at the checkpoint and its precision (float16 overflows beyond 65504).",
            )


def _fused(features: "Tensor", weights: tuple[float, ...], frame: int) -> "Tensor":
    """Each equal group of channels L2-normalised and weighted. Source: Alxead/SFC c4e349a code/test_vos.py."""
    if features.shape[-1] % len(weights):
        raise CorrkitError(
            f"Frame {frame} has {features.shape[-1]} channels, which do not divide into {len(weights)} equal groups.",
            "Set features.group_weights to one weight per group, or to [].",
        )
    groups = features.chunk(len(weights), dim=-1)
    return torch.cat(
        [weight * functional.normalize(g, dim=-1, eps=_EPSILON) for weight, g in zip(weights, groups, strict=True)], -1
    )
