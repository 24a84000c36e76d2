"""Which context frames a query frame sees, and how often each counts."""

from dataclasses import dataclass
from typing import Literal

from corrkit.protocols.schema import Memory

Role = Literal["long-term", "padding", "queue"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """One frame's place in the context of a query frame.

    Attributes:
        frame: index in the clip.
        role: whose labels it carries: "queue" is the frame as it was propagated, "padding" a copy of frame 0 before the
            clip, "long-term" frame 0 as the frame that is always in the context.
        windowed: copies that the window restricts.
        free: copies that it does not.
    """

    frame: int
    role: Role
    windowed: int
    free: int = 0


def context_frames(query: int, memory: Memory, *, first_differs: bool = False) -> list[Copies]:
    """The context of a query frame, by frame index.

    Args:
        query: index of the frame being labelled. Frame 0 itself may be asked for (`predict_first`): its context is
            frame 0.
        memory: the protocol's rule.
        first_differs: whether the copies of frame 0 carry different labels by role, and so stay apart; else they are
            one entry, and so is every other frame.

    Sources: facebookresearch/dino 7c446df eval_video_segmentation.py (first_copies "none"), xvjiarui/VFS 8e055cc
    mmaction/models/trackers/vanilla_tracker.py:133-147 ("once"), ajabri/videowalk 047f3f4 code/data/vos.py:142-149 and
    code/utils/test_utils.py:128-134 ("fill"), zlai0/MAST a57b043 benchmark.py (spacing, distinct).
    """
    first = query - 1 - memory.spacing * (memory.context - 1)
    first = first if first >= 0 else first % memory.spacing  # of the clip
    queue = range(first, query, memory.spacing) if memory.context else range(0)
    long_term = {index for index in memory.long_term if index < query or index == 0}
    num_padding = memory.context - len(queue) if memory.first_copies == "fill" else 0  # those before the clip
    context = []
    for frame in sorted(long_term | {0} | {index for index in queue if index > 0}):
        num_long_term = int(frame in long_term)
        num_queue = int(frame in queue and (frame > 0 or memory.first_copies != "none"))
        num_queue *= not (memory.distinct and num_long_term)
        free = 0 if memory.mask_first else num_long_term
        roles = [
            Copies(frame=frame, role="long-term", windowed=num_long_term - free, free=free),
            Copies(frame=frame, role="padding", windowed=num_padding if frame == 0 else 0),
            Copies(frame=frame, role="queue", windowed=num_queue),
        ]
        present = [copies for copies in roles if copies.windowed + copies.free > 0]
        if present and not (first_differs and frame == 0):
            role: Role = "queue" if frame > 0 else present[0].role
            present = [Copies(frame=frame, role=role, windowed=sum(c.windowed for c in present), free=free)]
        context += present
    return context


def is_needed_later(frame: int, query: int, memory: Memory) -> bool:
    """Whether `frame` can stand in the context of a frame after `query`."""
    reach = 1 + memory.spacing * (memory.context - 1) if memory.context else 0
    return frame in memory.long_term or frame >= query + 1 - reach
