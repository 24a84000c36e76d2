"""The affinity written from its definition, one query cell at a time, in float64: obvious and slow."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from corrkit.protocols.schema import Affinity

Array = NDArray[np.floating]
Key = tuple[float, int, int]


def admits(dy: int, dx: int, affinity: Affinity) -> bool:
    if affinity.shape == "none":
        return True
    distance = max(abs(dy), abs(dx)) if affinity.shape == "square" else math.sqrt(dy * dy + dx * dx)
    return distance <= affinity.radius if affinity.inclusive else distance < affinity.radius


def dense_affinity(query: Array, contexts: Sequence[tuple[Array, int, int]], affinity: Affinity) -> NDArray[np.float64]:
    """Weights [N, F * N] of every query cell over every cell of every context frame.

    query: [h, w, C]. contexts: (features [h, w, C], windowed copies, free copies) per context frame. Every copy is a
    key frame of its own here; the free ones come first.
    """
    h, w, _ = query.shape
    copies: list[tuple[int, Array, bool]] = []
    for number, (features, windowed, free) in enumerate(contexts):
        copies += [(number, features, False)] * free + [(number, features, True)] * windowed
    weights = np.zeros((h * w, len(contexts) * h * w))
    for cell in range(h * w):
        qy, qx = divmod(cell, w)
        keys: list[Key] = []  # (similarity, copy, index) of every admitted cell
        for copy, (number, features, is_windowed) in enumerate(copies):
            for y in range(h):
                for x in range(w):
                    if not is_windowed or admits(y - qy, x - qx, affinity):
                        similarity = float(np.dot(query[qy, qx].astype(np.float64), features[y, x].astype(np.float64)))
                        keys.append((similarity, copy, number * h * w + y * w + x))
        if affinity.scope == "joint":
            for index, weight in kept_weights(keys, affinity):
                weights[cell, index] += weight
        else:
            for copy in range(len(copies)):
                for index, weight in kept_weights([key for key in keys if key[1] == copy], affinity):
                    weights[cell, index] += weight / len(copies)
    return weights


def kept_weights(keys: Sequence[Key], affinity: Affinity) -> list[tuple[int, float]]:
    """(index, weight) of the k nearest keys: higher similarity first, then the earlier copy, then the lower cell."""
    ordered = sorted(keys, key=lambda key: (-key[0], key[1], key[2]))
    kept = ordered[: affinity.topk]
    if affinity.ties == "keep":
        kept = [key for key in ordered if key[0] >= kept[-1][0]]
    largest = ordered[0][0]
    over = kept if affinity.normalise == "kept" else ordered
    total = sum(math.exp((similarity - largest) / affinity.temperature) for similarity, _, _ in over)
    return [(index, math.exp((similarity - largest) / affinity.temperature) / total) for similarity, _, index in kept]
