"""`Evaluator`: correspondence scores inside a training loop, leaving the training run exactly as it was."""

import functools
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

from corrkit.backbones.contract import Backbone, network_of
from corrkit.errors import CorrkitError, UsageError, closest
from corrkit.files.jsontext import Json
from corrkit.inference import exact_inference, training_state_untouched
from corrkit.passes import evaluate_clip
from corrkit.predictors.propagator import Propagator, ResizedFrames
from corrkit.protocols import Protocol, override
from corrkit.subject import open_subject
from corrkit.task_table import task_facts, task_names
from corrkit.tasks.contract import AnyClip, DataSet, select_clips

if TYPE_CHECKING:
    import torch

NUM_QUICK_CLIPS = 6
QUICK_FRAMES = 10
"""Of each clip at most, where `quick` is asked for."""
Records: TypeAlias = dict[str, Mapping[str, Json]]
"""Clip to its statistics."""
_T = TypeVar("_T")


class Evaluator:
    """Scores a model on some clips, again and again, within a training run.

    Frames are decoded and ground-truth statistics prepared once, at the first call. Nothing is printed or written.
    Module modes, gradients, buffers, random number generators, autocast, float32 precision and cuDNN flags are as
    before after a call. Calls of several threads take turns. Inside an initialised process group every rank must call:
    the clips are shared out over the ranks (those of a network that is itself divided among them, FSDP, are evaluated
    by all), the network is that of rank 0, and every rank returns the same numbers. A pickled Evaluator opens its data
    again.

    Args:
        tasks: "davis", "vip", "jhmdb", or a sequence of them.
        data: one data root for a single task, or a mapping from task to root; None takes $CORRKIT_DATA/<task>, else the
            embedded clips: a smoke alarm, as a warning says once.
        clips: "quick" (at most 6 clips, spread over the list), "all", or a list of names (with a single task).
        protocols: task to protocol (name or constants), for other protocols than the tasks' defaults.
        protocol: the protocol of a single task.
        metrics: "main" for one to three numbers a task, "all" for every number of its table.
        every: takes each clip's frames 0, every, 2 * every, ... only: that much cheaper, and not comparable with all.
        quick: for a look at little cost, that ranks checkpoints and is no benchmark: at most 10 frames of each clip,
            spread over it, at half the protocol's input size and radius. Its numbers are called quick-... .
        intervals: also gives the ends of 95 % intervals, as "... low" and "... high", where there are any.
        shared: False evaluates all clips on each rank that calls, so that rank 0 may do so alone.
        **overrides: protocol constants by leaf name, for all tasks.

    Raises:
        CorrkitError: for data roots, protocols, constants or clips that are not there.
    """

    def __init__(
        self,
        tasks: str | Sequence[str],
        data: str | Path | Mapping[str, str | Path] | None = None,
        clips: str | Sequence[str] = "quick",
        protocols: Mapping[str, str | Protocol] | None = None,
        *,
        protocol: str | Protocol | None = None,
        metrics: Literal["main", "all"] = "main",
        every: int = 1,
        quick: bool = False,
        intervals: bool = False,
        shared: bool = True,
        **overrides: object,
    ) -> None:
        if quick and every != 1:
            raise UsageError(f"quick takes frames by a rule of its own, and every is {every}.", "Give one of them.")
        shown = Shown(metrics=metrics, intervals=intervals)
        names = [tasks] if isinstance(tasks, str) else list(tasks)
        if not names:
            raise UsageError("The Evaluator was given no task.", f"Name one or more of {', '.join(task_names())}.")
        roots: dict[str, str | Path] = _by_task("data", data, names)
        chosen: dict[str, str | Protocol] = _by_task("protocols", protocols, names)
        chosen.update(_by_task("protocol", protocol, names))
        self._benchmarks = [
            _Benchmark(name, roots.get(name), clips, chosen.get(name), overrides, None if quick else every, shown)
            for name in names
        ]
        self._shared = shared
        self._remake = functools.partial(
            Evaluator, tasks, data, clips, protocols, protocol=protocol, metrics=metrics, every=every,
            quick=quick, intervals=intervals, shared=shared, **overrides,
        )  # fmt: skip
        found = {benchmark.subject.task.name for benchmark in self._benchmarks if benchmark.is_embedded}
        guessed = [name for name in names if name in found and name not in roots]
        if guessed:
            warnings.warn(
                f"The Evaluator found no data of {', '.join(guessed)} and takes the embedded clips, which are a smoke "
                "alarm and no benchmark: its numbers are called embedded-... . Name data=, or set $CORRKIT_DATA.",
                stacklevel=2,
            )

    def __reduce__(self) -> tuple[Callable[..., "Evaluator"], tuple[object, ...]]:
        return _remade, (self._remake,)

    @property
    def description(self) -> dict[str, dict[str, object]]:
        """What is evaluated, by task, as plain values for a logger's settings.

        data, split, origin ("official", "own" or "embedded") and identity; clips (names) and frames (how many a call
        takes); every, and whether it is quick; protocol with what was modified; seconds of the last call, None before
        it.
        """
        return {benchmark.subject.task.name: benchmark.description for benchmark in self._benchmarks}

    def __call__(self, model: "Backbone | torch.nn.Module", step: int | None = None) -> dict[str, float]:
        """Scores the model as it is now.

        Args:
            model: a backbone, or a module that `corrkit.wrap` understands.
            step: returned as "step", for loggers that want it in the same dict.

        Returns:
            "davis/J&F-Mean", "vip/mIoU", "jhmdb/PCK@0.1", ... : fractions between 0 and 1. On the embedded clips the
            names begin with "embedded-", with `quick` with "quick-".
        """
        from corrkit.backbones import wrap
        from corrkit.in_training import take_buffers_of_rank_0

        backbone = model if isinstance(model, Backbone) else wrap(model)
        module = network_of(backbone)
        scores: dict[str, float] = {} if step is None else {"step": step}
        group = _process_group(module) if self._shared else (0, 1)
        with training_state_untouched(module), exact_inference():
            if module is not None and group[1] > 1:
                take_buffers_of_rank_0(module)
            for benchmark in self._benchmarks:
                scores.update(benchmark.scores(backbone, _device_of(module), group))
        return scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Which numbers of a table are returned."""

    metrics: Literal["main", "all"]
    intervals: bool

    def __post_init__(self) -> None:
        if self.metrics not in ("main", "all"):
            raise UsageError(f"metrics is {self.metrics!r}.", closest(str(self.metrics), ("main", "all")))


class _Benchmark:
    """One task with its clips, decoded once.

    Args:
        task: its name.
        data: as for `Evaluator`, as are clips and protocol.
        clips: see data.
        protocol: see data.
        overrides: protocol constants by leaf name.
        every: as for `Evaluator`; None is quick.
        shown: which numbers are returned.
    """

    def __init__(
        self,
        task: str,
        data: str | Path | None,
        clips: str | Sequence[str],
        protocol: str | Protocol | None,
        overrides: Mapping[str, object],
        every: int | None,
        shown: Shown,
    ) -> None:
        if every is not None and every < 1:
            raise UsageError(f"every is {every}.", "Give 1 for all frames, 2 for every second one, ...")
        opened = open_subject(task, data=data, protocol=protocol, overrides=overrides)
        constants = opened.protocol if every else override(opened.protocol, _halved(opened.protocol))
        self.subject = replace(opened, protocol=constants, clips=tuple(_choose(opened.dataset, clips)))
        opened = self.subject
        self.is_embedded = opened.dataset.origin == "embedded"
        prefix = "embedded-" * self.is_embedded
        self._title = f"{prefix}{opened.task.name}" if every else f"quick-{prefix}{opened.task.name}"
        self._every, self._shown = every, shown
        self._steps = [every or -(-len(clip.frames) // QUICK_FRAMES) for clip in opened.clips]
        self._resized: ResizedFrames = {}
        self._seconds: float | None = None
        self._truths: list[Callable[[int], object]] = [
            functools.cache(opened.task.truth(opened.task.resaved(clip, opened.protocol), opened.protocol))
            for clip in self.subject.clips
        ]
        for clip, step in zip(opened.clips, self._steps, strict=True):
            if step > 1:
                self._require_given(clip, step)

    @property
    def _thinning(self) -> str:
        """How frames are left out, in the caller's words."""
        return f"every={self._every}" if self._every else "quick=True"

    def _require_given(self, clip: AnyClip, step: int) -> None:
        """Refuses to leave out a frame that gives an object: it would be given later, in a frame that is scored."""
        task, protocol = self.subject.task, self.subject.protocol
        lost = [index for index in task.given(task.resaved(clip, protocol), protocol) if index % step]
        if lost:
            raise UsageError(
                f"{self._thinning} leaves out frame {lost[0]} of {clip.name}, where an object enters.",
                "Give another number, or leave entries=appearance out.",
            )

    @property
    def description(self) -> dict[str, object]:
        """See `Evaluator.description`."""
        clips, data, protocol = self.subject.clips, self.subject.data, self.subject.protocol
        return {
            "data": data.name,
            "split": data.split,
            "origin": data.origin,
            "identity": data.identity,
            "clips": [clip.name for clip in clips],
            "frames": sum(-(-len(clip.frames) // step) for clip, step in zip(clips, self._steps, strict=True)),
            "every": self._every,
            "quick": self._every is None,
            "protocol": protocol.identifier,
            "modified": dict(protocol.overrides),
            "seconds": self._seconds,
        }

    def scores(self, backbone: Backbone, device: "torch.device", group: tuple[int, int]) -> dict[str, float]:
        started = time.perf_counter()
        rank, num_ranks = group
        task, protocol, clips = self.subject.task, self.subject.protocol, self.subject.clips
        predictor = Propagator(backbone, device, name="training", resized=self._resized)
        predictor.require(protocol)
        mine: Records = {}
        failure: Exception | None = None
        try:
            for clip, truth, step in list(zip(clips, self._truths, self._steps, strict=True))[rank::num_ranks]:
                (record,) = evaluate_clip([(predictor, protocol)], clip, task, truth=truth, every=step)
                mine[record.clip] = record.statistics
        except Exception as error:  # whatever it is, the other ranks must not wait for this one
            failure = error
        everyone = _gather(mine, failure) if num_ranks > 1 else mine
        if failure is not None:
            raise failure
        found = task.scores({clip.name: everyone[clip.name] for clip in clips}, protocol, split=self.subject.data.split)
        facts = task_facts(task.name)
        if max(self._steps) > 1 and math.isnan(found.metrics[facts.leading.name]):
            raise UsageError(f"{self._thinning} leaves no frame of these clips to score.", "Give a smaller number.")
        main = [metric.name for metric in facts.shown]
        names = list(found.metrics) if self._shown.metrics == "all" else main
        title = self._title
        numbers = {f"{title}/{name}": found.metrics[name] for name in names}
        for name in names if self._shown.intervals else ():
            if (interval := found.intervals.get(name)) is not None:
                numbers[f"{title}/{name} low"], numbers[f"{title}/{name} high"] = interval
        self._seconds = time.perf_counter() - started
        return numbers


def _halved(protocol: Protocol) -> dict[str, object]:
    """Half the input's size, and a window over the same part of the picture."""
    halves: dict[str, object] = {}
    if protocol.frames.size:
        halves["size"] = [max(1, side // 2) for side in protocol.frames.size]
    if protocol.affinity.shape != "none":
        halves["radius"] = max(1, math.ceil(protocol.affinity.radius / 2))
    return halves


def _remade(make: Callable[[], Evaluator]) -> Evaluator:
    """From a pickle: the warning was given when it was first made."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


def _by_task(option: str, given: _T | Mapping[str, _T] | None, names: Sequence[str]) -> dict[str, _T]:
    """One value for a single task, or a mapping from task to value, as a mapping. Raises UsageError."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        if len(names) > 1:
            raise UsageError(
                f"One {option} was given for several tasks.", "Give a mapping: {'davis': ..., 'vip': ...}."
            )
        return {names[0]: given}
    unknown = [name for name in given if name not in names]
    if unknown:
        raise UsageError(f"{option} names {unknown[0]!r}, which is not evaluated.", closest(unknown[0], names))
    return dict(given)


def _choose(dataset: DataSet[AnyClip], clips: str | Sequence[str]) -> Sequence[AnyClip]:
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


def _process_group(module: "torch.nn.Module | None") -> tuple[int, int]:
    """Rank and number of ranks that share the clips.

    A network that is itself divided among the ranks needs all of them for each of its passes: each evaluates all clips.
    """
    import torch.distributed as dist

    from corrkit.in_training import needs_all_ranks

    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    if module is not None and needs_all_ranks(module):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def _gather(mine: Records, failure: Exception | None) -> Records:
    """All ranks' records on all ranks. A failure on any rank is raised on every rank, so that none waits in vain."""
    import torch.distributed as dist

    parts: list[tuple[Records, str | None]] = [({}, None)] * dist.get_world_size()
    dist.all_gather_object(parts, (mine, None if failure is None else f"{type(failure).__name__}: {failure}"))
    for rank, (_, words) in enumerate(parts):
        if words is not None and failure is None:
            raise CorrkitError(f"The evaluation failed on rank {rank}: {words}", "See that rank's own error.")
    return {name: record for records, _ in parts for name, record in records.items()}
