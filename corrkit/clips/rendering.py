"""`render`: a task and a seed to frames with exact ground truth."""

from dataclasses import dataclass
from random import Random
from types import MappingProxyType

from corrkit.clips import drawing, scenes
from corrkit.clips.drawing import Labels, Points
from corrkit.clips.surfaces import Image
from corrkit.errors import UsageError, closest

EVALUATION_SEEDS = MappingProxyType({"davis": tuple(range(6)), "vip": tuple(range(6)), "jhmdb": tuple(range(6))})
"""Task to the seeds of its embedded clips, in their order."""

TRAINING_SEEDS = range(1_000, 2**31)
"""Seeds for training; none of them is an evaluation seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedClip:
    """A clip with exact ground truth.

    frames [T, H, W, 3] uint8 RGB. labels [T, H, W] uint8: davis object ids, else VIP's part ids, 0 background.
    joints [T, 15, 2] float64 (x, y) in 0-based pixels, in JHMDB's order, hidden ones too; None for davis.
    """

    task: str
    seed: int
    frames: Image
    labels: Labels
    joints: Points | None


def render(task: str, seed: int, *, num_frames: int | None = None) -> RenderedClip:
    """Renders the clip of a task and seed; equal arguments give equal bytes.

    Args:
        task: "davis", "vip" or "jhmdb".
        seed: any number of EVALUATION_SEEDS[task] or TRAINING_SEEDS.
        num_frames: at least 1; the number of the embedded clips by default. Longer clips continue the motion.

    Raises:
        UsageError: unknown task, or a seed that is neither for evaluation nor for training.
    """
    if task not in EVALUATION_SEEDS:
        raise UsageError(f"There are no rendered clips for the task {task!r}.", closest(task, EVALUATION_SEEDS))
    if seed not in EVALUATION_SEEDS[task] and seed not in TRAINING_SEEDS:
        known = f"{EVALUATION_SEEDS[task][0]}..{EVALUATION_SEEDS[task][-1]} for evaluation"
        raise UsageError(
            f"There is no rendered {task} clip {seed}.", f"Seeds are {known}, {TRAINING_SEEDS} for training."
        )
    if num_frames is not None and num_frames < 1:
        raise UsageError(f"A clip of {num_frames} frames was asked for.", "Ask for at least one.")
    scene = scenes.scene(task, seed, num_frames=num_frames)
    frames, labels = drawing.draw(scene, Random(f"grain {task} {seed}"))
    return RenderedClip(task=task, seed=seed, frames=frames, labels=labels, joints=drawing.joint_positions(scene))
