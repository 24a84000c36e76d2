"""Which context frames a query frame sees, and how often each counts."""

from dataclasses import dataclass

from corrkit.protocols.schema import Memory


@dataclass(slots=True, kw_only=True)
class Copies:
    """How often one frame stands in the context of a query frame.

    queue: as a member of the queue, by its propagated labels. padding: as a copy of frame 0 before the clip.
    long_term: as a frame that is always in the context.
    """

    queue: int = 0
    padding: int = 0
    long_term: int = 0


def context_frames(query: int, memory: Memory) -> dict[int, Copies]:
    """Frame index to its copies, long-term frames first, then the queue from old to new.

    Args:
        query: index of the frame being labelled. Frame 0 itself may be asked for (`predict_first`): its context is
            frame 0.
        memory: the protocol's rule.

    Sources: facebookresearch/dino 7c446df eval_video_segmentation.py (first_copies "none"), xvjiarui/VFS 8e055cc
    mmaction/models/trackers/vanilla_tracker.py:133-147 ("once"), ajabri/videowalk 047f3f4 code/data/vos.py:142-149 and
    code/utils/test_utils.py:128-134 ("fill").
    """
    frames: dict[int, Copies] = {}
    for index in memory.long_term:
        if index < query or index == 0:
            frames.setdefault(index, Copies()).long_term += 1
    for index in range(query - memory.context, query):
        if index >= 1:
            frames.setdefault(index, Copies()).queue += 1
        elif index == 0 and memory.first_copies != "none":
            frames.setdefault(0, Copies()).queue += 1
        elif index < 0 and memory.first_copies == "fill":
            frames.setdefault(0, Copies()).padding += 1
    return frames


def is_needed_later(frame: int, query: int, memory: Memory) -> bool:
    """Whether `frame` can stand in the context of a frame after `query`."""
    return frame in memory.long_term or frame >= query + 1 - memory.context
