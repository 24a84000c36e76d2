"""How a recipe is run: what the command line offers beside the recipe's own constants."""

import dataclasses
from dataclasses import dataclass, field
from typing import Literal, get_type_hints

from corrkit.constants import AT_LEAST_ONE, NON_NEGATIVE, SHARE, Reader
from corrkit.errors import UsageError
from corrkit.task_table import embedded_tasks


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a recipe is run on this machine.

    batch: items of one forward pass on one rank; accumulate: passes of a step; None makes their product with the ranks
    the recipe's own batch. steps: of the whole training, None for the recipe's epochs. average: momentum of a moving
    average of the encoder, 0 for none. workers: None for `data.workers_for`. parallel: how ranks share, a name of
    `parallel.WAYS`. start_from, heads: see `initialisation.start_from`. resume_with: names of `resuming.CHANGEABLE`
    that may differ from the run that `out` holds. keep: checkpoints that are kept. damaged: share of the items that may
    turn out unreadable. The *_every count steps, 0 for never; tasks are those evaluated. log: a key of
    `loggers.PROGRAMS`.
    """

    batch: int | None = field(default=None, metadata=AT_LEAST_ONE)
    accumulate: int = field(default=1, metadata=AT_LEAST_ONE)
    steps: int | None = field(default=None, metadata=AT_LEAST_ONE)
    seed: int = field(default=0, metadata=NON_NEGATIVE)
    workers: int | None = field(default=None, metadata=NON_NEGATIVE)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    average: float = field(default=0.0, metadata={"min": 0, "max": 1, "flag": "ema"})
    parallel: Literal["ddp", "fsdp"] = "ddp"
    device: str = "auto"
    start_from: str | None = field(default=None, metadata={"flag": "init"})
    heads: int | None = field(default=None, metadata=AT_LEAST_ONE)
    resume_with: tuple[str, ...] = ()
    keep: int = field(default=1, metadata=AT_LEAST_ONE)
    damaged: float = field(default=0.01, metadata=SHARE)
    log_every: int = field(default=10, metadata=NON_NEGATIVE)
    picture_every: int = field(default=500, metadata=NON_NEGATIVE)
    save_every: int = field(default=500, metadata=NON_NEGATIVE)
    evaluate_every: int = field(default=0, metadata={**NON_NEGATIVE, "flag": "eval-every"})
    tasks: tuple[str, ...] = field(default_factory=embedded_tasks, metadata={"flag": "eval-tasks"})
    log: Literal["tensorboard", "wandb", "trackio"] | None = None
    embedded_clips: int = field(default=300, metadata={"min": 1, "max": 10**9})

    def __post_init__(self) -> None:
        """Raises UsageError naming the first option that is out of range."""
        reader, hints = Reader("Option", UsageError), get_type_hints(Options)
        for entry in dataclasses.fields(self):
            flag = entry.metadata.get("flag", entry.name.replace("_", "-"))
            reader.value(getattr(self, entry.name), hints[entry.name], f"--{flag}", entry.metadata)
