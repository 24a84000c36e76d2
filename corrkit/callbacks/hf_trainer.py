"""`TrainerCallback`: correspondence scores among the metrics of Hugging Face's Trainer."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import transformers

from corrkit.callbacks.schedule import Schedule, Scoring, backbone_or_itself
from corrkit.errors import UsageError, closest

if TYPE_CHECKING:
    import torch

    from corrkit.backbones.contract import Backbone
    from corrkit.evaluator import Evaluator

_PREFIX = "eval_"


class TrainerCallback(transformers.TrainerCallback):  # type: ignore[misc]  # taken as untyped, installed or not
    """Evaluates the model as it is trained, under the keys "eval_davis/J&F-Mean", ... .

    At each of the Trainer's own evaluations the scores join its metrics, so that
    `metric_for_best_model="davis/J&F-Mean"`, `greater_is_better=True` and `load_best_model_at_end` work with them.
    Without such evaluations `every_n_epochs` or `every_n_steps` decides, and a checkpoint is saved whenever `best` has
    risen. Add it with `trainer.add_callback(TrainerCallback(trainer, evaluator))`.

    Args:
        trainer: whose logs the scores go to.
        evaluator: decides data, clips and metrics.
        backbone: from the model to what is evaluated, e.g. `lambda m: corrkit.wrap(m, patch=16, forward=...)`; by
            default its `backbone` or `encoder`, else the model itself.
        every_n_epochs: also evaluates after every so many epochs.
        every_n_steps: also evaluates after every so many optimiser steps (accumulated batches count once).
        best: the score, without "eval_", whose rise saves a checkpoint; None saves none.

    Raises:
        UsageError: for both numbers, one below 1, or an evaluator or function that can't be called.
    """

    def __init__(
        self,
        trainer: Any,
        evaluator: "Evaluator",
        backbone: "Callable[[torch.nn.Module], Backbone | torch.nn.Module]" = backbone_or_itself,
        *,
        every_n_epochs: int | None = None,
        every_n_steps: int | None = None,
        best: str | None = None,
    ) -> None:
        self.evaluator, self._scoring = evaluator, Scoring(evaluator, backbone)
        self._trainer, self._best = trainer, best
        given = every_n_epochs is not None or every_n_steps is not None
        self._schedule = Schedule(every_n_epochs, every_n_steps) if given else None
        self._highest = float("-inf")

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        """Adds the scores to the metrics of the evaluation that has just ended, before the best model is chosen."""
        scores = self._scores(kwargs["model"])
        if metrics is not None:
            metrics.update(scores)
        self._trainer.log(scores)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After every optimiser step."""
        if self._schedule is not None and self._schedule.due_after_step(state.global_step):
            control.should_save |= self._has_risen(kwargs["model"])

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After every epoch; `state.epoch` is the number of epochs so far."""
        if self._schedule is not None and self._schedule.due_after_epoch(round(state.epoch)):
            control.should_save |= self._has_risen(kwargs["model"])

    def _has_risen(self, model: "torch.nn.Module") -> bool:
        """Logs the scores; whether `best` is the highest so far."""
        scores = self._scores(model)
        self._trainer.log(dict(scores))  # which other callbacks may write into
        if self._best is None:
            return False
        score = scores.get(f"{_PREFIX}{self._best}")
        if score is None:
            names = [name.removeprefix(_PREFIX) for name in scores]
            raise UsageError(f"best is {self._best!r}, which is none of the scores.", closest(self._best, names))
        risen = score > self._highest
        self._highest = score if risen else self._highest
        return risen

    def _scores(self, model: "torch.nn.Module") -> dict[str, float]:
        return {f"{_PREFIX}{name}": value for name, value in self._scoring(model).items()}
