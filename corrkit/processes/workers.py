"""Several processes evaluate the clips of a run: each makes the predictors once and takes clip after clip.

The process that asked hands the clips out, and it alone keeps what comes back; a worker writes nothing but predictions,
into folders that it is given. A worker that dies costs the clip that it had, and another takes its place.
"""

import contextlib
import multiprocessing
import os
import pickle
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from corrkit.errors import LESS_MEMORY, CheckpointError, CorrkitError, RunError, UsageError, is_out_of_memory
from corrkit.memory import available_memory, memory_of_a_clip
from corrkit.passes import Progress, evaluate_clip
from corrkit.predictors.contract import Predictor
from corrkit.predictors.loading import Request
from corrkit.predictors.references import reference_predictors
from corrkit.processes.shares import WHOLE, Share
from corrkit.protocols import Protocol
from corrkit.runs.records import ClipRecord
from corrkit.tasks.contract import AnyClip, AnyTask

_WORTH_A_WORKER = 30.0
"""Seconds of one thread's work for each worker below which it takes longer to start than it saves: it imports torch and
loads the network anew, and one process has all threads (benchmarks/workers.py)."""
_SECONDS_BESIDE_THE_NETWORK = 0.03  # of a frame of DAVIS
_CELLS = 480 * 854 // 16**2  # of a frame of DAVIS at stride 16, each of which takes two operations with every parameter
_OPERATIONS_PER_SECOND = 1e11
_OF_A_CLIP = memory_of_a_clip(cells=_CELLS, channels=1024, context=21, pixels=480 * 854)
"""Of a ViT-L/16 with the longest context of a protocol; smaller networks take less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """One clip to evaluate. places: of the lanes that lack it. predictions: for each of them a folder, or None."""

    clip: AnyClip
    places: Sequence[int]
    predictions: Sequence[Path | None]


Outcome = ClipRecord | CorrkitError
"""What a lane gets of a clip: its record, or why the clip can't be evaluated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a worker makes its lanes of; networks are loaded by each worker, not handed over.

    request: gives the predictors. lanes: for each lane name and digest of its predictor, as the process that asked has
    it, and its protocol. task: of all protocols.
    """

    request: Request
    lanes: tuple[tuple[str, str | None, Protocol], ...]
    task: AnyTask

    def make(self) -> list[tuple[Predictor, Protocol]]:
        """The lanes. Raises CheckpointError where a checkpoint is no longer what it was."""
        own = self.request.predictors()
        known = {(one.name, one.digest): one for one in [*reference_predictors(own), *own]}
        if any((name, digest) not in known for name, digest, _ in self.lanes):
            raise CheckpointError(
                f"{self.request.spec} has changed while its evaluation began.", "Repeat the command when it is written."
            )
        return [(known[name, digest], protocol) for name, digest, protocol in self.lanes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Staff:
    """Which processes evaluate.

    request: what a worker makes its predictors of; None for predictors that only the calling process has.
    workers: processes; 1 stands for the calling process alone, None for as many as pay.
    shares: which clips are this process's and its workers', one share after the other; `WHOLE` or one of several
        independent processes, or what `ranks.evaluated_by_all` gives.
    """

    request: Request | None = None
    workers: int | None = 1
    shares: Iterable[Share] = (WHOLE,)

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"{self.workers} workers can't evaluate anything.", "Take 1 or more.")
        if self.workers not in {1, None} and self.request is None:
            raise UsageError(
                "A live model can't be handed to workers.", "Give its spec (py:FILE.py:FUNCTION), or leave workers out."
            )

    def outcomes(
        self,
        lanes: Sequence[tuple[Predictor, Protocol]],
        task: AnyTask,
        clips: Sequence[AnyClip],
        errand: Callable[[AnyClip], Errand],
        progress: Progress | None,
    ) -> Iterator[tuple[Errand, list[Outcome]]]:
        """Evaluates clips: here in their order, or in workers the longest first.

        Args:
            lanes: predictors, each with its protocol.
            task: of all protocols.
            clips: what is left to do.
            errand: makes a clip's errand, just before it is evaluated.
            progress: called in this process after every frame.

        Raises:
            CheckpointError: a worker can't make what this process has made. RuntimeError: a fault in a worker.
        """
        num_frames = sum(clip.num_files for clip in clips)
        device_type = lanes[0][0].device_type
        seconds = num_frames * max(_seconds_of_a_frame(predictor) for predictor, _ in lanes)
        count = 1 if self.request is None else self.workers or suitable_workers(seconds, device_type)
        if count == 1 or self.request is None or len(clips) < 2:
            for clip in clips:
                one = errand(clip)
                yield one, _evaluated(lanes, task, one, progress)
            return
        names = tuple((predictor.name, predictor.digest, protocol) for predictor, protocol in lanes)
        work = Work(request=self.request, lanes=names, task=task)
        longest_first = sorted(clips, key=lambda clip: clip.num_files, reverse=True)
        yield from _in_workers(work, map(errand, longest_first), min(count, len(clips)), progress)


ALONE = Staff()
"""The calling process, for all clips."""


def suitable_workers(seconds: float, device_type: str) -> int:
    """One worker for each processor (or GPU), as far as they fit into memory and are worth their start.

    Args:
        seconds: that the work takes one thread (or GPU).
        device_type: "cpu", "cuda" or "mps".
    """
    import torch

    rooms = {"cpu": min(processors(), _fit_into_memory()), "cuda": torch.cuda.device_count()}
    return max(1, min(rooms.get(device_type, 1), int(seconds / _WORTH_A_WORKER)))


def _seconds_of_a_frame(predictor: Predictor) -> float:
    """Of one thread, roughly; on a GPU the network's share is small."""
    if predictor.device_type != "cpu":
        return _SECONDS_BESIDE_THE_NETWORK
    cells = _CELLS * (16 / (predictor.stride or 16)) ** 2
    return _SECONDS_BESIDE_THE_NETWORK + 2 * predictor.report.parameters * cells / _OPERATIONS_PER_SECOND


