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


def dense_affinity(
    query: Array,
    contexts: Sequence[tuple[Array, int, int]],
    affinity: Affinity,
    classes: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """Weights [N, F * N] of every query cell over every cell of every context frame.

    query: [h, w, C]. contexts: (features [h, w, C], windowed copies, free copies) per context frame. Every copy is a
    key frame of its own here; the free ones come first. classes: None, or those of the query's cells and of each
    context frame's, [1 + F, h, w], -1 for any.
    """
    classes = np.full((1 + len(contexts), *query.shape[:2]), -1) if classes is None else classes
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
                    pair = classes[0, qy, qx], classes[1 + number, y, x]
                    if (not is_windowed or admits(y - qy, x - qx, affinity)) and (-1 in pair or pair[0] == pair[1]):
                        similarity = float(np.dot(query[qy, qx].astype(np.float64), features[y, x].astype(np.float64)))
                        keys.append((similarity, copy, number * h * w + y * w + x))
        if affinity.scope == "joint" and keys:
            inside = sum(admits(y - qy, x - qx, affinity) for y in range(h) for x in range(w)) * len(copies)
            num_outside = len(copies) * offsets(affinity) - inside if affinity.normalise == "window" else 0
            for index, weight in kept_weights(keys, affinity, num_outside):
                weights[cell, index] += weight
        else:
            for copy in range(len(copies)):
                of_copy = [key for key in keys if key[1] == copy]
                for index, weight in kept_weights(of_copy, affinity) if of_copy else ():
                    weights[cell, index] += weight / len(copies)
    return weights


def offsets(affinity: Affinity) -> int:
    """Cells of a window that ends nowhere."""
    reach = range(-math.ceil(affinity.radius), math.ceil(affinity.radius) + 1)
    return sum(admits(dy, dx, affinity) for dy in reach for dx in reach)


def kept_weights(keys: Sequence[Key], affinity: Affinity, num_outside: int = 0) -> list[tuple[int, float]]:
    """(index, weight) of the k nearest keys: higher similarity first, then the earlier copy, then the lower cell.

    num_outside: cells of similarity 0 that take part in the sum and are not kept.
    """
    ordered = sorted(keys, key=lambda key: (-key[0], key[1], key[2]))
    kept = ordered[: affinity.topk] if affinity.topk else ordered
    if affinity.ties == "keep":
        kept = [key for key in ordered if key[0] >= kept[-1][0]]
    over = kept if affinity.normalise == "kept" else ordered
    values = [*(similarity for similarity, _, _ in over), *[0.0] * num_outside]
    largest = max(values)
    total = sum(math.exp((similarity - largest) / affinity.temperature) for similarity in values)
    return [(index, math.exp((similarity - largest) / affinity.temperature) / total) for similarity, _, index in kept]
