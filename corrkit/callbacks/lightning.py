"""`LightningCallback`: correspondence scores in the logs of Lightning, where ModelCheckpoint can watch them."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, LightningModule, Trainer

from corrkit.callbacks.schedule import Schedule, Scoring, backbone_or_itself

if TYPE_CHECKING:
    import torch

    from corrkit.backbones.contract import Backbone
    from corrkit.evaluator import Evaluator


class LightningCallback(Callback):  # type: ignore[misc]  # taken as untyped, installed or not
    """Evaluates the model as it is trained, and logs "davis/J&F-Mean", ... .

    For the best checkpoint: `ModelCheckpoint(monitor="davis/J&F-Mean", mode="max")`; with `every_n_steps` together with
    its `every_n_train_steps`.

    Args:
        evaluator: decides data, clips and metrics.
        backbone: from the LightningModule to what is evaluated, e.g. `lambda m: corrkit.wrap(m.student, patch=16)`;
            by default its `backbone` or `encoder`, else the module itself.
        every_n_epochs: evaluates after every so many epochs (1 where nothing is given).
        every_n_steps: evaluates after every so many optimiser steps instead; several batches that are accumulated into
            one step count once.

    Raises:
        UsageError: for both, a number below 1, or an evaluator or function that can't be called.
    """

    def __init__(
        self,
        evaluator: "Evaluator",
        backbone: "Callable[[torch.nn.Module], Backbone | torch.nn.Module]" = backbone_or_itself,
        *,
        every_n_epochs: int | None = None,
        every_n_steps: int | None = None,
    ) -> None:
        self.evaluator, self._scores = evaluator, Scoring(evaluator, backbone)
        self._schedule = Schedule(every_n_epochs, every_n_steps)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After every batch; `trainer.global_step` counts optimiser steps."""
        if self._schedule.due_after_step(trainer.global_step):
            self._log(pl_module, on_step=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """After every epoch."""
        if self._schedule.due_after_epoch(trainer.current_epoch + 1):
            self._log(pl_module, on_step=False)

    def _log(self, module: LightningModule, *, on_step: bool) -> None:
        # Every rank has the same numbers: nothing is left to be reduced.
        module.log_dict(
            self._scores(module), on_step=on_step, on_epoch=not on_step, rank_zero_only=False, sync_dist=False
        )