def _in_workers(
    work: Work, errands: Iterable[Errand], count: int, progress: Progress | None
) -> Iterator[tuple[Errand, list[Outcome]]]:
    """Evaluates clips in `count` processes of one thread each; outcomes in the order in which they are ready."""
    waiting = iter(errands)
    with contextlib.ExitStack() as stack:
        staff: dict[Connection, _Worker] = {}

        def hand_out(number: int) -> None:
            errand = next(waiting, None)
            if errand is not None:
                worker = stack.enter_context(_Worker(work, number, errand))
                staff[worker.connection] = worker

        for number in range(count):
            hand_out(number)
        while staff:
            for connection in wait(list(staff)):
                assert isinstance(connection, Connection)
                worker = staff[connection]
                try:
                    message = connection.recv()
                except (EOFError, OSError):
                    del staff[connection]
                    yield worker.errand, [worker.death()] * len(worker.errand.places)
                    hand_out(worker.number)
                    continue
                if isinstance(message, _Fault):
                    raise message.error
                if isinstance(message, tuple):
                    if progress is not None:
                        progress(*message)
                    continue
                yield worker.errand, message
                following = next(waiting, None)
                if following is None:
                    del staff[connection]
                    worker.dismiss()
                else:
                    worker.give(following)


@dataclass(frozen=True, slots=True)
class _Fault:
    """What ends the whole evaluation: a checkpoint that can't be made, no memory left, or a fault of ours."""

    error: Exception

    @classmethod
    def of(cls, error: Exception) -> "_Fault":
        """With the worker's traceback; the process that asked shows it."""
        text = f"in a worker:\n{traceback.format_exc()}"
        try:
            pickle.dumps(error)
        except Exception:  # whatever somebody's exception raises there
            return cls(RuntimeError(text))
        error.add_note(text)
        return cls(error)


