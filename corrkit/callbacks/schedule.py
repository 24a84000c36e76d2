"""When to evaluate: every so many epochs, or optimiser steps, each once whatever the batches between."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from corrkit.errors import UsageError

if TYPE_CHECKING:
    import torch

    from corrkit.backbones.contract import Backbone
    from corrkit.evaluator import Evaluator


class Schedule:
    """Due at every `every_n_epochs`-th epoch or `every_n_steps`-th optimiser step; exactly one of them is given.

    Raises:
        UsageError: for both, or a number below 1.
    """

    def __init__(self, every_n_epochs: int | None, every_n_steps: int | None) -> None:
        if every_n_epochs is None and every_n_steps is None:
            every_n_epochs = 1
        if every_n_epochs is not None and every_n_steps is not None:
            raise UsageError("Both every_n_epochs and every_n_steps were given.", "Give one of them.")
        if (every_n_epochs or every_n_steps or 0) < 1:
            raise UsageError("A callback that is due every 0 times never comes.", "Give a number of at least 1.")
        self._epochs, self._steps = every_n_epochs, every_n_steps
        self._last_step = 0

    def due_after_step(self, step: int) -> bool:
        """After a batch, with the number of optimiser steps so far: passes of accumulation leave it as it was."""
        if self._steps is None or step == self._last_step:
            return False
        self._last_step = step
        return step % self._steps == 0

    def due_after_epoch(self, epoch: int) -> bool:
        """After an epoch, with the number of epochs so far."""
        return self._epochs is not None and epoch % self._epochs == 0


class Scoring:
    """An evaluator on what is evaluated of the module that is trained.

    Args:
        evaluator: gives scores by name.
        backbone: from the module to what is evaluated.

    Raises:
        UsageError: for one that can't be called.
    """

    def __init__(
        self, evaluator: "Evaluator", backbone: "Callable[[torch.nn.Module], Backbone | torch.nn.Module]"
    ) -> None:
        for name, given in (("evaluator", evaluator), ("backbone", backbone)):
            if not callable(given):
                raise UsageError(
                    f"{name} is {type(given).__name__}, which can't be called.",
                    "The evaluator comes first, then a function from the module to what is evaluated.",
                )
        self.evaluator, self._backbone = evaluator, backbone

    def __call__(self, module: "torch.nn.Module") -> dict[str, float]:
        """Scores by name, in a dict of their own. Raises UsageError where the evaluator gives something else."""
        scores: object = self.evaluator(self._backbone(module))
        if not isinstance(scores, Mapping):
            raise UsageError(
                f"The evaluator gave {type(scores).__name__}, not scores by name.", "Give a corrkit.Evaluator."
            )
        return dict(scores)


def backbone_or_itself(module: "torch.nn.Module") -> "Backbone | torch.nn.Module":
    """What is evaluated where nothing was said: the module's `backbone` or `encoder`, else the module itself."""
    for name in ("backbone", "encoder"):
        if hasattr(module, name):
            found: torch.nn.Module = getattr(module, name)
            return found
    return module
