"""The one training loop. What a step needs follows from its number, so a resumed run is the undisturbed one."""

import contextlib
import json
import math
import warnings
from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import cast

import torch
import torch.distributed as dist

import corrkit
from corrkit.errors import RunError
from corrkit.files.atomic import make_folder, only_process, remove_abandoned, write_atomic
from corrkit.files.damage import damage_named
from corrkit.files.jsontext import Json, as_plain
from corrkit.frames.index import Index, Share
from corrkit.frames.items import build_index
from corrkit.runs.loggers import open_logger
from corrkit.training import checkpoint
from corrkit.training.data import Batch, Batches, Samples, deaths_named, loader, workers_for
from corrkit.training.data.views import View
from corrkit.training.faults import Faults
from corrkit.training.objectives import make_objective
from corrkit.training.objectives.masked import AnyObjective, Step
from corrkit.training.objectives.teacher import epoch_of, follow, frozen_copy
from corrkit.training.optimise import clip_gradients, optimiser_of, schedule_of
from corrkit.training.options import Options
from corrkit.training.parallel import WAYS, described, device_of, gather, process_group, require_device, wait, whole
from corrkit.training.reporting import EMA, Report, words
from corrkit.training.resuming import accepted_changes, stop_signals
from corrkit.training.schema import AnyRecipe


def pretrain(recipe: AnyRecipe, data: str | Path, out: str | Path, options: Options) -> Path:
    """Trains a recipe, or goes on with what `out` holds; returns the checkpoint's path.

    SIGTERM and SIGUSR1 end it after the step it is in, with a checkpoint.

    Args:
        recipe: from `load_recipe`.
        data: see `frames.items.build_index`.
        out: folder for checkpoint.pth, log.csv, speed.csv, scores.csv, curve.png and pictures.
        options: see there. Under torchrun every rank calls this with the same arguments.

    Raises:
        CorrkitError: data, options or an `out` of another run that the user can mend; numbers that aren't finite.
    """
    device = require_device(device_of(options.device))
    with deaths_named(), process_group(device) as (rank, ranks), stop_signals() as stop, ExitStack() as stack:
        if rank == 0:
            make_folder(Path(out))
            stack.enter_context(only_process(Path(out)))
            remove_abandoned(Path(out))
        training = _Training(recipe, data, Path(out), options, device, (rank, ranks))
        with contextlib.closing(training.report):
            return training.run(stop)


