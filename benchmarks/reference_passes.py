"""The dense passes of published evaluations, as rules written anew: what corrkit's matching is timed against.

They compute every similarity and throw away what lies outside the window. Features come normalised and the mask is
ready (the published scripts build it in Python loops of seconds). tests/benchmarks shows that they choose what corrkit
chooses.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional

from corrkit.protocols.schema import Affinity


def window_mask(height: int, width: int, affinity: Affinity, cells: Tensor) -> Tensor:
    """[N, Q] bool: whether a cell lies in the window of each of the query cells [Q]."""
    every = torch.arange(height * width, device=cells.device).unsqueeze(1)
    return _admitted(every // width - cells // width, every % width - cells % width, affinity)


def pairs_in_window(height: int, width: int, affinity: Affinity) -> int:
    """How many (query cell, key cell) pairs of two frames lie within a window."""
    dy, dx = torch.meshgrid(torch.arange(1 - height, height), torch.arange(1 - width, width), indexing="ij")
    counts = (height - dy.abs()) * (width - dx.abs())
    return int(counts[_admitted(dy, dx, affinity)].sum())


def _admitted(dy: Tensor, dx: Tensor, affinity: Affinity) -> Tensor:
    if affinity.shape == "square":
        return (dy.abs() <= affinity.radius) & (dx.abs() <= affinity.radius)
    distance = dy**2 + dx**2
    return distance <= affinity.radius**2 if affinity.inclusive else distance < affinity.radius**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A query frame with its full context.

    features: [n + 1 or more, h, w, C]: the n context frames first, the query last. labels: [n, N, L] of the context.
    cells: [Q] the query cells that are worked on. inside: [N, Q] their windows. free: how many of the first context
    frames no window restricts.
    """

    features: Tensor
    labels: Tensor
    inside: Tensor
    cells: Tensor
    affinity: Affinity
    free: int = 0

    @property
    def keys(self) -> Tensor:
        """[n, N, C]."""
        return self.features[: len(self.labels)].flatten(1, 2)

    @property
    def query(self) -> Tensor:
        """[Q, C]."""
        return self.features[-1].flatten(0, 1)[self.cells]


Pass = Callable[[], Tensor]
"""The soft labels [Q, L] of the query cells."""


def dino_style(frame: Frame) -> Pass:
    """All context frames at once; ties are kept. Rule: facebookresearch/dino 7c446df eval_video_segmentation.py."""
    keys, query, affinity = frame.keys, frame.query.T, frame.affinity
    mask = frame.inside.float().unsqueeze(0)  # [1, N, Q]
    labels = frame.labels.flatten(0, 1).T.contiguous()  # [L, n N]

    def run() -> Tensor:
        weights = torch.exp(torch.bmm(keys, query.expand(len(keys), -1, -1)) / affinity.temperature)
        weights = weights * mask.repeat(len(keys), 1, 1)
        weights = weights.reshape(-1, weights.shape[-1])  # [n N, Q]
        threshold = torch.topk(weights, dim=0, k=affinity.topk).values[-1]
        weights[weights < threshold] = 0
        weights = weights / weights.sum(0, keepdim=True)
        return (labels @ weights).T

    return run


def crw_style(frame: Frame) -> Pass:
    """A hundred query cells at a time. Rule: ajabri/videowalk 047f3f4 code/utils/test_utils.py."""
    keys, query, affinity = frame.keys, frame.query, frame.affinity
    bias = torch.where(frame.inside, 0.0, -1e10)  # [N, Q]
    labels = frame.labels.flatten(0, 1)

    def run() -> Tensor:
        found = []
        for start in range(0, len(frame.cells), 100):
            part = slice(start, start + 100)
            scores = torch.einsum("nkc,qc->nkq", keys, query[part])
            scores[frame.free :] += bias[:, part]
            best = torch.topk(scores.flatten(0, 1) / affinity.temperature, affinity.topk, dim=0)
            found.append(_looked_up(labels, best.indices, functional.softmax(best.values, dim=0)))
        return torch.cat(found)

    return run


def vfs_style(frame: Frame) -> Pass:
    """Thirty-two query cells at a time. Rule: xvjiarui/VFS 8e055cc mmaction/models/common/local_attention.py."""
    keys = frame.keys.flatten(0, 1).T.contiguous()  # [C, n N]
    query, affinity, outside = frame.query, frame.affinity, ~frame.inside
    labels = frame.labels.flatten(0, 1)

    def run() -> Tensor:
        found = []
        for start in range(0, len(frame.cells), 32):
            part = slice(start, start + 32)
            scores = (keys.T @ query[part].T / affinity.temperature).view(len(frame.labels), -1, len(query[part]))
            scores[frame.free :].masked_fill_(outside[:, part], -torch.inf)
            best = torch.topk(scores.flatten(0, 1), affinity.topk, dim=0)
            found.append(_looked_up(labels, best.indices, functional.softmax(best.values, dim=0)))
        return torch.cat(found)

    return run


def _looked_up(labels: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
    """Labels [Q, L] from those [n N, L] of the context, by indices and weights [k, Q]."""
    return (labels[indices] * weights.unsqueeze(-1)).sum(0)


STYLES = MappingProxyType({"dino": dino_style, "crw": crw_style, "vfs": vfs_style})
