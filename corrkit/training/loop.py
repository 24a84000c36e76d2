"""The one training loop. What a step needs follows from its number, so a resumed run is the undisturbed one."""

import contextlib
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
import torch.distributed as dist

import corrkit
from corrkit.errors import RunError
from corrkit.runs.atomic import make_folder, write_atomic
from corrkit.training import checkpoint, log
from corrkit.training.data import Batches, Index, Samples, build_index, loader, workers_for
from corrkit.training.objective import AnyObjective, Step, View
from corrkit.training.objectives import make_objective
from corrkit.training.optimise import Schedule, clip_gradients, optimiser_of
from corrkit.training.parallel import WAYS, device_of, process_group, wait, whole
from corrkit.training.recipe import as_plain
from corrkit.training.schema import AnyRecipe
from corrkit.training.teacher import follow, frozen_copy


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a recipe is run on this machine.

    batch: items of one forward pass on one rank; accumulate: passes of a step; None makes their product with the ranks
    the recipe's own batch. steps: of the whole training, None for the recipe's epochs. average: momentum of a moving
    average of the encoder, 0 for none. workers: None for `data.workers_for`. parallel: how ranks share, a name of
    `parallel.WAYS`. The *_every count steps, 0 for never; tasks are those evaluated.
    """

    batch: int | None = None
    accumulate: int = 1
    steps: int | None = None
    seed: int = 0
    workers: int | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    average: float = 0.0
    parallel: Literal["ddp", "fsdp"] = "ddp"
    device: str = "auto"
    start_from: str | None = None
    log_every: int = 10
    picture_every: int = 500
    save_every: int = 500
    evaluate_every: int = 0
    tasks: tuple[str, ...] = ("davis", "vip", "jhmdb")
    embedded_clips: int = 300


def pretrain(recipe: AnyRecipe, data: str | Path, out: str | Path, options: Options) -> Path:
    """Trains a recipe, or goes on with what `out` holds; returns the checkpoint's path.

    Args:
        recipe: from `load_recipe`.
        data: see `data.build_index`.
        out: folder for checkpoint.pth, log.csv, scores.csv, curve.png and pictures.
        options: see there. Under torchrun every rank calls this with the same arguments.

    Raises:
        CorrkitError: data, options or an `out` of another run that the user can mend; a loss that isn't finite.
    """
    with process_group(device_of(options.device)) as (rank, ranks):
        return _Training(recipe, data, Path(out), options, rank, ranks).run()


class _Training:
    def __init__(self, recipe: AnyRecipe, data: str | Path, out: Path, options: Options, rank: int, ranks: int) -> None:
        self.recipe, self.out, self.options, self.rank, self.ranks = recipe, out, options, rank, ranks
        self.device = device_of(options.device)
        if rank == 0:
            make_folder(out)
            build_index(data, out / "index.json", num_clips=options.embedded_clips)
        wait()
        self.index: Index = build_index(data, out / "index.json", num_clips=options.embedded_clips)
        self.batch = options.batch or max(1, recipe.optimiser.batch // (options.accumulate * ranks))
        torch.manual_seed(options.seed)
        self.objective: AnyObjective = make_objective(recipe).to(self.device)
        if options.start_from:
            checkpoint.start_from(self.objective, options.start_from)
        self.average = frozen_copy(self.objective.encoder) if options.average else None
        self.items = items = self.batch * options.accumulate * ranks
        counted = items * (recipe.views.repeat if recipe.optimiser.rate_unit == "sample" else 1)
        reference = recipe.optimiser.reference
        peak = recipe.optimiser.rate * (counted / reference if reference else 1)
        self.schedule = Schedule(recipe, peak, max(1, len(self.index.entries) // items))
        self.total = options.steps or self.schedule.total_steps
        if options.steps:  # epochs follow, so that warm-up and cosine fit the given number of steps
            self.schedule.stretch_to(options.steps)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=options.precision == "fp16")
        stored = self._stored()
        self.first, self.samples = int(stored["step"]) if stored else 0, 0
        self.shared = WAYS[options.parallel](self.objective, self.average, self.device, ranks)
        self.optimiser = optimiser_of(self.objective, recipe.optimiser)
        if stored:
            self.shared.load_optimiser(self.optimiser, stored["optimizer"])

    def run(self) -> Path:
        """All steps that are left."""
        path = self.out / "checkpoint.pth"
        training, scores = log.Log(self.out / "log.csv", self.first), log.Log(self.out / "scores.csv", self.first)
        if self.rank == 0:
            training.write()
            scores.write()
        evaluator = self._evaluator()
        batches = self._batches()
        self.shared.module.train()
        started = time.perf_counter()
        for step in range(self.first, self.total):
            rate = self.schedule.apply(self.optimiser, step)
            views, result = self._step(step, batches)
            self.objective.after_step(step / self.total)
            if self.average is not None:
                follow(self.average, self.objective.encoder, self.options.average)
            done = step + 1
            if self._due(self.options.log_every, done):
                row = self._row(done, rate, result, time.perf_counter() - started)
                if self.rank == 0:
                    training.add(row)
                    self._say(row)
            if evaluator is not None and self._due(self.options.evaluate_every, done):
                found = evaluator(checkpoint.backbone_of(self.objective, self.average), step=done)
                if self.rank == 0:
                    scores.add(found)
                    print(_words(found), file=sys.stderr)
            if self._due(self.options.picture_every, done):
                self._draw(done, views, training, scores)
            if self._due(self.options.save_every, done):
                self._save(path, done)
        wait()
        return path

    def _step(self, step: int, batches: Iterator[list[View]]) -> tuple[list[View], dict[str, float]]:
        """One optimiser step; returns the last views and the mean losses of its passes."""
        self.optimiser.zero_grad(set_to_none=True)
        passes = self.options.accumulate
        totals: dict[str, torch.Tensor] = {}
        for number in range(passes):
            views = [view.to(self.device) for view in next(batches)]
            seed = self._seed(step, number)
            torch.manual_seed(seed)  # dropout and the like
            last = number == passes - 1
            self.objective.before_pass(step / self.total)
            with contextlib.nullcontext() if last else self.shared.apart(), self._precision():
                result = cast(Step, self.shared.module(views, seed, step / self.total))
                self.scaler.scale(result.loss / passes).backward()
            self.samples += len(views[0].pixels) * self.ranks
            for name, value in {"loss": result.loss, **result.parts}.items():
                totals[name] = totals.get(name, torch.zeros((), device=self.device)) + value.detach() / passes
        losses = self._mean_over_ranks(totals)
        if not all(math.isfinite(value) for value in losses.values()):
            raise RunError(
                f"Step {step + 1}: the loss is not finite ({_words(losses)}); learning rate "
                f"{self.optimiser.param_groups[0]['lr']:.3g}, precision {self.options.precision}.",
                f"The last checkpoint in {self.out} is kept. Lower optimiser.rate, clip gradients (--set "
                "optimiser.clip=1), or use --precision bf16 or fp32.",
            )
        self.scaler.unscale_(self.optimiser)
        self.objective.before_step(step / self.total)
        clip_gradients([p for p in self.objective.parameters() if p.requires_grad], self.recipe.optimiser)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return views, losses

    def _mean_over_ranks(self, totals: Mapping[str, torch.Tensor]) -> dict[str, float]:
        values = torch.stack([value.double() for value in totals.values()])
        if self.ranks > 1:
            dist.all_reduce(values)
            values /= self.ranks
        return dict(zip(totals, values.tolist(), strict=True))

    def _seed(self, step: int, number: int) -> int:
        return ((self.options.seed * 1_000_003 + step) * self.options.accumulate + number) * self.ranks + self.rank

    def _batches(self) -> Iterator[list[View]]:
        views, seed = self.recipe.views, self.options.seed
        share, first = (self.rank, self.ranks), self.first * self.options.accumulate
        samples = Samples(self.index, views, seed, self.items, self.total, self.recipe.image_views)
        keys = Batches(len(samples), self.batch, seed, share, first, tuple(samples.images), views.repeat)
        workers = workers_for(self.device) if self.options.workers is None else self.options.workers
        return loader(samples, keys, workers)

    def _precision(self) -> Any:
        kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.options.precision)
        return contextlib.nullcontext() if kind is None else torch.autocast(self.device.type, dtype=kind)

    def _due(self, every: int, done: int) -> bool:
        """Every so many steps, and at the end; 0 is never."""
        return every > 0 and (done % every == 0 or done == self.total)

    def _row(self, done: int, rate: float, losses: dict[str, float], seconds: float) -> dict[str, float]:
        speed = (done - self.first) / max(seconds, 1e-9)
        return {
            "step": done, "epoch": done / self.schedule.steps_per_epoch, "rate": rate, **losses,
            "samples_per_second": self.samples / max(seconds, 1e-9), "seconds_left": (self.total - done) / speed,
        }  # fmt: skip

    def _say(self, row: dict[str, float]) -> None:
        left = time.strftime("%H:%M:%S", time.gmtime(row["seconds_left"]))
        print(
            f"step {row['step']:.0f} of {self.total}, loss {row['loss']:.4f}, rate {row['rate']:.2e}, "
            f"{row['samples_per_second']:.1f} samples/s, {left} left",
            file=sys.stderr,
        )

    def _draw(self, done: int, views: list[View], training: log.Log, scores: log.Log) -> None:
        pictures = self.objective.pictures(views, self._seed(done, 0))
        if self.rank > 0:
            return
        panels = {}
        for title, rows, wanted in (("loss", training.rows, "loss"), ("correspondence", scores.rows, "/")):
            names = [name for name in (rows[0] if rows else ()) if wanted in name and name.count("/") < 2]
            names = [name for name in names if wanted == "loss" or name in _SHOWN]
            if names:
                panels[title] = ([row["step"] for row in rows], {name: [row[name] for row in rows] for name in names})
        log.draw_curves(self.out / "curve.png", panels)
        if pictures:
            log.draw_pictures(self.out / "pictures" / f"step-{done:08d}.png", pictures)

    def _evaluator(self) -> Any:
        if not self.options.evaluate_every:
            return None
        return corrkit.Evaluator(self.options.tasks)

    def _fingerprint(self) -> dict[str, Any]:
        """What must be equal for a run to go on as if undisturbed."""
        kept = ("accumulate", "steps", "seed", "precision", "average", "start_from")
        return {
            "recipe": as_plain(self.recipe), "data": self.index.digest, "batch": self.batch, "ranks": self.ranks,
            **{name: getattr(self.options, name) for name in kept},
            "corrkit": corrkit.__version__, "torch": str(torch.__version__), "device": self.device.type,
        }  # fmt: skip

    def _save(self, path: Path, done: int) -> None:
        average = {} if self.average is None else {"ema": whole(self.average.state_dict())}
        state = {"optimizer": whole(self.optimiser.state_dict()), "scaler": self.scaler.state_dict()}
        fingerprint = self._fingerprint()
        tree = checkpoint.checkpoint_tree(self.objective, step=done, fingerprint=fingerprint, **state, **average)
        if self.rank > 0:
            return
        checkpoint.save(path, tree)
        write_atomic(self.out / "run.json", json.dumps({"step": done, "of": self.total, **fingerprint}, indent=1))

    def _stored(self) -> dict[str, Any] | None:
        """`out`'s checkpoint, if there is one, with its weights taken."""
        path = self.out / "checkpoint.pth"
        if not path.is_file():
            return None
        tree = checkpoint.read(path)
        differing = checkpoint.differences(tree["fingerprint"], self._fingerprint())
        if differing:
            raise RunError(
                f"{self.out} holds another run: {'; '.join(differing)}.", "Repeat its options, or choose another --out."
            )
        checkpoint.load_model_state(self.objective, tree["model"])
        if self.average is not None:
            self.average.load_state_dict(tree["ema"])
        self.scaler.load_state_dict(tree["scaler"])
        return tree


_SHOWN = ("davis/J&F-Mean", "vip/mIoU", "jhmdb/PCK@0.1", "jhmdb/PCK@0.2")


def _words(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items() if "/" not in name or name in _SHOWN)
