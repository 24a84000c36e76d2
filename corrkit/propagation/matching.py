"""Exact windowed matching by tiled matrix products: the only affinity code.

Scheme: the grid is cut into tiles; the M queries of a tile meet the P cells of the box around their windows, in each
context frame, by one matrix product into a slice of [F, M, P] scores. Nothing outside the box is ever multiplied. The
maximum over the F frames, plus the window as 0 / -inf, gives [M, P]; the k best cells lie at its k best positions, so
top-k looks at P positions and then at F * k scores. Exact; one more than k is looked at to detect ties at the cut.
Several query frames that share context frames are matched at once: M then counts a tile's cells in all of them, which
makes the products wider and the keys to be read fewer.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from corrkit.errors import ProtocolError
from corrkit.propagation.affinity import SparseAffinity, from_entries
from corrkit.propagation.blocks import Block
from corrkit.propagation.contexts import Context, SharedContexts
from corrkit.propagation.scoring import Extent, Plan, Workspace
from corrkit.propagation.window import Window
from corrkit.protocols.schema import Affinity

if TYPE_CHECKING:
    from torch import Tensor


def match(query: "Tensor", contexts: Sequence[Context], affinity: Affinity) -> SparseAffinity:
    """For each query cell, the context cells it is most similar to and their weights. Knows no labels.

    Similarity is the dot product in float32. Among equal similarities at the k-th place, `ties = "exact"` prefers the
    earlier context frame, then the earlier copy, then the lower cell.

    Args:
        query: [h, w, C] float32 features of the frame being labelled, prepared.
        contexts: at least one context frame of the same shape. A frame appears twice only if its copies carry
            different labels.
        affinity: radius, shape, inclusive, topk, ties, scope, temperature and normalise are obeyed.

    Returns:
        Indices number the context frames in the given order. Rows sum to 1 with normalise = "kept".

    Raises:
        ValueError: on shapes that differ or an empty context.
        ProtocolError: if the window admits no cell at all, or scope and normalise contradict each other.
        CorrkitError: if a product overflows float32.
    """
    return Matcher(affinity).match([query], [contexts])[0]


class Matcher:
    """`match` for the frames of one clip: several query frames at once; tiles, window and buffers are reused."""

    def __init__(self, affinity: Affinity) -> None:
        if affinity.scope == "joint" and affinity.normalise == "frame":
            raise ProtocolError(
                "affinity.normalise = frame contradicts affinity.scope = joint.",
                "Set scope = frame to select and average per frame, or normalise = kept.",
            )
        if affinity.normalise == "window" and (affinity.scope == "frame" or affinity.shape == "none"):
            raise ProtocolError(
                "affinity.normalise = window needs a window, and all context frames together.",
                "Set shape to square or circle and scope = joint, or normalise = kept.",
            )
        self._affinity = affinity
        self._window = Window.of(affinity)
        self._workspace: Workspace | None = None
        self._plan: Plan | None = None

    def match(
        self,
        queries: Sequence["Tensor"],
        contexts: Sequence[Sequence[Context]],
        classes: Sequence["Tensor | None"] | None = None,
    ) -> list[SparseAffinity]:
        """The affinity of each query frame to its own context frames, contexts[i] of queries[i]; see `match`.

        Context frames that several queries share (the same tensor) are read once for all of them. `classes` are those
        of each query, as in `Context`; a cell for which no cell of its class is left matches nothing.
        """
        known = list(classes or [None] * len(queries))
        for query, own in zip(queries, contexts, strict=True):
            _check_shapes(query, own)
            self._check_window(own)
        # The buffers outlive this call, which may come from inside or outside an inference mode.
        device = queries[0].device.type
        with torch.inference_mode(mode=False), torch.no_grad(), torch.autocast(device, enabled=False):
            if self._affinity.scope == "joint":
                return self._jointly(queries, contexts, known)
            return [self._each(*alone) for alone in zip(queries, contexts, known, strict=True)]

    def _check_window(self, contexts: Sequence[Context]) -> None:
        if self._affinity.normalise == "window" and any(context.free for context in contexts):
            raise ProtocolError(
                "affinity.normalise = window needs a window around each cell, which frame 0 has not.",
                "Set memory.mask_first = true, or normalise = kept.",
            )
        has_windowed_only = all(c.free == 0 for c in contexts) or self._affinity.scope == "frame"
        if self._window.is_empty and has_windowed_only:
            raise ProtocolError(
                f"A strict {self._window.shape} window of radius 0 admits no cell, so there is nothing to average "
                "(published code returns NaN here).",
                "Use radius >= 1, inclusive = true, shape = none, or leave frame 0 free with mask_first = false.",
            )

    def _each(self, query: "Tensor", contexts: Sequence[Context], classes: "Tensor | None") -> SparseAffinity:
        """Selection within each context frame; the results are averaged over all copies of all frames."""
        height, width, _ = query.shape
        total = sum(c.windowed + c.free for c in contexts)
        rows, indices, weights, tied = [], [], [], []
        for number, c in enumerate(contexts):
            for copies, alone in (
                (c.windowed, replace(c, windowed=1, free=0)),
                (c.free, replace(c, windowed=0, free=1)),
            ):
                if copies:
                    matched = self._jointly([query], [[alone]], [classes])[0]
                    rows.append(matched.rows())
                    indices.append(matched.indices + number * height * width)
                    weights.append(matched.weights * (copies / total))
                    tied += [part.moved(columns=number * height * width, share=copies / total) for part in matched.tied]
        return from_entries(
            torch.cat(rows),
            torch.cat(indices),
            torch.cat(weights),
            tied=tied,
            num_cells=height * width,
            num_context=len(contexts),
        )

    def _jointly(
        self,
        queries: Sequence["Tensor"],
        contexts: Sequence[Sequence[Context]],
        classes: Sequence["Tensor | None"],
    ) -> list[SparseAffinity]:
        """Selection over all context frames of a query together."""
        height, width, _ = queries[0].shape
        is_open, is_empty = self._window.covers(height, width), self._window.is_empty
        windowed, free = SharedContexts(len(queries)), SharedContexts(len(queries))
        for query, own in enumerate(contexts):
            for number, c in enumerate(own):
                if is_open or c.free == 0:
                    windowed.add(c, query, number, windowed=c.windowed + c.free, free=0)
                else:
                    free.add(c, query, number, windowed=c.windowed, free=c.free)
        windowed = SharedContexts(len(queries)) if is_empty else windowed
        plan = self._plan_for(height, width, windowed, free, queries[0].device)
        block = Block(queries, classes, windowed, free, plan, self._window, self._affinity)
        entries = [part for group in plan.groups for part in block.entries(group)]
        rows, indices, weights = (torch.cat(column) for column in zip(*entries, strict=True))
        num_context = max(len(own) for own in contexts)
        all_queries = from_entries(
            rows,
            indices,
            weights,
            tied=block.tied,
            num_cells=len(queries) * height * width,
            num_context=num_context,
        )
        return all_queries.parts([len(own) for own in contexts])

    def _plan_for(
        self, height: int, width: int, windowed: SharedContexts, free: SharedContexts, device: torch.device
    ) -> Plan:
        extent = Extent(
            height=height,
            width=width,
            num_queries=windowed.num_queries,
            num_windowed=len(windowed.frames),
            num_free=len(free.frames),
            num_pairs=sum(frame.last - frame.first for frame in windowed.seen()),
        )
        if self._workspace is None:
            self._workspace = Workspace(device)
        if self._plan is None or self._plan.extent != extent:
            self._plan = None  # megabytes on a large grid; what follows takes their place
            self._plan = Plan(extent, self._window, self._workspace, device)
        return self._plan


def _check_shapes(query: "Tensor", contexts: Sequence[Context]) -> None:
    if query.ndim != 3 or 0 in query.shape:
        raise ValueError(f"query features have shape {tuple(query.shape)}, not [h, w, C]")
    if not contexts:
        raise ValueError("there is no context frame to match with")
    for context in contexts:
        if context.features.shape != query.shape:
            raise ValueError(f"context {tuple(context.features.shape)} and query {tuple(query.shape)} differ in shape")
        if min(context.windowed, context.free) < 0 or context.windowed + context.free < 1:
            raise ValueError(f"a context frame has {context.windowed} windowed and {context.free} free copies")
