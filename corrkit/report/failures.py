"""How tracks fail, told from the statistics of frames: lost, swapped, leak, drift, and the frame where each begins.

Of every part (object, class or joint) each scored frame is in one state; a failure is the first stretch of one state
that lasts: `LASTING` scored frames, or the last `AT_THE_END` of the clip.

Masks, by the pixels that truth and prediction share:
    swapped  the prediction covers more of another part's truth than of its own, at least half of it there
    lost     less than LOST of the true pixels are covered
    leak     more false pixels than half of the part's true ones, while at least half of these are covered
    drift    IoU below half of the best of the first three scored frames, and none of the above
Points, by their distance from the truth over the size of the figure (as PCK has it):
    swapped  farther than DRIFT from its own joint, and within NEAR of another one's truth
    lost     not found, or farther than AWAY
    drift    farther than DRIFT
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from corrkit.metrics.keypoints import figure_size, lengths

Kind = Literal["lost", "swapped", "leak", "drift"]
LASTING, AT_THE_END = 3, 2
LOST = 0.05
NEAR, DRIFT, AWAY = 0.1, 0.2, 0.5
"""The thresholds of PCK@0.1, @0.2 and @0.5."""

_FINE = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A part's failure: kind, the frame of the clip where it begins, and the part it was swapped with, if any."""

    part: str
    kind: Kind
    frame: int
    other: str = ""

    @property
    def text(self) -> str:
        """For readers: "2 swapped with 1 from frame 12"."""
        return f"{self.part} {self.kind}{f' with {self.other}' if self.other else ''} from frame {self.frame}"


def mask_failures(
    frames: Sequence[int], counts: NDArray[np.int64], names: Sequence[str], scores: NDArray[np.float64]
) -> list[Failure]:
    """Of parts 1 to K of a clip.

    Args:
        frames: the n scored frames.
        counts: [n, K + 1, K + 1] pixels by true and predicted id; id 0 is the background.
        names: of the K parts.
        scores: [K, n] IoU, NaN where a part is neither there nor predicted.
    """
    found = []
    for part, name in enumerate(names, start=1):
        own, true, predicted = counts[:, part, part], counts[:, part].sum(axis=1), counts[:, :, part].sum(axis=1)
        elsewhere = counts[:, 1:, part].copy()
        elsewhere[:, part - 1] = 0
        other = elsewhere.argmax(axis=1) + 1
        most = elsewhere.max(axis=1, initial=0)
        visible = true > 0
        states = np.full(len(frames), _FINE, dtype="U8")
        states[visible & (scores[part - 1] < 0.5 * _level(scores[part - 1]))] = "drift"
        states[visible & (2 * own >= true) & (2 * (predicted - own) > true)] = "leak"
        states[visible & (own < LOST * true)] = "lost"
        states[visible & (most > own) & (2 * most >= predicted) & (predicted > 0)] = "swapped"
        others = [names[identity - 1] for identity in other.tolist()]
        found += _failures(name, frames, states, others, visible)
    return found


def score_failures(frames: Sequence[int], names: Sequence[str], scores: NDArray[np.float64]) -> list[Failure]:
    """Where no predictions are kept: what IoU [K, n] alone tells, lost (below LOST) and drift."""
    found = []
    for name, values in zip(names, scores, strict=True):
        states = np.full(len(frames), _FINE, dtype="U8")
        states[values < 0.5 * _level(values)] = "drift"
        states[values < LOST] = "lost"
        found += _failures(name, frames, states, [""] * len(frames), ~np.isnan(values))
    return found


def point_failures(
    frames: Sequence[int], truth: NDArray[np.float64], prediction: NDArray[np.float64], names: Sequence[str]
) -> list[Failure]:
    """Of the J joints of a clip: truth and prediction [n, J, 2] in pixels."""
    distances = joint_distances(truth, prediction)  # [n, J, J]
    found = []
    for joint, name in enumerate(names):
        own = distances[:, joint, joint]
        elsewhere = distances[:, joint].copy()
        elsewhere[:, joint] = np.inf
        elsewhere[np.isnan(elsewhere)] = np.inf
        states = np.full(len(frames), _FINE, dtype="U8")
        states[own > DRIFT] = "drift"
        states[np.isnan(own) | (own > AWAY)] = "lost"
        states[(own > DRIFT) & (elsewhere.min(axis=1) <= NEAR)] = "swapped"
        others = [names[index] for index in elsewhere.argmin(axis=1).tolist()]
        found += _failures(name, frames, states, others, np.full(len(frames), True))
    return found


def joint_distances(truth: NDArray[np.float64], prediction: NDArray[np.float64]) -> NDArray[np.float64]:
    """[n, J, J]: predicted joint to every true joint, over the figure's size (all joints taken as visible)."""
    size = figure_size(truth, np.full(truth.shape[:2], True), floor="always")
    apart = lengths(prediction[:, :, None] - truth[:, None])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(apart / size[:, None, None])


def _level(scores: NDArray[np.float64]) -> float:
    """The best of the first scores, that later ones are held against; 0 without any."""
    return float(scores[~np.isnan(scores)][:LASTING].max(initial=0.0))


def _failures(
    part: str, frames: Sequence[int], states: NDArray[np.str_], others: Sequence[str], visible: NDArray[np.bool_]
) -> list[Failure]:
    """The first lasting stretch of each state; frames in which a part isn't visible neither end nor count."""
    seen = [number for number in range(len(frames)) if visible[number]]
    found: dict[str, Failure] = {}
    start = 0
    while start < len(seen):
        state = str(states[seen[start]])
        end = start
        while end < len(seen) and states[seen[end]] == state:
            end += 1
        if state != _FINE and state not in found and end - start >= (AT_THE_END if end == len(seen) else LASTING):
            number = seen[start]
            other = others[number] if state == "swapped" else ""
            found[state] = Failure(part=part, kind=state, frame=frames[number], other=other)  # type: ignore[arg-type]
        start = end
    return sorted(found.values(), key=lambda failure: failure.frame)
