"""`Evaluator`: correspondence scores inside a training loop, leaving the training run exactly as it was."""

import functools
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from corrkit.backbones.contract import Backbone, network_of
from corrkit.errors import CorrkitError, UsageError, closest
from corrkit.evaluation import evaluate_clip, exact_inference
from corrkit.predictors.propagator import Propagator, ResizedFrames
from corrkit.subject import open_subject
from corrkit.task_table import task_names
from corrkit.tasks.contract import Clip, DataSet, select_clips

if TYPE_CHECKING:
    import torch

NUM_QUICK_CLIPS = 6


class Evaluator:
    """Scores a model on some clips, again and again, within a training run.

    Frames are decoded and ground-truth statistics prepared once, at the first call. Nothing is printed or written.
    Module modes, gradients, random number generators, autocast and cuDNN flags are as before after a call. Inside an
    initialised process group the clips are shared out over the ranks, and every rank returns the same numbers.

    Args:
        tasks: "davis", "vip", "jhmdb", or a sequence of them.
        data: one data root for a single task, or a mapping from task to root; None takes $CORRKIT_DATA/<task>, else the
            embedded clips.
        clips: "quick" (at most 6 clips, spread over the list), "all", or a list of names (with a single task).
        protocols: task to protocol name, for other protocols than the tasks' defaults.

    Raises:
        CorrkitError: for data roots, protocols or clips that are not there.
    """

    def __init__(
        self,
        tasks: str | Sequence[str],
        data: str | Path | dict[str, str | Path] | None = None,
        clips: str | Sequence[str] = "quick",
        protocols: dict[str, str] | None = None,
    ) -> None:
        names = [tasks] if isinstance(tasks, str) else list(tasks)
        if not names:
            raise UsageError("The Evaluator was given no task.", f"Name one or more of {', '.join(task_names())}.")
        for option, given in (("data", data), ("protocols", protocols)):
            unknown = [name for name in given if name not in names] if isinstance(given, dict) else []
            if unknown:
                raise UsageError(f"{option} names {unknown[0]!r}, which is not evaluated.", closest(unknown[0], names))
        if not isinstance(data, dict):
            if data is not None and len(names) > 1:
                raise UsageError("One data root was given for several tasks.", "Give data={'davis': ..., 'vip': ...}.")
            data = {} if data is None else {names[0]: data}
        self._benchmarks = [_Benchmark(name, data.get(name), clips, (protocols or {}).get(name)) for name in names]

    def __call__(self, model: "Backbone | torch.nn.Module", step: int | None = None) -> dict[str, float]:
        """Scores the model as it is now.

        Args:
            model: a backbone, or a module that `corrkit.wrap` understands.
            step: returned as "step", for loggers that want it in the same dict.

        Returns:
            "davis/J&F-Mean", "vip/mIoU", "jhmdb/PCK@0.1", ... : fractions between 0 and 1.
        """
        from corrkit.backbones import wrap

        backbone = model if isinstance(model, Backbone) else wrap(model)
        module = network_of(backbone)
        scores: dict[str, float] = {} if step is None else {"step": step}
        with training_state_untouched(module), exact_inference():
            for benchmark in self._benchmarks:
                scores.update(benchmark.scores(backbone, _device_of(module)))
        return scores


class _Benchmark:
    """One task with its clips, decoded once."""

    def __init__(self, task: str, data: str | Path | None, clips: str | Sequence[str], protocol: str | None) -> None:
        subject = open_subject(task, data=data, protocol=protocol)
        self.subject = replace(subject, clips=_choose(subject.dataset, clips))
        self.resized: ResizedFrames = {}
        self.truths: list[Callable[[int], Any]] = [
            functools.cache(subject.task.truth(subject.task.resaved(clip, subject.protocol), subject.protocol))
            for clip in self.subject.clips
        ]

    def scores(self, backbone: Backbone, device: "torch.device") -> dict[str, float]:
        rank, num_ranks = _process_group()
        task, protocol, clips = self.subject.task, self.subject.protocol, self.subject.clips
        predictor = Propagator(backbone, device, name="training", resized=self.resized)
        mine: dict[str, Any] = {}
        failure: Exception | None = None
        try:
            for clip, truth in list(zip(clips, self.truths, strict=True))[rank::num_ranks]:
                (record,) = evaluate_clip([(predictor, protocol)], clip, task, truth=truth)
                mine[clip.name] = record.statistics
        except Exception as error:  # whatever it is, the other ranks must not wait for this one
            failure = error
        everyone = _gather(mine, failure) if num_ranks > 1 else mine
        if failure is not None:
            raise failure
        in_order = {clip.name: everyone[clip.name] for clip in clips}
        metrics = task.scores(in_order, protocol, split=self.subject.dataset.split).metrics
        return {f"{task.name}/{name}": value for name, value in metrics.items()}


@contextmanager
def training_state_untouched(module: "torch.nn.Module | None") -> Iterator[None]:
    """Evaluation mode within; afterwards each submodule's mode, all generators and cuDNN's flags are as before."""
    import torch

    modes = {} if module is None else {part: part.training for part in module.modules()}
    generators = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 - the global one
    on_gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else None
    cudnn = torch.backends.cudnn
    flags = cudnn.enabled, cudnn.benchmark, cudnn.deterministic
    if module is not None:
        module.eval()
    try:
        yield
    finally:
        for part, was_training in modes.items():
            part.training = was_training
        random.setstate(generators[0])
        np.random.set_state(generators[1])  # noqa: NPY002
        torch.set_rng_state(generators[2])
        if on_gpu is not None:
            torch.cuda.set_rng_state_all(on_gpu)
        cudnn.enabled, cudnn.benchmark, cudnn.deterministic = flags


def _choose(dataset: DataSet, clips: str | Sequence[str]) -> tuple[Clip, ...]:
    if clips == "all":
        return dataset.clips
    if clips == "quick":
        step = max(1, -(-len(dataset.clips) // NUM_QUICK_CLIPS))
        return dataset.clips[::step]
    if isinstance(clips, str):
        raise UsageError(f"clips={clips!r} is unknown.", 'Give "quick", "all", or a list of names.')
    return select_clips(dataset, clips)


def _device_of(module: "torch.nn.Module | None") -> "torch.device":
    import torch

    parameter = None if module is None else next(iter(module.parameters()), None)
    return torch.device("cpu") if parameter is None else parameter.device


def _process_group() -> tuple[int, int]:
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def _gather(mine: dict[str, Any], failure: Exception | None) -> dict[str, Any]:
    """All ranks' records on all ranks. A failure on any rank is raised on every rank, so that none waits in vain."""
    import torch.distributed as dist

    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, (mine, None if failure is None else f"{type(failure).__name__}: {failure}"))
    for rank, (_, words) in enumerate(parts):
        if words is not None and failure is None:
            raise CorrkitError(f"The evaluation failed on rank {rank}: {words}", "See that rank's own error.")
    return {name: record for records, _ in parts for name, record in records.items()}