class _Training:
    def __init__(
        self, recipe: AnyRecipe, data: str | Path, out: Path, options: Options, device: torch.device, share: Share
    ) -> None:
        self.recipe, self.out, self.options, self.device, (rank, ranks) = recipe, out, options, device, share
        self.rank, self.ranks, self.path = rank, ranks, out / "checkpoint.pth"
        self.index: Index = build_index(
            data, out / "index.json", num_clips=options.embedded_clips, share=share, gather=gather
        )
        self.batch = options.batch or max(1, recipe.optimiser.batch // (options.accumulate * ranks))
        torch.manual_seed(options.seed)
        self.objective: AnyObjective = make_objective(recipe).to(self.device)
        self.items = self.batch * options.accumulate * ranks
        self.schedule = schedule_of(recipe, self.items, len(self.index.entries), options.steps)
        self.total = options.steps or self.schedule.total_steps
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=options.precision == "fp16")
        stored = checkpoint.newest(out)
        self.first = stored["step"] if stored else 0
        self.report = Report(out, self.first, self.total, quiet=rank > 0)
        self.history: list[dict[str, Json]] = self._history(stored) if stored else []
        if options.start_from and not stored:
            checkpoint.start_from(self.objective, options.start_from, options.heads, self.report.say)
        self.average = frozen_copy(self.objective.encoder) if options.average else None
        with damage_named(self.path):
            if stored:
                self._take(stored)
            self.faults = Faults(len(self.index.entries), options.damaged, stored.get("faults") if stored else None)
        self.shared = WAYS[options.parallel](self.objective, self.average, self.device, ranks)
        self.optimiser = optimiser_of(self.objective, recipe.optimiser)
        if stored:
            with damage_named(self.path):
                self.shared.load_optimiser(self.optimiser, stored["optimizer"])

    def run(self, stop: list[int]) -> Path:
        """All steps that are left, or those until a signal stands in `stop`."""
        self.stop = stop
        if self.options.log and self.rank == 0:
            self.report.logger = open_logger(self.options.log, self.out, self._fingerprint(), self.first)
        self._introduce()
        if self.first and self.rank == 0:
            self._tell(self.first)  # the last process may have ended between the two files
        evaluator = self._evaluator() if self.options.evaluate_every else None
        if evaluator is not None and self.first == 0:
            self._score(evaluator, 0)
        batches = self._batches()
        self.shared.module.train()
        for step in range(self.first, self.total):
            with self.report.timed("training"):
                rate = self.schedule.apply(self.optimiser, step)
                views, losses = self._step(step, batches)
                self._after(step)
            done = step + 1
            if self._due(self.options.log_every, done):
                numbers = {"epoch": done / self.schedule.steps_per_epoch, "rate": rate, **losses}
                self.report.step(done, {**numbers, "replaced": self.faults.replaced})
            if evaluator is not None and self._due(self.options.evaluate_every, done):
                self._score(evaluator, done)
            if self._due(self.options.picture_every, done):
                self.report.draw(done, self.objective.pictures(views, self._seed(done, 0)))
            if self._due(self.options.save_every, done) or self.stopping:
                self._save(done)
            if self.stopping and done < self.total:
                self.report.say(f"told to stop: saved after step {done} of {self.total}; repeat the command to go on")
                break
        batches.close()
        wait()
        return self.path

    def _step(self, step: int, batches: Iterator[Batch]) -> tuple[list[View], dict[str, float]]:
        """One optimiser step; returns the last views, and the mean losses of its passes with the gradient's norm."""
        self.optimiser.zero_grad(set_to_none=True)
        passes, totals, faults = self.options.accumulate, dict[str, torch.Tensor](), []
        for number in range(passes):
            with self.report.timed("waiting"):
                batch = next(batches)
            faults += batch.faults
            views = [view.to(self.device) for view in batch.views]
            seed = self._seed(step, number)
            self._sow(seed)
            self.objective.before_pass(step / self.total)
            with nullcontext() if number == passes - 1 else self.shared.apart(), self._precision():
                result = cast(Step, self.shared.module(views, seed, step / self.total))
                self.scaler.scale(result.loss / passes).backward()
            self.report.samples += len(views[0].pixels) * self.ranks
            for name, value in {"loss": result.loss, **result.parts}.items():
                totals[name] = totals.get(name, torch.zeros((), device=self.device)) + value.detach() / passes
        self.scaler.unscale_(self.optimiser)
        self.objective.before_step(step / self.total)
        norm = clip_gradients([p for p in self.objective.parameters() if p.requires_grad], self.recipe.optimiser)
        signs = {"faults": torch.tensor(float(len(faults))), "stop": torch.tensor(float(bool(self.stop)))}
        losses = self._mean_over_ranks({**totals, "gradient_norm": norm, **signs})
        if losses.pop("faults"):
            self.faults.add(faults, self.rank)
        self.stopping = losses.pop("stop") > 0
        self._require_finite(step, losses)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return views, losses

    def _after(self, step: int) -> None:
        """What follows the weights: teachers and the average."""
        self.objective.after_step(step / self.total)
        epoch = epoch_of(step / self.total, self.recipe)
        if epoch_of((step + 1) / self.total, self.recipe) > epoch:
            self.objective.after_epoch(epoch / self.recipe.optimiser.epochs)
        if self.average is not None:
            follow(self.average, self.objective.encoder, self.options.average)

    def _require_finite(self, step: int, losses: Mapping[str, float]) -> None:
        """Before the step is taken. Gradients of fp16 may overflow: the scaler then leaves out the step."""
        overflow = self.options.precision == "fp16" and self.scaler.get_scale() >= 1
        wrong = [name for name, value in losses.items() if not math.isfinite(value)]
        if not wrong or (overflow and wrong == ["gradient_norm"]):
            return
        raise RunError(
            f"Step {step + 1}: the {'gradient' if wrong == ['gradient_norm'] else 'loss'} is not finite "
            f"({words(losses)}); learning rate {self.optimiser.param_groups[0]['lr']:.3g}, "
            f"precision {self.options.precision}.",
            f"The step was not taken; the last checkpoint in {self.out} is kept. Lower optimiser.rate, clip gradients "
            "(--resume-with optimiser.clip=1), or use another precision (--resume-with precision=fp32).",
        )

    def _mean_over_ranks(self, totals: Mapping[str, torch.Tensor]) -> dict[str, float]:
        values = torch.stack([value.double().to(self.device) for value in totals.values()])
        if self.ranks > 1:
            dist.all_reduce(values)
            values /= self.ranks
        return dict(zip(totals, values.tolist(), strict=True))

    def _sow(self, seed: int) -> None:
        """Of dropout and the like. Where there is no GPU, torch.manual_seed formats a stack for each kind: 4 ms."""
        (torch.default_generator.manual_seed if self.device.type == "cpu" else torch.manual_seed)(seed)

    def _seed(self, step: int, number: int) -> int:
        return ((self.options.seed * 1_000_003 + step) * self.options.accumulate + number) * self.ranks + self.rank

    def _batches(self) -> Generator[Batch, None, None]:
        views, seed = self.recipe.views, self.options.seed
        share, first = (self.rank, self.ranks), self.first * self.options.accumulate
        samples = Samples(self.index, views, seed, self.items, self.total, self.recipe.image_views)
        keys = Batches(len(samples), self.batch, seed, share, first, tuple(samples.images), views.repeat)
        return loader(samples, keys, self._workers())

    def _workers(self) -> int:
        return workers_for(self.device) if self.options.workers is None else self.options.workers

    def _precision(self) -> AbstractContextManager[object]:
        kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.options.precision)
        return nullcontext() if kind is None else torch.autocast(self.device.type, dtype=kind)

    def _due(self, every: int, done: int) -> bool:
        """Every so many steps, and at the end; 0 is never."""
        return every > 0 and (done % every == 0 or done == self.total)

    def _introduce(self) -> None:
        trained = sum(p.numel() for p in self.objective.parameters() if p.requires_grad)
        moves = self.recipe.views.kind in ("pair", "triple", "clip") and not self.recipe.image_views
        self.report.say(
            *(f"unverified: {name}: {reason}" for name, reason in self.recipe.unverified.items()),
            f"data: {self.index.summary}{self.index.unmoving if moves else ''}: {self.out / 'index.json'}",
            f"{self.recipe.name}: {trained / 1e6:.1f} M parameters, {self.options.precision}, on {self.ranks} x "
            f"{described(self.device)}, each with {self._workers()} processes that decode",
            f"steps {self.first} to {self.total}, {self.schedule.steps_per_epoch:,} an epoch, of {self.items:,} items "
            f"({self.batch} x {self.options.accumulate} x {self.ranks}); peak learning rate {self.schedule.peak:.3g}",
        )

    def _evaluator(self) -> "corrkit.Evaluator":
        """On $CORRKIT_DATA, else on the embedded clips, as docs/pretraining.md says; so no warning."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return corrkit.Evaluator(self.options.tasks, metrics="all")

    def _score(self, evaluator: "corrkit.Evaluator", done: int) -> None:
        """Scores the weights that `corrkit eval` reads from the checkpoint, and the average of the encoder, if any."""
        found = evaluator(checkpoint.backbone_of(self.objective), step=done)
        if self.average is not None:
            averaged = evaluator(checkpoint.backbone_of(self.objective, self.average), step=done)
            found |= {f"{EMA}{name}": value for name, value in averaged.items() if name != "step"}
        # The columns of a run's file are the same, whatever it is scored on.
        self.report.scored({name.replace("embedded-", ""): value for name, value in found.items()})

    def _fingerprint(self) -> dict[str, Json]:
        """What must be equal for a run to go on as if undisturbed."""
        kept = ("accumulate", "steps", "seed", "precision", "average", "start_from")
        return {
            "recipe": as_plain(self.recipe), "data": self.index.digest, "items": self.items, "batch": self.batch,
            "ranks": self.ranks, **{name: getattr(self.options, name) for name in kept},
            "corrkit": corrkit.__version__, "torch": str(torch.__version__), "device": self.device.type,
        }  # fmt: skip

    def _history(self, stored: checkpoint.Stored) -> list[dict[str, Json]]:
        """Changes that the run has gone on with, the present ones included."""
        changes = accepted_changes(stored["fingerprint"], self._fingerprint(), self.options.resume_with, self.out)
        history = list(stored.get("history", []))
        if changes:
            history.append({"step": stored["step"], "changes": changes})
        self.report.say(*(f"from step {stored['step']} on: {line}" for line in changes))
        return history

    def _save(self, done: int) -> None:
        average = {} if self.average is None else {"ema": checkpoint.encoder_state(self.average)}
        state = {"optimizer": whole(self.optimiser.state_dict()), "scaler": self.scaler.state_dict()}
        told = {"fingerprint": self._fingerprint(), "history": self.history, "faults": self.faults.state}
        tree = checkpoint.checkpoint_tree(self.objective, step=done, **told, **state, **average)
        if self.rank > 0:
            return
        self.report.flush()
        checkpoint.save(self.path, tree, keep=self.options.keep)
        self._tell(done)

    def _tell(self, done: int) -> None:
        """Into run.json, what the checkpoint holds."""
        summary = {"step": done, "of": self.total, **self._fingerprint(), "history": self.history}
        write_atomic(self.out / "run.json", json.dumps(summary, indent=1))

    def _take(self, stored: checkpoint.Stored) -> None:
        checkpoint.load_model_state(self.objective, stored["model"])
        if self.average is not None:
            checkpoint.load_encoder_state(self.average, stored["ema"])
        self.scaler.load_state_dict(stored["scaler"])
