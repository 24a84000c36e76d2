"""Exact windowed matching by tiled matrix products: the only affinity code.

Scheme: the grid is cut into tiles; the M queries of a tile meet the P cells of the box around their windows, in each
context frame, by one matrix product into a slice of [F, M, P] scores. Nothing outside the box is ever multiplied. The
maximum over the F frames, plus the window as 0 / -inf, gives [M, P]; the k best cells lie at its k best positions, so
top-k looks at P positions and then at F * k scores. Exact; one more than k is looked at to detect ties at the cut.
Several query frames that share context frames are matched at once: M then counts a tile's cells in all of them, which
makes the products wider and the keys to be read fewer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from corrkit.errors import ProtocolError
from corrkit.inference import exact_inference
from corrkit.propagation.affinity import SparseAffinity, from_entries
from corrkit.propagation.blocks import Block, Scores
from corrkit.propagation.contexts import Context, SharedContexts
from corrkit.propagation.scoring import Extent, Group, Plan, Workspace
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked of a block of query frames.

    Attributes:
        contexts: of each query frame.
        affinities: distinct ones, alike but for topk, ties and temperature.
    """

    contexts: Sequence[Sequence[Context]]
    affinities: Sequence[Affinity]


Found = dict[Affinity, list[SparseAffinity]]
"""The affinity of each query frame to its context, under each of the affinities asked for."""


class Matcher:
    """`match` for the frames of one clip: several query frames at once; tiles, window and buffers are reused.

    Args:
        affinity: the rules; of `match_each` those that all affinities have in common.
    """

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
        wanted = Wanted(contexts=contexts, affinities=[self._affinity])
        return self.match_each(queries, [wanted], classes)[0][self._affinity]

    def match_each(
        self,
        queries: Sequence["Tensor"],
        wanted: Sequence[Wanted],
        classes: Sequence["Tensor | None"] | None = None,
    ) -> list[Found]:
        """As `match`, for several contexts and affinities: similarities are worked out once for all of them.

        Args:
            queries: see `match`.
            wanted: the widest context first; each holds all frames of the next ones. With scope = "frame" nothing is
                shared.
            classes: see `match`.
        """
        known = list(classes or [None] * len(queries))
        for one in wanted:
            for query, own in zip(queries, one.contexts, strict=True):
                _check_shapes(query, own)
                self._check_window(own)
        # The buffers outlive this call, which may come from inside or outside an inference mode.
        with torch.inference_mode(mode=False), exact_inference():
            if self._affinity.scope == "joint":
                return self._jointly(queries, wanted, known)
            return [
                {
                    affinity: [self._each(*alone, affinity) for alone in zip(queries, one.contexts, known, strict=True)]
                    for affinity in one.affinities
                }
                for one in wanted
            ]

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

    def _each(
        self, query: "Tensor", contexts: Sequence[Context], classes: "Tensor | None", affinity: Affinity
    ) -> SparseAffinity:
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
                    wanted = Wanted(contexts=[[alone]], affinities=[affinity])
                    (matched,) = self._jointly([query], [wanted], [classes])[0][affinity]
                    rows.append(matched.rows())
                    indices.append(matched.indices + number * height * width)
                    weights.append(matched.weights * (copies / total))
                    tied += [part.moved(columns=number * height * width, share=copies / total) for part in matched.tied]
        return from_entries(
            torch.cat(rows),
            torch.cat(indices),
            [torch.cat(weights)],
            tied=[tied],
            num_cells=height * width,
            num_context=len(contexts),
        )[0]

    def _jointly(
        self, queries: Sequence["Tensor"], wanted: Sequence[Wanted], classes: Sequence["Tensor | None"]
    ) -> list[Found]:
        """Selection over all context frames of a query together."""
        grid = (queries[0].shape[0], queries[0].shape[1])
        widest = SharedContexts(len(queries)), SharedContexts(len(queries))
        self._add(wanted[0].contexts, *widest, grid)
        plan = self._plan_for(queries[0], *widest)
        blocks: list[Block] = []
        for one in wanted:
            own = (widest[0].narrowed(), widest[1].narrowed()) if blocks else widest
            if blocks:
                self._add(one.contexts, *own, grid)
            wider = blocks[-1] if blocks else None
            blocks.append(Block(queries, classes, *own, plan, self._window, one.affinities, wider))
        for groups in plan.questions:
            _take(blocks, groups)
        return [
            {
                affinity: all_queries.parts([len(own) for own in one.contexts])
                for affinity, all_queries in block.found(max(map(len, one.contexts))).items()
            }
            for one, block in zip(wanted, blocks, strict=True)
        ]

    def _add(
        self,
        contexts: Sequence[Sequence[Context]],
        windowed: SharedContexts,
        free: SharedContexts,
        grid: tuple[int, int],
    ) -> None:
        """Notes which of the context frames the window restricts, and which not."""
        is_open, is_empty = self._window.covers(*grid), self._window.is_empty
        for query, own in enumerate(contexts):
            for number, c in enumerate(own):
                if is_open or c.free == 0:
                    if not is_empty:
                        windowed.add(c, query, number, windowed=c.windowed + c.free, free=0)
                else:
                    free.add(c, query, number, windowed=c.windowed, free=c.free)

    def _plan_for(self, query: "Tensor", windowed: SharedContexts, free: SharedContexts) -> Plan:
        extent = Extent(
            height=query.shape[0],
            width=query.shape[1],
            channels=query.shape[2],
            num_queries=windowed.num_queries,
            num_windowed=len(windowed.frames),
            num_free=len(free.frames),
            num_pairs=sum(frame.last - frame.first for frame in windowed.seen()),
        )
        if self._workspace is None:
            self._workspace = Workspace(query.device)
        if self._plan is None or self._plan.extent != extent:
            self._plan = None  # its memory serves the next one
            self._plan = Plan(extent, self._window, self._workspace, query.device)
        return self._plan


def _take(blocks: Sequence[Block], groups: Sequence[Group]) -> None:
    """Selects in groups of tiles whose ties the host asks about together; similarities of a lone one are at hand."""
    for group in groups:
        for block, scores in _scored(blocks, group):
            block.take(group, scores)
            if len(groups) == 1 and block.ties():
                block.take_tied(group, scores)
    tied = {id(group) for block in blocks for group in block.ties()}
    for group in groups:
        if id(group) in tied:
            for block, scores in _scored(blocks, group):
                block.take_tied(group, scores)


def _scored(blocks: Sequence[Block], group: Group) -> Iterator[tuple[Block, Scores]]:
    """Each block, the widest first, with the similarities of a group; valid until the next is asked for."""
    scores = blocks[0].scores(group)
    for block in blocks:
        block.narrow(group, scores)
        yield block, scores


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