class _Worker:
    """A process, the end of the pipe to it, and the errand that it has; a context manager that ends it."""

    def __init__(self, work: Work, number: int, errand: Errand) -> None:
        context = multiprocessing.get_context("spawn")  # torch's threads and CUDA don't survive a fork
        self.number, self.errand = number, errand
        self.connection, other = context.Pipe()
        self._process: BaseProcess = context.Process(target=_serve, args=(work, number, other), daemon=True)
        with _out_of_reach_of_the_keyboard():
            self._process.start()
        other.close()
        self.give(errand)

    def give(self, errand: Errand) -> None:
        self.errand = errand
        with contextlib.suppress(OSError):  # one that is dead already says so when it is listened to
            self.connection.send(errand)

    def death(self) -> RunError:
        """Why the process is no more, as the failure of its clip."""
        self._process.join()
        code = self._process.exitcode or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return RunError(
            f"The worker that evaluated {self.errand.clip.name} {how}.",
            "If memory ran out, use fewer --workers. Repeat the command: finished clips are kept.",
        )

    def dismiss(self) -> None:
        with contextlib.suppress(OSError):
            self.connection.send(None)

    def __enter__(self) -> "_Worker":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._process.terminate()
        self._process.join()
        self.connection.close()


@contextlib.contextmanager
def _out_of_reach_of_the_keyboard() -> Iterator[None]:
    """What is started here never sees the SIGINT that goes to the whole group, not even while it imports."""
    resource_tracker.ensure_running()  # else started with the process, and unblocks SIGINT before that
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(work: Work, number: int, connection: Connection) -> None:
    """What a worker does until it is dismissed, or nobody listens any more; the process that asked is interrupted."""
    try:
        with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
            _evaluate_errands(work, number, connection)
    except Exception as error:  # whatever it is, it is for the process that asked
        connection.send(_Fault.of(error))


def _evaluate_errands(work: Work, number: int, connection: Connection) -> None:
    import cv2
    import torch

    from corrkit.inference import exact_inference

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    lanes = replace(work, request=_on_own_device(work.request, number)).make()

    def tell(clip: str, done: int, total: int) -> None:
        connection.send((clip, done, total))

    with exact_inference():
        while (errand := connection.recv()) is not None:
            connection.send(_evaluated(lanes, work.task, errand, tell))


def _evaluated(
    lanes: Sequence[tuple[Predictor, Protocol]], task: AnyTask, errand: Errand, progress: Progress | None
) -> list[Outcome]:
    """One pass for all lanes of an errand; what only some can't do costs the others nothing but time.

    A clip that doesn't fit into memory costs itself, too: the next one may be smaller.
    """
    chosen = [lanes[place] for place in errand.places]
    try:
        return [*evaluate_clip(chosen, errand.clip, task, predictions=errand.predictions, progress=progress)]
    except CorrkitError as error:
        if len(chosen) == 1:
            return [error]
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        if len(chosen) == 1:
            said = str(error).splitlines()[0] if str(error) else "no more is to be had"
            return [RunError(f"out of memory: {said}", f"{LESS_MEMORY} Finished clips are kept.")]
    singly = [
        replace(errand, places=[place], predictions=[folder])
        for place, folder in zip(errand.places, errand.predictions, strict=True)
    ]
    return [outcome for one in singly for outcome in _evaluated(lanes, task, one, progress)]


def _on_own_device(request: Request, number: int) -> Request:
    """Workers take turns at the GPUs, unless one was named."""
    import torch

    if request.device not in {"auto", "cuda"} or not torch.cuda.is_available():
        return request
    return replace(request, device=f"cuda:{number % torch.cuda.device_count()}")


def processors() -> int:
    """That this process may use."""
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _fit_into_memory() -> int:
    """How many processes of this one's size fit into the free memory; where that isn't known, any number."""
    import resource

    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + _OF_A_CLIP
    free = available_memory()
    return processors() if free is None else max(1, free // own)
