"""The callbacks against the real frameworks; skipped visibly where those are not installed."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from davis_folder import make_clip
from evaluator_ranks import SmallNet

import corrkit
import corrkit.callbacks
from corrkit.callbacks.schedule import Schedule, Scoring, backbone_or_itself
from corrkit.errors import UsageError


@pytest.fixture
def evaluator(tmp_path: Path) -> corrkit.Evaluator:
    make_clip(tmp_path / "DAVIS", "a", frames=3, size=(48, 64))
    return corrkit.Evaluator("davis", data=tmp_path / "DAVIS")


def wrapped(module: torch.nn.Module):
    return corrkit.wrap(module.net, patch=16)


def test_the_schedule_counts_optimiser_steps_once_each():
    schedule = Schedule(None, 2)
    steps = [1, 1, 2, 2, 2, 3, 4, 4]
    assert [step for step in steps if schedule.due_after_step(step)] == [2, 4]
    assert not schedule.due_after_epoch(2)
    by_epoch = Schedule(3, None)
    assert [epoch for epoch in range(1, 8) if by_epoch.due_after_epoch(epoch)] == [3, 6]
    assert Schedule(None, None).due_after_epoch(1)
    for wrong in ((1, 1), (0, None), (None, -1)):
        with pytest.raises(UsageError):
            Schedule(*wrong)


def test_a_backbone_is_found_by_name():
    module = torch.nn.Module()
    assert backbone_or_itself(module) is module
    module.encoder = torch.nn.Identity()
    assert backbone_or_itself(module) is module.encoder


def test_what_cannot_be_called_is_refused_when_it_is_given(evaluator):
    given: list[tuple[Any, Any]] = [(None, wrapped), ({}, wrapped), (evaluator, None), (evaluator, "encoder")]
    for wrong in given:
        with pytest.raises(UsageError, match="which can't be called"):
            Scoring(*wrong)


def test_an_evaluator_or_backbone_that_gives_nothing_is_named(evaluator):
    net, silent = torch.nn.Module(), cast("Any", lambda model: None)
    with pytest.raises(UsageError, match="The evaluator gave NoneType, not scores by name"):
        Scoring(silent, lambda module: module)(net)
    with pytest.raises(UsageError, match="an object of type NoneType"):
        Scoring(evaluator, silent)(net)


def test_scores_are_the_callers_own():
    kept = {"davis/J&F-Mean": 0.5}
    Scoring(cast("Any", lambda model: kept), lambda module: module)(torch.nn.Module()).clear()
    assert kept == {"davis/J&F-Mean": 0.5}


class TestLightning:
    @pytest.fixture
    def lightning(self):
        return pytest.importorskip("lightning", reason="needs the extra lightning")

    @staticmethod
    def fit(lightning, tmp_path: Path, callbacks: list, **options):
        class Module(lightning.pytorch.LightningModule):  # type: ignore[misc]  # an extra, untyped for us
            def __init__(self) -> None:
                super().__init__()
                self.net = SmallNet()

            def training_step(self, batch, index):
                return self.net(batch[0]).square().mean()

            def configure_optimizers(self):
                return torch.optim.SGD(self.parameters(), lr=0.1)

        torch.manual_seed(0)
        data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.rand(8, 3, 32, 32)), batch_size=1)
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
        trainer = lightning.pytorch.Trainer(
            default_root_dir=tmp_path, logger=False, callbacks=callbacks, **quiet, **options
        )
        module = Module()
        trainer.fit(module, data)
        return trainer, module

    @pytest.mark.filterwarnings("ignore")
    def test_optimiser_steps_under_accumulation_and_the_best_checkpoint(self, lightning, tmp_path, evaluator):
        seen = []
        recorded = lambda model: seen.append(evaluator(model)) or seen[-1]  # noqa: E731
        best = lightning.pytorch.callbacks.ModelCheckpoint(
            tmp_path / "best", monitor="davis/J&F-Mean", mode="max", every_n_train_steps=2
        )
        ours = corrkit.callbacks.LightningCallback(recorded, wrapped, every_n_steps=2)
        trainer, module = self.fit(lightning, tmp_path, [ours, best], max_epochs=1, accumulate_grad_batches=2)
        assert trainer.global_step == 4
        assert len(seen) == 2
        assert trainer.callback_metrics["davis/J&F-Mean"] == pytest.approx(seen[-1]["davis/J&F-Mean"])
        assert float(best.best_model_score) == pytest.approx(max(scores["davis/J&F-Mean"] for scores in seen))
        assert module.net.training

    @pytest.mark.filterwarnings("ignore")
    def test_epochs(self, lightning, tmp_path, evaluator):
        ours = corrkit.callbacks.LightningCallback(evaluator, wrapped, every_n_epochs=1)
        best = lightning.pytorch.callbacks.ModelCheckpoint(tmp_path / "best", monitor="davis/J&F-Mean", mode="max")
        trainer, module = self.fit(lightning, tmp_path, [ours, best], max_epochs=2)
        assert trainer.callback_metrics["davis/J&F-Mean"] == pytest.approx(evaluator(wrapped(module))["davis/J&F-Mean"])
        assert Path(best.best_model_path).is_file()

    @pytest.mark.filterwarnings("ignore")
    def test_the_training_does_not_notice_it(self, lightning, tmp_path, evaluator):
        ours = corrkit.callbacks.LightningCallback(evaluator, wrapped, every_n_steps=1)
        _, watched = self.fit(lightning, tmp_path, [ours], max_epochs=1, enable_checkpointing=False)
        _, alone = self.fit(lightning, tmp_path, [], max_epochs=1, enable_checkpointing=False)
        assert all(torch.equal(a, b) for a, b in zip(watched.parameters(), alone.parameters(), strict=True))


class TestTransformers:
    @pytest.fixture
    def transformers(self):
        pytest.importorskip("accelerate", reason="needs the extra hf")
        return pytest.importorskip("transformers", reason="needs the extra hf")

    @staticmethod
    def trainer(transformers, tmp_path: Path, **options):
        class Model(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.net = SmallNet()

            def forward(self, pixel_values, labels=None):
                loss = self.net(pixel_values).square().mean()
                return {"loss": loss, "logits": loss[None]}

        torch.manual_seed(0)
        data = [{"pixel_values": torch.rand(3, 32, 32), "labels": 0} for _ in range(8)]
        arguments = transformers.TrainingArguments(
            str(tmp_path / "out"), per_device_train_batch_size=1, report_to=[], use_cpu=True, disable_tqdm=True,
            logging_strategy="no", learning_rate=0.1, **options,
        )  # fmt: skip
        return transformers.Trainer(Model(), arguments, train_dataset=data, eval_dataset=data[:2])

    @pytest.mark.filterwarnings("ignore")
    def test_optimiser_steps_under_accumulation_save_the_best(self, transformers, tmp_path, evaluator):
        trainer = self.trainer(
            transformers, tmp_path, num_train_epochs=1, gradient_accumulation_steps=2, save_strategy="no"
        )
        ours = corrkit.callbacks.TrainerCallback(trainer, evaluator, wrapped, every_n_steps=2, best="davis/J&F-Mean")
        trainer.add_callback(ours)
        trainer.train()
        logged = [entry for entry in trainer.state.log_history if "eval_davis/J&F-Mean" in entry]
        assert [entry["step"] for entry in logged] == [2, 4]
        saved = sorted(path.name for path in (tmp_path / "out").glob("checkpoint-*"))
        rises = ["checkpoint-2"]
        if logged[1]["eval_davis/J&F-Mean"] > logged[0]["eval_davis/J&F-Mean"]:
            rises.append("checkpoint-4")
        assert [name for name in saved if name in rises] == rises

    @pytest.mark.filterwarnings("ignore")
    def test_a_callback_that_empties_the_logs_hides_no_best(self, transformers, tmp_path, evaluator):
        class Emptying(transformers.TrainerCallback):  # type: ignore[misc, name-defined]  # an extra, untyped for us
            def on_log(self, args, state, control, logs=None, **kwargs):
                logs.clear()

        trainer = self.trainer(transformers, tmp_path, max_steps=1, save_strategy="no")
        trainer.add_callback(Emptying())
        ours = corrkit.callbacks.TrainerCallback(trainer, evaluator, wrapped, every_n_steps=1, best="davis/J&F-Mean")
        trainer.add_callback(ours)
        trainer.train()
        assert (tmp_path / "out" / "checkpoint-1").is_dir()
        wrong = corrkit.callbacks.TrainerCallback(trainer, evaluator, wrapped, every_n_steps=1, best="davis/JF")
        with pytest.raises(UsageError, match="Did you mean 'davis/J"):
            wrong.on_step_end(None, trainer.state, trainer.control, model=trainer.model)

    @pytest.mark.filterwarnings("ignore")
    def test_the_trainers_own_evaluation_chooses_the_best_by_our_score(self, transformers, tmp_path, evaluator):
        trainer = self.trainer(
            transformers, tmp_path, num_train_epochs=2, eval_strategy="epoch", save_strategy="epoch",
            metric_for_best_model="davis/J&F-Mean", greater_is_better=True, load_best_model_at_end=True,
        )  # fmt: skip
        trainer.add_callback(corrkit.callbacks.TrainerCallback(trainer, evaluator, wrapped))
        trainer.train()
        logged = [e["eval_davis/J&F-Mean"] for e in trainer.state.log_history if "eval_davis/J&F-Mean" in e]
        assert len(logged) == 2
        assert trainer.state.best_metric == max(logged)
        assert evaluator(wrapped(trainer.model))["davis/J&F-Mean"] == pytest.approx(max(logged))
