"""SFC's late fusion of two networks: Alxead/SFC c4e349a code/test_vos.py:78."""

import hashlib
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from corrkit.backbones.contract import interface_of
from corrkit.backbones.framewise import Framewise
from corrkit.errors import CheckpointError

_FINE_WEIGHT = 1.75


def fuse(fine: Framewise, semantic: Framewise) -> Framewise:
    """The fine-grained network of SFC with a semantic one: both normalised, the first weighted, joined over channels.

    Raises:
        CheckpointError: the first is no network of SFC, or the two see other inputs or give other grids.
    """
    if fine.report.system != "sfc":
        raise CheckpointError(
            f"Two files are for SFC, and the first is of {fine.report.system}.",
            "Give FINE.pth+SEMANTIC.pth, or one file.",
        )
    interface, second = interface_of(fine), interface_of(semantic)
    multiple = max(interface.multiple, second.multiple)
    if interface != replace(second, multiple=interface.multiple, report=interface.report, digest=interface.digest):
        raise CheckpointError(
            f"{semantic.report.system} has stride {semantic.stride} and its own input statistics, SFC has stride "
            f"{fine.stride}: their features can't be joined.",
            "Give a ResNet as second file; the published one is of MoCo v1.",
        )
    report = replace(
        fine.report,
        system=f"sfc+{semantic.report.system}",
        architecture=f"{fine.report.architecture}+{semantic.report.architecture}",
        parameters=fine.report.parameters + semantic.report.parameters,
        tensors_used=fine.report.tensors_used + semantic.report.tensors_used,
        tensors_total=fine.report.tensors_total + semantic.report.tensors_total,
        dropped=(*fine.report.dropped, *semantic.report.dropped),
        evidence=(*fine.report.evidence, *((f"second {name}", text) for name, text in semantic.report.evidence)),
        notes=(f"Late fusion: {_FINE_WEIGHT} times the first network's features beside the second's.",),
    )
    digest = hashlib.sha256(f"{fine.digest}+{semantic.digest}".encode()).hexdigest()
    fused = replace(interface, multiple=multiple, report=report, digest=digest)
    return Framewise(Fused(fine.network, semantic.network), fused)


class Fused(nn.Module):
    """Normalised frames [B, 3, H, W] to features [B, h, w, C1 + C2] of length 1."""

    def __init__(self, fine: nn.Module, semantic: nn.Module) -> None:
        super().__init__()
        self.fine, self.semantic = fine, semantic

    def forward(self, frames: Tensor) -> Tensor:
        """[B, 3, H, W] to [B, h, w, C1 + C2]."""
        fine = functional.normalize(self.fine(frames), dim=-1)
        semantic = functional.normalize(self.semantic(frames), dim=-1)
        return functional.normalize(torch.cat([_FINE_WEIGHT * fine, semantic], -1), dim=-1)
